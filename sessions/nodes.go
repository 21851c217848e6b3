package sessions

import (
	"cmp"
	"context"
	"time"
)

// Claim says that the client of a node has connected: from then on the client identifier is that node's. (3.1.4)
type Claim struct {
	ClientID string `json:"client_id"`
	// Boot is the start of a node that claims.
	Boot string `json:"boot"`
	// Stamp orders the claims of all nodes: the later, the higher.
	Stamp int64 `json:"stamp"`
	// Principal is who the client is, empty for an anonymous one.
	Principal string `json:"principal,omitempty"`
}

// After reports whether c is the later claim of the two.
func (c Claim) After(other Claim) bool {
	return cmp.Or(cmp.Compare(c.Stamp, other.Stamp), cmp.Compare(c.Boot, other.Boot)) > 0
}

// Release is what a node says that was asked to let go of a session.
type Release struct {
	// Later: a client has connected there later than the one for which is asked. The node keeps the session.
	Later bool `json:"later,omitempty"`
	// Denied: the session belongs to another principal. The node keeps it.
	Denied bool `json:"denied,omitempty"`
	// ScanFrom, if not 0, is one more than the sequence above which the log may hold messages of the session that its
	// documents do not know.
	ScanFrom uint64 `json:"scan_from,omitempty"`
}

// Hello is what nodes tell each other of themselves.
type Hello struct {
	Boot string `json:"boot"`
	Node string `json:"node"`
	// Since is when the boot began, by its own clock.
	Since time.Time `json:"since"`
	// Stamp is the highest that the node has seen.
	Stamp int64 `json:"stamp"`
}

// SharePlace is what a shared subscription is at a node.
type SharePlace uint8

// The places that a shared subscription may have at a node.
const (
	// ShareAbsent: it has no subscriber there.
	ShareAbsent SharePlace = iota
	// ShareOpening: it has, and nothing was taken for them yet.
	ShareOpening
	// ShareReclaiming: the node is about to have come again what died with those that held it, before anything is taken.
	ShareReclaiming
	// ShareServed: messages may have been taken for them.
	ShareServed
)

// Nodes is how the nodes on the same storage reach each other. Nothing of it is stored, and anything may be lost: who owns a
// session is decided by what is in its documents. All methods are safe for concurrent use.
type Nodes interface {
	// Announce tells all other nodes of a claim. It waits for nothing.
	Announce(c Claim)
	// Ask has a boot let go of a session, and returns when it has: all that it knew of the session is in the documents.
	// ErrNotFound: there is no such boot, as far as that can be told; ErrUnavailable: there is no answer.
	Ask(ctx context.Context, boot string, c Claim) (Release, error)
	// Greet makes a boot know this one, and returns what it says of itself; errors are those of Ask.
	Greet(ctx context.Context, boot string, h Hello) (Hello, error)
	// PlaceOfShare asks a boot what a shared subscription is there. With removing its queue may be removed if it is nothing. Errors are
	// those of Ask.
	PlaceOfShare(ctx context.Context, boot, share string, removing bool) (SharePlace, error)
	// Drain asks a boot to send its clients to others, and to end. Errors are those of Ask.
	Drain(ctx context.Context, boot string) error
	// Run takes what other nodes say until ctx ends; then it returns nil. ready is called, once, when others reach this node.
	Run(ctx context.Context, boot string, to Neighbour, ready func()) error
}

// Neighbour is a node as others see it. Its methods must not block.
type Neighbour interface {
	// Claimed: another node has announced a claim.
	Claimed(c Claim)
	// Asked: another node wants a session. answer is called once, from any goroutine.
	Asked(c Claim, answer func(Release))
	// Greeted: another node is there.
	Greeted(h Hello) Hello
	// PlaceOfShare tells what a shared subscription, by its filter as subscribed, is at the node. If it is nothing, and with removing,
	// the one that asks may remove its queue.
	PlaceOfShare(share string, removing bool) SharePlace
	// DrainAsked: an operator wants the clients of the node to go to others, and the node to end.
	DrainAsked()
	// Rejoined: others may have said something that was not heard.
	Rejoined()
}
