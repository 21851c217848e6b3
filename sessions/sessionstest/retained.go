package sessionstest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"dunlin/sessions"
)

// RetainedStore implements sessions.RetainedStore.
type RetainedStore struct{ s *Storage }

var _ sessions.RetainedStore = (*RetainedStore)(nil)

// retainedState is the store itself, under the storage's mu.
type retainedState struct {
	// writes are the last ones for each topic.
	writes   map[string]sessions.Retained
	revision uint64
	// changed is closed, and replaced, when a Watch may have something to bring; held: it brings nothing.
	changed chan struct{}
	held    bool
	// putting counts unanswered writes of nodes by topic, overlaps those that broke the rule.
	putting  map[string]int
	overlaps int
}

func newRetainedState() retainedState {
	return retainedState{writes: map[string]sessions.Retained{}, changed: make(chan struct{}), putting: map[string]int{}}
}

// notify wakes every Watch.
func (r *retainedState) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *retainedState) put(e sessions.Entry) uint64 {
	r.revision++
	e.ID = ""
	r.writes[e.Message.Topic] = sessions.Retained{Entry: e, Revision: r.revision}
	return r.revision
}

// Put implements sessions.RetainedStore.
func (r *RetainedStore) Put(e sessions.Entry, expect uint64, to sessions.Sink, token uint64) {
	topic, state := e.Message.Topic, &r.s.retained
	r.s.mu.Lock()
	if state.putting[topic] > 0 {
		state.overlaps++
	}
	state.putting[topic]++
	r.s.mu.Unlock()
	r.s.submit(write{
		Operation: Operation{Kind: PutRetained, Topic: topic}, to: to, token: token,
		apply: func() sessions.Result {
			if now := state.writes[topic].Revision; now != expect {
				return sessions.Result{Err: fmt.Errorf("%w: %s is at revision %d, not %d", sessions.ErrConflict, topic, now, expect)}
			}
			return sessions.Result{Sequence: state.put(e)}
		},
	})
}

// PutForeign writes a retained message as somebody who is no node: with an empty payload it removes what is there.
func (r *RetainedStore) PutForeign(m *sessions.Message) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	stored := *m
	stored.Retain, stored.PublishedAt = true, r.s.log.clock()
	r.s.retained.put(sessions.Entry{Position: sessions.Position{Time: stored.PublishedAt}, Message: &stored})
	r.s.retained.notify()
}

// Load implements sessions.RetainedStore.
func (r *RetainedStore) Load(_ context.Context, topic string) (sessions.Retained, error) {
	if err := r.s.read(Operation{Kind: Read, Topic: topic}); err != nil {
		return sessions.Retained{}, err
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.retained.writes[topic], nil
}

// Each implements sessions.RetainedStore.
func (r *RetainedStore) Each(_ context.Context, visit func(sessions.Retained)) (uint64, error) {
	if err := r.s.read(Operation{Kind: Read}); err != nil {
		return 0, err
	}
	r.s.mu.Lock()
	all, revision := maps.Clone(r.s.retained.writes), r.s.retained.revision
	r.s.mu.Unlock()
	for _, topic := range slices.Sorted(maps.Keys(all)) {
		w := all[topic]
		if removed := len(w.Message.Payload) == 0; removed && !w.Foreign() || w.Message.Expired(time.Now()) {
			continue
		}
		visit(w)
	}
	return revision, nil
}

// Watch implements sessions.RetainedStore.
func (r *RetainedStore) Watch(ctx context.Context, after uint64, tell func(sessions.Retained)) error {
	for {
		var writes []sessions.Retained
		r.s.mu.Lock()
		changed := r.s.retained.changed
		for _, w := range r.s.retained.writes {
			if w.Revision > after && w.Foreign() && !r.s.dead && !r.s.retained.held {
				writes = append(writes, w)
			}
		}
		r.s.mu.Unlock()
		slices.SortFunc(writes, func(a, b sessions.Retained) int { return cmp.Compare(a.Revision, b.Revision) })
		for _, w := range writes {
			after = w.Revision
			tell(w)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
