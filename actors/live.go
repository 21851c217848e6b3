package actors

import (
	"context"
	"slices"
	"sync"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

const (
	// liveWait is how long a SUBACK waits at most until others' messages come too.
	liveWait = 500 * time.Millisecond
	// liveLinger is how long the node listens on when nobody is subscribed any more: long enough for a SUBSCRIBE that waits, and
	// for a client that is back at once.
	liveLinger = 2 * time.Second
	// liveSweep is how often it looks.
	liveSweep = time.Second
)

// live connects the node with the live plane: it has it listen to the filters of the clients that are there, hands what
// others publish to the router and the shares, and what clients publish at QoS 0 to others. A nil *live, and one without a
// plane, belongs to a node that is alone.
type live struct {
	plane  sessions.Live
	router *router
	shares *shares
	stats  *Stats
	// topicFits is that of the sessions.
	topicFits func(topic string, stored bool) bool
	exchanges

	// mu guards the fields below it. It is taken after those of the router and of shares.
	mu     sync.Mutex
	heard  map[string]*heardFilter
	unused []*heardFilter
	// asked counts the filters that were listened to, effective is up to which of them the plane does so, and flushing up to
	// which it was asked to say so.
	asked, effective, flushing uint64
	waiting                    []liveWaiter
}

// heardFilter is a topic filter that the node listens to.
type heardFilter struct {
	filter string
	// uses counts the sessions that are subscribed, and here.
	uses int
	// number is its place among all that were listened to.
	number uint64
	// unusedSince is when uses became 0. listed: it is in unused.
	unusedSince time.Time
	listed      bool
}

// liveWaiter is somebody who waits until filters are effective.
type liveWaiter struct {
	number  uint64
	reached func()
}

func newLive(b *Broker) *live {
	return &live{
		plane: b.storage.Live, router: b.router, shares: b.shares, stats: &b.stats, topicFits: b.cfg.Sessions.TopicFits,
		exchanges: newExchanges(b.cfg.Sessions.RequestTimeout, &b.stats),
		heard:     map[string]*heardFilter{},
	}
}

func (l *live) alone() bool { return l == nil || l.plane == nil }

// heardAs is the filter by which the messages come that a subscription is for, and whether there are any: answers come
// without, and the server's own topics are nobody else's.
func heardAs(filter string) (heard string, ok bool) {
	if asked, requests := sessions.RequestFilter(filter); requests {
		return asked, true
	}
	if _, shared, ok := mqttcodec.SharedFilter(filter); ok {
		return filter, !sessions.ReservedTopic(shared)
	}
	return filter, !sessions.ReservedTopic(filter)
}

// want has the node listen to filters that will be held in a moment. It reports whether all of them are effective; else
// reached, which must not block, is called when they are, or after liveWait.
func (l *live) want(filters, shares []string, reached func()) (effective bool) {
	if l.alone() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last := uint64(0)
	for _, list := range [2][]string{filters, shares} {
		for _, filter := range list {
			if filter, ok := heardAs(filter); ok {
				last = max(last, l.listen(filter).number)
			}
		}
	}
	if last <= l.effective {
		return true
	}
	l.waiting = append(l.waiting, liveWaiter{last, reached})
	l.flush()
	return false
}

// hold has the node listen to a filter as long as a session is subscribed to it.
func (l *live) hold(filter string) {
	if l.alone() {
		return
	}
	if filter, ok := heardAs(filter); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.listen(filter).uses++
	}
}

// listen is the filter, heard from now on. mu is held.
func (l *live) listen(filter string) *heardFilter {
	h := l.heard[filter]
	if h == nil {
		l.asked++
		h = &heardFilter{filter: filter, number: l.asked}
		l.heard[filter] = h
		l.plane.Listen(filter)
		l.leaveUnused(h)
	}
	return h
}

// leaveUnused notes that nobody is subscribed to a filter. mu is held.
func (l *live) leaveUnused(h *heardFilter) {
	h.unusedSince = time.Now()
	if !h.listed {
		h.listed = true
		l.unused = append(l.unused, h)
	}
}

// release ends one hold.
func (l *live) release(filter string) {
	if l.alone() {
		return
	}
	filter, ok := heardAs(filter)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.heard[filter]
	if h.uses--; h.uses > 0 {
		return
	}
	if _, _, shared := mqttcodec.SharedFilter(filter); shared { // what comes is for other nodes
		l.forget(h)
		return
	}
	l.leaveUnused(h)
}

// forget ends listening to a filter. mu is held.
func (l *live) forget(h *heardFilter) {
	delete(l.heard, h.filter)
	l.plane.Forget(h.filter)
}

// sweep forgets the filters that nobody has been subscribed to for a while.
func (l *live) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unused = slices.DeleteFunc(l.unused, func(h *heardFilter) bool {
		switch {
		case h.uses > 0 || l.heard[h.filter] != h:
		case now.Sub(h.unusedSince) < liveLinger:
			return false
		default:
			l.forget(h)
		}
		h.listed = false
		return true
	})
}

// flush asks the plane when all that was listened to is effective, once for all who wait. mu is held.
func (l *live) flush() {
	if l.flushing > l.effective || l.asked == l.effective {
		return
	}
	upTo := l.asked
	l.flushing = upTo
	reached := func() { l.reached(upTo) }
	l.plane.Effective(reached)
	time.AfterFunc(liveWait, reached)
}

// reached lets those go on who wait for no more than that.
func (l *live) reached(upTo uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upTo <= l.effective {
		return
	}
	l.effective = upTo
	l.waiting = slices.DeleteFunc(l.waiting, func(w liveWaiter) bool {
		if w.number > upTo {
			return false
		}
		w.reached()
		return true
	})
	if len(l.waiting) > 0 {
		l.flush()
	}
}

// run hands over what others publish until ctx ends.
func (l *live) run(ctx context.Context) error { return l.plane.Run(ctx, l.receive) }

// keep forgets what has had its time, until ctx ends.
func (l *live) keep(ctx context.Context) {
	tick := time.NewTicker(liveSweep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		l.expire(now)
		if !l.alone() {
			l.sweep(now)
		}
	}
}

// receive takes what others have published.
func (l *live) receive(batch []sessions.LiveMessage) {
	messages := make([]*sessions.Message, 0, len(batch))
	for _, in := range batch {
		m := in.Message
		switch {
		case in.Token != "":
			l.onAnswer(in)
			continue
		case in.Reply != "" && m.Properties.ResponseTopic == "": // else it says itself where the answer goes
			l.makeRequest(m, requested{reply: in.Reply})
		}
		if in.Share != "" {
			if sh := l.shares.find(in.Share); sh != nil {
				sh.route(m)
			}
			continue
		}
		messages = appendRequest(append(messages, m), m)
	}
	if len(messages) > 0 {
		l.router.route(messages)
	}
}

// appendRequest appends the form that a request has for clients without response topics.
func appendRequest(messages []*sessions.Message, m *sessions.Message) []*sessions.Message {
	if !m.Request {
		return messages
	}
	long := *m
	long.Topic = sessions.ReplyTopicOf(m)
	return append(messages, &long)
}

// publish hands QoS 0 messages of a client to everybody but those on this node who are subscribed themselves: to others, and
// to the shares, of whose members some may be on other nodes.
func (l *live) publish(messages []*sessions.Message, by sessions.Identity) {
	for len(messages) > 0 {
		topic, n := messages[0].Topic, 1
		for n < len(messages) && messages[n].Topic == topic {
			n++
		}
		if l.alone() || !l.plane.Elsewhere(topic) {
			l.shares.route(messages[:n])
		} else {
			for _, m := range messages[:n] {
				l.plane.Publish(m, l.askFor(m, by))
			}
		}
		messages = messages[n:]
	}
}
