package sessionstest

import (
	"context"
	"maps"
	"slices"
	"time"

	"dunlin/sessions"
)

// RetainedStore implements sessions.RetainedStore.
type RetainedStore struct{ s *Storage }

var _ sessions.RetainedStore = (*RetainedStore)(nil)

// Put implements sessions.RetainedStore.
func (r *RetainedStore) Put(e sessions.Entry, to sessions.Sink, token uint64) {
	topic := e.Message.Topic
	r.s.mu.Lock()
	if r.s.putting[topic] > 0 {
		r.s.overlaps++
	}
	r.s.putting[topic]++
	r.s.mu.Unlock()
	r.s.submit(write{
		Operation: Operation{Kind: PutRetained, Topic: topic}, to: to, token: token,
		apply: func() sessions.Result {
			if len(e.Message.Payload) == 0 {
				delete(r.s.retained, topic)
			} else {
				r.s.retained[topic] = e
			}
			return sessions.Result{Sequence: 1}
		},
	})
}

// Each implements sessions.RetainedStore.
func (r *RetainedStore) Each(_ context.Context, visit func(sessions.Entry)) error {
	if err := r.s.read(Operation{Kind: Read}); err != nil {
		return err
	}
	r.s.mu.Lock()
	all := maps.Clone(r.s.retained)
	r.s.mu.Unlock()
	for _, topic := range slices.Sorted(maps.Keys(all)) {
		if e := all[topic]; !e.Message.Expired(time.Now()) {
			e.ID = ""
			visit(e)
		}
	}
	return nil
}
