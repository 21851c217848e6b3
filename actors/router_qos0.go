package actors

import (
	"sync"

	"dunlin/sessions"
)

// route hands QoS 0 messages to whoever is subscribed now. It keeps the list.
func (r *router) route(messages []*sessions.Message) {
	t := routings.Get().(*routing)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.routeTogether(t, messages) {
		for _, msg := range messages {
			t.matches, _ = r.tree.MatchAppend(msg.Topic, t.matches[:0])
			for _, m := range t.matches {
				t.add(m, msg)
			}
		}
		for i, m := range t.members {
			r.pass(m, t.lists[i], messageListBytes(t.lists[i]), sessions.Routed{Messages: t.lists[i]})
		}
	}
	t.reset()
	routings.Put(t)
}

// anybody reports whether somebody is subscribed to a topic now.
func (r *router) anybody(topic string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, filters := r.tree.MatchAppend(topic, nil)
	return filters > 0
}

// routeTogether hands the same list to all sessions that one filter matches, if all messages are of one topic.
func (r *router) routeTogether(t *routing, messages []*sessions.Message) bool {
	topic := messages[0].Topic
	for _, msg := range messages {
		if msg.Topic != topic {
			return false
		}
	}
	var filters int
	if t.matches, filters = r.tree.MatchAppend(topic, t.matches[:0]); filters > 1 {
		return false
	}
	bytes := messageListBytes(messages)
	var routed any = sessions.Routed{Messages: messages, Shared: sharedBy(len(t.matches), len(messages))}
	for _, m := range t.matches {
		r.pass(m, messages, bytes, routed)
	}
	return true
}

// pass hands QoS 0 messages to a session, or drops them when it is too far behind.
func (r *router) pass(m *member, messages []*sessions.Message, bytes int, routed any) {
	if !m.reserve(len(messages), bytes) {
		r.stats.Dropped(m.clientID, sessions.DropSlowConsumer, uint64(len(messages)))
		return
	}
	m.post(routed)
}

// routing is what one call of route works with.
type routing struct {
	matches []*member
	members []*member
	lists   [][]*sessions.Message // what goes to each of members
	index   map[*member]int       // where in members each is
}

var routings = sync.Pool{New: func() any { return &routing{index: map[*member]int{}} }}

// add puts a message into the list of a member, once.
func (t *routing) add(m *member, msg *sessions.Message) {
	i, known := t.index[m]
	if !known {
		i = len(t.members)
		t.index[m] = i
		t.members, t.lists = append(t.members, m), append(t.lists, nil)
	}
	if n := len(t.lists[i]); n > 0 && t.lists[i][n-1] == msg {
		return // by another of its filters
	}
	t.lists[i] = append(t.lists[i], msg)
}

// reset forgets everything but the memory.
func (t *routing) reset() {
	clear(t.matches[:cap(t.matches)])
	clear(t.members)
	clear(t.lists)
	clear(t.index)
	t.matches, t.members, t.lists = t.matches[:0], t.members[:0], t.lists[:0]
}
