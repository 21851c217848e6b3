package actors

import (
	"sync"
	"time"

	"dunlin/sessions"
)

const (
	// turnDelay is how long a session's journal may wait for more to go with it.
	turnDelay = 40 * time.Millisecond
	// turnsPerTick and turnTick bound the journal writes of the node that nothing waits for: 5,000 a second.
	turnTick     = 10 * time.Millisecond
	turnsPerTick = 50
)

// journalTurns gives sessions whose journal is behind their turn to write it, in the order in which they asked, within a
// budget for the node. Bounded by the number of session actors: each asks once.
type journalTurns struct {
	// mu guards queue and running.
	mu       sync.Mutex
	queue    []turnRequest
	wakeUp   chan struct{}
	stopping chan struct{}
	stopped  chan struct{}
}

type turnRequest struct {
	ref *sessionRef
	due time.Time
}

func newJournalTurns() *journalTurns {
	t := &journalTurns{wakeUp: make(chan struct{}, 1), stopping: make(chan struct{}), stopped: make(chan struct{})}
	go t.run()
	return t
}

// request asks for a turn. It never blocks.
func (t *journalTurns) request(ref *sessionRef) {
	t.mu.Lock()
	t.queue = append(t.queue, turnRequest{ref, time.Now().Add(turnDelay)})
	first := len(t.queue) == 1
	t.mu.Unlock()
	if first {
		select {
		case t.wakeUp <- struct{}{}:
		default:
		}
	}
}

// stop ends the turns and waits for the goroutine.
func (t *journalTurns) stop() {
	close(t.stopping)
	<-t.stopped
}

func (t *journalTurns) run() {
	defer close(t.stopped)
	ticker := time.NewTicker(turnTick)
	defer ticker.Stop()
	for {
		if !t.give(time.Now()) { // nobody waits: sleep without ticking
			ticker.Stop()
			select {
			case <-t.wakeUp:
			case <-t.stopping:
				return
			}
			ticker.Reset(turnTick)
		}
		select {
		case <-ticker.C:
		case <-t.stopping:
			return
		}
	}
}

// give hands out the turns that are due, within the budget of one tick, and reports whether somebody is still waiting.
func (t *journalTurns) give(now time.Time) bool {
	t.mu.Lock()
	n := 0
	for n < len(t.queue) && n < turnsPerTick && !t.queue[n].due.After(now) {
		n++
	}
	due := t.queue[:n:n]
	t.queue = t.queue[n:]
	waiting := len(t.queue) > 0
	if !waiting {
		t.queue = nil
	}
	t.mu.Unlock()
	for _, r := range due {
		r.ref.post(sessions.JournalTurn{})
	}
	return waiting
}
