package actors

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"dunlin/sessions"
)

const (
	// maxDoubts is how many topics are looked up in the bucket at the same time.
	maxDoubts = 16
	// retainAgain is when a write that storage did not take, or a read, is tried again.
	retainAgain = time.Second
)

// retainer writes retained messages behind the log into their bucket, where plain NATS reads them and a restart finds
// them. Of each topic one write is in flight; meanwhile the newest waits. Bounded by the number of retained topics. What
// it has not written at a crash is above the checkpoint, and is written again from the log.
//
// Others write to the bucket too, and the later write counts. A write of ours names the revision that it replaces. When
// something else is there, or may be, the topic is in doubt: what is there is read, and its time compared with that of our
// message in the log. Both are the server's.
type retainer struct {
	store sessions.RetainedStore
	log   sessions.Log
	// fits reports whether a message that others wrote may be delivered.
	fits   func(*sessions.Message) bool
	stats  *Stats
	logger *slog.Logger
	// withIndex calls f with the index, under the router's lock. Set by the router.
	withIndex func(f func(*retainedIndex))
	// task runs f on a goroutine, until its ctx ends, or not at all when the broker has stopped.
	task func(f func(ctx context.Context))

	// mu guards the fields below it.
	mu      sync.Mutex
	topics  map[string]*retainedWrite
	byToken map[uint64]string
	token   uint64
	// cleared is the highest revision at which a topic was cleared: an older write that is heard of late may be gone.
	cleared uint64
	// doubts are the topics to be looked up; doubting is how many goroutines do that.
	doubts   []string
	doubting int
}

// retainedWrite is what is being written for one topic, or found out about it.
type retainedWrite struct {
	// writing has no message when we have nothing to write.
	writing, next retainedPut
	waiting       bool
	// first is the lowest sequence that is not durable in the bucket.
	first uint64
	// foreign is the highest revision of what others were heard to have written meanwhile.
	foreign uint64
}

// retainedPut is one write.
type retainedPut struct {
	sessions.Entry
	// kept is it in the index, nil for one that clears.
	kept *retainedMessage
	// expect is the revision that it replaces.
	expect uint64
}

func newRetainer(
	store sessions.RetainedStore, log sessions.Log, fits func(*sessions.Message) bool, task func(func(context.Context)), stats *Stats, logger *slog.Logger,
) *retainer {
	return &retainer{
		store: store, log: log, fits: fits, task: task, stats: stats, logger: logger,
		topics: map[string]*retainedWrite{}, byToken: map[uint64]string{},
	}
}

// put writes the retained message of a topic, which the index has taken. It does not block. Entries of one topic come in log
// order.
func (r *retainer) put(e sessions.Entry, a applied) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := retainedPut{Entry: e, kept: a.now}
	topic := e.Message.Topic
	if w := r.topics[topic]; w != nil {
		w.next, w.waiting, w.first = p, true, min(w.first, e.Sequence)
		return
	}
	w := &retainedWrite{writing: p, first: e.Sequence}
	r.topics[topic] = w
	if a.before == nil {
		r.write(w)
		return
	}
	w.writing.expect = a.before.revision.Load()
	if a.before.Sequence == 0 { // it did not come through this log, so it may be newer
		r.doubt(topic)
		return
	}
	r.write(w)
}

// write starts a write. mu is held: the store answers from its own goroutines, later.
func (r *retainer) write(w *retainedWrite) {
	r.token++
	r.byToken[r.token] = w.writing.Message.Topic
	r.store.Put(w.writing.Entry, w.writing.expect, r, r.token)
}

// promote puts what waits in the place of what was to be written. mu is held.
func (w *retainedWrite) promote(expect uint64) {
	w.writing, w.next, w.waiting = w.next, retainedPut{}, false
	w.writing.expect = expect
}

// Stored implements sessions.Sink. A write that storage did not take is tried again.
func (r *retainer) Stored(res sessions.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	topic := r.byToken[res.Token]
	delete(r.byToken, res.Token)
	w := r.topics[topic]
	switch {
	case w == nil:
	case res.Err == nil:
		r.written(topic, w, res.Sequence)
	case errors.Is(res.Err, sessions.ErrConflict):
		r.doubt(topic)
	case errors.Is(res.Err, sessions.ErrRejected):
		r.logger.Error("retained message refused by its bucket: it is lost with a restart", "topic", topic, "err", res.Err)
		r.stats.Dropped("", dropRetainedRefused, 1)
		r.written(topic, w, w.writing.expect)
	case w.waiting:
		w.promote(w.writing.expect)
		r.write(w)
	default:
		r.logger.Warn("retained message not written to its bucket; trying again", "topic", topic, "err", res.Err)
		time.AfterFunc(retainAgain, func() { r.again(topic) })
	}
}

// written goes on after a write at a revision. mu is held.
func (r *retainer) written(topic string, w *retainedWrite, revision uint64) {
	if w.writing.kept != nil {
		w.writing.kept.revision.Store(revision)
	} else {
		r.cleared = max(r.cleared, revision)
	}
	doubtful := w.foreign > revision
	switch {
	case w.waiting:
		w.promote(revision)
		if w.first = w.writing.Sequence; !doubtful {
			r.write(w)
		}
	case doubtful:
		w.writing, w.first = retainedPut{}, math.MaxUint64
	default:
		delete(r.topics, topic)
	}
	if doubtful {
		r.doubt(topic)
	}
}

func (r *retainer) again(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.topics[topic]; w != nil {
		if w.waiting {
			w.promote(w.writing.expect)
		}
		r.write(w)
	}
}

// busy notes what others wrote for a topic of which something is being written or found out: that settles it. If the topic
// is not busy, but has been cleared after that write, maybe, it becomes so. The router's lock is held.
func (r *retainer) busy(w sessions.Retained, known bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	topic := w.Message.Topic
	if t := r.topics[topic]; t != nil {
		t.foreign = max(t.foreign, w.Revision)
		return true
	}
	if known || len(w.Message.Payload) == 0 || w.Revision > r.cleared {
		return false
	}
	r.topics[topic] = &retainedWrite{first: math.MaxUint64, foreign: w.Revision}
	r.doubt(topic)
	return true
}

// doubt has a topic looked up in the bucket. Nothing is being written for it. mu is held.
func (r *retainer) doubt(topic string) {
	r.doubts = append(r.doubts, topic)
	if r.doubting < maxDoubts {
		r.doubting++
		r.task(r.resolve)
	}
}

// resolve looks up what is in doubt until nothing is, or ctx ends.
func (r *retainer) resolve(ctx context.Context) {
	for {
		topic, p, ok := r.nextDoubt(ctx)
		if !ok {
			return
		}
		there, at, err := r.lookUp(ctx, topic, p)
		if err != nil {
			if ctx.Err() == nil {
				r.logger.Warn("retained message not read from its bucket; trying again", "topic", topic, "err", err)
				time.AfterFunc(retainAgain, func() {
					r.mu.Lock()
					defer r.mu.Unlock()
					r.doubt(topic)
				})
			}
			continue
		}
		r.withIndex(func(x *retainedIndex) { r.decide(topic, p, there, at, x) })
	}
}

// nextDoubt is the next topic in doubt and what we want to write there.
func (r *retainer) nextDoubt(ctx context.Context) (topic string, p retainedPut, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.doubts) == 0 || ctx.Err() != nil {
		r.doubting--
		r.doubts = nil
		return "", p, false
	}
	topic, r.doubts = r.doubts[0], r.doubts[1:]
	w := r.topics[topic]
	if w.waiting {
		w.promote(0)
	}
	return topic, w.writing, true
}

// lookUp reads what the bucket has of a topic, and when the log took what we want to write there.
func (r *retainer) lookUp(ctx context.Context, topic string, p retainedPut) (there sessions.Retained, at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	if there, err = r.store.Load(ctx, topic); err != nil || p.Message == nil || !there.Foreign() {
		return there, p.Time, err
	}
	entries, err := r.log.Load(ctx, []uint64{p.Sequence}) // of what we appended we know about when
	if err != nil || len(entries) == 0 || !p.SameTime(entries[0].Time) {
		return there, p.Time, err
	}
	return there, entries[0].Time, nil
}

// decide settles a topic in doubt: the later one of what is there and what we wanted to write counts. The router's lock is held.
func (r *retainer) decide(topic string, p retainedPut, there sessions.Retained, at time.Time, x *retainedIndex) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.topics[topic]
	mine := p.Message != nil
	switch {
	case there.Foreign() && (!mine || there.Time.After(at)):
		if w.waiting { // it is newer than p, and maybe than what is there
			r.doubt(topic)
			return
		}
		delete(r.topics, topic)
		r.adopt(there, x)
	case !mine:
		if w.waiting {
			r.doubt(topic)
			return
		}
		delete(r.topics, topic)
	case there.Message != nil && there.Sequence >= p.Sequence && !there.Time.Before(p.Time.Add(-sessions.TimeTolerance)):
		r.written(topic, w, there.Revision) // by another node, or by us though we did not hear so
	default:
		w.writing.expect = there.Revision
		r.write(w)
	}
}

// adopt takes what the bucket has into the index. What others wrote may be nothing to deliver: then the topic has no retained
// message any more.
func (r *retainer) adopt(w sessions.Retained, x *retainedIndex) {
	if w.Foreign() && !r.fits(w.Message) {
		r.stats.Dropped("", dropRetainedForeign, 1)
		w.Message = &sessions.Message{Topic: w.Message.Topic, Retain: true, PublishedAt: w.Message.PublishedAt}
	}
	if x.applyWrite(w).full {
		r.stats.Dropped("", dropRetainedFull, 1)
	}
}

// complete is the sequence, at most upTo, up to which all retained messages are in the bucket.
func (r *retainer) complete(upTo uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.topics {
		upTo = min(upTo, w.first-1)
	}
	return upTo
}
