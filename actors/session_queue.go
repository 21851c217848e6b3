package actors

import (
	"context"
	"sync/atomic"

	"dunlin/sessions"
)

// fetch gets the next entries for a session that catches up: from the ring, the log read together with others, or the
// session's durable queue, whichever is nearest.
func (a *sessionActor) fetch(e sessions.Fetch) {
	if len(a.soon) > 0 { // its filters are about to change
		a.ref.post(sessions.Fetched{Token: e.Token})
		return
	}
	router := a.broker.router
	ringAfter, head := router.reach()
	if e.After.Sequence >= ringAfter {
		entries, upTo, live, ok := router.read(a.member, e, a.session.Waits)
		if live {
			a.setBehind(notBehind)
		} else {
			a.setBehind(behindLittle)
		}
		if !ok && a.broker.catchUp.behindLittle.Load() <= denseReaders {
			entries, upTo, ok = router.readDense(e, a.session.Waits, a.portion[:0])
			a.portion = entries
		}
		if !ok {
			a.fetchShared(e, head)
			return
		}
		in := sessions.Fetched{
			Token: e.Token, Entries: entries, UpTo: upTo, Live: live, Head: head, Queued: a.countQueued(e.After.Sequence, head.Sequence),
		}
		if live {
			a.dropQueue()
			a.soon = append(a.soon, in)
		} else {
			a.ref.post(in) // others get their turn meanwhile
		}
		return
	}
	filters := len(a.session.QueuedFilters())
	if filters == 0 { // nothing was kept for it
		a.ref.post(sessions.Fetched{
			Token: e.Token, UpTo: sessions.Position{Sequence: ringAfter}, Lost: ringAfter - e.After.Sequence, Head: head,
		})
		return
	}
	a.setBehind(behindMuch)
	cheaper := a.sharedReadIsCheaper(behindRing{durable: e.Durable, filters: filters, distance: ringAfter - e.After.Sequence, queued: a.waiting})
	if cheaper() {
		a.fetchShared(e, head)
	} else {
		a.fetchQueue(e, head, cheaper)
	}
}

// sharedReadIsCheaper is what the policy says, as many sessions as are behind at that moment. Safe for concurrent use.
func (a *sessionActor) sharedReadIsCheaper(s behindRing) func() bool {
	policy, behind := sourcePolicy{a.broker.cfg.SharedReadFrom}, &a.broker.catchUp.behind
	return func() bool {
		s := s
		s.sessions = int(max(behind.Load(), 1))
		return policy.shares(s)
	}
}

// distance is how far a session is behind.
type distance uint8

const (
	notBehind distance = iota
	// behindLittle: the ring has all that it misses; behindMuch: the ring does not reach back so far.
	behindLittle
	behindMuch
)

// denseReaders is up to how many sessions that are a little behind each may look for its messages itself.
const denseReaders = 16

// setBehind counts the session among those that are as far behind.
func (a *sessionActor) setBehind(d distance) {
	if d == a.behind {
		return
	}
	c := a.broker.catchUp
	counts := [...]*atomic.Int64{behindLittle: &c.behindLittle, behindMuch: &c.behind}
	if a.behind != notBehind {
		counts[a.behind].Add(-1)
	}
	if a.behind = d; d != notBehind {
		counts[d].Add(1)
	}
	if d != behindLittle {
		a.portion = nil
	}
}

// fetchShared has the log read for the session, together with others.
func (a *sessionActor) fetchShared(e sessions.Fetch, head sessions.Position) {
	if a.laggard == nil {
		a.laggard = &laggard{filters: a.session.Filters(), answer: func(m *caughtUp) { a.ref.post(m) }}
	}
	a.broker.catchUp.fetch(a.laggard, e, a.queueCounter(e.After.Sequence, head.Sequence).waits)
}

// onCaughtUp takes what the shared read has found. If the session's filters or its position have changed meanwhile, then
// nothing was fetched.
func (a *sessionActor) onCaughtUp(m *caughtUp) {
	if m.laggard != a.laggard {
		a.step(sessions.Fetched{Token: m.fetched.Token})
		return
	}
	if m.counted {
		a.noteQueued(m.fetched)
	}
	a.step(m.fetched)
}

// noteQueued remembers how many messages waited when they were counted.
func (a *sessionActor) noteQueued(in sessions.Fetched) {
	a.queued, a.queuedHead = min(in.Queued, uint64(a.broker.cfg.Sessions.MaxQueuedMessages)), in.Head.Sequence
}

// countQueued is how many entries of the ring wait for the session, if that may be more than the limit, else 0. Counting
// looks at the whole ring, so it is done again only when enough has come to reach the limit.
func (a *sessionActor) countQueued(after, head uint64) uint64 {
	limit := uint64(a.broker.cfg.Sessions.MaxQueuedMessages)
	if limit == 0 || head-min(head, after) <= limit || !a.mayExceed(limit, head) {
		return 0
	}
	n := a.broker.router.count(after, a.session.Waits)
	a.queued, a.queuedHead = min(n, limit), head
	return n
}

// mayExceed reports whether more entries than a limit may wait, as far as the last count tells.
func (a *sessionActor) mayExceed(limit, head uint64) bool {
	return a.queuedHead == 0 || a.queued+head-a.queuedHead > limit
}

// queueCounter counts what waits for a session before the ring, when that may be more than the limit. The queue knows how many
// messages its filters match; those that are not for the session, or not queued, are found by looking at them.
type queueCounter struct {
	limit uint64
	// waits is nil when the last count surely still holds.
	waits func(sessions.Entry) bool
}

// queueCounter is for a fetch of the durable queue, or of the log with others. A queue may exceed its limit by an eighth before it is looked at again.
func (a *sessionActor) queueCounter(after, head uint64) queueCounter {
	c := queueCounter{limit: uint64(a.broker.cfg.Sessions.MaxQueuedMessages)}
	if c.limit > 0 && head-min(head, after) > c.limit && a.mayExceed(c.limit+c.limit/8, head) {
		c.waits = a.session.Waiting()
	}
	return c
}

// count is how many messages wait, from the ones that were just fetched on. ok is false when it was not needed.
func (c queueCounter) count(ctx context.Context, queue sessions.Queue, fetched []sessions.Entry) (n uint64, ok bool, err error) {
	if c.waits == nil || fetched[0].QueuedAfter+1 <= c.limit {
		return 0, false, nil
	}
	n, err = queue.Count(ctx, c.waits)
	for _, e := range fetched {
		if c.waits(e) {
			n++
		}
	}
	return n, true, err
}

// fetchQueue reads the session's durable queue, on a goroutine of its own. When so many sessions have come meanwhile that the
// shared read is cheaper, it fetches nothing, and the session asks again.
func (a *sessionActor) fetchQueue(e sessions.Fetch, head sessions.Position, sharedReadIsCheaper func() bool) {
	queue, filters, counter := a.queue, a.session.QueuedFilters(), a.queueCounter(e.After.Sequence, head.Sequence)
	if a.queueAt != e.After.Sequence {
		queue = nil // open it anew, where the session is
	}
	a.queue = nil // in use until the answer comes
	use := a.queueUse
	a.broker.workIn(a.broker.queueSlots, func(ctx context.Context) {
		if queue == nil && sharedReadIsCheaper() {
			a.ref.post(sessions.Fetched{Token: e.Token})
			return
		}
		m := &queueFetched{queue: queue, use: use, fetched: sessions.Fetched{Token: e.Token, UpTo: head, Head: head}}
		var err error
		a.broker.parking.take(a.clientID) // also from a worker of an earlier connection
		defer a.broker.parking.release(a.clientID)
		if queue == nil {
			m.queue, err = a.broker.storage.Queues.Open(ctx, a.clientID, filters, e.After.Sequence)
		}
		if err == nil {
			m.fetched.Entries, err = m.queue.Fetch(ctx, e.Max)
		}
		if n := len(m.fetched.Entries); n > 0 && err == nil {
			m.fetched.UpTo = m.fetched.Entries[n-1].Position
			m.fetched.Queued, m.counted, err = counter.count(ctx, m.queue, m.fetched.Entries)
		}
		if err != nil {
			m.queue, m.fetched.Err = nil, err
		}
		a.ref.post(m)
	})
}

// onQueueFetched takes what the durable queue held. If the queue was given back meanwhile its filters or its position
// are not the session's any more: then nothing was fetched.
func (a *sessionActor) onQueueFetched(m *queueFetched) {
	if m.use != a.queueUse {
		a.step(sessions.Fetched{Token: m.fetched.Token})
		return
	}
	if m.fetched.Err != nil {
		a.broker.log.Warn("durable queue could not be read; trying again", "client", a.clientID, "err", m.fetched.Err)
	}
	if m.counted {
		a.noteQueued(m.fetched)
	}
	if n := len(m.fetched.Entries); n > 0 {
		a.waiting = m.fetched.Entries[n-1].QueuedAfter
	}
	a.queue, a.queueAt = m.queue, m.fetched.UpTo.Sequence
	a.step(m.fetched)
}

// dropQueue removes the durable queue of a session that is live again.
func (a *sessionActor) dropQueue() {
	a.giveQueueBack()
	if a.stored {
		a.broker.parking.drop(a.clientID)
	}
}

// giveQueueBack ends every use of the durable queue and of the shared read; the next fetch begins where the session is then.
func (a *sessionActor) giveQueueBack() {
	a.queue = nil
	a.queueUse++
	a.waiting = 0
	if a.laggard != nil {
		a.broker.catchUp.forget(a.laggard)
		a.laggard = nil
	}
}
