package sessions

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// TestQueueKeepsWhatItsLimitAllows: of what waits for a client at most max_queued_messages are delivered, the last ones or
// the first ones, however they are fetched and acknowledged; each of the others is counted.
func TestQueueKeepsWhatItsLimitAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig("boot1")
		cfg.MaxQueuedMessages = rapid.IntRange(0, 10).Draw(t, "limit")
		cfg.Overflow = rapid.SampledFrom([]Overflow{DropOldest, DropNewest}).Draw(t, "overflow")
		cfg.SendWindow = rapid.IntRange(1, 8).Draw(t, "window")
		q := &queueReader{t: t, s: New(&cfg, "c", Stored{})}
		q.s.incarnation, q.s.version, q.s.expiry = "n1", mqttcodec.V5, Never
		q.s.subs.put(Subscription{Filter: "a", QoS: 1})
		q.s.becomeDetached()
		var waiting []uint64
		for seq := range uint64(rapid.IntRange(0, 30).Draw(t, "length")) {
			e := Entry{Position: at(seq + 1), Message: &Message{Topic: "b", QoS: 1}}
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
			case 1: // in the log for those who come later
				e.Message = &Message{Topic: "a", Retain: true, Payload: []byte("x")}
			default:
				e.Message = &Message{Topic: "a", QoS: 1}
				waiting = append(waiting, e.Sequence)
			}
			q.store.put(e)
		}
		q.run()
		want := waiting
		if limit := cfg.MaxQueuedMessages; limit > 0 && len(waiting) > limit {
			want = waiting[len(waiting)-limit:]
			if cfg.Overflow == DropNewest {
				want = waiting[:limit]
			}
		}
		if !slices.Equal(q.delivered, want) || q.dropped != len(waiting)-len(want) {
			t.Fatalf("of %v, at most %d: delivered %v, dropped %d", waiting, cfg.MaxQueuedMessages, q.delivered, q.dropped)
		}
	})
}

// queueReader connects a session and reads its queue to the end, in pieces.
type queueReader struct {
	t         *rapid.T
	s         *Session
	store     memoryStore
	inputs    []Input
	acks      []uint16
	delivered []uint64
	dropped   int
}

func (q *queueReader) run() {
	p := &mqttcodec.Connect{Version: mqttcodec.V5}
	p.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(neverSeconds))
	q.inputs = []Input{Connect{Connection: 1, Packet: p, Nonce: "n2", Head: q.store.head()}}
	for len(q.inputs)+len(q.acks) > 0 {
		if n := len(q.acks); n > 0 && (len(q.inputs) == 0 || rapid.Bool().Draw(q.t, "acknowledge")) {
			i := rapid.IntRange(0, n-1).Draw(q.t, "which")
			q.inputs = append(q.inputs, PacketReceived{Connection: 1, Packet: &mqttcodec.Puback{PacketID: q.acks[i]}})
			q.acks = slices.Delete(q.acks, i, i+1)
		}
		in := q.inputs[0]
		q.inputs = q.inputs[1:]
		effects := q.s.Step(start, in, nil)
		q.perform(q.s.Flush(start, effects))
		checkInvariants(q.t, q.s)
		checkFlushed(q.t, q.s)
	}
}

func (q *queueReader) perform(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case SaveRecord:
			q.inputs = append(q.inputs, RecordSaved{q.store.save(e)})
		case SaveJournal:
			q.inputs = append(q.inputs, JournalSaved{q.store.save(e)})
		case RequestJournalTurn:
			q.inputs = append(q.inputs, JournalTurn{})
		case Fetch:
			q.inputs = append(q.inputs, q.fetch(e))
		case Drop:
			if e.Reason != DropQueueFull {
				q.t.Fatalf("%d dropped: %s", e.Count, e.Reason)
			}
			q.dropped += int(e.Count)
		case Send:
			if p, ok := e.Packet.(*mqttcodec.Publish); ok {
				q.acks = append(q.acks, p.PacketID)
				q.delivered = append(q.delivered, q.s.inflight[q.s.inflightIndex(p.PacketID)].entry.Sequence)
			}
		}
	}
}

// fetch brings some of what is left, with the number of matching entries, or none if that is within bounds.
func (q *queueReader) fetch(e Fetch) Fetched {
	rest := q.store.after(e.After.Sequence, 1<<30)
	in := Fetched{Token: e.Token, Head: at(q.store.head())}
	for _, e := range rest {
		if q.s.Waits(e) {
			in.Queued++
		}
	}
	n := rapid.IntRange(min(1, len(rest)), len(rest)).Draw(q.t, "entries")
	in.Entries = rest[:n]
	in.UpTo, in.Live = in.Head, n == len(rest)
	if n > 0 {
		in.UpTo = rest[n-1].Position
	}
	return in
}
