package sessions

import "time"

// EventKind says what has happened.
type EventKind string

// The kinds of events.
const (
	EventConnected    EventKind = "client.connected"    // CONNACK was sent
	EventDisconnected EventKind = "client.disconnected" // a connection that was told of has ended
	EventCreated      EventKind = "session.created"     // a client was let in without session present
	EventResumed      EventKind = "session.resumed"     // a client was let in with session present
	EventExpired      EventKind = "session.expired"     // the session's time was over before its client came back
	EventTakenOver    EventKind = "session.taken_over"  // another connection has taken the client identifier
	EventDropped      EventKind = "message.dropped"     // messages for, or of, a client will not be delivered
)

// EventKinds are all kinds of events.
var EventKinds = []EventKind{
	EventConnected, EventDisconnected, EventCreated, EventResumed, EventExpired, EventTakenOver, EventDropped,
}

// EventVersion is the version of what Event is as JSON. Fields may be added to it; a field that goes, or means something else,
// makes another version.
const EventVersion = 1

// Event is something that has happened to a client, as it is told to programs outside. Its JSON is documented in
// docs/EVENTS.md.
type Event struct {
	Version int       `json:"version"`
	Kind    EventKind `json:"type"`
	Time    time.Time `json:"time"`
	// Node is the node on which it has happened, Boot the start of that node.
	Node string `json:"node"`
	Boot string `json:"boot"`
	// ClientID is empty when messages of several clients, or of none, were dropped.
	ClientID string `json:"client_id,omitempty"`
	// Principal is who the client has proved to be, empty for an anonymous client.
	Principal string `json:"principal,omitempty"`
	// Reason is why a connection has ended, or messages were dropped.
	Reason string `json:"reason,omitempty"`

	*EventConnection
	*EventTerms
	*EventEnd
	*EventDrops
}

// EventConnection is the connection that an event is about.
type EventConnection struct {
	// Protocol is the version of MQTT: 3.1, 3.1.1 or 5.0.
	Protocol string `json:"protocol"`
	// Listener is the name of the listener that the client came in by, Remote its address there.
	Listener string `json:"listener"`
	Remote   string `json:"remote"`
}

// EventTerms are the terms on which a client was let in.
type EventTerms struct {
	CleanStart     bool `json:"clean_start"`
	SessionPresent bool `json:"session_present"`
	// KeepAliveSeconds and ExpirySeconds are what was granted; an expiry of 4294967295 never passes.
	KeepAliveSeconds uint16 `json:"keep_alive_seconds"`
	ExpirySeconds    uint32 `json:"session_expiry_seconds"`
	Will             bool   `json:"will"`
}

// EventEnd is how a connection has ended.
type EventEnd struct {
	// By is who has ended it.
	By EventEnder `json:"by"`
	// ReasonCode is the reason code that the client has sent, or was or would have been sent, nil without any.
	ReasonCode *uint8 `json:"reason_code,omitempty"`
	// WillDue: the client had a will and has not withdrawn it, so that it is published, now or after its delay.
	WillDue bool `json:"will_due"`
	// NewRemote is the address of the connection that takes the client identifier over.
	NewRemote string `json:"new_remote,omitempty"`
}

// EventEnder is who has ended a connection.
type EventEnder string

// Who ends connections.
const (
	EndedByClient  EventEnder = "client"  // with DISCONNECT
	EndedByServer  EventEnder = "server"  // for a reason that it tells the client, if the client is there and its protocol can
	EndedByNetwork EventEnder = "network" // which means that the client has gone without a word, too
)

// EventDrops are messages that were dropped since the last event of the same client and reason.
type EventDrops struct {
	Count uint64 `json:"count"`
}

// Events carries events to whoever listens now; nothing is kept for those who do not. Safe for concurrent use.
type Events interface {
	// Wanted reports whether anybody may listen to events of a kind: what nobody listens to need not be made. It waits for nothing.
	Wanted(kind EventKind) bool
	// Publish hands an event on, behind those before it. It may wait for the connection, never for an answer; with an error the
	// event is lost.
	Publish(e *Event) error
}
