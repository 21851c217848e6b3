package sessionstest

import (
	"maps"
	"slices"
	"time"

	"dunlin/sessions"
)

// Kind is a kind of operation.
type Kind uint8

// The kinds of operations. ReadLog is a window of a LogReader, Read every other operation that stores nothing. Settle, Return and Renew of shared queues, which
// nobody waits for, are lost when they fail.
const (
	Append Kind = iota
	SaveRecord
	SaveJournal
	Delete
	PutRetained
	PutPresence
	ReadPresence
	PutDelayed
	RemoveDelayed
	SaveCheckpoint
	OpenShared
	RemoveShared
	Reclaim
	Take
	Settle
	Return
	Renew
	ReadLog
	Read
	kinds
)

// Operation is one operation of the storage, as a test sees it.
type Operation struct {
	Kind Kind
	// ClientID is that of records, journals and queues, Topic that of messages, ID the identity of an Append, Share the
	// shared subscription.
	ClientID, Topic, ID, Share string
}

// Outcome is what becomes of an operation. The zero value lets it be.
type Outcome struct {
	// Err, wrapping one of the storage errors, is its result.
	Err error
	// Stored: it is carried out all the same, so that the error is about the answer alone.
	Stored bool
}

// Intercept decides what becomes of each operation from now on; nil lets all be. f must not call the storage.
func (s *Storage) Intercept(f func(Operation) Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Fail makes all operations of these kinds fail with err; nil ends every interception.
func (s *Storage) Fail(err error, kinds ...Kind) {
	if err == nil {
		s.Intercept(nil)
		return
	}
	s.Intercept(func(o Operation) Outcome {
		for _, k := range kinds {
			if o.Kind == k {
				return Outcome{Err: err}
			}
		}
		return Outcome{}
	})
}

// Latency makes each operation wait: a write twice, before it is stored and before it is answered, and not those that
// nobody waits for. f must be safe for concurrent use. The time is virtual, see Elapse.
func (s *Storage) Latency(f func(Operation) time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = f
}

func (s *Storage) pause(o Operation) {
	s.mu.Lock()
	f := s.latency
	s.mu.Unlock()
	if f != nil {
		Elapse(f(o))
	}
}

// Hold keeps writes of these kinds from being stored until Release.
func (s *Storage) Hold(kinds ...Kind) { s.hold(true, kinds) }

// Release lets held writes go on, in their order.
func (s *Storage) Release(kinds ...Kind) { s.hold(false, kinds) }

func (s *Storage) hold(held bool, kinds []Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range kinds {
		l := &s.lanes[k]
		l.held = held
		s.start(l)
	}
}

// Waiting is how many writes of a kind are held.
func (s *Storage) Waiting(k Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lanes[k].queue)
}

// HoldTail keeps the log from being read by Tail; ReleaseTail lets it go on.
func (s *Storage) HoldTail() { s.holdTail(true) }

// ReleaseTail ends HoldTail.
func (s *Storage) ReleaseTail() { s.holdTail(false) }

func (s *Storage) holdTail(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.held = held
	s.notify()
}

// HoldWatch keeps what others write to the retained messages from Watch; ReleaseWatch lets it go on.
func (s *Storage) HoldWatch() { s.holdWatch(true) }

// ReleaseWatch ends HoldWatch.
func (s *Storage) ReleaseWatch() { s.holdWatch(false) }

func (s *Storage) holdWatch(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retained.held = held
	s.retained.notify()
}

// Trim takes the messages below a sequence out of the log.
func (s *Storage) Trim(below uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.entries = s.log.entries[s.log.after(below-1):]
}

// ReplaceLog makes the log anew: empty, and counting from 1.
func (s *Storage) ReplaceLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = logState{created: s.log.clock(), ids: map[string]identity{}, generation: s.log.generation + 1}
	clear(s.shared) // they are part of it
	s.notify()
}

// ExpireMarkers makes the deletion markers of records and journals end, as they do after a while.
func (s *Storage) ExpireMarkers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.expireMarkers()
}

// Entries are the entries of the log.
func (s *Storage) Entries() []sessions.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sessions.Entry(nil), s.log.entries...)
}

// Record and Journal are what is stored of a session, nil when nothing is.
func (s *Storage) Record(clientID string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.records.docs[clientID].data
}

// Journal is the stored journal of a session.
func (s *Storage) Journal(clientID string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.journals.docs[clientID].data
}

// QueueNames are the client identifiers that have a durable queue.
func (s *Storage) QueueNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.queues {
		names = append(names, name)
	}
	return names
}

// QueueOpens is how often the queue of a client identifier was opened since it was last removed.
func (s *Storage) QueueOpens(clientID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[clientID]
}

// SharedNames are the shared subscriptions that have a queue.
func (s *Storage) SharedNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.shared))
}

// SharedTaken are the messages of a shared queue that are taken and not settled, in order; those that were returned too.
func (s *Storage) SharedTaken(share string) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.shared[share]; q != nil {
		return slices.Sorted(maps.Keys(q.taken))
	}
	return nil
}

// SharedPending is how many messages of a shared queue wait to be taken, again or for the first time.
func (s *Storage) SharedPending(share string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.shared[share]
	if q == nil {
		return 0
	}
	q.expire()
	return len(q.returned) + len(q.fresh(&s.log, len(s.log.entries)))
}

// RetainedMessage is the stored retained message of a topic.
func (s *Storage) RetainedMessage(topic string) (sessions.Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.retained.writes[topic]
	return w.Entry, w.Message != nil && len(w.Message.Payload) > 0
}

// Overlaps counts writes of retained messages and of presence that began before the one before, for the same topic or client, was
// answered.
func (s *Storage) Overlaps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retained.overlaps + s.presence.overlaps
}
