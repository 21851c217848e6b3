package sessionstest

import (
	"context"
	"fmt"
	"slices"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// Queues implements sessions.Queues.
type Queues struct{ s *Storage }

var _ sessions.Queues = (*Queues)(nil)

// Open implements sessions.Queues.
func (q *Queues) Open(ctx context.Context, clientID string, filters []string, after uint64) (sessions.Queue, error) {
	if len(filters) == 0 {
		return nil, fmt.Errorf("%w: queue of %q without a filter", sessions.ErrRejected, clientID)
	}
	if err := q.ready(ctx, clientID); err != nil {
		return nil, err
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	q.s.queues[clientID]++
	return &Queue{queues: q, clientID: clientID, filters: slices.Clone(filters), position: after}, nil
}

// Remove implements sessions.Queues.
func (q *Queues) Remove(ctx context.Context, clientID string) error {
	if err := q.ready(ctx, clientID); err != nil {
		return err
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	delete(q.s.queues, clientID)
	return nil
}

func (q *Queues) ready(ctx context.Context, clientID string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
	}
	return q.s.read(Operation{Kind: Read, ClientID: clientID})
}

// Queue implements sessions.Queue.
type Queue struct {
	queues   *Queues
	clientID string
	filters  []string
	position uint64
}

var _ sessions.Queue = (*Queue)(nil)

// Fetch implements sessions.Queue.
func (u *Queue) Fetch(ctx context.Context, most int) ([]sessions.Entry, error) {
	if err := u.queues.ready(ctx, u.clientID); err != nil {
		return nil, err
	}
	u.queues.s.mu.Lock()
	defer u.queues.s.mu.Unlock()
	waiting := u.waiting()
	n := min(most, len(waiting))
	for i := range waiting[:n] {
		waiting[i].QueuedAfter = uint64(len(waiting) - i - 1)
	}
	if n > 0 {
		u.position = waiting[n-1].Sequence
	}
	return waiting[:n], nil
}

// waiting are the messages in the queue. The storage's mu is held.
func (u *Queue) waiting() []sessions.Entry {
	var entries []sessions.Entry
	l := &u.queues.s.log
	for _, e := range l.entries[l.after(u.position):] {
		if e.Message == nil || slices.ContainsFunc(u.filters, func(f string) bool { return mqttcodec.MatchTopic(f, e.Message.Topic) }) {
			entries = append(entries, e)
		}
	}
	return entries
}

// Count implements sessions.Queue.
func (u *Queue) Count(ctx context.Context, counts func(sessions.Entry) bool) (n uint64, err error) {
	if err := u.queues.ready(ctx, u.clientID); err != nil {
		return 0, err
	}
	u.queues.s.mu.Lock()
	defer u.queues.s.mu.Unlock()
	for _, e := range u.waiting() {
		if counts(e) {
			n++
		}
	}
	return n, nil
}
