package actors

import (
	"slices"

	"dunlin/sessions"
)

// ring holds the end of the log in memory, for sessions that are a little behind. Owned by the router, under its lock.
//
// Invariant: it holds every entry after `after`, in order.
type ring struct {
	// after is the sequence behind which the ring is complete.
	after   uint64
	entries []sessions.Entry
	// first is the index of the oldest entry: those before it are gone and wait to be compacted.
	first    int
	bytes    int
	maxBytes int
}

// entryOverhead is what an entry costs beside its payload and topic.
const entryOverhead = 256

func entrySize(e *sessions.Entry) int {
	if e.Message == nil {
		return entryOverhead
	}
	return entryOverhead + e.Message.Memory()
}

// append adds the next entry and lets go of the oldest ones past the bound.
func (r *ring) append(e sessions.Entry) {
	r.entries = append(r.entries, e)
	r.bytes += entrySize(&e)
	for r.bytes > r.maxBytes && r.first < len(r.entries)-1 {
		old := &r.entries[r.first]
		r.after = old.Sequence
		r.bytes -= entrySize(old)
		*old = sessions.Entry{}
		r.first++
	}
	if r.first > 1024 && r.first > len(r.entries)/2 {
		n := copy(r.entries, r.entries[r.first:])
		clear(r.entries[n:])
		r.entries, r.first = r.entries[:n], 0
	}
}

// since is the part of the ring after a sequence, which must not be below r.after. It is valid under the router's lock.
func (r *ring) since(sequence uint64) []sessions.Entry {
	live := r.entries[r.first:]
	i, found := slices.BinarySearchFunc(live, sequence, func(e sessions.Entry, s uint64) int {
		switch {
		case e.Sequence < s:
			return -1
		case e.Sequence > s:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	return live[i:]
}
