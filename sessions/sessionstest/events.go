package sessionstest

import (
	"fmt"
	"slices"
	"sync"

	"dunlin/sessions"
)

// Events implements sessions.Events: it keeps what is published. The zero value wants all kinds. Safe for concurrent use.
type Events struct {
	mu        sync.Mutex // guards the fields below it
	published []sessions.Event
	unwanted  map[sessions.EventKind]bool
	held      chan struct{}
	down      bool
}

var _ sessions.Events = (*Events)(nil)

// Wanted implements sessions.Events.
func (s *Events) Wanted(kind sessions.EventKind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.unwanted[kind]
}

// Publish implements sessions.Events.
func (s *Events) Publish(e *sessions.Event) error {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held != nil {
		<-held
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return fmt.Errorf("%w: events", sessions.ErrUnavailable)
	}
	s.published = append(s.published, *e)
	return nil
}

// Unwant lets nobody listen to some kinds from now on.
func (s *Events) Unwant(kinds ...sessions.EventKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwanted = map[sessions.EventKind]bool{}
	for _, kind := range kinds {
		s.unwanted[kind] = true
	}
}

// Hold keeps Publish waiting until what it returns is called.
func (s *Events) Hold() (release func()) {
	held := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = nil
		close(held)
	}
}

// Down makes Publish fail, or work again.
func (s *Events) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Take returns what was published since the last time.
func (s *Events) Take() []sessions.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.published)
	s.published = nil
	return all
}
