package actors

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// router knows who is subscribed to what and hands every message to those who are: the log in its order, QoS 0 as it
// comes. It owns the subscription tree, the retained messages, and the end of the log in memory, so that a subscription,
// the retained messages it gets and the place in the log from which on it is fed are one step.
type router struct {
	log   sessions.Log
	stats *Stats
	// live hears what others publish to the filters in the tree. Set before the first of them.
	live *live
	// replaced is called when the log turns out to be another than it was. Set before the first deliver, and it must not block.
	replaced func()
	// queuesQoS0: messages at QoS 0 wait in the log for those who are behind. Else they are for those who are there.
	queuesQoS0 bool
	// leads reports whether this node writes the retained messages for all; nil: it does. Set before the first deliver.
	leads func() bool
	// advanced is called when the log was handed out further. Set before the first deliver, and it must not block.
	advanced func()
	// handed is the sequence up to which everything was handed out and is in the mailboxes.
	handed atomic.Uint64

	// mu guards the fields below it. The log is handed out under the write lock; QoS 0 is routed under the read lock.
	mu       sync.RWMutex
	tree     sessions.FilterTree[*member]
	members  map[*member]struct{}
	retained *retainedIndex
	retainer *retainer
	ring     ring
	// head: everything up to there was handed out.
	head    sessions.Position
	waiting []headWaiter
	matches []*member        // reused
	touched []*member        // reused
	fresh   []sessions.Entry // reused
}

// headWaiter is somebody who waits until the log was handed out up to a sequence.
type headWaiter struct {
	sequence uint64
	reached  func()
}

func newRouter(log sessions.Log, stats *Stats, retained *retainedIndex, retainer *retainer, head sessions.Position, ringBytes int) *router {
	r := &router{
		log: log, stats: stats, retained: retained, retainer: retainer, head: head,
		members: map[*member]struct{}{},
		ring:    ring{after: head.Sequence, maxBytes: ringBytes},
	}
	r.handed.Store(head.Sequence)
	retainer.withIndex = func(f func(*retainedIndex)) {
		r.mu.Lock()
		defer r.mu.Unlock()
		f(r.retained)
	}
	return r
}

// add makes a session known; remove forgets it and its filters.
func (r *router) add(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[m] = struct{}{}
}

func (r *router) remove(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, m)
	m.live = false
	r.detachLocked(m)
}

// haunt keeps a member whose actor gave its session up: nothing is fed to it, and the checkpoint stays where it is.
func (r *router) haunt(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.live = false
	m.handed.Store(unfed)
	r.detachLocked(m)
}

// deliver hands out a batch of the log. Called by the log tail, in order.
func (r *router) deliver(batch []sessions.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	fresh := r.fresh[:0]
	for i := range batch {
		e := &batch[i]
		if e.Sequence <= r.head.Sequence {
			if e.Time.After(r.head.Time) && !r.head.Time.IsZero() && r.replaced != nil {
				r.replaced() // it begins anew: no position means what it meant
			}
			continue
		}
		r.head = e.Position
		r.ring.append(*e)
		if e.Message == nil {
			r.stats.undecodable.Add(1)
			continue
		}
		if e.Message.Retain {
			r.retain(*e)
		}
		fresh = append(fresh, *e)
	}
	if len(fresh) > 0 && !r.handOverTogether(fresh) {
		for i := range fresh {
			r.gather(&fresh[i])
		}
		for i, m := range r.touched {
			r.handOver(m)
			r.touched[i] = nil
		}
		r.touched = r.touched[:0]
	}
	clear(fresh)
	r.fresh = fresh[:0]
	r.handed.Store(r.head.Sequence)
	r.stats.logLag.Store(int64(now.Sub(r.head.Time)))
	r.wakeWaiters()
	if r.advanced != nil {
		r.advanced()
	}
}

// handOverTogether hands the same entries to all sessions that one filter matches, if all are of one topic and for live
// sessions only: then no session needs a batch of its own.
func (r *router) handOverTogether(entries []sessions.Entry) bool {
	topic := entries[0].Message.Topic
	for i := range entries {
		if m := entries[i].Message; m.Topic != topic || m.QoS == 0 && !r.queuesQoS0 {
			return false
		}
	}
	matches, filters := r.tree.MatchAppend(topic, r.matches[:0])
	r.matches = matches
	if filters > 1 {
		return false
	}
	if filters == 0 {
		return true
	}
	entries = slices.Clone(entries)
	bytes, last := entryBytes(entries), entries[len(entries)-1].Sequence
	var delivered any = sessions.Delivered{Entries: entries, Shared: sharedBy(len(matches), len(entries))}
	for _, m := range matches {
		switch {
		case !m.live:
		case m.reserve(len(entries), bytes):
			m.handed.Store(last)
			m.post(delivered)
		default:
			r.overrun(m, entries)
		}
	}
	return true
}

// sharedFrom is how many receivers are enough for their PUBLISH to be encoded once for all.
const sharedFrom = 4

// sharedBy is what receivers of messages have in common, nil when they are few.
func sharedBy(receivers, messages int) []mqttcodec.Shared {
	if receivers < sharedFrom {
		return nil
	}
	return make([]mqttcodec.Shared, messages)
}

// gather puts an entry into the batch of every session that has a matching filter, once: of every live one, or at QoS 0 of
// every one that is there.
func (r *router) gather(e *sessions.Entry) {
	r.matches, _ = r.tree.MatchAppend(e.Message.Topic, r.matches[:0])
	for _, m := range r.matches {
		if m.stamped == e.Sequence || !m.live && (e.Message.QoS > 0 || r.queuesQoS0) {
			continue
		}
		m.stamped = e.Sequence
		if len(m.batch) == 0 {
			r.touched = append(r.touched, m)
		}
		m.batch = append(m.batch, *e)
	}
}

func (r *router) handOver(m *member) {
	batch := m.batch
	m.batch = nil
	if !m.reserve(len(batch), entryBytes(batch)) {
		r.overrun(m, batch)
		return
	}
	if m.live {
		m.handed.Store(batch[len(batch)-1].Sequence)
	}
	m.post(sessions.Delivered{Entries: batch})
}

// overrun stops the live feed of a session that is too far behind. What is at QoS 0 is lost to it.
func (r *router) overrun(m *member, batch []sessions.Entry) {
	lost := uint64(0)
	for _, e := range batch {
		if e.Message.QoS == 0 && !r.queuesQoS0 {
			lost++
		}
	}
	if lost > 0 {
		r.stats.Dropped(m.clientID, sessions.DropSlowConsumer, lost)
	}
	if m.live {
		m.live = false
		m.handed.Store(unfed)
		m.post(sessions.Overrun{})
	}
}

func (r *router) wakeWaiters() {
	rest := r.waiting[:0]
	for _, w := range r.waiting {
		if w.sequence > r.head.Sequence {
			rest = append(rest, w)
			continue
		}
		w.reached()
	}
	clear(r.waiting[len(rest):])
	r.waiting = rest
}

// Head is the position up to which the log was handed out.
func (r *router) Head() sessions.Position {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.head
}

// subscribe makes filters effective. reached is called (and nothing is done) if the log has still to be handed out up to
// stored, or to what this node was promised to be stored: a retained message whose PUBACK was sent must be seen. reached must not
// block. After it was called, reached is nil: what was stored meanwhile does not matter, and might go on for ever.
func (r *router) subscribe(m *member, effect sessions.Subscribe, stored uint64, now time.Time, reached func()) (in sessions.Subscribed, done bool) {
	stored = max(stored, r.log.LastAppended())
	r.mu.Lock()
	defer r.mu.Unlock()
	if reached != nil && r.head.Sequence < stored {
		r.waiting = append(r.waiting, headWaiter{stored, reached})
		return in, false
	}
	in = sessions.Subscribed{Token: effect.Token, Position: r.head, Retained: make([]sessions.RetainedPart, len(effect.Filters))}
	room, visits := retainedAtOnce, retainedVisits
	for i, f := range effect.Filters {
		r.addFilter(m, f)
		if effect.WantRetained[i] {
			in.Retained[i], _ = r.retained.walk(f, "").next(room, &visits, now)
			room -= len(in.Retained[i].Entries)
		}
	}
	return in, true
}

// addFilter puts a filter into the tree. mu is held.
func (r *router) addFilter(m *member, filter string) {
	if sessions.AnswersOnly(filter) {
		return // they come to the session alone
	}
	if r.tree.Add(filter, m) {
		r.live.hold(filter)
		m.filters = append(m.filters, filter)
	}
}

// attach makes the filters of a resumed session effective again.
func (r *router) attach(m *member, filters []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range filters {
		r.addFilter(m, f)
	}
}

// detach takes all filters of a session out of the tree: nobody is there to be fed.
func (r *router) detach(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detachLocked(m)
}

func (r *router) detachLocked(m *member) {
	for _, f := range m.filters {
		r.tree.Remove(f, m)
		r.live.release(f)
	}
	m.filters = nil
}

func (r *router) unsubscribe(m *member, filters []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := make(map[string]struct{}, len(filters))
	for _, f := range filters {
		if r.tree.Remove(f, m) {
			r.live.release(f)
			ended[f] = struct{}{}
		}
	}
	m.filters = slices.DeleteFunc(m.filters, func(f string) bool { _, gone := ended[f]; return gone })
}

// join starts the live feed behind the head.
func (r *router) join(m *member, durable bool) sessions.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joinLocked(m, durable)
	return r.head
}

func (r *router) joinLocked(m *member, durable bool) {
	m.live = true
	m.handed.Store(r.head.Sequence)
	if !durable {
		m.active.Store(false) // it has no journal that the checkpoint could wait for
		return
	}
	if !m.active.Load() { // else a journal that says live is durable already, and the checkpoint must not pass that one
		m.journaled.Store(r.head.Sequence)
	}
	m.active.Store(true)
}

// leave stops the live feed and returns the position up to which it went, or the zero Position when it had stopped before.
func (r *router) leave(m *member) sessions.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !m.live {
		return sessions.Position{}
	}
	m.live = false
	m.handed.Store(unfed)
	return r.head
}

// joinWithin is how close to the head a session has to be to look at the rest itself, and to join the live feed. One that is
// further behind would be behind again at once if it looked at so much under the router's lock.
const joinWithin = 1024

// read takes the rest of the log after a position out of the ring, when that is not much: what wants holds for, at most max
// messages. If that is all, the session joins the live feed in the same step. ok is false when too much is left.
func (r *router) read(m *member, e sessions.Fetch, wants func(sessions.Entry) bool) (entries []sessions.Entry, upTo sessions.Position, live, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.After.Sequence < r.ring.after {
		return nil, upTo, false, false
	}
	rest := r.ring.since(e.After.Sequence)
	if len(rest) > joinWithin {
		return nil, upTo, false, false
	}
	p := portion{max: e.Max}
	for _, entry := range rest {
		if !wants(entry) {
			continue
		}
		if p.full {
			return p.entries, p.entries[len(p.entries)-1].Position, false, true
		}
		p.add(entry)
	}
	r.joinLocked(m, e.Durable)
	return p.entries, r.head, true, true
}

const (
	// denseProbe is how many entries are looked at to find out whether many of them are for a session: denseFrom.
	denseProbe, denseFrom = 64, 16
)

// readDense takes the next portion after a position out of the ring for a session that most of it is for: to look for it there
// costs no more than to look for many. It is appended to dst. It is not ok for another, which does better to have it looked for
// together with others.
func (r *router) readDense(e sessions.Fetch, wants func(sessions.Entry) bool, dst []sessions.Entry) (entries []sessions.Entry, upTo sessions.Position, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e.After.Sequence < r.ring.after {
		return dst, upTo, false
	}
	rest := r.ring.since(e.After.Sequence)
	rest = rest[:min(len(rest), joinWithin)]
	p := portion{entries: dst, max: e.Max}
	for i, entry := range rest {
		if i == denseProbe && len(p.entries) < denseFrom {
			return dst, upTo, false
		}
		if upTo = entry.Position; wants(entry) {
			if p.add(entry); p.full {
				break
			}
		}
	}
	return p.entries, upTo, len(rest) > 0
}

// reach is the sequence behind which the ring holds the log, and the head.
func (r *router) reach() (after uint64, head sessions.Position) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ring.after, r.head
}

// window appends the next part of the ring after a sequence to dst, at most so many entries: all there is up to a position. ok
// is false when the ring does not reach back that far.
func (r *router) window(after uint64, most int, dst []sessions.Entry) (entries []sessions.Entry, upTo, head sessions.Position, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if after < r.ring.after {
		return dst, upTo, r.head, false
	}
	rest := r.ring.since(after)
	if len(rest) > most {
		rest = rest[:most]
		return append(dst, rest...), rest[most-1].Position, r.head, true
	}
	return append(dst, rest...), r.head, r.head, true
}

// count is how many entries after a position are for a session, at most the ring's.
func (r *router) count(after uint64, matches func(sessions.Entry) bool) (n uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range r.ring.since(max(after, r.ring.after)) {
		if matches(e) {
			n++
		}
	}
	return n
}

// complete is the sequence up to which all that the node's sessions have to remember is in their documents, and all
// retained messages are in their bucket.
func (r *router) complete() sessions.Position {
	r.mu.RLock()
	defer r.mu.RUnlock()
	at := r.head
	upTo := r.retainer.complete(at.Sequence)
	for m := range r.members {
		upTo = m.complete(upTo)
	}
	if upTo != at.Sequence {
		at = sessions.Position{Sequence: upTo}
	}
	return at
}
