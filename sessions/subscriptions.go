package sessions

import (
	"slices"
	"strings"

	"dunlin/mqttcodec"
)

// treeFrom is the number of subscriptions from which on a tree matches faster than a walk over the list.
const treeFrom = 8

// subscriptions are the subscriptions of a session, each kind in the order in which they were made.
type subscriptions struct {
	list []*Subscription
	// tree and index hold the same subscriptions once there are many.
	tree  *FilterTree[*Subscription]
	index map[string]*Subscription
	// noLocal counts those with the No Local option.
	noLocal int
	// shared are the shared subscriptions, in no other part: what is for them comes from their group, not by matching.
	shared []*Subscription
}

// isShared reports whether a valid topic filter is that of a shared subscription. (4.8.2)
func isShared(filter string) bool { return strings.HasPrefix(filter, sharedPrefix) }

const sharedPrefix = "$share/"

func (t *subscriptions) count() int { return len(t.list) + len(t.shared) }

// all visits all subscriptions.
func (t *subscriptions) all(visit func(*Subscription)) {
	for _, sub := range t.list {
		visit(sub)
	}
	for _, sub := range t.shared {
		visit(sub)
	}
}

func (t *subscriptions) findShared(filter string) *Subscription {
	for _, sub := range t.shared {
		if sub.Filter == filter {
			return sub
		}
	}
	return nil
}

func (t *subscriptions) find(filter string) *Subscription {
	if isShared(filter) {
		return t.findShared(filter)
	}
	if t.index != nil {
		return t.index[filter]
	}
	for _, sub := range t.list {
		if sub.Filter == filter {
			return sub
		}
	}
	return nil
}

// put adds a subscription or replaces the one with the same filter, whose first position it keeps. [MQTT-3.8.4-3] What is
// queued by then is not lost, whatever QoS it has now. [MQTT-3.8.4-4]
func (t *subscriptions) put(sub Subscription) {
	old := t.find(sub.Filter)
	sub.plain = !strings.ContainsAny(sub.Filter, "+#")
	sub.answers = AnswersOnly(sub.Filter)
	if sub.NoLocal {
		t.noLocal++
	}
	if old != nil {
		if old.NoLocal {
			t.noLocal--
		}
		switch {
		case sub.QoS > 0:
		case old.QoS > 0:
			sub.FormerQoS, sub.FormerUntil = old.QoS, sub.Since
		default:
			sub.FormerQoS, sub.FormerUntil = old.FormerQoS, old.FormerUntil
		}
		sub.Since = old.Since
		*old = sub
		return
	}
	s := &sub
	if isShared(s.Filter) {
		t.shared = append(t.shared, s)
		return
	}
	t.list = append(t.list, s)
	switch {
	case t.tree != nil:
		t.tree.Add(s.Filter, s)
		t.index[s.Filter] = s
	case len(t.list) > treeFrom:
		t.tree, t.index = &FilterTree[*Subscription]{}, map[string]*Subscription{}
		for _, s := range t.list {
			t.tree.Add(s.Filter, s)
			t.index[s.Filter] = s
		}
	}
}

// remove ends a subscription and reports whether it existed.
func (t *subscriptions) remove(filter string) bool {
	sub := t.find(filter)
	if sub == nil {
		return false
	}
	if isShared(filter) {
		t.shared = slices.DeleteFunc(t.shared, func(other *Subscription) bool { return other == sub })
		return true
	}
	i := slices.Index(t.list, sub)
	if sub.NoLocal {
		t.noLocal--
	}
	if t.tree != nil {
		t.tree.Remove(filter, sub)
		delete(t.index, filter)
	}
	t.list = slices.Delete(t.list, i, i+1)
	return true
}

// since is the position up to which no message is for any of the subscriptions.
func (t *subscriptions) since() (p Position) {
	for i, sub := range t.list {
		if i == 0 || sub.Since.Sequence < p.Sequence {
			p = sub.Since
		}
	}
	return p
}

// matching visits the subscriptions that match a topic, in an order that depends on the history of the list alone.
func (t *subscriptions) matching(topic string, visit func(*Subscription)) {
	if t.tree == nil {
		for _, sub := range t.list {
			if sub.plain && sub.Filter == topic || !sub.plain && mqttcodec.MatchTopic(sub.Filter, topic) {
				visit(sub)
			}
		}
		return
	}
	t.tree.Match(topic, visit)
}

// filters are those of the subscriptions that are not shared, shares those of the shared ones.
func (t *subscriptions) filters() []string { return filtersOf(t.list) }
func (t *subscriptions) shares() []string  { return filtersOf(t.shared) }

func filtersOf(list []*Subscription) []string {
	filters := make([]string, len(list))
	for i, sub := range list {
		filters[i] = sub.Filter
	}
	return filters
}
