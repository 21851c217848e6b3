package actors

import (
	"runtime"
	"sync"
	"time"
)

const (
	// throughput is how many messages an actor handles before it lets others run.
	throughput = 300
	// runningPerProcessor is how many actors run at the same time, for each processor. Others wait for their turn, in which
	// more comes together for them.
	runningPerProcessor = 4
	// crowd is how many actors may wait until there are too many.
	crowd = 64
	// stuckAfter is how long nothing may move while actors wait: then the running ones are taken for blocked, and others run too.
	stuckAfter = 10 * time.Millisecond
)

// workers are the goroutines that run actors. An actor runs for a few messages at a time, on a stack that has grown by then:
// a goroutine that goes on with the next actor keeps it, where a new one would grow its own each time; and nobody has to be
// woken.
//
// It implements actor.Dispatcher, and is safe for concurrent use.
type workers struct {
	limit int // of running; set before the first Schedule

	mu sync.Mutex // guards the fields below it
	// running is how many run an actor that is not blocked.
	running int
	// waiting are the actors that wait for a worker, from first on. Their number is bounded by that of actors.
	waiting []func()
	first   int
	// idle are the workers without actor, the one that was busy last at the end; not more than limit.
	idle []chan func()
	// begun counts the runs, watched is what it was when the watch looked last; watching: the watch is set.
	begun, watched uint64
	watching       bool
	closed         bool
}

func newWorkers() *workers {
	return &workers{limit: max(2, runtime.GOMAXPROCS(0)) * runningPerProcessor}
}

// Schedule runs f on a worker, when there is room.
func (w *workers) Schedule(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < w.limit {
		w.start(f)
		return
	}
	if w.first > 0 && len(w.waiting) == cap(w.waiting) {
		n := copy(w.waiting, w.waiting[w.first:])
		clear(w.waiting[n:])
		w.waiting, w.first = w.waiting[:n], 0
	}
	w.waiting = append(w.waiting, f)
	w.watch()
}

// start gives f to an idle worker, or a new one. mu is held.
func (w *workers) start(f func()) {
	w.running++
	w.begun++
	n := len(w.idle)
	if n == 0 {
		go w.work(f)
		return
	}
	next := w.idle[n-1]
	w.idle = w.idle[:n-1]
	next <- f // it has room for one, and is empty
}

// next takes the actor that has waited longest, nil when none has. mu is held.
func (w *workers) next() func() {
	if w.first == len(w.waiting) {
		return nil
	}
	f := w.waiting[w.first]
	w.waiting[w.first] = nil
	if w.first++; w.first == len(w.waiting) {
		w.waiting, w.first = w.waiting[:0], 0
	}
	return f
}

// crowded reports whether so many actors wait that those who make more of them wait should hold back.
func (w *workers) crowded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)-w.first > crowd
}

// Throughput implements actor.Dispatcher.
func (w *workers) Throughput() int { return throughput }

// work runs f and then whatever waits or comes, until there are enough idle workers.
func (w *workers) work(f func()) {
	hand := make(chan func(), 1)
	for f != nil {
		f()
		w.mu.Lock()
		if w.running <= w.limit {
			if f = w.next(); f != nil {
				w.begun++
				w.mu.Unlock()
				continue
			}
		}
		w.running--
		if w.closed || len(w.idle) >= w.limit {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, hand)
		w.mu.Unlock()
		f = <-hand
	}
}

// block is called by an actor that may now have to wait: another runs in its place. unblock ends that.
func (w *workers) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	w.fill()
}

func (w *workers) unblock() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running++
}

// fill lets actors run as far as there is room. mu is held.
func (w *workers) fill() {
	for w.running < w.limit {
		f := w.next()
		if f == nil {
			return
		}
		w.start(f)
	}
}

// watch sees to it that actors which wait get on also when all that run are blocked without having said so. mu is held.
func (w *workers) watch() {
	if w.watching {
		return
	}
	w.watching, w.watched = true, w.begun
	time.AfterFunc(stuckAfter, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.watching = false
		if w.first == len(w.waiting) {
			return
		}
		if w.begun == w.watched {
			for range w.limit {
				if f := w.next(); f != nil {
					w.start(f)
				}
			}
		}
		w.watch()
	})
}

// close ends the idle workers, and the others when they are through.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, hand := range w.idle {
		hand <- nil
	}
	w.idle = nil
}
