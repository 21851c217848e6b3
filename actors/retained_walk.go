package actors

import (
	"slices"
	"strings"
	"time"

	"dunlin/sessions"
)

const (
	// retainedVisits is how many topics are looked at in one part of a walk: the log is not handed out meanwhile.
	retainedVisits = 1024
	// retainedSortMax is how many names are sorted in between; more are sorted while nobody waits.
	retainedSortMax = 1024
)

// retainedWalk goes through the retained messages whose topic matches a filter, in the order of their topics, level by
// level, a part at a time. Between two parts the index may change: what is removed then is not found, and what is added
// may not be.
type retainedWalk struct {
	filter string
	index  *retainedIndex
	// seek are the levels of the topic behind which the walk begins, nil for the first.
	seek []string
	// stack leads from the root to where the walk is.
	stack []walkStep
	begun bool
	upTo  string
}

// walkStep is a node and which of its children are still to be visited.
type walkStep struct {
	node  *retainedNode
	topic string // of the node
	// rest is what of the filter the children have to match, "#" for themselves and all below.
	rest string
	// last: rest is the last level.
	last   bool
	names  []string
	sorted bool
	// seek is the place in retainedWalk.seek of the level of the first name, if that is the one; -1 when all are behind it.
	seek int
}

// walk begins a walk through the messages behind a topic, empty for all.
func (x *retainedIndex) walk(filter, after string) *retainedWalk {
	w := &retainedWalk{filter: filter, index: x, upTo: after}
	if after != "" {
		w.seek = strings.Split(after, "/")
	}
	return w
}

// sort puts in order what is too much to be sorted during a part. It touches nothing but the walk.
func (w *retainedWalk) sort() {
	if n := len(w.stack); n > 0 && !w.stack[n-1].sorted {
		slices.Sort(w.stack[n-1].names)
		w.stack[n-1].sorted = true
	}
}

// next is the next part, of at most max messages. Expired ones are left out, and removed. [MQTT-3.3.2-5] ready is false
// when sort has to be called before. visits is what is left of retainedVisits.
func (w *retainedWalk) next(max int, visits *int, now time.Time) (part sessions.RetainedPart, ready bool) {
	var expired []string
	visit := func(n *retainedNode) {
		switch {
		case n.entry == nil:
		case n.entry.Message.Expired(now):
			expired = append(expired, n.entry.Message.Topic)
		default:
			part.Entries = append(part.Entries, n.entry.Entry)
		}
	}
	if !w.begun {
		w.begun = true
		w.enter(&w.index.root, "", w.filter, false, min(len(w.seek), 1)-1, visit)
	}
	ready = true
	for len(w.stack) > 0 && len(part.Entries) < max && *visits > 0 {
		step := &w.stack[len(w.stack)-1]
		if !step.sorted && len(step.names) > retainedSortMax {
			ready = len(part.Entries) > 0
			break
		}
		w.sort()
		if len(step.names) == 0 {
			w.stack = w.stack[:len(w.stack)-1]
			continue
		}
		*visits--
		name, seek := step.names[0], -1
		step.names = step.names[1:]
		if step.seek >= 0 && name == w.seek[step.seek] {
			seek = step.seek + 1
		}
		if child := step.node.children.Child(name); child != nil {
			w.enter(child, w.below(step.node, step.topic, name), step.rest, step.last, seek, visit)
		}
	}
	for _, topic := range expired {
		w.index.remove(topic)
	}
	part.UpTo, part.More = w.upTo, len(w.stack) > 0
	return part, ready
}

// below is the topic of a child of a node.
func (w *retainedWalk) below(n *retainedNode, topic, level string) string {
	if n == &w.index.root {
		return level
	}
	return topic + "/" + level
}

// enter goes from a node on as far as the filter names the way, and visits the node that matches it, or notes which of the
// children are to be visited. done: the node itself matches. seek is how many levels of the topic to begin behind the way
// here has followed, -1 when it has left it.
func (w *retainedWalk) enter(n *retainedNode, topic, rest string, done bool, seek int, visit func(*retainedNode)) {
	for !done {
		level, tail, more := strings.Cut(rest, "/")
		switch level {
		case "#":
			if seek < 0 {
				visit(n) // this level too: "a/#" matches "a" (4.7.1.2)
			}
			w.push(n, topic, "#", false, seek)
			return
		case "+":
			w.push(n, topic, tail, !more, seek)
			return
		}
		if 0 <= seek && seek < len(w.seek) {
			switch strings.Compare(level, w.seek[seek]) {
			case -1:
				return // all of it lies before
			case 0:
				seek++
			default:
				seek = -1
			}
		} else {
			seek = -1
		}
		topic = w.below(n, topic, level)
		w.looked(topic, seek)
		if n = n.children.Child(level); n == nil {
			return
		}
		rest, done = tail, !more
	}
	w.looked(topic, seek)
	if seek < 0 {
		visit(n)
	}
}

// looked notes how far the walk is, once it is behind where it had to begin.
func (w *retainedWalk) looked(topic string, seek int) {
	if seek < 0 {
		w.upTo = topic
	}
}

// push notes which children of a node are to be visited: of the root, on behalf of a wildcard, not those that begin with
// "$". [MQTT-4.7.2-1]
func (w *retainedWalk) push(n *retainedNode, topic, rest string, last bool, seek int) {
	w.looked(topic, seek)
	if seek >= len(w.seek) {
		seek = -1
	}
	if n.children.Len() == 0 {
		return
	}
	step := walkStep{node: n, topic: topic, rest: rest, last: last, seek: seek, names: make([]string, 0, n.children.Len())}
	for name := range n.children.All() {
		if n == &w.index.root && strings.HasPrefix(name, "$") || seek >= 0 && name < w.seek[seek] {
			continue
		}
		step.names = append(step.names, name)
	}
	w.stack = append(w.stack, step)
}
