package actors

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// retainedSweepInterval is how often, at most, a full index is searched for expired messages.
const retainedSweepInterval = 10 * time.Second

// retainedIndex is the node's copy of the retained messages, by topic. It is fed with the log in its order, and with what
// others write to the bucket, and answers which of them a new subscription gets. It holds copies of its own, so that a small
// message does not keep the network buffer alive that it came in.
//
// A removed message leaves no trace. So an older one that comes late would be taken for new: whoever feeds the index
// hands it every entry once, in log order, after those of the bucket.
//
// Not safe for concurrent use. Owner: the router, under its lock.
type retainedIndex struct {
	root retainedNode
	// maxMessages is how many messages it may hold; 0 means any number.
	maxMessages int
	// messages and bytes are what it holds: topics, payloads and properties, without our own overhead.
	messages int
	bytes    int64
	// nextSweep is the earliest time at which a full index is searched for expired messages again.
	nextSweep time.Time
}

// retainedNode stands for the topic levels from the root to itself.
// Invariant: every node but the root has an entry or a child.
type retainedNode struct {
	children sessions.LevelMap[retainedNode]
	entry    *retainedMessage // of this topic, nil without
}

// retainedMessage is the retained message of a topic. Its Sequence is 0 when it did not come through the log.
type retainedMessage struct {
	sessions.Entry
	// revision is that of the bucket which holds it, 0 as long as it is not written. The retainer sets it.
	revision atomic.Uint64
}

func newRetainedIndex(maxMessages int) *retainedIndex {
	return &retainedIndex{maxMessages: maxMessages}
}

// applied is what became of a retained message.
type applied struct {
	// taken: it is newer than what was there. full: it would have been taken, had there been room.
	taken, full bool
	// now is what is there instead, nil when that is nothing; before is what was there.
	now, before *retainedMessage
}

// apply takes a retained message of the log in the place of an older one of its topic; an empty payload removes that.
// [MQTT-3.3.1-5] [MQTT-3.3.1-6] Other entries change nothing [MQTT-3.3.1-8], nor do those no newer than what is there.
func (x *retainedIndex) apply(e sessions.Entry) applied {
	if e.Message == nil || !e.Message.Retain {
		return applied{}
	}
	node := x.find(e.Message.Topic)
	if node != nil && node.entry != nil && node.entry.Sequence >= e.Sequence {
		return applied{}
	}
	return x.set(node, e)
}

// applyWrite takes what the bucket holds, if it was written after what is there.
func (x *retainedIndex) applyWrite(w sessions.Retained) applied {
	node := x.find(w.Message.Topic)
	if node != nil && node.entry != nil && node.entry.revision.Load() >= w.Revision {
		return applied{}
	}
	a := x.set(node, w.Entry)
	if a.now != nil {
		a.now.revision.Store(w.Revision)
	}
	return a
}

// set puts a message in the place of what the node of its topic holds, nil for no node yet.
func (x *retainedIndex) set(node *retainedNode, e sessions.Entry) (a applied) {
	m := e.Message
	if node != nil {
		a.before = node.entry
	}
	switch {
	case len(m.Payload) == 0:
		if a.before != nil {
			x.remove(m.Topic)
		}
		a.taken = true
		return a
	case a.before == nil && !x.makeRoom(m.PublishedAt):
		a.full = true
		return a
	case a.before != nil:
		x.uncount(a.before)
	default:
		node = x.findOrMake(m.Topic)
	}
	a.taken, a.now = true, &retainedMessage{Entry: sessions.Entry{Position: e.Position, Message: cloneMessage(m)}}
	node.entry = a.now
	x.messages++
	x.bytes += int64(m.Memory())
	return a
}

// makeRoom makes sure that one more message may be held, if need be by the removal of expired ones.
func (x *retainedIndex) makeRoom(now time.Time) bool {
	if x.maxMessages == 0 || x.messages < x.maxMessages {
		return true
	}
	if now.Before(x.nextSweep) {
		return false
	}
	x.nextSweep = now.Add(retainedSweepInterval)
	x.removeExpired(now)
	return x.messages < x.maxMessages
}

func (x *retainedIndex) removeExpired(now time.Time) {
	var expired []string
	x.root.visitAll(func(n *retainedNode) {
		if n.entry.Message.Expired(now) {
			expired = append(expired, n.entry.Message.Topic)
		}
	})
	for _, topic := range expired {
		x.remove(topic)
	}
}

// find is the node of a topic, nil without.
func (x *retainedIndex) find(topic string) *retainedNode {
	node := &x.root
	for rest, more := topic, true; more && node != nil; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		node = node.children.Child(level)
	}
	return node
}

// findOrMake is the node of a topic, made if there was none. The caller gives it an entry.
func (x *retainedIndex) findOrMake(topic string) *retainedNode {
	node := &x.root
	for rest, more := topic, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		node = node.children.ChildOrNew(level)
	}
	return node
}

// remove removes the message of a topic, which must have one, and the nodes that are of no use without it.
func (x *retainedIndex) remove(topic string) {
	x.uncount(x.root.remove(topic))
}

func (x *retainedIndex) uncount(e *retainedMessage) {
	x.messages--
	x.bytes -= int64(e.Message.Memory())
}

// remove takes away the entry of the topic that is rest, seen from this node, and returns it.
func (n *retainedNode) remove(rest string) (removed *retainedMessage) {
	level, rest, more := strings.Cut(rest, "/")
	child := n.children.Child(level)
	if more {
		removed = child.remove(rest)
	} else {
		removed, child.entry = child.entry, nil
	}
	if child.entry == nil && child.children.Len() == 0 {
		n.children.Delete(level)
	}
	return removed
}

// visitAll visits the nodes with an entry from this one on downwards.
func (n *retainedNode) visitAll(visit func(*retainedNode)) {
	if n.entry != nil {
		visit(n)
	}
	for _, child := range n.children.All() {
		child.visitAll(visit)
	}
}

// cloneMessage copies a message and all the memory it refers to.
func cloneMessage(m *sessions.Message) *sessions.Message {
	c := *m
	c.Topic = strings.Clone(m.Topic)
	c.Payload = bytes.Clone(m.Payload)
	c.Publisher = strings.Clone(m.Publisher)
	p := &c.Properties
	p.ContentType.Value = strings.Clone(p.ContentType.Value)
	p.ResponseTopic = strings.Clone(p.ResponseTopic)
	p.CorrelationData = bytes.Clone(p.CorrelationData)
	p.UserProperties = slices.Clone(p.UserProperties)
	for i, u := range p.UserProperties {
		p.UserProperties[i] = mqttcodec.UserProperty{Key: strings.Clone(u.Key), Value: strings.Clone(u.Value)}
	}
	return &c
}
