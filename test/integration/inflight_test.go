package integration

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// journalLag is how long a packet identifier of a QoS 1 message may take until it outlives kill -9 (100 ms), and as
// much again for a busy machine. Nothing tells a client that it has happened.
const journalLag = 300 * time.Millisecond

// inflight is one delivery that the client has seen and not finished.
type inflight struct {
	id      uint16
	qos     mqttcodec.QoS
	payload string
}

// inflightOf is what a received message leaves in flight.
func inflightOf(p *mqttcodec.Publish) inflight {
	return inflight{p.PacketID, p.QoS, string(p.Payload)}
}

// receiveUnanswered reads n messages and answers none.
func receiveUnanswered(r *harness.Raw, n int) []inflight {
	all := make([]inflight, n)
	for i := range all {
		all[i] = inflightOf(harness.Expect[*mqttcodec.Publish](r))
	}
	return all
}

// identifiersByQoS are the packet identifiers of messages, apart by QoS.
func identifiersByQoS(all []inflight) (qos1, qos2 []uint16) {
	for _, m := range all {
		if m.qos == 1 {
			qos1 = append(qos1, m.id)
		} else {
			qos2 = append(qos2, m.id)
		}
	}
	return qos1, qos2
}

// resent is what a resumed connection got before the first new message.
type resent struct {
	publishes []inflight
	pubrels   []uint16
	first     *mqttcodec.Publish // the first new message
}

// readResent reads up to the first message without DUP.
func readResent(t *testing.T, r *harness.Raw) resent {
	t.Helper()
	var all resent
	for {
		switch p := r.Read().(type) {
		case *mqttcodec.Publish:
			if !p.Duplicate {
				all.first = p
				return all
			}
			all.publishes = append(all.publishes, inflightOf(p))
		case *mqttcodec.Pubrel:
			all.pubrels = append(all.pubrels, p.PacketID)
		default:
			t.Fatalf("got %T %+v on a resumed session", p, p)
		}
	}
}

// load keeps a broker busy with QoS 1 and 2 traffic of other clients until its connections break or end is called.
type load struct {
	publisher, subscriber *harness.Raw
	running               sync.WaitGroup
}

func startLoad(t *testing.T, b *harness.Broker) *load {
	l := &load{
		publisher:  b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "load-publisher")),
		subscriber: b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V311, "load-subscriber")),
	}
	l.subscriber.Subscribe(harness.Filter("load/#", 2))
	broken := make(chan error, 2)
	l.running.Go(func() {
		for {
			err := errors.Join(l.publisher.TryPublishAll(harness.Messages("load/1", 1, "", 100)), l.publisher.TryPublishAll(harness.Messages("load/2", 2, "", 100)))
			if err != nil {
				broken <- err
				return
			}
		}
	})
	flowing := make(chan struct{})
	l.running.Go(func() {
		for n := 0; ; n++ {
			p, err := l.subscriber.TryRead()
			if err == nil {
				err = answer(l.subscriber, p)
			}
			if err != nil {
				broken <- err
				return
			}
			if n == 100 {
				close(flowing)
			}
		}
	})
	select {
	case <-flowing:
	case err := <-broken:
		t.Fatalf("the load broke down: %v", err)
	}
	return l
}

// answer acknowledges p on a connection that may be gone.
func answer(r *harness.Raw, p mqttcodec.Packet) error {
	switch p := p.(type) {
	case *mqttcodec.Publish:
		switch p.QoS {
		case 1:
			return r.TrySend(&mqttcodec.Puback{PacketID: p.PacketID})
		case 2:
			return r.TrySend(&mqttcodec.Pubrec{PacketID: p.PacketID})
		}
	case *mqttcodec.Pubrel:
		return r.TrySend(&mqttcodec.Pubcomp{PacketID: p.PacketID})
	}
	return nil
}

// end drops the connections and waits for the goroutines.
func (l *load) end() {
	l.publisher.Drop()
	l.subscriber.Drop()
	l.running.Wait()
}

// What the client has not acknowledged comes again after the restart: same identifiers, DUP, original order, before
// anything new; of what is past PUBREC only the PUBREL.
// [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-3.3.1-1] [MQTT-4.3.3-6] [3.1.1 MQTT-4.4.0-1] [3.1.1 MQTT-3.3.1-1]
// [3.1.1 MQTT-4.6.0-1] [case 142] [case 181] [MQTT-4.3.3-3] [MQTT-4.3.2-3] [3.1.1 MQTT-4.1.0-1] [3.1.1 MQTT-4.3.2-1]
// [3.1.1 MQTT-4.3.3-1]
func TestS03InFlightMessagesAreResent(t *testing.T) {
	t.Parallel()
	for _, busy := range []bool{false, true} {
		name := map[bool]string{false: "idle", true: "under load"}[busy]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
				testInFlightIsResent(t, v, how, busy)
			})
		})
	}
}

func testInFlightIsResent(t *testing.T, v mqttcodec.Version, how harness.Ending, busy bool) {
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.PersistentConnect(v, "s03"))
	c.Subscribe(harness.Filter("s03", 2))
	publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
	var messages []mqttcodec.Publish
	for i := range 20 {
		messages = append(messages, mqttcodec.Publish{Topic: "s03", QoS: mqttcodec.QoS(1 + i%2), Payload: fmt.Append(nil, "old", i)})
	}
	publisher.PublishAll(messages)
	sent := receiveUnanswered(c, len(messages))
	var others *load
	if busy {
		others = startLoad(t, b)
	}

	qos1, qos2 := identifiersByQoS(sent)
	released := []uint16{qos2[0], qos2[2]}
	for _, id := range qos2[:3] {
		c.Send(&mqttcodec.Pubrec{PacketID: id})
		if rel := harness.Expect[*mqttcodec.Pubrel](c); rel.PacketID != id {
			t.Fatalf("PUBREL %d for PUBREC %d", rel.PacketID, id)
		}
	}
	c.Send(&mqttcodec.Pubcomp{PacketID: qos2[1]}, &mqttcodec.Puback{PacketID: qos1[1]}, &mqttcodec.Puback{PacketID: qos1[3]})
	over := []uint16{qos2[0], qos2[1], qos2[2], qos1[1], qos1[3]}
	open := slices.DeleteFunc(slices.Clone(sent), func(m inflight) bool { return slices.Contains(over, m.id) })
	harness.Wait(journalLag)
	b.Down(how, c, publisher)
	if others != nil {
		others.end()
	}
	b.Up()

	publisher = b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
	publisher.PublishAll(harness.Messages("s03", 2, "new", 5))
	c = b.Resume(t, v, "s03")
	again := readResent(t, c)
	if !slices.Equal(again.publishes, open) {
		t.Errorf("resent with DUP:\n%v\nwant what was in flight:\n%v", again.publishes, open)
	}
	if !slices.Equal(again.pubrels, released) {
		t.Errorf("PUBREL again for %v, want %v", again.pubrels, released)
	}
	finish(t, c, again, harness.Numbered("new", 0, 5))
	expectNothingLeft(t, b, c, v, "s03")
}

// finish acknowledges everything and expects the new messages, in order.
func finish(t *testing.T, c *harness.Raw, again resent, want []string) {
	t.Helper()
	for _, id := range again.pubrels {
		c.Send(&mqttcodec.Pubcomp{PacketID: id})
	}
	open := 0
	for _, m := range again.publishes {
		c.Answer(&mqttcodec.Publish{QoS: m.qos, PacketID: m.id})
		open += int(m.qos) / 2
	}
	news := []string{string(again.first.Payload)}
	c.Answer(again.first)
	open += int(again.first.QoS) / 2
	for len(news) < len(want) || open > 0 {
		p := c.Read()
		c.Answer(p)
		switch p := p.(type) {
		case *mqttcodec.Publish:
			if p.Duplicate {
				t.Fatalf("%q comes again, with DUP, on a live connection [MQTT-4.4.0-1]", p.Payload)
			}
			news = append(news, string(p.Payload))
			open += int(p.QoS) / 2
		case *mqttcodec.Pubrel:
			open--
		}
	}
	if !slices.Equal(news, want) {
		t.Errorf("new messages %q, want %q", news, want)
	}
}

// expectNothingLeft reconnects once more: what was acknowledged is over.
func expectNothingLeft(t *testing.T, b *harness.Broker, c *harness.Raw, v mqttcodec.Version, id string) {
	t.Helper()
	c.Disconnect()
	c = b.Resume(t, v, id)
	c.Subscribe(harness.Filter("last", 1))
	publisher := b.ConnectRaw(t, harness.CleanConnect(v, "closing"))
	publisher.Publish(mqttcodec.Publish{Topic: "last", QoS: 1})
	if left := c.ReceiveUntil("last"); len(left) > 0 {
		t.Errorf("%d messages came again after they were acknowledged, the first %+v", len(left), left[0])
	}
	c.Disconnect()
}

// At QoS 2 an identifier the client has seen is never lost, at whatever instant the broker dies: the message comes
// again under it, or its PUBREL does. [MQTT-4.3.3-5] [MQTT-4.4.0-1] [case 181]
func TestS03QoS2IdentifiersSurviveKillAtAnyInstant(t *testing.T) {
	t.Parallel()
	for _, seen := range []int{1, 7, 40, 150} {
		t.Run(fmt.Sprintf("after %d", seen), func(t *testing.T) {
			t.Parallel()
			b := harness.Start(t)
			c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "q2"))
			c.Subscribe(harness.Filter("q2", 2))
			publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
			const n = 200
			var publishing sync.WaitGroup
			publishing.Go(func() { _ = publisher.TryPublishAll(harness.Messages("q2", 2, "", n)) }) // cut off by the kill

			device := newQoS2Device()
			for len(device.delivered) < seen {
				// Up to twenty stay unanswered, fewer than the broker's send window.
				device.take(t, c, c.Read(), len(device.delivered)%4 != 0 || len(device.delivered) > 80)
			}
			b.Kill()
			publishing.Wait()
			device.drain(t, c)
			b.Up()

			c = b.Resume(t, mqttcodec.V5, "q2")
			publisher = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
			publisher.Publish(mqttcodec.Publish{Topic: "q2", QoS: 2, Payload: []byte("end")})
			for !slices.Contains(device.delivered, "end") || len(device.open) > 0 {
				device.take(t, c, c.Read(), true)
			}
			device.check(t, n)
		})
	}
}

// qos2Device is a receiver at QoS 2 that does by the book what the specification asks of it. (4.3.3, method A)
type qos2Device struct {
	open      map[uint16]string // received, not released: identifier to payload
	delivered []string
}

func newQoS2Device() *qos2Device { return &qos2Device{open: map[uint16]string{}} }

// take handles one packet; with reply false it keeps a PUBLISH unanswered.
func (d *qos2Device) take(t *testing.T, r *harness.Raw, p mqttcodec.Packet, reply bool) {
	t.Helper()
	switch p := p.(type) {
	case *mqttcodec.Publish:
		payload, known := d.open[p.PacketID]
		switch {
		case known && payload != string(p.Payload):
			t.Errorf("identifier %d was in use for %q and now carries %q [MQTT-2.2.1-4]", p.PacketID, payload, p.Payload)
		case known && !p.Duplicate:
			t.Errorf("%q comes again without DUP [MQTT-3.3.1-1]", p.Payload)
		case !known:
			d.open[p.PacketID] = string(p.Payload)
			d.delivered = append(d.delivered, string(p.Payload))
		}
		if !reply {
			return
		}
	case *mqttcodec.Pubrel:
		delete(d.open, p.PacketID)
	default:
		t.Fatalf("got %T %+v", p, p)
	}
	_ = answer(r, p) // the broker may be gone: then it asks again
}

// drain takes what was still on its way when the broker died.
func (d *qos2Device) drain(t *testing.T, r *harness.Raw) {
	t.Helper()
	for _, p := range r.ExpectClosed() {
		d.take(t, r, p, false)
	}
}

// check: each message once and in order. What the publisher had not seen acknowledged may be missing at the end.
func (d *qos2Device) check(t *testing.T, n int) {
	t.Helper()
	last := len(d.delivered) - 1
	if last > n || !slices.Equal(d.delivered[:last], harness.Numbered("", 0, last)) {
		t.Errorf("delivered %q, want each once and in order", d.delivered)
	}
}

// A QoS 1 message sent right before the kill may come again under another identifier, and is never lost.
// [MQTT-4.3.2-3] [case 181]
func TestS03QoS1IsNeverLostWhateverTheInstant(t *testing.T) {
	t.Parallel()
	for _, seen := range []int{1, 15, 32} {
		t.Run(fmt.Sprintf("after %d", seen), func(t *testing.T) {
			t.Parallel()
			b := harness.Start(t)
			c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V311, "q1"))
			c.Subscribe(harness.Filter("q1", 1))
			publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "publisher"))
			const n = 60
			publisher.PublishAll(harness.Messages("q1", 1, "", n))
			receiveUnanswered(c, seen)
			b.Restart(harness.Kill9, c, publisher)

			c = b.Resume(t, mqttcodec.V311, "q1")
			publisher = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "publisher"))
			publisher.Publish(mqttcodec.Publish{Topic: "q1", QoS: 1, Payload: []byte("end")})
			var got []string
			for !slices.Contains(got, "end") {
				m := harness.Expect[*mqttcodec.Publish](c)
				c.Answer(m)
				got = append(got, string(m.Payload))
			}
			if want := append(harness.Numbered("", 0, n), "end"); !slices.Equal(got, want) {
				t.Errorf("nothing was acknowledged before the kill; got after it\n%q\nwant each, in order", got)
			}
		})
	}
}
