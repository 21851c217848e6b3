package sessionstest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// takeWait is how long Take waits for a message.
const takeWait = 5 * time.Second

// SharedQueues implements sessions.SharedQueues.
type SharedQueues struct{ s *Storage }

var _ sessions.SharedQueues = (*SharedQueues)(nil)

// sharedState is one shared queue, under the storage's mu.
type sharedState struct {
	filter string
	// position is the last sequence that was ever taken.
	position uint64
	// taken are the messages that were taken and not settled, each with the time at which it may be taken again.
	taken map[uint64]time.Time
	// returned are those of taken that are to be taken again before all others, in log order.
	returned []uint64
}

// crashed is what is left of a queue after a crash: that messages were returned is forgotten.
func (q *sharedState) crashed() *sharedState {
	return &sharedState{filter: q.filter, position: q.position, taken: maps.Clone(q.taken)}
}

// giveBack puts messages among the returned ones.
func (q *sharedState) giveBack(sequences []uint64) {
	for _, sequence := range sequences {
		if _, taken := q.taken[sequence]; taken && !slices.Contains(q.returned, sequence) {
			q.returned = append(q.returned, sequence)
		}
	}
	slices.Sort(q.returned)
}

// settle ends messages.
func (q *sharedState) settle(sequences []uint64) {
	for _, sequence := range sequences {
		delete(q.taken, sequence)
	}
	q.returned = slices.DeleteFunc(q.returned, func(sequence uint64) bool { return slices.Contains(sequences, sequence) })
}

// renew puts the time off at which messages may be taken again.
func (q *sharedState) renew(sequences []uint64) {
	for _, sequence := range sequences {
		if _, taken := q.taken[sequence]; taken {
			q.taken[sequence] = time.Now().Add(sessions.RenewWithin)
		}
	}
}

// expire gives back what was not renewed in time.
func (q *sharedState) expire() {
	var late []uint64
	for sequence, until := range q.taken {
		if !time.Now().Before(until) {
			late = append(late, sequence)
		}
	}
	q.giveBack(late)
}

// deadline is when the next message may be taken again without being returned.
func (q *sharedState) deadline() time.Time {
	next := time.Now().Add(takeWait)
	for sequence, until := range q.taken {
		if until.Before(next) && !slices.Contains(q.returned, sequence) {
			next = until
		}
	}
	return next
}

// fresh are at most max messages that nobody has taken yet; those that do not decode are passed over for good.
func (q *sharedState) fresh(l *logState, most int) []sessions.Entry {
	var entries []sessions.Entry
	for _, e := range l.entries[l.after(q.position):] {
		if len(entries) >= most {
			break
		}
		if e.Message != nil && mqttcodec.MatchTopic(q.filter, e.Message.Topic) {
			entries = append(entries, e)
		}
	}
	return entries
}

// take takes the next messages out.
func (q *sharedState) take(l *logState, most, maxBytes int) []sessions.Entry {
	q.expire()
	var entries []sessions.Entry
	full := func() bool { return len(entries) >= most || len(entries) > 0 && maxBytes <= 0 }
	add := func(e sessions.Entry) {
		entries = append(entries, e)
		maxBytes -= len(e.Message.Payload)
		q.taken[e.Sequence] = time.Now().Add(sessions.RenewWithin)
	}
	for !full() && len(q.returned) > 0 {
		sequence := q.returned[0]
		q.returned = q.returned[1:]
		if e, ok := l.find(sequence); ok {
			add(e)
		} else {
			delete(q.taken, sequence) // it is gone from the log
		}
	}
	for _, e := range q.fresh(l, min(most-len(entries), sessions.MaxTaken-len(q.taken))) {
		if full() {
			break
		}
		add(e)
		q.position = e.Sequence
	}
	return entries
}

// Open implements sessions.SharedQueues.
func (q *SharedQueues) Open(ctx context.Context, share string) (sessions.SharedQueue, error) {
	_, filter, ok := mqttcodec.SharedFilter(share)
	if !ok {
		return nil, fmt.Errorf("%w: %q is no shared subscription", sessions.ErrRejected, share)
	}
	err := q.change(ctx, Operation{Kind: OpenShared, Share: share}, func() {
		if q.s.shared[share] == nil {
			q.s.shared[share] = &sharedState{filter: filter, position: q.s.log.last.Sequence, taken: map[uint64]time.Time{}}
		}
	})
	if err != nil {
		return nil, err
	}
	return &SharedQueue{queues: q, share: share}, nil
}

// Remove implements sessions.SharedQueues.
func (q *SharedQueues) Remove(ctx context.Context, share string) error {
	return q.change(ctx, Operation{Kind: RemoveShared, Share: share}, func() {
		delete(q.s.shared, share)
		q.s.notify()
	})
}

// Each implements sessions.SharedQueues.
func (q *SharedQueues) Each(ctx context.Context, visit func(share string)) error {
	if err := q.change(ctx, Operation{Kind: Read}, func() {}); err != nil {
		return err
	}
	for _, share := range q.s.SharedNames() {
		visit(share)
	}
	return nil
}

// change carries out an operation that the caller waits for.
func (q *SharedQueues) change(ctx context.Context, o Operation, apply func()) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
	}
	q.s.pause(o)
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	if q.s.dead {
		return fmt.Errorf("%w: crashed", sessions.ErrUnavailable)
	}
	outcome := q.s.outcome(o)
	if outcome.Err == nil || outcome.Stored {
		apply()
	}
	return outcome.Err
}

// SharedQueue implements sessions.SharedQueue.
type SharedQueue struct {
	queues *SharedQueues
	share  string
}

var _ sessions.SharedQueue = (*SharedQueue)(nil)

// Take implements sessions.SharedQueue.
func (u *SharedQueue) Take(ctx context.Context, most, maxBytes int) ([]sessions.Entry, error) {
	waited := time.NewTimer(takeWait)
	defer waited.Stop()
	for {
		var entries []sessions.Entry
		var changed chan struct{}
		var deadline time.Time
		var removed error
		err := u.queues.change(ctx, Operation{Kind: Take, Share: u.share}, func() {
			q := u.queues.s.shared[u.share]
			if q == nil {
				removed = fmt.Errorf("%w: queue of %q", sessions.ErrNotFound, u.share)
				return
			}
			entries = q.take(&u.queues.s.log, most, maxBytes)
			changed, deadline = u.queues.s.changed, q.deadline()
		})
		if err == nil {
			err = removed
		}
		if err != nil {
			return nil, err
		}
		if len(entries) > 0 {
			return entries, nil
		}
		again := time.NewTimer(time.Until(deadline))
		select {
		case <-changed:
		case <-again.C:
		case <-waited.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		again.Stop()
	}
}

// Settle implements sessions.SharedQueue.
func (u *SharedQueue) Settle(sequences ...uint64) {
	u.tell(Settle, func(q *sharedState) { q.settle(sequences) })
}

// Return implements sessions.SharedQueue.
func (u *SharedQueue) Return(sequences ...uint64) {
	u.tell(Return, func(q *sharedState) { q.giveBack(sequences) })
}

// Renew implements sessions.SharedQueue.
func (u *SharedQueue) Renew(sequences ...uint64) {
	u.tell(Renew, func(q *sharedState) { q.renew(sequences) })
}

// tell carries out what nobody waits for: at once, unless it is held.
func (u *SharedQueue) tell(kind Kind, apply func(*sharedState)) {
	s := u.queues.s
	w := write{
		Operation: Operation{Kind: kind, Share: u.share}, to: nobody{},
		apply: func() sessions.Result {
			if q := s.shared[u.share]; q != nil {
				apply(q)
				s.notify()
			}
			return sessions.Result{}
		},
	}
	s.mu.Lock()
	l := &s.lanes[kind]
	behind := l.held || l.running || len(l.queue) > 0
	s.mu.Unlock()
	if behind {
		s.submit(w)
	} else {
		s.carryOut(w)
	}
}

// nobody waits for results.
type nobody struct{}

// Stored implements sessions.Sink.
func (nobody) Stored(sessions.Result) {}

// Reclaim implements sessions.SharedQueue.
func (u *SharedQueue) Reclaim(ctx context.Context, keep func(sequence uint64) bool) error {
	return u.queues.change(ctx, Operation{Kind: Reclaim, Share: u.share}, func() {
		if q := u.queues.s.shared[u.share]; q != nil {
			q.reclaim(keep)
			u.queues.s.notify()
		}
	})
}

func (q *sharedState) reclaim(keep func(sequence uint64) bool) {
	var kept, lost []uint64
	for sequence := range q.taken {
		if keep(sequence) {
			kept = append(kept, sequence)
		} else {
			lost = append(lost, sequence)
		}
	}
	q.returned = slices.DeleteFunc(q.returned, keep)
	q.renew(kept)
	q.giveBack(lost)
}
