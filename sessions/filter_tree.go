package sessions

import "strings"

// FilterTree finds the values subscribed with topic filters that match a topic, at a cost of the filters that match
// and not of those there are. The zero value is an empty tree. Not safe for concurrent use, but for several readers.
//
// Topics and filters must be valid; levels may be empty. (4.7) A match allocates nothing, takes memory only on the
// stack, and visits each node of the tree at most once, whatever filters clients choose.
type FilterTree[V comparable] struct {
	root filterNode[V]
	len  int
}

// filterNode stands for the levels from the root to itself.
// Invariant: every node but the root has a value or a child.
type filterNode[V comparable] struct {
	children LevelMap[filterNode[V]]
	// plus is the child for "+", which matches any one level. [MQTT-4.7.1-2]
	plus *filterNode[V]
	// values are those of the filter that ends here.
	values valueSet[V]
	// hash has those of the filter that has only "#" after this node; nil without. It matches this node's level
	// and all below. [MQTT-4.7.1-1]
	hash *valueSet[V]
}

// Add puts a value under a filter. It returns false when it was there already. The tree keeps no reference to filter.
func (t *FilterTree[V]) Add(filter string, v V) (added bool) {
	node := &t.root
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#" && !more:
			if node.hash == nil {
				node.hash = &valueSet[V]{}
			}
			return t.count(node.hash.add(v))
		case level == "+":
			if node.plus == nil {
				node.plus = &filterNode[V]{}
			}
			node = node.plus
		default:
			node = node.children.ChildOrNew(level)
		}
	}
	return t.count(node.values.add(v))
}

// count counts one more value if it was added.
func (t *FilterTree[V]) count(added bool) bool {
	if added {
		t.len++
	}
	return added
}

// Remove takes a value from a filter, and what nodes have no use without it. It returns false when it was not there.
func (t *FilterTree[V]) Remove(filter string, v V) bool {
	removed := t.root.remove(filter, v)
	if removed {
		t.len--
	}
	return removed
}

// remove takes a value from the filter that is rest, seen from this node.
func (n *filterNode[V]) remove(rest string, v V) bool {
	level, rest, more := strings.Cut(rest, "/")
	if level == "#" && !more {
		removed := n.hash != nil && n.hash.remove(v)
		if removed && n.hash.len() == 0 {
			n.hash = nil
		}
		return removed
	}
	child := n.plus
	if level != "+" {
		child = n.children.Child(level)
	}
	if child == nil {
		return false
	}
	removed := false
	if more {
		removed = child.remove(rest, v)
	} else {
		removed = child.values.remove(v)
	}
	if removed && child.empty() {
		if level == "+" {
			n.plus = nil
		} else {
			n.children.Delete(level)
		}
	}
	return removed
}

func (n *filterNode[V]) empty() bool {
	return n.values.len() == 0 && n.hash == nil && n.plus == nil && n.children.Len() == 0
}

// Len is the number of values in the tree, one for each filter that a value is under.
func (t *FilterTree[V]) Len() int { return t.len }

// Match visits each value whose filter matches the topic, once for each such filter. The order is that of the filters
// in the tree: the same for the same history of Add and Remove. visit must not change the tree.
func (t *FilterTree[V]) Match(topic string, visit func(V)) {
	t.root.match(topic, !isSystemTopic(topic), func(values []V) {
		for _, v := range values {
			visit(v)
		}
	})
}

// MatchAppend appends to dst what Match visits, and returns it with the number of filters that matched: a value is there
// more than once only if that is more than one.
func (t *FilterTree[V]) MatchAppend(topic string, dst []V) (matches []V, filters int) {
	t.root.match(topic, !isSystemTopic(topic), func(values []V) {
		if len(values) > 0 {
			dst = append(dst, values...)
			filters++
		}
	})
	return dst, filters
}

// isSystemTopic: a wildcard in the first level does not match a topic that starts with "$". [MQTT-4.7.2-1]
func isSystemTopic(topic string) bool { return strings.HasPrefix(topic, "$") }

// match visits the values of all filters that match the rest of a topic, seen from this node. wildcards is whether a
// wildcard may match the rest's first level. It goes down level by level and calls itself only to look below a "+".
func (n *filterNode[V]) match(rest string, wildcards bool, visit func([]V)) {
	for more := true; ; wildcards = true {
		if n.hash != nil && wildcards {
			visit(n.hash.list)
		}
		if !more {
			visit(n.values.list)
			return
		}
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if n.plus != nil && wildcards {
			if more {
				n.plus.match(rest, true, visit)
			} else {
				n.plus.matchEnd(visit)
			}
		}
		if n = n.children.Child(level); n == nil {
			return
		}
	}
}

// matchEnd visits the values of the filters that match when no level is left: "a" and "a/#" both match "a". (4.7.1.2)
func (n *filterNode[V]) matchEnd(visit func([]V)) {
	if n.hash != nil {
		visit(n.hash.list)
	}
	visit(n.values.list)
}

const (
	// valueIndexFrom is the number of values from which on an index finds one of them.
	valueIndexFrom = 32
	// valueIndexUntil is how few make the index go again.
	valueIndexUntil = valueIndexFrom / 2
)

// valueSet is a set that is walked often and changed seldom: a list, with an index when it is long.
type valueSet[V comparable] struct {
	list  []V
	index map[V]int // where in the list each is; nil while the list is short
}

func (s *valueSet[V]) len() int { return len(s.list) }

// find is where a value is in the list, -1 when it is not.
func (s *valueSet[V]) find(v V) int {
	if s.index != nil {
		if i, ok := s.index[v]; ok {
			return i
		}
		return -1
	}
	for i := range s.list {
		if s.list[i] == v {
			return i
		}
	}
	return -1
}

// add returns false when the value is there already.
func (s *valueSet[V]) add(v V) bool {
	if s.find(v) >= 0 {
		return false
	}
	s.list = append(s.list, v)
	switch {
	case s.index != nil:
		s.index[v] = len(s.list) - 1
	case len(s.list) == valueIndexFrom:
		s.index = make(map[V]int, 2*valueIndexFrom)
		for i, v := range s.list {
			s.index[v] = i
		}
	}
	return true
}

// remove returns false when the value is not there. The last value takes its place.
func (s *valueSet[V]) remove(v V) bool {
	i := s.find(v)
	if i < 0 {
		return false
	}
	last := len(s.list) - 1
	moved := s.list[last]
	s.list[i] = moved
	clear(s.list[last:])
	s.list = s.list[:last]
	if s.index != nil {
		s.index[moved] = i
		delete(s.index, v)
	}
	s.shrink()
	return true
}

// shrink gives back memory that many values needed and few do not.
func (s *valueSet[V]) shrink() {
	if len(s.list) <= valueIndexUntil {
		s.index = nil
	}
	switch {
	case len(s.list) == 0:
		s.list = nil
	case cap(s.list) > 4*len(s.list) && cap(s.list) > valueIndexFrom:
		s.list = append(make([]V, 0, 2*len(s.list)), s.list...)
	}
}
