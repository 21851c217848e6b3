package actors

import (
	"maps"
	"sync"
	"sync/atomic"

	"dunlin/sessions"
)

// Reasons for which the broker, rather than a session, drops messages.
const (
	dropRetainedFull    sessions.DropReason = "retained_full"    // limits.max_retained
	dropRetainedRefused sessions.DropReason = "retained_refused" // by the bucket
	dropRetainedForeign sessions.DropReason = "retained_foreign" // written to the bucket by others: limits.max_packet, topics, levels
	dropNoResponders    sessions.DropReason = "no_responders"    // a request that nobody is there to answer
)

// Stats counts what a node does. Safe for concurrent use.
type Stats struct {
	connections     atomic.Int64
	connectTimeouts atomic.Uint64
	writeTimeouts   atomic.Uint64
	refused         atomic.Uint64
	unauthenticated atomic.Uint64
	throttled       atomic.Uint64
	overflowed      atomic.Uint64
	packetsReceived atomic.Uint64
	packetsSent     atomic.Uint64
	bytesReceived   atomic.Uint64
	bytesSent       atomic.Uint64
	actorFailures   atomic.Uint64
	undecodable     atomic.Uint64
	parkedQueues    atomic.Int64
	logLag          atomic.Int64
	brokenRecords   atomic.Uint64
	unreadSessions  atomic.Uint64
	positionsMoved  atomic.Uint64
	eventsLost      atomic.Uint64
	presenceLeftOut atomic.Uint64

	// events tells of drops, nil in tests of parts. Immutable after start.
	events *events

	// mu guards dropped.
	mu      sync.Mutex
	dropped map[sessions.DropReason]uint64
}

// Dropped counts messages that will not be delivered, to or of one client if there is one that it concerns.
func (s *Stats) Dropped(clientID string, reason sessions.DropReason, n uint64) {
	if s.events != nil {
		s.events.drop(clientID, reason, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped == nil {
		s.dropped = map[sessions.DropReason]uint64{}
	}
	s.dropped[reason] += n
}

// Drops are the counts of dropped messages by reason.
func (s *Stats) Drops() map[sessions.DropReason]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.dropped)
}

// Connections is how many network connections are open.
func (s *Stats) Connections() int64 { return s.connections.Load() }

// EventsLost is how many events were not published, since too many waited or the connection was away.
func (s *Stats) EventsLost() uint64 { return s.eventsLost.Load() }

// ActorFailures is how many actors were stopped by a panic.
func (s *Stats) ActorFailures() uint64 { return s.actorFailures.Load() }
