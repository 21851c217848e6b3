package jetstream

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// retainedPollEvery is how many heartbeats apart the watch looks for what no hint has told of.
const retainedPollEvery = 10

// retainedWatch is one run of RetainedStore.Watch. Nodes write nearly all of the bucket, and what this node writes never comes
// back: to read it would cost as much again. What others write is told by a subscription to the bucket's subjects on a
// connection that does not hear itself, and is read. Where that ends, is known by the revisions of our own writes: between
// them, and after them, is what has to be read. Lest a hint be lost, the watch also looks every ten seconds, and whenever the
// connection is back.
//
// Owned by the goroutine that called Watch.
type retainedWatch struct {
	store   *RetainedStore
	changed func(sessions.Retained)
	// next is the revision to go on with.
	next uint64
	// created is when the stream was made that next belongs to.
	created time.Time
	status  chan nats.Status

	// hints counts the writes of others that were heard of; wake has a token when there are new ones.
	hints atomic.Uint64
	wake  chan struct{}
	// owed is how many of them were not found yet, at most; heard is the count up to which they are in it.
	owed  int64
	heard uint64
}

// Watch implements sessions.RetainedStore.
func (s *RetainedStore) Watch(ctx context.Context, after uint64, changed func(sessions.Retained)) error {
	w := &retainedWatch{
		store: s, changed: changed, next: after + 1,
		status: s.nc.StatusChanged(nats.CONNECTED), wake: make(chan struct{}, 1),
	}
	defer s.nc.RemoveStatusListener(w.status)
	s.own.collect(true)
	defer s.own.collect(false)
	for failures := 1; ; failures++ {
		before := w.next
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if w.next > before {
			failures = 1
		}
		s.stats.ReaderRestarts.Add(1)
		if bits.OnesCount(uint(failures)) == 1 { // it may go on for long
			s.config.Logger.Warn("watch of retained messages starts again", "next", w.next, "attempt", failures, "cause", err)
		}
		pause(ctx, w.status, failures)
	}
}

// follow hands out what others write until something is wrong.
func (w *retainedWatch) follow(ctx context.Context) error {
	drainStatus(w.status)
	config := w.store.config
	hints, err := w.store.nc.Subscribe(w.store.subjectPrefix()+">", func(*nats.Msg) {
		w.hints.Add(1)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return clientErr(err)
	}
	defer func() { _ = hints.Unsubscribe() }() // fails only when the connection is closed, and the subscription with it
	if err := hints.SetPendingLimits(hintsMax, -1); err != nil {
		return clientErr(err)
	}
	// From here on the server tells of what others write, so nothing can be between what is there now and the first hint.
	if err := w.store.nc.FlushTimeout(config.AckTimeout); err != nil {
		return clientErr(err)
	}
	w.owed, w.heard = 0, w.hints.Load()
	last, err := w.check(ctx)
	if err != nil {
		return err
	}
	if err := w.readUpTo(ctx, last); err != nil {
		return err
	}
	poll, look := time.NewTicker(retainedPollEvery*config.Heartbeat), time.NewTimer(0)
	defer poll.Stop()
	defer look.Stop()
	wait, looked := firstLook, time.Time{}
	for {
		select {
		case <-w.wake:
			n := w.hints.Load()
			w.owed += int64(n - w.heard)
			w.heard, wait = n, firstLook
			look.Reset(firstLook - min(time.Since(looked), firstLook)) // not after each of many
		case <-look.C:
			if w.owed <= 0 {
				continue
			}
			looked = time.Now()
			if err := w.readUpTo(ctx, everything); err != nil {
				return err
			}
			if wait > lastLook {
				w.owed = 0 // they never came into the bucket, or a later one took their place
			}
			look.Reset(wait)
			wait *= 2
		case <-poll.C:
			last, err := w.check(ctx)
			if err != nil {
				return err
			}
			if err := w.readUpTo(ctx, last); err != nil {
				return err
			}
		case <-w.status:
			return errReconnect // hints may be lost
		case <-ctx.Done():
			return nil
		}
	}
}

// check finds out whether next still belongs to the bucket that is there, and returns the last revision there is.
func (w *retainedWatch) check(ctx context.Context) (last uint64, err error) {
	info, err := w.store.info(ctx)
	if err != nil {
		return 0, err
	}
	if replaced := !w.created.IsZero() && !w.created.Equal(info.Created); replaced || w.next > info.State.LastSeq+1 {
		w.store.config.Logger.Error("the bucket of retained messages was cut or made anew; reading it from its start",
			"next", w.next, "last", info.State.LastSeq, "created", info.Created, "created_before", w.created)
		w.next = 1
		w.store.own.collect(true)
	}
	w.created = info.Created
	return info.State.LastSeq, nil
}

// readUpTo reads what others wrote up to a revision, or to the end as it is now.
func (w *retainedWatch) readUpTo(ctx context.Context, upTo uint64) error {
	for _, own := range w.store.own.take() {
		if own.first > w.next {
			if err := w.read(ctx, own.first-1); err != nil {
				return err
			}
		}
		w.next = max(w.next, own.last+1)
	}
	if w.next > upTo {
		return nil
	}
	return w.read(ctx, upTo)
}

// read reads the bucket from next up to a revision, or to the end as it is now.
func (w *retainedWatch) read(ctx context.Context, upTo uint64) error {
	err := w.store.scan(ctx, w.next, upTo, func(r sessions.Retained) {
		w.next = r.Revision + 1
		if r.Foreign() { // else a node's own, of which we have not heard yet
			w.owed = max(w.owed-1, 0)
			w.changed(r)
		}
	})
	if err == nil && upTo != everything {
		w.next = max(w.next, upTo+1)
	}
	return err
}

// maxOwnRevisions bounds the stretches of own revisions that are remembered.
const maxOwnRevisions = 4096

// ownRevisions are the revisions of the bucket that this node has written since they were last taken: a few stretches, since
// hardly anybody else writes. Safe for concurrent use.
//
// Overflow policy: what finds no room is left out, and read.
type ownRevisions struct {
	mu sync.Mutex // guards the fields below it
	// stretches are in the order in which we heard of them.
	stretches  []stretch
	collecting bool
}

// stretch is the revisions from first to last.
type stretch struct{ first, last uint64 }

// add notes a revision.
func (o *ownRevisions) add(revision uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch n := len(o.stretches); {
	case !o.collecting:
	case n > 0 && o.stretches[n-1].last+1 == revision:
		o.stretches[n-1].last = revision
	case n < maxOwnRevisions:
		o.stretches = append(o.stretches, stretch{revision, revision})
	}
}

// collect begins to note revisions, with none, or ends that.
func (o *ownRevisions) collect(collecting bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.collecting, o.stretches = collecting, nil
}

// take returns the stretches, in order, and forgets them.
func (o *ownRevisions) take() []stretch {
	o.mu.Lock()
	taken := o.stretches
	o.stretches = nil
	o.mu.Unlock()
	slices.SortFunc(taken, func(a, b stretch) int { return cmp.Compare(a.first, b.first) })
	return taken
}
