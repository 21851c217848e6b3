package integration

import (
	"fmt"
	"sync"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Messages at QoS 1 and at QoS 2 come in the order in which they were published, with one in flight on either side and with a
// thousand on the publisher's and as many as there may be on the subscriber's, while the subscriber goes from the queue to live and back in the middle of the burst: by leaving, by breaking
// off, by takeover. What is sent again comes first and in its order; at QoS 2 nothing comes twice.
// [MQTT-4.6.0-1] [MQTT-4.6.0-5] [MQTT-4.6.0-6] [3.1.1 MQTT-4.6.0-1] [3.1.1 MQTT-4.6.0-5] [3.1.1 MQTT-4.6.0-6]
// [MQTT-3.3.1-1] [MQTT-4.3.3-2] [case 144] [case 145] [case 191]
func TestOrderHoldsWithOneAndWithManyInFlight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ published, window, messages int }{{1, 1, 400}, {1000, 256, 5000}} {
		t.Run(fmt.Sprint(c.published), func(t *testing.T) {
			t.Parallel()
			shared := harness.Start(t, harness.Set("sessions.send_window", c.window))
			harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
				for qos := mqttcodec.QoS(1); qos <= 2; qos++ {
					t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
						t.Parallel()
						b := shared.For(t)
						r := &orderlyReceiver{t: t, id: fmt.Sprint("r", v, qos), version: v, qos: qos, window: c.window, open: map[uint16]int{}}
						r.connect(b)
						r.c.Subscribe(harness.Filter(r.id, qos))
						p := b.ConnectRaw(t, harness.CleanConnect(v, "p"+r.id))
						var publishing sync.WaitGroup
						publishing.Go(func() {
							for first := 0; first < c.messages; first += c.published {
								if err := publishAtOnce(p, qos, r.id, first, c.published); err != nil {
									t.Error(err)
									return
								}
							}
						})
						for turn := 0; r.delivered < c.messages; turn++ {
							r.receive(min(c.messages-r.delivered, 1+turn*37%(c.window+c.window/2+1)), turn%2 == 0)
							if r.delivered == c.messages {
								break
							}
							switch turn % 3 {
							case 0:
								r.c.Disconnect()
							case 1:
								r.c.Drop()
							case 2: // taken over
							}
							r.connect(b)
						}
						r.finish()
						publishing.Wait()
					})
				}
			})
		})
	}
}

// publishAtOnce publishes n messages, numbered from first on, without waiting for an acknowledgement before all are sent.
func publishAtOnce(p *harness.Raw, qos mqttcodec.QoS, topic string, first, n int) error {
	packets := make([]mqttcodec.Packet, n)
	for i := range packets {
		packets[i] = &mqttcodec.Publish{Topic: topic, QoS: qos, PacketID: uint16(i + 1), Payload: fmt.Append(nil, first+i)}
	}
	if err := p.TrySend(packets...); err != nil {
		return err
	}
	for left := n; left > 0; {
		got, err := p.TryRead()
		if err != nil {
			return fmt.Errorf("waiting for %d acknowledgements: %w", left, err)
		}
		switch got := got.(type) {
		case *mqttcodec.Puback, *mqttcodec.Pubcomp:
			left--
		case *mqttcodec.Pubrec:
			if err := p.TrySend(&mqttcodec.Pubrel{PacketID: got.PacketID}); err != nil {
				return err
			}
		default:
			return fmt.Errorf("waiting for acknowledgements, got %T %+v", got, got)
		}
	}
	return nil
}

// orderlyReceiver is a subscriber that lets no message pass that is not the one that is due.
type orderlyReceiver struct {
	t       *testing.T
	id      string
	version mqttcodec.Version
	qos     mqttcodec.QoS
	// window is how many messages it lets come before it must acknowledge them.
	window int
	c      *harness.Raw

	// delivered is how many messages it has taken: the number of the next.
	delivered int
	// last is the number of the last message on this connection, -1 before the first.
	last int
	// open are the messages at QoS 2 that are not released, by identifier.
	open map[uint16]int
	// owed are the acknowledgements that it has not sent.
	owed []mqttcodec.Packet
}

// connect connects, in place of the connection that may be there.
func (r *orderlyReceiver) connect(b *harness.Broker) {
	r.t.Helper()
	connect := harness.PersistentConnect(r.version, r.id)
	if r.version == mqttcodec.V5 {
		connect.Properties.ReceiveMaximum = uint16(r.window)
	}
	before := r.c
	r.c, r.last, r.owed = b.ConnectRaw(r.t, connect), -1, nil
	if before != nil && !r.c.Connack.SessionPresent {
		r.t.Fatal("session present is 0 in the middle of a burst")
	}
}

// receive takes n messages that did not come before; those it owes an answer at the end get it or not.
func (r *orderlyReceiver) receive(n int, answer bool) {
	r.t.Helper()
	for until := r.delivered + n; r.delivered < until; {
		r.take(r.c.Read())
		if len(r.owed) >= r.window {
			r.acknowledge()
		}
	}
	if answer {
		r.acknowledge()
	}
}

// finish completes what is open: nothing else comes.
func (r *orderlyReceiver) finish() {
	r.t.Helper()
	r.acknowledge()
	for len(r.open) > 0 {
		r.take(r.c.Read())
		r.acknowledge()
	}
	r.c.Send(&mqttcodec.Pingreq{})
	harness.Expect[*mqttcodec.Pingresp](r.c)
}

func (r *orderlyReceiver) acknowledge() {
	r.t.Helper()
	r.c.Send(r.owed...)
	r.owed = nil
}

func (r *orderlyReceiver) take(p mqttcodec.Packet) {
	r.t.Helper()
	switch p := p.(type) {
	case *mqttcodec.Publish:
		r.takePublish(p)
	case *mqttcodec.Pubrel:
		delete(r.open, p.PacketID)
		r.owed = append(r.owed, &mqttcodec.Pubcomp{PacketID: p.PacketID})
	default:
		r.t.Fatalf("got %T %+v", p, p)
	}
}

func (r *orderlyReceiver) takePublish(p *mqttcodec.Publish) {
	r.t.Helper()
	var number int
	if _, err := fmt.Sscan(string(p.Payload), &number); err != nil {
		r.t.Fatal(err)
	}
	before, again := r.open[p.PacketID]
	switch {
	case r.last >= 0 && number != r.last+1:
		r.t.Fatalf("%d came after %d", number, r.last)
	case number > r.delivered:
		r.t.Fatalf("%d came, %d is due", number, r.delivered)
	case number < r.delivered && !p.Duplicate:
		r.t.Fatalf("%d came again without DUP", number)
	case r.qos == 2 && again != (number < r.delivered) || again && before != number:
		r.t.Fatalf("%d came under the identifier %d; that is in use: %v, for %d", number, p.PacketID, again, before)
	}
	r.last = number
	r.delivered = max(r.delivered, number+1)
	if r.qos == 1 {
		r.owed = append(r.owed, &mqttcodec.Puback{PacketID: p.PacketID})
		return
	}
	r.open[p.PacketID] = number
	r.owed = append(r.owed, &mqttcodec.Pubrec{PacketID: p.PacketID})
}
