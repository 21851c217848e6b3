package jetstream

import (
	"sync"

	"dunlin/sessions"
)

const (
	// ownEntriesMax and ownBytesMax bound what waits for the tail.
	ownEntriesMax = 64 << 10
	ownBytesMax   = 32 << 20
	// ownEntriesKept is the largest buffer that is used again.
	ownEntriesKept = 4096
)

// ownEntries are the messages that this node has appended and the log has taken, in the order of their PubAcks, until the tail
// hands them out: to read them back would double the cost of a message. The publisher puts them here.
//
// Overflow policy: what finds no room is left out. The tail notices a gap, and reads it from the log.
type ownEntries struct {
	// wake has one token when there is something to take.
	wake chan struct{}

	mu      sync.Mutex       // guards the fields below it
	entries []sessions.Entry // collected since the last take
	spare   []sessions.Entry // what take returned before
	bytes   int
	// collecting: a tail takes them.
	collecting bool
	// unplaced counts what was stored since the last take where the tail must find it itself.
	unplaced int64
	// stored counts what was put here, collected or not.
	stored uint64
}

func newOwnEntries() *ownEntries { return &ownEntries{wake: make(chan struct{}, 1)} }

// put adds what was stored.
func (o *ownEntries) put(done []settled) {
	o.mu.Lock()
	before := len(o.entries)
	for i := range done {
		e := &done[i].entry
		if done[i].unplaced {
			o.stored++
			o.unplaced++
		}
		if e.Message == nil {
			continue
		}
		o.stored++
		size := e.Message.Memory()
		if !o.collecting || len(o.entries) >= ownEntriesMax || o.bytes+size > ownBytesMax && o.bytes > 0 {
			continue
		}
		o.bytes += size
		o.entries = append(o.entries, *e)
	}
	added := len(o.entries) > before
	o.mu.Unlock()
	if added {
		o.notify()
	}
}

// notify wakes the tail.
func (o *ownEntries) notify() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// collect begins to keep what is put here, or ends that and lets go of it.
func (o *ownEntries) collect(collecting bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.collecting = collecting
	o.entries, o.spare, o.bytes, o.unplaced = nil, nil, 0, 0
}

// take empties the collection, and tells how many messages of this node are not in it. The result is valid until the next take.
func (o *ownEntries) take() (taken []sessions.Entry, unplaced int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken, unplaced = o.entries, o.unplaced
	if clear(o.spare); cap(o.spare) > ownEntriesKept {
		o.spare = nil
	}
	o.entries, o.spare, o.bytes, o.unplaced = o.spare[:0], taken, 0, 0
	return taken, unplaced
}

// count is how many messages of this node the log has taken so far.
func (o *ownEntries) count() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stored
}
