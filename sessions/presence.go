package sessions

import (
	"context"
	"time"
)

// PresenceVersion is the version of what Presence is as JSON, see EventVersion.
const PresenceVersion = 1

// PresenceState says whether a client is there.
type PresenceState string

// A client is there from CONNACK until its connection has ended and no other has taken its place.
const (
	Online  PresenceState = "online"
	Offline PresenceState = "offline"
)

// Presence is what is known of a client's being there. Its JSON is documented in docs/EVENTS.md.
type Presence struct {
	Version  int           `json:"version"`
	State    PresenceState `json:"state"`
	ClientID string        `json:"client_id"`
	// Since is when it came to this state.
	Since time.Time `json:"since"`
	// Node is the node that the client is or was connected to, Boot the start of that node.
	Node string `json:"node"`
	Boot string `json:"boot"`
	// Principal is who the client has proved to be, empty for an anonymous client.
	Principal string `json:"principal,omitempty"`
	Protocol  string `json:"protocol"`
	Remote    string `json:"remote"`
	// Reason is why the client is offline.
	Reason string `json:"reason,omitempty"`
	// AssignedID: the client identifier was made up by the server, so that its client hardly comes back.
	AssignedID bool `json:"assigned_id,omitempty"`
}

// PresenceStore keeps the presence of each client. All methods are safe for concurrent use.
type PresenceStore interface {
	// Put stores the presence of a client in place of what has the revision expect, or of whatever there is if that is 0. Writes
	// for one client must not overlap.
	Put(p Presence, expect uint64, to Sink, token uint64)
	// Each visits what is stored, with its revision, in no order, and reads on when visit returns. What is not ours is passed over.
	Each(ctx context.Context, visit func(p Presence, revision uint64)) error
}
