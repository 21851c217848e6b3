package sessionstest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"dunlin/sessions"
)

// Storage holds everything that its parts store. Safe for concurrent use.
type Storage struct {
	// mu guards the fields below it, those of the parts included.
	mu    sync.Mutex
	lanes [kinds]lane
	dead  bool
	// changed is closed, and replaced, when the log grows or something that a reader waits for changes.
	changed chan struct{}

	intercept func(Operation) Outcome
	latency   func(Operation) time.Duration

	log      logState
	store    storeState
	queues   map[string]int
	shared   map[string]*sharedState
	retained retainedState
	events   *Events
	presence presenceState
	live     sessions.Live

	delayed delayedState
}

// New is empty storage.
func New() *Storage {
	return &Storage{
		changed:  make(chan struct{}),
		log:      logState{created: time.Now().Round(0), ids: map[string]identity{}},
		store:    newStoreState(),
		queues:   map[string]int{},
		shared:   map[string]*sharedState{},
		retained: newRetainedState(),
		events:   &Events{},
		presence: newPresenceState(),
		delayed:  delayedState{messages: map[uint64]delayedMessage{}, ids: map[string]identity{}},
	}
}

// Log is the log.
func (s *Storage) Log() *Log { return &Log{s} }

// Store keeps records, journals and checkpoints.
func (s *Storage) Store() *Store { return &Store{s} }

// Queues are the durable queues.
func (s *Storage) Queues() *Queues { return &Queues{s} }

// Shared are the queues of shared subscriptions.
func (s *Storage) Shared() *SharedQueues { return &SharedQueues{s} }

// Retained keeps the retained messages.
func (s *Storage) Retained() *RetainedStore { return &RetainedStore{s} }

// Events keeps what is published.
func (s *Storage) Events() *Events { return s.events }

// Presence keeps the presence of clients.
func (s *Storage) Presence() *PresenceStore { return &PresenceStore{s} }

// OnLivePlane puts the node that uses the storage on a live plane.
func (s *Storage) OnLivePlane(p *LivePlane) *Live {
	n := p.Node()
	s.live = n
	return n
}

// Live is the live plane, nil for a node that is alone.
func (s *Storage) Live() sessions.Live { return s.live }

// Delayed keeps delayed messages.
func (s *Storage) Delayed() *Delayed { return &Delayed{s} }

// Crash is new storage with what is stored now. The old one stores and answers nothing any more; its readers fail.
func (s *Storage) Crash() *Storage {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	s.notify()
	c := New()
	c.log = s.log
	c.log.entries = slices.Clone(s.log.entries)
	c.log.ids = maps.Clone(s.log.ids)
	c.log.lastAppended = 0
	c.store = s.store.clone()
	c.retained.writes, c.retained.revision = maps.Clone(s.retained.writes), s.retained.revision
	c.presence.clients, c.presence.revision = maps.Clone(s.presence.clients), s.presence.revision
	c.delayed = delayedState{last: s.delayed.last, messages: maps.Clone(s.delayed.messages), ids: maps.Clone(s.delayed.ids)}
	for share, q := range s.shared {
		c.shared[share] = q.crashed()
	}
	return c // the sessions' queues are in memory there too
}

// notify wakes whoever waits for a change. mu is held.
func (s *Storage) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// write is a write on its way.
type write struct {
	Operation
	// apply carries it out. mu is held.
	apply func() sessions.Result
	to    sessions.Sink
	token uint64
}

// lane are the writes of one kind, carried out one after another.
type lane struct {
	queue   []write
	running bool
	held    bool
}

// submit starts a write. The result comes from another goroutine.
func (s *Storage) submit(w write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[w.Kind]
	l.queue = append(l.queue, w)
	s.start(l)
}

// start runs a lane that has something to do. mu is held.
func (s *Storage) start(l *lane) {
	if !l.running && !l.held && !s.dead && len(l.queue) > 0 {
		l.running = true
		go s.run(l)
	}
}

// run carries out what waits in a lane.
func (s *Storage) run(l *lane) {
	for {
		w, ok := s.next(l)
		if !ok {
			return
		}
		s.pause(w.Operation)
		result, ok := s.carryOut(w)
		if !ok {
			return
		}
		s.pause(w.Operation)
		w.to.Stored(result)
	}
}

func (s *Storage) next(l *lane) (w write, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead || l.held || len(l.queue) == 0 {
		l.running = false
		return w, false
	}
	w, l.queue = l.queue[0], l.queue[1:]
	return w, true
}

func (s *Storage) carryOut(w write) (r sessions.Result, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return r, false
	}
	o := s.outcome(w.Operation)
	if o.Err == nil || o.Stored {
		r = w.apply()
	}
	if o.Err != nil {
		r = sessions.Result{Err: o.Err}
	}
	r.Token = w.token
	if w.Kind == PutRetained {
		s.retained.putting[w.Topic]--
	}
	if w.Kind == PutPresence {
		s.presence.putting[w.ClientID]--
	}
	return r, true
}

// outcome is what the test wants to become of an operation. mu is held.
func (s *Storage) outcome(o Operation) Outcome {
	if s.intercept == nil {
		return Outcome{}
	}
	return s.intercept(o)
}

// read takes part in an operation that only reads: it waits its latency and returns its error.
func (s *Storage) read(o Operation) error {
	s.pause(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return fmt.Errorf("%w: crashed", sessions.ErrUnavailable)
	}
	return s.outcome(o).Err
}
