package sessions

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// TestGuaranteesHoldWhateverHappens runs a client against a session while connections break, storage fails and nodes die,
// then lets everything come to rest: what was promised must have been kept, each way and at each QoS (4.3, 4.4, 4.6).
func TestGuaranteesHoldWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.begin()
		w.act(rapid.IntRange(1, 150).Draw(t, "steps"))
		w.drain()
		w.checkDelivered()
		w.checkRetainedCame()
		w.checkStored()
		w.checkWills()
		w.leave()
	})
}

// begin connects and subscribes.
func (w *world) begin() {
	w.calm = true
	w.drain()
	w.client.connect()
	w.drain()
	p := &mqttcodec.Subscribe{PacketID: 1}
	for _, f := range []string{"t/#:2", "t/1:1", "s/#:1", "q/#"} {
		p.Requests = append(p.Requests, request(f))
	}
	w.client.send(p)
	for range w.number(0, 3) {
		w.publish(rapid.SampledFrom([]string{"d/1", "d/2", "d/3"}).Draw(w.t, "topic"), 1, true)
	}
	w.drain()
	w.calm = false
}

// action is something that may happen next, if it is possible; the more often the greater its weight.
type action struct {
	name     string
	weight   int
	possible func() bool
	do       func()
}

// act lets n things happen, drawn from those that are possible.
func (w *world) act(n int) {
	all := w.actions()
	for range n {
		var names []string
		for _, a := range all {
			if a.possible() {
				names = append(names, slices.Repeat([]string{a.name}, a.weight)...)
			}
		}
		name := rapid.SampledFrom(names).Draw(w.t, "action")
		all[slices.IndexFunc(all, func(a action) bool { return a.name == name })].do()
	}
}

func (w *world) number(from, to int) int { return rapid.IntRange(from, to).Draw(w.t, "n") }

func (w *world) topic() string {
	return rapid.SampledFrom([]string{"t/1", "t/2", "s/1", "q/1", "d/1", "d/2", "p/1"}).Draw(w.t, "topic")
}

// actions are what may happen.
func (w *world) actions() []action {
	always := func() bool { return true }
	waiting := func() bool { return len(w.mailbox) > 0 }
	r, c, n := &w.router, &w.client, &w.node
	usable := func() bool { return c.answered && len(c.replies) == 0 }
	subscribable := func() bool { return c.answered && c.d.subscribing+c.d.unsubscribing == 0 }
	return []action{
		{"run", 4, waiting, func() { w.run(w.number(1, 5)) }},
		{"run all", 8, waiting, func() { w.run(len(w.mailbox)) }},
		{"client reads", 3, func() bool { return len(c.wire) > 0 }, c.read},
		{"client reads all", 4, func() bool { return len(c.wire) > 1 }, func() {
			for len(c.wire) > 0 {
				c.read()
			}
		}},
		{"client replies", 8, func() bool { return len(c.replies) > 0 }, c.reply},
		{"client publishes", 3, func() bool { return usable() && len(c.unfinished) < 8 }, func() {
			c.publish(w.topic(), rapid.SampledFrom([]mqttcodec.QoS{0, 1, 1, 2, 2}).Draw(w.t, "qos"))
		}},
		{"client connects", 1, always, c.connect},
		{"client connects again", 6, func() bool { return c.connection == 0 }, c.connect},
		{"connection breaks", 1, func() bool { return c.connection != 0 }, c.lost},
		{"break is noticed", 2, func() bool { return len(c.undetected) > 0 }, c.detect},
		{"client disconnects", 1, usable, c.disconnect},
		{"client subscribes", 4, subscribable, c.subscribe},
		{"client unsubscribes", 1, subscribable, c.unsubscribe},
		{"congestion", 1, func() bool { return c.connection != 0 }, func() {
			c.congested = !c.congested
			w.post(Congestion{Congested: c.congested})
		}},
		{"others publish", 3, always, func() {
			for range w.number(1, 4) {
				topic := w.topic()
				qos, retain := mqttcodec.QoS(w.number(0, 2)), w.number(0, 4) == 0 || topic[0] == 'd'
				w.publish(topic, qos, retain || qos == 0)
			}
		}},
		{"others publish at QoS 0", 1, always, func() { r.route(&Message{Topic: w.topic(), Payload: c.payload()}) }},
		{"log is handed out", 5, func() bool { return r.head < w.store.head() }, func() { r.deliver(w.number(1, 5)) }},
		{"queue is read", 3, func() bool { return len(r.fetches) > 0 }, r.fetched},
		{"messages are read", 4, func() bool { return len(r.loads) > 0 }, r.loaded},
		{"memory is short", 1, func() bool { return r.ringAfter < r.head }, func() { r.ringAfter = r.head }},
		{"append", 5, func() bool { return len(w.appends) > 0 }, w.appendOne},
		{"write", 6, func() bool { return len(w.writes) > 0 }, w.writeOne},
		{"answer", 8, func() bool { return len(w.answers) > 0 }, w.answerOne},
		{"late write", 2, func() bool { return len(w.late) > 0 }, w.lateOne},
		{"time passes", 1, always, func() { w.advance(time.Duration(w.number(1, 20)) * 100 * time.Millisecond) }},
		{"checkpoint", 2, always, n.checkpoint},
		{"boot settles", 1, func() bool { return len(n.stored) > 1 }, n.settled},
		{"release", 3, n.releasable, n.release},
		{"shutdown", 1, always, func() {
			if w.number(0, 3) == 0 {
				n.shutdown()
			}
		}},
		{"crash", 1, always, func() {
			if w.number(0, 3) == 0 {
				n.crash()
			}
		}},
	}
}

// sequences are where in the log a payload is.
func (w *world) sequences(payload string) (list []uint64) {
	for _, e := range w.store.log {
		if string(e.Message.Payload) == payload {
			list = append(list, e.Sequence)
		}
	}
	return list
}

// retains reports whether the message at a sequence was published with RETAIN.
func (w *world) retains(seq uint64) bool {
	e, ok := w.store.entry(seq)
	return ok && e.Message.Retain
}

// retainedUpTo are the sequences of the retained messages, by topic, of topics that start with a letter.
func (w *world) retainedUpTo(seq uint64, letter byte) map[string]uint64 {
	list := map[string]uint64{}
	for _, e := range w.store.log {
		if e.Sequence <= seq && e.Message.Retain && e.Message.Topic[0] == letter {
			list[e.Message.Topic] = e.Sequence
		}
	}
	return list
}

// tellsOf reports whether a record of an earlier connection is right for the session as it is, but for where its client is.
func (w *world) tellsOf(r *Record) bool {
	return r.DetachedAt != nil && w.now.Sub(*r.DetachedAt) <= soonBack && r.Incarnation == w.s.incarnation &&
		r.Protocol == w.s.version && r.ExpirySeconds == ExpirySeconds(w.s.expiry) && r.Will == nil && w.s.will == nil
}

// checkPromise: a packet that promises something goes out after what it promises is durable.
func (w *world) checkPromise(p mqttcodec.Packet) {
	var r *Record
	j := &journalState{}
	if w.store.record != nil {
		r, _ = DecodeRecord(w.store.record)
	}
	if w.store.journal != nil {
		j, _ = decodeJournal(w.store.journal)
	}
	switch p := p.(type) {
	case *mqttcodec.Connack:
		if !p.Reason.Failed() && (r == nil || r.Owner != w.cfg.Boot || r.Nonce != w.s.nonce && !w.tellsOf(r)) {
			w.t.Fatalf("CONNACK before the claim is durable")
		}
	case *mqttcodec.Puback:
		if !p.Reason.Failed() && !w.inLog(p.PacketID, 1) { // [MQTT-4.3.2-4]
			w.t.Fatalf("PUBACK %d before the message is stored", p.PacketID)
		}
	case *mqttcodec.Pubrec:
		if !p.Reason.Failed() && (!w.inLog(p.PacketID, 2) || !j.holdsInbound(p.PacketID)) { // [MQTT-4.3.3-8]
			w.t.Fatalf("PUBREC %d before message and identifier are stored", p.PacketID)
		}
	case *mqttcodec.Pubcomp:
		if j.holdsInbound(p.PacketID) { // [MQTT-4.3.3-11]
			w.t.Fatalf("PUBCOMP %d before the identifier is free", p.PacketID)
		}
	case *mqttcodec.Publish:
		if o := j.outboundOf(p.PacketID); p.QoS == 2 && (o == nil || o.state >= pubrecSeen) { // [MQTT-4.3.3-1]
			w.t.Fatalf("PUBLISH %d at QoS 2 before its identifier is journaled, or after PUBREC", p.PacketID)
		}
	case *mqttcodec.Pubrel:
		if o := j.outboundOf(p.PacketID); !p.Reason.Failed() && (o == nil || o.state < pubrecSeen) {
			w.t.Fatalf("PUBREL %d before PUBREC is journaled", p.PacketID)
		}
	case *mqttcodec.Suback, *mqttcodec.Unsuback:
		if r == nil || len(r.Subscriptions) != w.s.subs.count() { // [MQTT-3.8.4-1]
			w.t.Fatalf("%T before the record is durable", p)
		}
	}
}

// inLog reports whether the log has the message that the client publishes under an identifier.
func (w *world) inLog(id uint16, qos mqttcodec.QoS) bool {
	for _, p := range w.client.unfinished {
		if p.id == id && p.qos == qos {
			return len(w.sequences(string(p.payload))) > 0
		}
	}
	return false
}

func (j *journalState) holdsInbound(id uint16) bool {
	for _, in := range j.inbound {
		if in.packetID == id {
			return in.stored
		}
	}
	return false
}

func (j *journalState) outboundOf(id uint16) *outbound {
	for i := range j.outbound {
		if j.outbound[i].packetID == id {
			return &j.outbound[i]
		}
	}
	return nil
}

// checkDelivered: what came into the log was delivered, at least once at QoS 1, exactly once at QoS 2.
func (w *world) checkDelivered() {
	for _, e := range w.store.log {
		m := e.Message
		granted := map[byte]mqttcodec.QoS{'t': 2, 's': 1}[m.Topic[0]]
		if m.Topic[0] == 'd' && w.client.d.made && e.Sequence > w.client.d.since {
			granted = 2
		}
		n := w.client.deliveries[string(m.Payload)]
		switch qos := min(granted, m.QoS); {
		case qos > 0 && n == 0:
			w.t.Fatalf("%s at %d, QoS %d, was not delivered", m.Payload, e.Sequence, qos)
		case qos == 2 && n != 1:
			w.t.Fatalf("%s at %d, QoS 2, was delivered %d times", m.Payload, e.Sequence, n)
		}
	}
}

// checkRetainedCame: a SUBSCRIBE brought the retained messages that there were, or newer ones.
func (w *world) checkRetainedCame() {
	for topic, seq := range w.client.owed {
		if w.client.newest[topic] < seq {
			w.t.Fatalf("retained message at %d of %s did not come", seq, topic)
		}
	}
	for topic, seq := range w.client.kept {
		replaced := slices.ContainsFunc(w.store.log, func(e Entry) bool { // by one that no session keeps
			return e.Sequence > seq && e.Message.Topic == topic && e.Message.Retain && e.Message.QoS == 0
		})
		if w.client.seen[topic] < seq && !replaced {
			w.t.Fatalf("retained message at %d of %s, at QoS 1 or 2, did not come on any connection", seq, topic)
		}
	}
}

// checkStored: what the client published is in the log, at least once and in order at QoS 1, exactly once at QoS 2.
func (w *world) checkStored() {
	last := uint64(0)
	for _, p := range w.client.published {
		seqs := w.sequences(string(p.payload))
		if len(seqs) == 0 && !p.failed {
			w.t.Fatalf("%s, published at QoS %d, is not in the log", p.payload, p.qos)
		}
		if p.qos == 2 && len(seqs) > 1 {
			w.t.Fatalf("%s, published at QoS 2, is in the log at %v", p.payload, seqs)
		}
		if p.qos == 1 && len(seqs) > 0 && !p.failed && !w.tookLate[string(p.payload)] { // [MQTT-4.6.0-2]
			if seqs[len(seqs)-1] < last {
				w.t.Fatalf("%s is at %v in the log, a message published before it at %d", p.payload, seqs, last)
			}
			last = seqs[len(seqs)-1]
		}
	}
	if len(w.client.unfinished) > 0 {
		w.t.Fatalf("%d messages were never acknowledged", len(w.client.unfinished))
	}
}

// checkWills: the will of a connection that ended without DISCONNECT was published, and none twice. [MQTT-3.1.2-8]
func (w *world) checkWills() {
	for i, will := range w.client.wills {
		if will.payload == "" {
			continue
		}
		n := len(w.sequences(will.payload))
		over := i < len(w.client.wills)-1
		if n > 1 || n == 0 && over && will.accepted && !will.forgiven && !will.delayed && !w.rejected[will.payload] {
			w.t.Fatalf("will %s is in the log %d times: %+v", will.payload, n, will)
		}
	}
}

// leave ends the session: nothing may be left of it.
func (w *world) leave() {
	w.client.disconnect()
	w.client.known = false
	w.drain()
	if !w.s.Quiet() || w.s.Connection() != 0 {
		w.t.Fatalf("a session without connection does not come to rest")
	}
	const last = ConnectionID(1 << 32)
	w.post(Connect{Connection: last, Packet: &mqttcodec.Connect{Version: mqttcodec.V5, CleanStart: true}, Nonce: "last"})
	w.drain()
	if w.s.Connection() != last || w.store.record != nil {
		w.t.Fatalf("a clean start without expiry left a record")
	}
	w.post(ConnectionLost{Connection: last})
	w.drain()
	if !w.s.Absent() || !w.s.Quiet() || len(w.router.filters) > 0 || w.store.record != nil || w.store.journal != nil {
		w.t.Fatalf("something is left of a session that is over: filters %v", w.router.filters)
	}
}
