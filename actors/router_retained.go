package actors

import (
	"time"

	"dunlin/sessions"
)

// retain makes a message of the log the retained message of its topic. [MQTT-3.3.1-5]
func (r *router) retain(e sessions.Entry) {
	a := r.retained.apply(e)
	if a.full {
		r.stats.Dropped("", dropRetainedFull, 1)
	}
	if a.taken && (r.leads == nil || r.leads()) {
		r.retainer.put(e, a)
	}
}

// retainAgain has the retained message of a topic written, if it is that of an entry: the node that did so until now may not have.
func (r *router) retainAgain(e sessions.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var is applied
	if n := r.retained.find(e.Message.Topic); n != nil && n.entry != nil {
		is.now = n.entry
	}
	switch {
	case is.now != nil && is.now.Sequence == e.Sequence, is.now == nil && len(e.Message.Payload) == 0:
		r.retainer.put(e, is)
	}
}

// overtaken reports whether what the bucket has of the topic did not come through this log and is newer than an entry of it.
func (r *router) overtaken(e sessions.Entry) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := r.retained.find(e.Message.Topic)
	return n != nil && n.entry != nil && n.entry.Sequence == 0 && n.entry.Time.After(e.Time)
}

// adopt makes what others wrote to the bucket the retained message of its topic.
func (r *router) adopt(w sessions.Retained) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.retained.find(w.Message.Topic)
	if !r.retainer.busy(w, n != nil && n.entry != nil) {
		r.retainer.adopt(w, r.retained)
	}
}

// retainedAtOnce is how many retained messages a SUBSCRIBE brings at once; the session asks for the others.
const retainedAtOnce = 256

// walkRetained begins a walk through the retained messages.
func (r *router) walkRetained(filter, after string) *retainedWalk {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.retained.walk(filter, after)
}

// readRetained hands the next part of a walk over, in its place among the batches of the log.
func (r *router) readRetained(m *member, effect sessions.ReadRetained, w *retainedWalk, now time.Time) (more bool) {
	for {
		w.sort()
		in, ready := r.tryReadRetained(m, effect, w, now)
		if ready {
			return in.More
		}
	}
}

func (r *router) tryReadRetained(m *member, effect sessions.ReadRetained, w *retainedWalk, now time.Time) (in sessions.RetainedRead, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	visits := retainedVisits
	in = sessions.RetainedRead{Token: effect.Token, Filter: effect.Filter}
	if in.RetainedPart, ready = w.next(effect.Max, &visits, now); ready {
		m.post(in)
	}
	return in, ready
}

// appendRetained adds the entries that are gone from the log, and are still the retained messages of their topics, and those
// that never were in it.
func (r *router) appendRetained(entries []sessions.Entry, topics map[uint64]string, foreign []string) []sessions.Entry {
	found := map[uint64]bool{}
	for _, e := range entries {
		found[e.Sequence] = true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for sequence, topic := range topics {
		if n := r.retained.find(topic); !found[sequence] && n != nil && n.entry != nil && n.entry.Sequence == sequence {
			entries = append(entries, n.entry.Entry)
		}
	}
	for _, topic := range foreign {
		if n := r.retained.find(topic); n != nil && n.entry != nil && n.entry.Sequence == 0 {
			entries = append(entries, n.entry.Entry)
		}
	}
	return entries
}
