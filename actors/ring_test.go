package actors

import (
	"testing"

	"dunlin/mqttcodec"
	"dunlin/sessions"

	"pgregory.net/rapid"
)

// sized is an entry that takes a number of bytes in the ring.
func sized(sequence uint64, bytes int) sessions.Entry {
	return sessions.Entry{
		Position: sessions.Position{Sequence: sequence},
		Message:  &sessions.Message{Topic: "t", Payload: make([]byte, bytes-entryOverhead-1)},
	}
}

// TestRingHoldsTheEndOfTheLog compares the ring with the whole log: it holds all after `after`, and no more bytes than
// allowed, but always the last entry.
func TestRingHoldsTheEndOfTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := uint64(rapid.IntRange(0, 3).Draw(t, "start"))
		r := ring{after: start, maxBytes: rapid.IntRange(1, 20*entryOverhead).Draw(t, "max")}
		var log []sessions.Entry
		sequence := start
		for range rapid.IntRange(1, 200).Draw(t, "entries") {
			sequence += uint64(rapid.IntRange(1, 3).Draw(t, "step")) // the log has holes
			e := sized(sequence, entryOverhead+1+rapid.IntRange(0, 2*entryOverhead).Draw(t, "bytes"))
			log = append(log, e)
			r.append(e)
		}
		bytes := 0
		for i, e := range r.entries[r.first:] {
			bytes += entrySize(&e)
			if want := log[len(log)-len(r.entries[r.first:])+i]; e.Sequence != want.Sequence {
				t.Fatalf("entry %d is %d, want %d", i, e.Sequence, want.Sequence)
			}
		}
		if bytes != r.bytes || bytes > r.maxBytes && len(r.entries)-r.first > 1 {
			t.Fatalf("%d bytes, counted %d, of %d", bytes, r.bytes, r.maxBytes)
		}
		for i := range r.first {
			if r.entries[i].Message != nil {
				t.Fatalf("entry %d is gone and keeps its message", i)
			}
		}
		for after := r.after; after <= sequence+1; after++ {
			var want []uint64
			for _, e := range log {
				if e.Sequence > after {
					want = append(want, e.Sequence)
				}
			}
			got := r.since(after)
			if len(got) != len(want) || len(got) > 0 && (got[0].Sequence != want[0] || got[len(got)-1].Sequence != want[len(want)-1]) {
				t.Fatalf("since %d holds %d entries, want %d", after, len(got), len(want))
			}
		}
	})
}

func TestRingIsCompacted(t *testing.T) {
	r := ring{maxBytes: 10 * (entryOverhead + 1)}
	for i := range uint64(100_000) {
		r.append(sized(i+1, entryOverhead+1))
	}
	if n := len(r.entries); n > 3000 {
		t.Fatalf("the ring holds 10 entries in a slice of %d", n)
	}
	if got := r.since(99_995); len(got) != 5 || r.after != 99_990 {
		t.Fatalf("%d entries since 99995, complete after %d", len(got), r.after)
	}
}

// What a client puts into properties counts as what it puts into the payload.
func TestRingIsBoundedInProperties(t *testing.T) {
	r := ring{maxBytes: 100 << 10}
	for i := range 100 {
		r.append(sessions.Entry{
			Position: sessions.Position{Sequence: uint64(i + 1)},
			Message: &sessions.Message{Topic: "t", Properties: mqttcodec.MessageProperties{
				UserProperties: []mqttcodec.UserProperty{{Key: "k", Value: string(make([]byte, 20<<10))}},
			}},
		})
	}
	if n := len(r.entries) - r.first; n > 5 {
		t.Errorf("%d messages of 20 KiB are kept in 100 KiB", n)
	}
}
