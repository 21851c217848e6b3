package actors

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dunlin/sessions"
)

const (
	// maxDelayedBatch and maxDelayedBatchBytes bound the delayed messages that are in memory: those that are being published.
	maxDelayedBatch      = 256
	maxDelayedBatchBytes = 8 << 20
	// delayedRetry is how long delayed messages wait when storage does not answer, delayedRefused when the log refuses them.
	delayedRetry   = 500 * time.Millisecond
	delayedRefused = 30 * time.Second
	// delayedLate is how late a message is when a node publishes it though another should.
	delayedLate = 2 * time.Second
	// delayedLook is how often, at least, the clock is looked at: it may be set.
	delayedLook = 10 * time.Second
)

// delayed publishes delayed messages when they are due, in the order in which they are, and removes them from their store.
// Of those that wait it knows only when they are due.
//
// A message goes into the log under its identity, and the checkpoint stays below it until it is removed from the store. So a
// start after a crash in between finds it in the log, and only removes it: it is published once. Another node that does the
// same at the same time stores nothing twice either.
type delayed struct {
	broker *Broker
	store  sessions.Delayed
	// cursor holds the checkpoint.
	cursor cursor
	// overdue are, while a start looks at the log, the messages that may be in it, by identity.
	overdue map[string]uint64
	// published are messages that are in the log, or with false may be. Owned by the start, then by run.
	published map[uint64]bool
	// failing: storage did not answer the last time. Owned by run.
	failing bool
	// changed has a token when something became known that may be due before all else.
	changed chan struct{}

	// mu guards the fields below it.
	mu      sync.Mutex
	waiting delayedQueue
	// known is the sequence up to which messages of the store are known.
	known uint64
}

// delayedWaiting is a message that waits.
type delayedWaiting struct {
	sequence uint64
	due      int64 // UnixNano
	bytes    int
}

func (w delayedWaiting) compare(other delayedWaiting) int {
	return cmp.Or(cmp.Compare(w.due, other.due), cmp.Compare(w.sequence, other.sequence))
}

// delayedQueue is a heap of those that wait, the next one first.
type delayedQueue []delayedWaiting

var _ heap.Interface = (*delayedQueue)(nil)

func (q delayedQueue) Len() int           { return len(q) }
func (q delayedQueue) Less(i, j int) bool { return q[i].compare(q[j]) < 0 }
func (q delayedQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *delayedQueue) Push(x any) { *q = append(*q, x.(delayedWaiting)) }

// Pop implements heap.Interface.
func (q *delayedQueue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	*q = (*q)[:last]
	return w
}

func newDelayed(b *Broker) *delayed {
	return &delayed{
		broker: b, store: b.storage.Delayed,
		overdue: map[string]uint64{}, published: map[uint64]bool{}, changed: make(chan struct{}, 1),
	}
}

// read learns at a start what is stored. Identities that sessions gave are for them, as those in the log are.
func (d *delayed) read(ctx context.Context, identity func(id string)) error {
	overdue := time.Now().Add(delayedLook)
	err := d.store.Each(ctx, func(e sessions.DelayedEntry) {
		d.learn(e)
		identity(e.ID)
		if e.Due.Before(overdue) {
			d.overdue[e.ID] = e.Sequence
		}
	})
	if err != nil {
		return fmt.Errorf("read delayed messages: %w", err)
	}
	return nil
}

// found takes note at a start that the log holds a message.
func (d *delayed) found(id string) {
	if sequence, ours := d.overdue[id]; ours {
		d.published[sequence] = true
	}
}

// learn takes note of a message in the store.
func (d *delayed) learn(e sessions.DelayedEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Sequence <= d.known {
		return
	}
	d.known = e.Sequence
	d.add(delayedWaiting{sequence: e.Sequence, due: e.Due.UnixNano(), bytes: e.Bytes})
}

// add puts a message among those that wait. mu is held.
func (d *delayed) add(w delayedWaiting) {
	heap.Push(&d.waiting, w)
	if d.waiting[0].sequence == w.sequence {
		select {
		case d.changed <- struct{}{}:
		default:
		}
	}
}

// follow learns of what is stored from now on, until the broker stops.
func (d *delayed) follow() {
	d.mu.Lock()
	known := d.known
	d.mu.Unlock()
	if err := d.store.Follow(d.broker.running, known, d.learn); err != nil && d.broker.running.Err() == nil {
		d.broker.fail(fmt.Errorf("delayed messages cannot be read any more: %w", err))
	}
}

// run publishes what is due, until the broker stops.
func (d *delayed) run() {
	d.overdue = nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		batch, wait := d.take(time.Now())
		if len(batch) > 0 {
			if d.publish(batch) {
				d.failing = false
				continue
			}
			wait = delayedRetry
		}
		timer.Reset(wait)
		changed := d.changed
		if len(batch) > 0 {
			changed = nil // storage has to answer first
		}
		select {
		case <-timer.C:
		case <-changed:
		case <-d.broker.running.Done():
			return
		}
	}
}

// take takes the next messages that are due, or tells how long to wait for them.
func (d *delayed) take(now time.Time) (batch []delayedWaiting, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.broker.cluster.leading.Load() {
		now = now.Add(-delayedLate)
	}
	for bytes := 0; len(d.waiting) > 0 && len(batch) < maxDelayedBatch; {
		next := d.waiting[0]
		if left := time.Unix(0, next.due).Sub(now); left > 0 {
			return batch, min(left, delayedLook)
		}
		if bytes += next.bytes; len(batch) > 0 && bytes > maxDelayedBatchBytes {
			break
		}
		batch = append(batch, heap.Pop(&d.waiting).(delayedWaiting))
	}
	return batch, delayedLook
}

// putBack has messages wait again, not for less than a while.
func (d *delayed) putBack(list []delayedWaiting, notBefore time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range list {
		w.due = max(w.due, notBefore.UnixNano())
		heap.Push(&d.waiting, w)
	}
}

// publish publishes messages that are due and removes them. It returns false when storage did not answer; then what is not
// done waits again.
func (d *delayed) publish(batch []delayedWaiting) bool {
	ctx, cancel := context.WithTimeout(d.broker.running, workTimeout)
	defer cancel()
	sequences := make([]uint64, len(batch))
	for i, w := range batch {
		sequences[i] = w.sequence
	}
	began := time.Now()
	messages, err := d.store.Load(ctx, sequences)
	if err == nil && time.Since(began) > workTimeout {
		err = fmt.Errorf("%w: the process was stopped", sessions.ErrUnavailable) // others have published them, too long ago for the log to tell
	}
	if err != nil {
		return d.failed(batch, "read", err)
	}
	var toLog, live, done []delayedWaiting
	for _, w := range batch {
		m := messages[w.sequence].Message
		switch {
		case m == nil || d.published[w.sequence]:
			done = append(done, w)
		case d.expired(m, w):
			d.broker.stats.Dropped(m.Publisher, sessions.DropExpired, 1)
			done = append(done, w)
		case m.QoS > 0 || m.Retain || d.broker.cfg.Sessions.QueueQoS0:
			toLog = append(toLog, w)
		default:
			live = append(live, w)
		}
	}
	stored, ok := d.append(toLog, messages)
	ok = d.remove(ctx, append(done, stored...)) && ok
	return d.route(ctx, live, messages) && ok
}

// expired reports whether a message that is due is older than its expiry interval, which began when it was due, and takes
// the time that has passed since off the interval.
func (d *delayed) expired(m *sessions.Message, w delayedWaiting) bool {
	expiry := &m.Properties.MessageExpirySeconds
	if !expiry.Present {
		return false
	}
	late := max(0, time.Since(time.Unix(0, w.due)))
	if late >= time.Duration(expiry.Value)*time.Second {
		return true
	}
	expiry.Value -= uint32(late / time.Second)
	return false
}

// append puts messages into the log and returns those that it has taken.
func (d *delayed) append(list []delayedWaiting, messages map[uint64]sessions.DelayedMessage) (stored []delayedWaiting, ok bool) {
	if len(list) == 0 {
		return nil, true
	}
	d.hold()
	results := make(delayedResults, len(list))
	for i, w := range list {
		d.published[w.sequence] = false
		d.broker.storage.Log.Append(messages[w.sequence].Message, messages[w.sequence].ID, results, uint64(i))
	}
	var refused, unanswered []delayedWaiting
	var refusal, failure error
	for range list {
		var r sessions.Result
		select {
		case r = <-results:
		case <-d.broker.running.Done():
			return nil, false // a start finds out
		}
		w := list[r.Token]
		switch {
		case r.Err == nil:
			stored = append(stored, w)
			continue
		case errors.Is(r.Err, sessions.ErrUnavailable):
			unanswered, failure = append(unanswered, w), r.Err
		default:
			refused, refusal = append(refused, w), r.Err
			delete(d.published, w.sequence)
		}
	}
	if len(refused) > 0 {
		d.broker.log.Error("delayed messages refused by the log; they are tried again", "messages", len(refused), "err", refusal)
		d.putBack(refused, time.Now().Add(delayedRefused))
	}
	return stored, len(unanswered) == 0 || d.failed(unanswered, "stored", failure)
}

// delayedResults is the sink of a batch, with room for all its results.
type delayedResults chan sessions.Result

// Stored implements sessions.Sink.
func (r delayedResults) Stored(result sessions.Result) { r <- result }

// hold keeps the checkpoint below what is appended from now on.
func (d *delayed) hold() {
	if d.cursor.hold.Load() == 0 {
		d.cursor.hold.Store(d.broker.storage.Log.LastAppended() + 1)
	}
}

// remove forgets messages that are published, and lets the checkpoint go on when none is left.
func (d *delayed) remove(ctx context.Context, list []delayedWaiting) bool {
	removed := func() {
		if len(d.published) == 0 {
			d.cursor.hold.Store(0)
		}
	}
	if len(list) == 0 {
		removed()
		return true
	}
	sequences := make([]uint64, len(list))
	for i, w := range list {
		sequences[i] = w.sequence
	}
	if _, err := d.store.Remove(ctx, sequences); err != nil {
		for _, w := range list {
			d.published[w.sequence] = true
		}
		return d.failed(list, "removed", err)
	}
	for _, w := range list {
		delete(d.published, w.sequence)
	}
	removed()
	return true
}

// route hands out messages at QoS 0 that nobody has to remember. They are removed first, so that each comes once at most.
func (d *delayed) route(ctx context.Context, list []delayedWaiting, messages map[uint64]sessions.DelayedMessage) bool {
	if len(list) == 0 {
		return true
	}
	sequences := make([]uint64, len(list))
	for i, w := range list {
		sequences[i] = w.sequence
	}
	removed, err := d.store.Remove(ctx, sequences)
	gone := make(map[uint64]bool, len(removed))
	for _, sequence := range removed {
		gone[sequence] = true
	}
	var routed []*sessions.Message
	var left []delayedWaiting
	for _, w := range list {
		if gone[w.sequence] {
			m := messages[w.sequence].Message
			m.PublishedAt = time.Now()
			routed = append(routed, m)
		} else if err != nil {
			left = append(left, w)
		}
	}
	if len(routed) > 0 {
		d.broker.router.route(routed)
		d.broker.live.publish(routed, sessions.Identity{})
	}
	if err != nil {
		return d.failed(left, "removed", err)
	}
	return true
}

// failed has messages wait again, in the place that they had.
func (d *delayed) failed(list []delayedWaiting, what string, err error) bool {
	d.putBack(list, time.Time{})
	if !d.failing && d.broker.running.Err() == nil {
		d.failing = true
		d.broker.log.Warn("delayed messages wait for storage", "messages", len(list), "not", what, "err", err)
	}
	return false
}
