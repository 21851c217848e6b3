package actors

import (
	"sync"

	"dunlin/sessions"
)

// maxResting bounds the sessions that rest in memory, about half a kilobyte each. Overflow policy: those that have rested
// longest are read from storage when their clients come back, as all are after a start.
const maxResting = 1 << 15

// resting are the sessions whose clients left last, as far as there is little to them: who comes back soon, as all do after
// an interruption of the network, is let in without a read. What is written names the revision that it replaces, so that
// a session which somebody else has changed in storage is found out as ever. Safe for concurrent use.
type resting struct {
	// mu guards recent and older, and what they hold.
	mu sync.Mutex
	// older are those that rested when recent had half of the maximum.
	recent, older map[string]*sessions.Resting
}

func newResting() *resting { return &resting{recent: map[string]*sessions.Resting{}} }

// put keeps a session. Nil is none.
func (r *resting) put(clientID string, s *sessions.Resting) {
	if s == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.recent) >= maxResting/2 {
		r.older, r.recent = r.recent, map[string]*sessions.Resting{}
	}
	r.recent[clientID] = s
}

// take takes a session out, nil if it is not there.
func (r *resting) take(clientID string) *sessions.Resting {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.find(clientID)
	delete(r.recent, clientID)
	delete(r.older, clientID)
	return s
}

// clear forgets all: they are read from storage when their clients come back.
func (r *resting) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent, r.older = map[string]*sessions.Resting{}, nil
}

// queue is what is queued for a session that rests.
func (r *resting) queue(clientID string, cfg *sessions.Config) (filters []string, after sessions.Position, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.find(clientID)
	if s == nil {
		return nil, sessions.Position{}, false
	}
	filters, after = s.Queue(cfg)
	return filters, after, true
}

func (r *resting) find(clientID string) *sessions.Resting {
	if s := r.recent[clientID]; s != nil {
		return s
	}
	return r.older[clientID]
}
