package jetstream

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// The headers of an atomic batch. The server stores them with its messages; readers pass over them.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

const (
	// maxBatch is the number of messages that the server takes in one atomic batch.
	maxBatch = 1000
	// minBatch is the number from which a batch costs less than plain writes with an fsync each (ADR 10).
	minBatch = 8
	// maxHold bounds how long a group waits for those who were just answered.
	maxHold = 5 * time.Millisecond
)

// groupCommit is a writer for a server that answers a write when it is fsynced, which it does once for an atomic batch
// and once for each plain write. One group of writes is under way to each stream; what comes meanwhile is the next group.
// So a lone write takes one fsync, and on a busy node up to a thousand share a few.
//
// It is also the writer for the log where that has replicas. While a stream has no leader, messages to it are lost, and somebody
// else who listens to its subjects keeps the server from saying so: the next leader would take those behind them. So it is ordered:
// a group holds no two plain writes of one sink, and what waits behind a write that was not answered fails with it, as does what a sink
// sends before it has heard of that.
type groupCommit struct {
	// publisher sends the plain writes and the last message of each batch, which alone is answered, and calls our sinks.
	publisher *publisher
	// stored is told what was stored before the sinks are.
	stored   func(done []settled)
	prefix   string // of batch ids
	maxGroup int
	ordered  bool
	done     []settled // owned by the publisher's goroutine: what report tells

	mu      sync.Mutex
	lanes   map[string]*lane // guarded by mu: by stream
	batches uint64           // guarded by mu: made so far
	// barred are the sinks that have lost a write and may not have heard of it: until they send one again, or send nothing for
	// barFor. Guarded by mu.
	barred map[sessions.Sink]bar
	// forgetting: forget is to be called. Guarded by mu.
	forgetting bool
	closed     bool // guarded by mu
}

// bar holds the last of the writes that a sink has lost; what is behind that one was sent in ignorance.
type bar struct {
	token uint64
	until time.Time
}

// barFor is longer than a sink takes to hear of its results.
const barFor = time.Second

// lane is the way into one stream. Guarded by groupCommit.mu.
type lane struct {
	waiting []write // in order
	busy    bool    // a group is unanswered, or held
	// hold sends the held group when those who were just answered by a batch have not made it as large as full. Without it
	// they would miss the next group and go in the one after: two halves that take turns, each with an fsync of its own.
	hold *time.Timer
	full int
	// limit is how many writes the next group may have. The server refuses a batch as a whole when it would refuse one of
	// its messages: a duplicate, or a revision that is not the expected one. Then half of it is tried, down to plain
	// writes, each of which has its own result; what is stored doubles the limit.
	limit int
}

func newGroupCommit(nc *nats.Conn, c *Config, stats *Stats, stored func([]settled), ordered bool) (*groupCommit, error) {
	p, err := newPublisher(nc, c, stats, func([]settled) {}, false) // the members of a batch are not known to it
	if err != nil {
		return nil, err
	}
	return &groupCommit{
		publisher: p, stored: stored, prefix: rand.Text() + "-", maxGroup: min(maxBatch, c.Window), ordered: ordered, lanes: make(map[string]*lane),
	}, nil
}

// close implements writer. The end of a group that is unanswered is the end of what waits behind it.
func (g *groupCommit) close() {
	g.mu.Lock()
	g.closed = true
	var held []write
	for _, l := range g.lanes {
		if l.hold != nil {
			l.hold.Stop()
			held = append(held, l.waiting...)
			l.hold, l.waiting = nil, nil
		}
	}
	g.mu.Unlock()
	g.publisher.close()
	fail(held, errClosed)
}

// refuse implements writer.
func (g *groupCommit) refuse(w write, err error) { g.publisher.refuse(w, err) }

// publish implements writer.
func (g *groupCommit) publish(w write) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		go w.to.Stored(sessions.Result{Token: w.token, Err: errClosed})
		return
	}
	if g.bars(&w) {
		go w.to.Stored(sessions.Result{Token: w.token, Err: errNotSent})
		return
	}
	l := g.lanes[w.stream]
	if l == nil {
		l = &lane{limit: g.maxGroup}
		g.lanes[w.stream] = l
	}
	w.urgency = sessions.AtOnce // it has its group
	l.waiting = append(l.waiting, w)
	if !l.busy || l.hold != nil && len(l.waiting) >= l.full {
		g.next(l)
	}
}

// bars reports whether a write may not be sent, since its sink has not heard yet that one before it was lost: it is lost too. A write that comes
// again tells that the sink has heard. mu is held.
func (g *groupCommit) bars(w *write) bool {
	if len(g.barred) == 0 || w.comesOnce() { // barred is empty but for moments
		return false
	}
	b, ok := g.barred[w.to]
	if ok && w.token > b.token {
		g.barred[w.to] = bar{w.token, time.Now().Add(barFor)}
		return true
	}
	delete(g.barred, w.to)
	return false
}

// comesOnce: nothing is sent again for it, and its place among others does not matter.
func (w *write) comesOnce() bool { return w.message != nil && w.message.QoS == 0 }

// lost bars the sinks of writes that were not answered, or not sent. mu is held.
func (g *groupCommit) lost(writes []write) {
	if g.barred == nil {
		g.barred = make(map[sessions.Sink]bar)
	}
	until := time.Now().Add(barFor)
	for i := range writes {
		if w := &writes[i]; !w.comesOnce() {
			g.barred[w.to] = bar{max(w.token, g.barred[w.to].token), until}
		}
	}
	if !g.forgetting {
		g.forgetting = true
		time.AfterFunc(barFor, g.forget)
	}
}

// forget ends the bars of sinks that have sent nothing for long.
func (g *groupCommit) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(g.barred, func(_ sessions.Sink, b bar) bool { return !now.Before(b.until) })
	if g.forgetting = len(g.barred) > 0; g.forgetting {
		time.AfterFunc(barFor, g.forget)
	}
}

// next sends the next group, if there is any. mu is held.
func (g *groupCommit) next(l *lane) {
	if l.hold != nil {
		l.hold.Stop()
		l.hold = nil
	}
	n := g.groupSize(l)
	if l.busy = n > 0; !l.busy {
		l.waiting = nil
		return
	}
	group := &group{commits: g, lane: l, writes: l.waiting[:n:n], sent: time.Now(), unanswered: n}
	l.waiting = l.waiting[n:]
	if n < minBatch {
		group.sendPlain()
		return
	}
	g.batches++
	group.sendBatch(g.prefix + strconv.FormatUint(g.batches, 36))
}

// groupSize is how many of the waiting writes can go together. mu is held.
func (g *groupCommit) groupSize(l *lane) int {
	n := g.batchSize(l)
	if !g.ordered || n >= minBatch {
		return n
	}
	sinks := make(map[sessions.Sink]struct{}, n)
	for i := range l.waiting[:n] {
		to := l.waiting[i].to
		if _, again := sinks[to]; again {
			return i
		}
		sinks[to] = struct{}{}
	}
	return n
}

// batchSize is how many of them can be one batch: it must not have two writes for a subject of which the second expects a revision.
// mu is held.
func (g *groupCommit) batchSize(l *lane) int {
	bytes := 0
	var expecting map[string]bool
	for i := range l.waiting[:min(len(l.waiting), l.limit)] {
		w := &l.waiting[i]
		if bytes += w.size(); i > 0 && bytes > g.publisher.windowBytes {
			return i
		}
		if !w.expects {
			continue
		}
		if expecting[w.subject] {
			return i
		}
		if expecting == nil {
			expecting = make(map[string]bool)
		}
		expecting[w.subject] = true
	}
	return min(len(l.waiting), l.limit)
}

// group is some writes that are under way to one stream together, as a batch or as plain writes.
type group struct {
	commits    *groupCommit
	lane       *lane
	writes     []write
	sent       time.Time
	unanswered int // plain writes; guarded by commits.mu
	// unsure: of one of them it is not known whether it is stored. Guarded by commits.mu.
	unsure bool
}

// sendPlain sends each write on its own. The group is the sink of all, with their indexes as tokens. commits.mu is held.
func (g *group) sendPlain() {
	for i := range g.writes {
		w := g.writes[i]
		w.to, w.token = g, uint64(i)
		g.commits.publisher.publish(w)
	}
}

// Stored implements sessions.Sink for plain writes.
func (g *group) Stored(r sessions.Result) {
	c := g.commits
	c.mu.Lock()
	g.unanswered--
	if unsure(r.Err) {
		g.unsure = true
		if c.ordered {
			c.lost(g.writes[r.Token : r.Token+1])
		}
	}
	var failed []write
	var why error
	if g.unanswered == 0 {
		failed, why = c.answered(g)
	}
	c.mu.Unlock()
	c.report(g.writes[r.Token:r.Token+1], g.sent, r)
	fail(failed, why)
}

// sendBatch sends the writes as one atomic batch. commits.mu is held.
func (g *group) sendBatch(id string) {
	nc := g.commits.publisher.nc
	last := len(g.writes) - 1
	own := make(nats.Header, 3) // of the messages without a header
	ids, sequence := []string{id}, []string{""}
	for i := range g.writes[:last] {
		w := &g.writes[i]
		clear(own)
		m := nats.Msg{Subject: w.subject, Header: w.fullHeader(own), Data: w.data}
		if m.Header == nil {
			m.Header = own
		}
		sequence[0] = strconv.Itoa(i + 1)
		m.Header[headerBatchID], m.Header[headerBatchSequence] = ids, sequence
		err := nc.PublishMsg(&m)
		delete(m.Header, headerBatchID) // the write may have to be sent again, in another batch or in none
		delete(m.Header, headerBatchSequence)
		if err != nil { // nothing of a batch without end is stored
			g.commits.publisher.refuse(write{to: batchEnd{g}}, clientErr(err))
			return
		}
	}
	end := g.writes[last]
	end.to = batchEnd{g}
	if end.header = maps.Clone(end.header); end.header == nil {
		end.header = make(nats.Header, 3)
	}
	end.header[headerBatchID] = ids
	end.header[headerBatchSequence] = []string{strconv.Itoa(last + 1)}
	end.header[headerBatchCommit] = []string{"1"}
	g.commits.publisher.publish(end)
}

// batchEnd is the sink of the last message of a batch: what becomes of it becomes of all.
type batchEnd struct{ group *group }

// Stored implements sessions.Sink.
func (e batchEnd) Stored(r sessions.Result) {
	g := e.group
	c := g.commits
	c.mu.Lock()
	refused := r.Err != nil && (!unsure(r.Err) || errors.Is(r.Err, errInProcess)) // one of them is
	switch {
	case refused && c.closed:
		r.Err = errClosed
	case refused:
		c.publisher.stats.RefusedBatches.Add(1)
		g.lane.limit = len(g.writes) / 2
		g.lane.waiting = append(g.writes, g.lane.waiting...)
		c.next(g.lane)
		c.mu.Unlock()
		return
	}
	if g.unsure = r.Err != nil; g.unsure && c.ordered {
		c.lost(g.writes)
	}
	failed, why := c.answered(g)
	c.mu.Unlock()
	c.report(g.writes, g.sent, r)
	fail(failed, why)
}

// answered sends the next group or holds it, before sinks are called: they may write, and are many. It returns the writes that
// nobody will send any more, and why. mu is held.
func (g *groupCommit) answered(sent *group) (failed []write, why error) {
	l := sent.lane
	switch {
	case g.closed:
		failed, l.waiting = l.waiting, nil
		return failed, errClosed
	case g.ordered && sent.unsure:
		failed, l.waiting = l.waiting, nil
		l.busy = false
		g.lost(failed)
		return failed, errNotSent
	}
	l.limit = min(2*l.limit, g.maxGroup)
	if l.full = min(len(l.waiting)+len(sent.writes), l.limit); len(sent.writes) < minBatch || len(l.waiting) >= l.full {
		g.next(l)
		return nil, nil
	}
	var hold *time.Timer
	hold = time.AfterFunc(min(time.Since(sent.sent)/4, maxHold), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if l.hold == hold {
			g.next(l)
		}
	})
	l.hold = hold
	return nil, nil
}

// errNotSent: what is before a write was not answered.
var errNotSent = fmt.Errorf("%w: not sent: those before it were not answered", sessions.ErrUnavailable)

// report tells the sinks of consecutive writes their outcome; r is that of the last. The server stores a batch in its
// order with nothing in between.
func (g *groupCommit) report(writes []write, sent time.Time, r sessions.Result) {
	now := time.Now()
	g.done = g.done[:0]
	for i := range writes {
		result := r
		if result.Token = writes[i].token; r.Err == nil {
			result.Sequence -= uint64(len(writes) - 1 - i)
		}
		g.done = append(g.done, writes[i].settled(result, sent, now))
	}
	g.stored(g.done)
	for i := range g.done {
		g.done[i].to.Stored(g.done[i].result)
	}
	clear(g.done)
}

// fail tells the sinks of writes that are not sent.
func fail(writes []write, why error) {
	for i := range writes {
		writes[i].to.Stored(sessions.Result{Token: writes[i].token, Err: why})
	}
}
