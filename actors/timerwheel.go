package actors

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// timerTarget is whoever a timer is for. timerFired is called on the wheel's goroutine and must not block: it posts a
// message. kind and generation are those of Schedule.
type timerTarget interface {
	timerFired(kind uint8, generation uint32)
}

// timerEntry is one timer. It is not cancelled but outdated: its target has moved on to another generation and
// ignores it.
type timerEntry struct {
	target     timerTarget
	generation uint32
	kind       uint8
}

// timerHorizon stands for all that is further away: no sum of it and a running time overflows.
const timerHorizon = 100 * 365 * 24 * time.Hour

// timerWheel fires all timers of a node from one goroutine with one ticker. A timer takes one entry in the bucket of
// its tick, however far away, and nothing when it is re-armed lazily: a target that moves its deadline often leaves
// the timer as it is, and schedules anew when that one comes too early. An entry keeps its target in memory until it
// is due, so far deadlines are best approached in steps.
//
// A timer never fires before its time and, unless the machine is busy, at most about one tick after it. Timers fire
// in the order of their ticks, and within one tick in the order of scheduling. When ticks were missed because the
// process was suspended or the clock jumped, all that is due fires at the next one.
//
// Time is what now says. With time.Now that is the monotonic clock: a deadline without a monotonic reading, which came
// out of storage, is turned into a duration by the wall clock once, when it is scheduled.
type timerWheel struct {
	tick   time.Duration
	now    func() time.Time
	origin time.Time // the start of tick 0

	// mu guards buckets and next. No target is called under it.
	mu      sync.Mutex
	buckets map[int64][]timerEntry // by the number of the tick at which they are due
	next    int64                  // the first tick that has not fired

	stopOnce sync.Once
	stopping chan struct{}
	stopped  chan struct{}
}

// newTimerWheel starts a wheel. Whoever made it stops it.
func newTimerWheel(tick time.Duration, now func() time.Time) *timerWheel {
	w := makeTimerWheel(tick, now)
	go w.run(time.NewTicker(tick))
	return w
}

// makeTimerWheel makes a wheel that only advance turns.
func makeTimerWheel(tick time.Duration, now func() time.Time) *timerWheel {
	return &timerWheel{
		tick:     tick,
		now:      now,
		origin:   now(),
		buckets:  make(map[int64][]timerEntry),
		next:     1,
		stopping: make(chan struct{}),
		stopped:  make(chan struct{}),
	}
}

// Schedule arranges for target.timerFired(kind, generation) at a time, or at the next tick when that has passed.
// It is safe for concurrent use, also from timerFired. After Stop it does nothing of use.
func (w *timerWheel) Schedule(at time.Time, target timerTarget, kind uint8, generation uint32) {
	now := w.now()
	due := now.Sub(w.origin) + min(at.Sub(now), timerHorizon)
	bucket := int64(due / w.tick)
	if due%w.tick > 0 {
		bucket++ // the tick at or after its time, never the one before
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	bucket = max(bucket, w.next)
	w.buckets[bucket] = append(w.buckets[bucket], timerEntry{target: target, generation: generation, kind: kind})
}

// Stop ends the wheel's goroutine and waits for it: nothing fires afterwards. It must not be called from timerFired.
func (w *timerWheel) Stop() {
	w.stopOnce.Do(func() { close(w.stopping) })
	<-w.stopped
}

func (w *timerWheel) run(ticker *time.Ticker) {
	defer close(w.stopped)
	defer ticker.Stop()
	for {
		select {
		case <-w.stopping:
			return
		case <-ticker.C:
			w.advance(w.now())
		}
	}
}

// advance fires what is due at a time. A time before an earlier one fires nothing.
func (w *timerWheel) advance(now time.Time) {
	for _, bucket := range w.take(int64(now.Sub(w.origin) / w.tick)) {
		for _, e := range bucket {
			e.target.timerFired(e.kind, e.generation)
		}
	}
}

// take removes the buckets of all ticks up to and including one, and returns them in order.
func (w *timerWheel) take(upTo int64) [][]timerEntry {
	w.mu.Lock()
	defer w.mu.Unlock()
	if upTo < w.next {
		return nil
	}
	var due [][]timerEntry
	if upTo-w.next > int64(len(w.buckets)) { // after a long pause there are more ticks than buckets
		for _, tick := range slices.Sorted(maps.Keys(w.buckets)) {
			if tick <= upTo {
				due = append(due, w.takeBucket(tick))
			}
		}
	} else {
		for tick := w.next; tick <= upTo; tick++ {
			if len(w.buckets[tick]) > 0 {
				due = append(due, w.takeBucket(tick))
			}
		}
	}
	w.next = upTo + 1
	return due
}

// takeBucket removes one bucket. The caller holds mu.
func (w *timerWheel) takeBucket(tick int64) []timerEntry {
	bucket := w.buckets[tick]
	delete(w.buckets, tick)
	return bucket
}
