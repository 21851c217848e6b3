package sessions

import (
	"slices"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// modelRouter hands the log out to the one session of a world, as the router of a node does.
type modelRouter struct {
	w *world
	// head: everything up to there was handed out. appended is the last sequence that this node's own messages got.
	head, appended uint64
	// ringAfter is where memory begins: older entries are fetched from the queue.
	ringAfter uint64
	filters   []string
	live      bool
	// waiting are Subscribes that wait until the log was handed out up to a sequence.
	waiting []waitingSubscribe
	// fetches are reads of the queue on their way, loads those of single messages.
	fetches []queueFetch
	loads   []Load
	// use counts the uses of the queue: what an earlier one brings does not count.
	use int
}

type waitingSubscribe struct {
	sequence uint64
	effect   Subscribe
}

type queueFetch struct {
	effect  Fetch
	filters []string
	head    uint64
	use     int
}

const (
	modelMaxBehind = 3
	modelRingChunk = 3
	// modelRetainedPart is how many retained messages come at a time.
	modelRetainedPart = 1
)

func (r *modelRouter) matches(topic string) bool {
	return slices.ContainsFunc(r.filters, func(f string) bool { return mqttcodec.MatchTopic(f, topic) })
}

// deliver hands out the next n entries of the log.
func (r *modelRouter) deliver(n int) {
	var batch []Entry
	for _, e := range r.w.store.after(r.head, n) {
		r.head = e.Sequence
		if e.Message != nil && r.matches(e.Message.Topic) {
			batch = append(batch, e)
		}
	}
	r.w.store.handed = r.head
	if !r.live { // at QoS 0 it is for those who are there
		batch = slices.DeleteFunc(batch, func(e Entry) bool { return e.Message.QoS > 0 || r.w.cfg.QueueQoS0 })
		if len(batch) > 0 {
			r.w.post(Delivered{Entries: batch})
		}
	} else if len(batch) > 0 {
		if len(r.w.mailbox) > modelMaxBehind && !r.w.calm {
			r.live = false
			r.w.node.cursor.handed = unfed
			r.w.post(Overrun{})
		} else {
			r.w.node.cursor.handed = batch[len(batch)-1].Sequence
			r.w.post(Delivered{Entries: batch})
		}
	}
	for len(r.waiting) > 0 && r.waiting[0].sequence <= r.head {
		r.w.post(r.waiting[0].effect)
		r.waiting = r.waiting[1:]
	}
}

func (r *modelRouter) route(m *Message) {
	if r.matches(m.Topic) {
		r.w.post(Routed{Messages: []*Message{m}})
	}
}

func (r *modelRouter) subscribe(e Subscribe) {
	if r.head < r.appended {
		r.waiting = append(r.waiting, waitingSubscribe{r.appended, e})
		return
	}
	in := Subscribed{Token: e.Token, Position: at(r.head)}
	for i, f := range e.Filters {
		r.attach([]string{f})
		in.Retained = append(in.Retained, RetainedPart{})
		if e.WantRetained[i] {
			in.Retained[i] = r.w.store.retained(f, "", modelRetainedPart)
		}
	}
	r.use++
	r.w.soon = append(r.w.soon, in)
}

func (r *modelRouter) readRetained(e ReadRetained) {
	r.w.post(RetainedRead{Token: e.Token, Filter: e.Filter, RetainedPart: r.w.store.retained(e.Filter, e.After, modelRetainedPart)})
}

func (r *modelRouter) attach(filters []string) {
	for _, f := range filters {
		if !slices.Contains(r.filters, f) {
			r.filters = append(r.filters, f)
		}
	}
}

func (r *modelRouter) unsubscribe(filters []string) {
	r.filters = slices.DeleteFunc(r.filters, func(f string) bool { return slices.Contains(filters, f) })
}

func (r *modelRouter) join(e Join) {
	r.goLive(e.Durable)
	r.use++
	r.w.soon = append(r.w.soon, Fetched{Token: e.Token, UpTo: at(r.head), Live: true})
}

func (r *modelRouter) goLive(durable bool) {
	r.live = true
	c := &r.w.node.cursor
	c.handed = r.head
	if !durable {
		return
	}
	if !c.active {
		c.journaled = r.head
	}
	c.active = true
}

func (r *modelRouter) leave() {
	left := Left{}
	if r.live {
		left.Position = at(r.head)
		r.live = false
		r.w.node.cursor.handed = unfed
	}
	if r.w.s.Connection() == 0 {
		r.filters = nil
	}
	r.use++
	r.w.post(left)
}

// fetch answers out of memory if that reaches back far enough, otherwise from the queue.
func (r *modelRouter) fetch(e Fetch) {
	after := e.After.Sequence
	if after >= r.ringAfter {
		in := Fetched{Token: e.Token, Head: at(r.head)}
		for _, e := range r.w.store.after(after, modelRingChunk) {
			if e.Sequence <= r.head {
				in.Entries = append(in.Entries, e)
			}
		}
		if n := len(in.Entries); n == modelRingChunk {
			in.UpTo = in.Entries[n-1].Position
			r.w.post(in)
			return
		}
		in.UpTo, in.Live = at(r.head), true
		r.goLive(e.Durable)
		r.use++
		r.w.soon = append(r.w.soon, in)
		return
	}
	if !e.Durable || len(r.w.s.QueuedFilters()) == 0 {
		r.w.post(Fetched{Token: e.Token, UpTo: at(r.ringAfter), Lost: r.ringAfter - after, Head: at(r.head)})
		return
	}
	r.fetches = append(r.fetches, queueFetch{e, r.w.s.QueuedFilters(), r.head, r.use})
}

// fetched answers the oldest read of the queue.
func (r *modelRouter) fetched() {
	f := r.fetches[0]
	r.fetches = r.fetches[1:]
	if f.use != r.use {
		r.w.post(Fetched{Token: f.effect.Token})
		return
	}
	in := Fetched{Token: f.effect.Token, UpTo: at(f.head), Head: at(f.head)}
	if !r.w.calm && rapid.IntRange(0, 9).Draw(r.w.t, "fetch fails") == 0 {
		in.Err = ErrUnavailable
		r.w.post(in)
		return
	}
	for _, e := range r.w.store.after(f.effect.After.Sequence, 1<<30) {
		match := e.Message == nil || slices.ContainsFunc(f.filters, func(f string) bool { return mqttcodec.MatchTopic(f, e.Message.Topic) })
		if match && len(in.Entries) < f.effect.Max {
			in.Entries = append(in.Entries, e)
			in.UpTo = e.Position
		}
	}
	r.w.post(in)
}

func (r *modelRouter) load(e Load) { r.loads = append(r.loads, e) }

// loaded answers the oldest read of single messages.
func (r *modelRouter) loaded() {
	e := r.loads[0]
	r.loads = r.loads[1:]
	in := Loaded{Token: e.Token}
	if !r.w.calm && rapid.IntRange(0, 9).Draw(r.w.t, "load fails") == 0 {
		in.Err = ErrUnavailable
	}
	for _, seq := range e.Sequences {
		if found, ok := r.w.store.entry(seq); ok && in.Err == nil {
			in.Entries = append(in.Entries, found)
		}
	}
	r.w.post(in)
}

func (r *modelRouter) busy() bool {
	return len(r.fetches)+len(r.loads) > 0 || r.head < r.w.store.head()
}

// progress lets one thing happen that is on its way.
func (r *modelRouter) progress() {
	switch {
	case len(r.fetches) > 0:
		r.fetched()
	case len(r.loads) > 0:
		r.loaded()
	default:
		r.deliver(1)
	}
}
