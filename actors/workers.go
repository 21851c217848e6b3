package actors

import "sync"

const (
	// throughput is how many messages an actor handles before it lets others run.
	throughput = 300
	// maxIdleWorkers bounds the goroutines that wait for the next actor to run.
	maxIdleWorkers = 64
)

// workers are the goroutines that run actors. An actor runs for a few messages at a time, on a stack that has grown by then:
// a goroutine that goes on with the next actor keeps it, where a new one would grow its own each time.
//
// It implements actor.Dispatcher, and is safe for concurrent use.
type workers struct {
	mu     sync.Mutex    // guards the fields below it
	idle   []chan func() // the one that was busy last is at the end
	closed bool
}

// Schedule runs f on a goroutine of its own.
func (w *workers) Schedule(f func()) {
	w.mu.Lock()
	n := len(w.idle)
	if n == 0 {
		w.mu.Unlock()
		go w.work(f)
		return
	}
	next := w.idle[n-1]
	w.idle = w.idle[:n-1]
	w.mu.Unlock()
	next <- f
}

// Throughput implements actor.Dispatcher.
func (w *workers) Throughput() int { return throughput }

// work runs f and then whatever it is handed, until there are enough idle workers.
func (w *workers) work(f func()) {
	next := make(chan func(), 1)
	for {
		f()
		w.mu.Lock()
		if w.closed || len(w.idle) >= maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, next)
		w.mu.Unlock()
		if f = <-next; f == nil {
			return
		}
	}
}

// close ends the idle workers, and the others when they are through.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, next := range w.idle {
		next <- nil
	}
	w.idle = nil
}
