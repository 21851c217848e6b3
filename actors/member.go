package actors

import (
	"math"
	"sync/atomic"

	"dunlin/sessions"
)

const (
	// maxUntaken and maxUntakenBytes bound what was handed to a session and not taken by it yet. Past them its live feed
	// stops, and QoS 0 is dropped.
	maxUntaken      = 4096
	maxUntakenBytes = 8 << 20
)

// member is one session as the router sees it: where its messages go. Made by the session actor.
type member struct {
	clientID string
	post     func(message any)
	// untaken and untakenBytes are what was handed over and not taken yet: the router adds, the session actor subtracts.
	untaken, untakenBytes atomic.Int64

	// The following are owned by the router, under its lock.
	live    bool
	filters []string // those in the tree
	batch   []sessions.Entry
	stamped uint64 // the last sequence put into the batch

	// shares are the shares that may hand messages to it. Owned by the session actor.
	shares []*share
	// room is how many messages of shares the session has said that it can take, sharedHanded how many were handed over
	// since: shares add, the session actor subtracts when it has said so anew.
	room, sharedHanded atomic.Int64

	cursor
}

// sharedRoom is how many more messages of shares the session can take.
func (m *member) sharedRoom() int { return int(max(0, m.room.Load()-m.sharedHanded.Load())) }

// takesShared reports whether the session can take QoS 0 messages of shares.
func (m *member) takesShared() bool { return m.room.Load() >= 0 }

// reserve takes what is to be handed over into account, or reports that the session is too far behind.
func (m *member) reserve(messages, bytes int) bool {
	if m.untaken.Load() >= maxUntaken || m.untakenBytes.Load() >= maxUntakenBytes {
		return false
	}
	m.untaken.Add(int64(messages))
	m.untakenBytes.Add(int64(bytes))
	return true
}

// release gives back what the session has taken.
func (m *member) release(messages, bytes int) {
	m.untaken.Add(int64(-messages))
	m.untakenBytes.Add(int64(-bytes))
}

// entryBytes is what entries that decode take in memory.
func entryBytes(entries []sessions.Entry) (bytes int) {
	for i := range entries {
		bytes += entries[i].Message.Memory()
	}
	return bytes
}

// messageListBytes is what messages take in memory.
func messageListBytes(messages []*sessions.Message) (bytes int) {
	for _, m := range messages {
		bytes += m.Memory()
	}
	return bytes
}

// cursor tells the checkpoint how far a session's journal is. Written by the router and the session actor, read by the
// checkpoint; all atomic.
type cursor struct {
	// active: the durable journal says that the checkpoint stands for the session's position, so the checkpoint must
	// not pass what is handed over and not journaled.
	active atomic.Bool
	// handed is the last sequence handed over, unfed when the live feed has stopped.
	handed atomic.Uint64
	// journaled is the position in the durable journal.
	journaled atomic.Uint64
	// hold is one more than the sequence above which lie messages, stored for the session under an ID, that its
	// documents do not know yet; 0 when there are none.
	hold atomic.Uint64
}

const unfed = math.MaxUint64

// complete is the sequence up to which nothing of this session depends on memory alone.
func (c *cursor) complete(upTo uint64) uint64 {
	if hold := c.hold.Load(); hold > 0 {
		upTo = min(upTo, hold-1)
	}
	if c.active.Load() {
		if journaled := c.journaled.Load(); journaled < c.handed.Load() {
			upTo = min(upTo, journaled)
		}
	}
	return upTo
}
