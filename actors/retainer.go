package actors

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"dunlin/sessions"
)

// retainer writes retained messages behind the log into their bucket, where plain NATS reads them and a restart finds
// them. Of each topic one write is in flight; meanwhile the newest waits. Bounded by the number of retained topics. What
// it has not written at a crash is above the checkpoint, and is written again from the log.
type retainer struct {
	store sessions.RetainedStore
	stats *Stats
	log   *slog.Logger

	// mu guards the fields below it.
	mu      sync.Mutex
	topics  map[string]*retainedWrite
	byToken map[uint64]string
	token   uint64
}

// retainedWrite is what is being written for one topic.
type retainedWrite struct {
	writing sessions.Entry
	next    sessions.Entry
	waiting bool
	// first is the lowest sequence that is not durable in the bucket.
	first uint64
}

func newRetainer(store sessions.RetainedStore, stats *Stats, log *slog.Logger) *retainer {
	return &retainer{store: store, stats: stats, log: log, topics: map[string]*retainedWrite{}, byToken: map[uint64]string{}}
}

// put writes the retained message of a topic. It does not block. Entries of one topic come in log order.
func (r *retainer) put(e sessions.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.topics[e.Message.Topic]; w != nil {
		w.next, w.waiting = e, true
		return
	}
	w := &retainedWrite{writing: e, first: e.Sequence}
	r.topics[e.Message.Topic] = w
	r.write(e)
}

// write starts the write of an entry. mu is held: the store answers from its own goroutines, later.
func (r *retainer) write(e sessions.Entry) {
	r.token++
	r.byToken[r.token] = e.Message.Topic
	r.store.Put(e, r, r.token)
}

// Stored implements sessions.Sink. A write that storage did not take is tried again.
func (r *retainer) Stored(res sessions.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	topic := r.byToken[res.Token]
	delete(r.byToken, res.Token)
	w := r.topics[topic]
	if w == nil {
		return
	}
	refused := errors.Is(res.Err, sessions.ErrRejected)
	if refused {
		r.log.Error("retained message refused by its bucket: it is lost with a restart", "topic", topic, "err", res.Err)
		r.stats.Dropped(dropRetainedRefused, 1)
	}
	switch {
	case res.Err != nil && !refused && !w.waiting:
		r.log.Warn("retained message not written to its bucket; trying again", "topic", topic, "err", res.Err)
		time.AfterFunc(time.Second, func() { r.again(topic) })
	case w.waiting:
		w.writing, w.next, w.waiting = w.next, sessions.Entry{}, false
		if res.Err == nil || refused {
			w.first = w.writing.Sequence
		}
		r.write(w.writing)
	default:
		delete(r.topics, topic)
	}
}

func (r *retainer) again(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.topics[topic]; w != nil {
		if w.waiting {
			w.writing, w.next, w.waiting = w.next, sessions.Entry{}, false
		}
		r.write(w.writing)
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
