package actors

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/sessions"
)

const (
	// catchUpStep is how many entries of a window are looked at before others get their turn.
	catchUpStep = 1024
	// catchUpWindow is how much of what was read from storage stays in memory, for sessions that come back for more.
	catchUpWindow = 32 << 20
	// catchUpHeld bounds what is held for all sessions that still wait for the rest of their portion.
	catchUpHeld = 64 << 20
	// portionBytes is about how much a session is handed at once.
	portionBytes = 64 << 10
	// portionStart is how many messages a portion has before it gets room for all that it may have.
	portionStart = 16
	// handOverAfter is how long a session waits for more once there is something for it.
	handOverAfter = 100 * time.Millisecond
	// maxPassedOver is how many steps may be taken for others while a session waits whose place the read has passed, and
	// maxNearSteps in the ring while one waits for storage.
	maxPassedOver, maxNearSteps = 256, 64
	// liveWork is about what it takes to store a message and to deliver it live.
	liveWork = 20 * time.Microsecond
	// handOverAtOnce is how many sessions are handed their portions before others get their turn; while many actors wait,
	// handOverCrowded, each crowdedPause.
	handOverAtOnce, handOverCrowded = 64, 4
	crowdedPause                    = time.Millisecond
	// catchUpIdle is how long nobody must wait until the window is let go of.
	catchUpIdle = 2 * time.Second
)

// catchUp reads the log once for all sessions that are behind. It goes through the log in windows, from the lowest position
// of those that wait on, matches each entry against the tree of their filters, and hands each session what is for it. A
// session whose portion is full leaves, and comes back when its client has room again: what was read last stays in memory
// for that. The end of the log comes from the router's ring, and before the rest: who is nearly there does not wait for
// those who are far behind. All is done by one goroutine, which pauses between reads of storage while others are at work.
//
// It only reads: whatever happens to it, the sessions still know where they are.
type catchUp struct {
	router *router
	source sessions.Log
	// crowded: many actors wait for their turn.
	crowded func() bool
	log     *slog.Logger
	// perStep, windowBytes and heldBytes are catchUpStep, catchUpWindow and catchUpHeld; a test says less.
	perStep, windowBytes, heldBytes int
	clock                           func() time.Time
	// behind is how many sessions are further behind than the ring reaches, behindLittle how many are less, following how many
	// wait that follow the log.
	behind, behindLittle, following atomic.Int64

	// mu guards orders.
	mu     sync.Mutex
	orders []catchUpOrder // bounded: each session waits for the answer to its last one
	wakeUp chan struct{}

	// The rest is owned by the goroutine.
	tree    sessions.FilterTree[*laggard]
	waiting []*laggard
	// done are the answers to be handed over next.
	done []*caughtUp
	// held is the size of what the waiting have been given so far, and of what is done.
	held int
	// window is the end of what was read from storage, which is complete up to end.
	window ring
	end    sessions.Position
	// reader reads on behind readAt; nil when there is none.
	reader sessions.LogReader
	readAt uint64
	// passedOver counts the steps since somebody waits whose place is below the window, nearSteps those in the ring since
	// storage was read.
	passedOver, nearSteps int
	// notBefore is when storage is read next: it is others' turn, or it has failed, so many times in a row.
	notBefore time.Time
	failures  int
	// handBefore is when the next answers are handed over, after those that met a crowd.
	handBefore time.Time
	// now is when the present step began.
	now      time.Time
	lastHead uint64
	// head is the end of the log at the beginning of the present step.
	head    uint64
	matches []*laggard       // reused
	near    []sessions.Entry // reused
}

// laggard is a session that catches up, as long as its filters are the same. Owned by the goroutine of catchUp once it was
// handed over.
type laggard struct {
	filters []string
	answer  func(*caughtUp)
	// follows: it waits at the end of the log until there is something for it. It never joins the live feed.
	follows bool

	known, waits bool
	token        uint64
	// at: everything up to there was looked at for it.
	at uint64
	portion
	// upTo is up to where the portion is complete.
	upTo sessions.Position
	// since is when the portion got its first entry.
	since time.Time
	// counts says what counts towards the limit of its queue; nil when the queue need not be counted, which goes on to the end
	// of the log.
	counts  func(sessions.Entry) bool
	counted uint64
	stamped uint64
}

// portion is what a session is handed at once: up to max messages of about portionBytes.
type portion struct {
	entries []sessions.Entry
	bytes   int
	max     int
	full    bool
}

func (p *portion) add(e sessions.Entry) (size int) {
	size = entrySize(&e)
	if len(p.entries) == portionStart {
		p.entries = slices.Grow(p.entries, p.max-portionStart) // most that are for so many are for more
	}
	p.entries = append(p.entries, e)
	p.bytes += size
	p.full = len(p.entries) >= p.max || p.bytes >= portionBytes
	return size
}

// catchUpOrder makes a session wait for what follows its position, or forgets it.
type catchUpOrder struct {
	laggard *laggard
	forget  bool
	fetch   sessions.Fetch
	counts  func(sessions.Entry) bool
}

func newCatchUp(router *router, source sessions.Log, crowded func() bool, log *slog.Logger) *catchUp {
	c := &catchUp{
		router: router, source: source, crowded: crowded, log: log, wakeUp: make(chan struct{}, 1),
		perStep: catchUpStep, windowBytes: catchUpWindow, heldBytes: catchUpHeld, clock: time.Now,
	}
	c.startAt(0)
	router.advanced = c.advanced
	return c
}

// fetch has the entries behind a position gathered for a session.
func (c *catchUp) fetch(l *laggard, e sessions.Fetch, counts func(sessions.Entry) bool) {
	c.order(catchUpOrder{laggard: l, fetch: e, counts: counts})
}

// forget ends what is done for a session. If it waits it is answered with nothing.
func (c *catchUp) forget(l *laggard) { c.order(catchUpOrder{laggard: l, forget: true}) }

func (c *catchUp) order(o catchUpOrder) {
	c.mu.Lock()
	c.orders = append(c.orders, o)
	c.mu.Unlock()
	c.wake()
}

// advanced wakes those who wait at the end of the log. Called by the router.
func (c *catchUp) advanced() {
	if c.following.Load() > 0 {
		c.wake()
	}
}

func (c *catchUp) wake() {
	select {
	case c.wakeUp <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (c *catchUp) run(ctx context.Context) {
	defer c.letGo()
	timer := time.NewTimer(catchUpIdle)
	defer timer.Stop()
	for ctx.Err() == nil {
		if c.step(ctx) {
			continue
		}
		switch {
		case len(c.done) > 0:
			timer.Reset(c.handBefore.Sub(c.now))
		case c.waits():
			timer.Reset(c.notBefore.Sub(c.now))
		default:
			timer.Reset(catchUpIdle)
		}
		select {
		case <-c.wakeUp:
		case <-timer.C:
			if len(c.done) == 0 && !c.waits() {
				c.letGo()
				c.await(ctx)
			}
		case <-ctx.Done():
		}
	}
}

// step takes the orders that have come and does the next thing. It reports whether there was something to do.
func (c *catchUp) step(ctx context.Context) bool {
	c.obey()
	c.now = c.clock()
	_, head := c.router.reach()
	c.head = head.Sequence
	if len(c.done) > 0 {
		return c.handOver()
	}
	if c.nearSteps < maxNearSteps && c.stepNear() {
		c.nearSteps++
		return true
	}
	c.nearSteps = 0
	return !c.now.Before(c.notBefore) && c.stepFar(ctx) || c.stepNear()
}

// handOver hands over some of what is done, nothing while it has to wait, and reports whether it did.
func (c *catchUp) handOver() bool {
	if c.now.Before(c.handBefore) {
		return false
	}
	n := handOverAtOnce
	if c.crowded() {
		n = handOverCrowded // they must get there in the end
		c.handBefore = c.now.Add(crowdedPause)
	}
	n = min(n, len(c.done))
	for i, m := range c.done[:n] {
		c.held -= m.held
		m.laggard.answer(m)
		c.done[i] = nil
	}
	if c.done = c.done[n:]; len(c.done) == 0 {
		c.done = nil
	}
	return true
}

// await waits for orders.
func (c *catchUp) await(ctx context.Context) {
	select {
	case <-c.wakeUp:
	case <-ctx.Done():
	}
}

// idle reports whether somebody who follows the log has seen all of it.
func (c *catchUp) idle(l *laggard) bool { return l.follows && l.at >= c.head }

// waits reports whether there is something to be done for those who wait.
func (c *catchUp) waits() bool {
	return slices.ContainsFunc(c.waiting, func(l *laggard) bool { return !c.idle(l) })
}

// letGo gives the window and the reader up.
func (c *catchUp) letGo() {
	c.closeReader()
	c.startAt(0)
}

func (c *catchUp) closeReader() {
	if c.reader != nil {
		c.reader.Close()
		c.reader = nil
	}
}

// startAt empties the window and puts it behind a sequence.
func (c *catchUp) startAt(sequence uint64) {
	c.window = ring{after: sequence, maxBytes: c.windowBytes}
	c.end = sessions.Position{Sequence: sequence}
	c.passedOver = 0
}

// obey takes the orders that have come.
func (c *catchUp) obey() {
	c.mu.Lock()
	orders := c.orders
	c.orders = nil
	c.mu.Unlock()
	for _, o := range orders {
		l := o.laggard
		if o.forget {
			c.drop(l)
			continue
		}
		if !l.known {
			l.known = true
			for _, f := range l.filters {
				c.tree.Add(f, l)
			}
		}
		if !l.waits {
			c.wait(l, true)
			c.waiting = append(c.waiting, l)
		}
		c.held -= l.bytes
		l.token, l.at, l.upTo = o.fetch.Token, o.fetch.After.Sequence, o.fetch.After
		l.portion = portion{max: o.fetch.Max}
		l.counts, l.counted, l.stamped = o.counts, 0, 0
	}
}

// wait notes whether a session waits.
func (c *catchUp) wait(l *laggard, waits bool) {
	l.waits = waits
	if !l.follows {
		return
	}
	n := int64(1)
	if !waits {
		n = -1
	}
	c.following.Add(n)
}

// drop forgets a session.
func (c *catchUp) drop(l *laggard) {
	if l.waits {
		c.wait(l, false)
		c.held -= l.bytes
		l.portion = portion{}
		l.answer(&caughtUp{laggard: l, fetched: sessions.Fetched{Token: l.token}})
		c.waiting = slices.DeleteFunc(c.waiting, func(other *laggard) bool { return other == l })
	}
	if l.known {
		l.known = false
		for _, f := range l.filters {
			c.tree.Remove(f, l)
		}
	}
}

// stepNear looks at a part of the ring for those that wait there, from the lowest position of them on. It reports whether
// there was somebody.
func (c *catchUp) stepNear() bool {
	after, _ := c.router.reach()
	from, found := c.lowest(after, unfed)
	if !found {
		return false
	}
	entries, upTo, head, ok := c.router.window(from, c.perStep, c.near[:0])
	c.near = entries
	if ok { // else it has moved on meanwhile
		upTo.Sequence = max(upTo.Sequence, from) // a durable queue may have been ahead of the ring
		c.serve(entries, from, upTo, head)
	}
	clear(c.near)
	return true
}

// lowest is the lowest position in [from, below) at which a session waits.
func (c *catchUp) lowest(from, below uint64) (at uint64, found bool) {
	at = below
	for _, l := range c.waiting {
		if l.at >= from && l.at < at && !c.idle(l) {
			at, found = l.at, true
		}
	}
	return at, found
}

// stepFar looks at what lies before the ring for those that wait there: first for those in the window, then it reads on.
// Those below the window wait until nobody needs it, but not for ever. It reports whether there was somebody.
func (c *catchUp) stepFar(ctx context.Context) bool {
	ringAfter, head := c.router.reach()
	lowest, found := c.lowest(0, ringAfter)
	if !found {
		return false
	}
	if lowest < c.window.after {
		c.passedOver++
	}
	from, inWindow := c.lowest(c.window.after, min(c.end.Sequence, ringAfter))
	ahead, isAhead := c.lowest(c.end.Sequence, ringAfter)
	switch {
	case c.passedOver > maxPassedOver || !inWindow && !isAhead:
		c.startAt(lowest)
	case inWindow:
		c.serveWindow(from, head)
		return true
	case ahead-c.end.Sequence > uint64(c.perStep):
		c.startAt(ahead)
	}
	c.readOn(ctx)
	return true
}

// serveWindow looks at a part of the window.
func (c *catchUp) serveWindow(from uint64, head sessions.Position) {
	entries, upTo := c.window.since(from), c.end
	if len(entries) > c.perStep {
		entries = entries[:c.perStep]
		upTo = entries[c.perStep-1].Position
	}
	c.serve(entries, from, upTo, head)
}

// readOn reads the next entries from storage. A failure changes nothing: the same is read again after a while.
func (c *catchUp) readOn(ctx context.Context) {
	if c.reader == nil || c.readAt != c.end.Sequence {
		c.closeReader()
		c.reader, c.readAt = c.source.Reader(c.end.Sequence), c.end.Sequence
	}
	limited, cancel := context.WithTimeout(ctx, workTimeout)
	entries, err := c.reader.Next(limited, c.perStep)
	cancel()
	if err != nil {
		c.failed(ctx, err)
		return
	}
	c.failures = 0
	from := c.end.Sequence
	ringAfter, head := c.router.reach()
	if n := len(entries); n == 0 {
		c.end = sessions.Position{Sequence: ringAfter} // what lies between is gone
	} else {
		c.readAt = entries[n-1].Sequence
		if c.end = entries[n-1].Position; c.readAt > head.Sequence { // the ring will have it
			n, _ = slices.BinarySearchFunc(entries, head.Sequence+1, func(e sessions.Entry, s uint64) int { return int(e.Sequence) - int(s) })
			entries, c.end = entries[:n], head
		}
	}
	for _, e := range entries {
		c.window.append(e)
	}
	c.serve(entries, from, c.end, head)
	c.yield(head.Sequence)
}

// yield leaves to others the time that the log's new messages take, up to half of it all.
func (c *catchUp) yield(head uint64) {
	work := time.Duration(min(head-min(head, c.lastHead), catchUpStep)) * liveWork
	c.lastHead = head
	now := c.clock()
	c.notBefore = now.Add(min(work, now.Sub(c.now)))
}

// failed puts the next attempt off.
func (c *catchUp) failed(ctx context.Context, err error) {
	c.closeReader()
	c.failures++
	c.notBefore = c.now.Add(min(time.Duration(c.failures)*50*time.Millisecond, time.Second))
	if c.failures&(c.failures-1) == 0 && ctx.Err() == nil { // 1, 2, 4, 8 …: it may go on for long
		c.log.Warn("log could not be read for sessions that are behind; trying again",
			"after", c.end.Sequence, "sessions", len(c.waiting), "attempt", c.failures, "err", err)
	}
}

// serve shows entries to those that wait at or behind from. The entries are all there are
// in (from, upTo].
func (c *catchUp) serve(entries []sessions.Entry, from uint64, upTo, head sessions.Position) {
	for i := range entries {
		e := &entries[i]
		if e.Message == nil {
			continue
		}
		c.matches, _ = c.tree.MatchAppend(e.Message.Topic, c.matches[:0])
		for _, l := range c.matches {
			if l.waits && l.at >= from && l.at < e.Sequence && l.stamped != e.Sequence {
				l.stamped = e.Sequence
				c.give(l, e)
			}
		}
	}
	rest := c.waiting[:0]
	for _, l := range c.waiting {
		if l.at >= from && l.at <= upTo.Sequence && c.advance(l, upTo, head) {
			continue
		}
		rest = append(rest, l)
	}
	clear(c.waiting[len(rest):])
	c.waiting = rest
}

// give adds an entry to a session's portion, or only counts it.
func (c *catchUp) give(l *laggard, e *sessions.Entry) {
	if l.counts != nil && l.counts(*e) {
		l.counted++
	}
	if l.full {
		return
	}
	if len(l.entries) == 0 {
		l.since = c.now
	} else if c.held >= c.heldBytes {
		l.full = true
		return
	}
	c.held += l.add(*e)
	l.upTo = e.Position
}

// advance notes that a session has seen everything up to a position. When nothing more has to come its portion is done; it
// reports whether it is.
func (c *catchUp) advance(l *laggard, upTo, head sessions.Position) bool {
	l.at = upTo.Sequence
	if !l.full {
		l.upTo = upTo
	}
	switch atEnd := upTo.Sequence >= head.Sequence; {
	case atEnd && l.follows && len(l.entries) == 0:
		return false
	case atEnd:
	case l.counts != nil:
		return false
	case !l.full && (len(l.entries) == 0 || c.now.Sub(l.since) < handOverAfter):
		return false
	}
	c.wait(l, false)
	c.done = append(c.done, &caughtUp{laggard: l, counted: l.counts != nil, held: l.bytes, fetched: sessions.Fetched{
		Token: l.token, Entries: l.entries, UpTo: l.upTo, Queued: l.counted, Head: head,
	}})
	l.portion, l.counts = portion{}, nil
	return true
}
