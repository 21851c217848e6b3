package sessions

import (
	"time"

	"dunlin/mqttcodec"
)

// Input is something that happened to a session.
//
//sumtype:decl
type Input interface{ input() }

// ConnectionID tells the connections of a node apart; 0 is none.
type ConnectionID uint64

// Connect: a client asks for this session. Its CONNECT is well formed, and the client is who it says.
type Connect struct {
	Connection ConnectionID
	Packet     *mqttcodec.Connect
	Identity   Identity
	// AuthenticationData goes with CONNACK to a client with an authentication method, nil for none.
	AuthenticationData []byte
	// Assigned: the client identifier was made by us. [MQTT-3.1.3-6]
	Assigned bool
	// Nonce is unique to this CONNECT. It becomes the incarnation of the session if the CONNECT makes a new one.
	Nonce string
	// Head is the sequence of the last message handed out on this node: anything older was sent while the client was away.
	Head uint64
}

// PacketReceived: the client sent a packet, other than CONNECT.
type PacketReceived struct {
	Connection ConnectionID
	Packet     mqttcodec.Packet
	// Handed is the sequence up to which the log was handed out on this node.
	Handed uint64
}

// ConnectionLost: the network connection ended, or has to: Err, if it is a *mqttcodec.ProtocolError, is then told to the client.
type ConnectionLost struct {
	Connection ConnectionID
	Err        error
}

// Authenticated answers Authenticate: how far the exchange has come, or why the client has to go.
type Authenticated struct {
	Connection ConnectionID
	Progress   Progress
	Err        error
}

// Persisted answers Persist effects, one or more. Results is valid during the Step.
type Persisted struct{ Results []Result }

// RecordSaved answers SaveRecord.
type RecordSaved struct{ Result Result }

// JournalSaved answers SaveJournal.
type JournalSaved struct{ Result Result }

// Discarded answers Discard.
type Discarded struct{ Result Result }

// Subscribed answers Subscribe: the filters are effective for everything after Position.
type Subscribed struct {
	Token    uint64
	Position Position
	// Retained holds, for each filter of Subscribe that wants them, the first retained messages at Position.
	Retained []RetainedPart
	// ShareErrs says for each of Shares why it could not be joined, nil if it was.
	ShareErrs []error
	// Err: the subscription could not be made.
	Err error
}

// RetainedPart is a part of the retained messages of a filter, in the order of their topics.
type RetainedPart struct {
	Entries []Entry
	// UpTo is the topic up to which there are no others; More: behind it there may be.
	UpTo string
	More bool
}

// RetainedRead answers ReadRetained.
type RetainedRead struct {
	Token  uint64
	Filter string
	RetainedPart
}

// Delivered: entries of the log that match, live, in order. The slice is valid during Step.
type Delivered struct {
	Entries []Entry
	// Shared holds for each of Entries what its receivers have in common, nil when they are few.
	Shared []mqttcodec.Shared
}

// Routed: QoS 0 messages that match.
type Routed struct {
	Messages []*Message
	// Shared holds for each of Messages what its receivers have in common, nil when they are few.
	Shared []mqttcodec.Shared
}

// Answered: the answer to a request of this session; its topic is ReplyTopic of the request's identifier.
type Answered struct{ Message *Message }

// sharedAt is the i-th of what receivers have in common, nil when they are few.
func sharedAt(shared []mqttcodec.Shared, i int) *mqttcodec.Shared {
	if shared == nil {
		return nil
	}
	return &shared[i]
}

// SharedDelivered: messages of a shared subscription that are for this member, in order. They are its own until it says
// Settle or GiveBack. The slice is valid during Step, the entries for good.
type SharedDelivered struct {
	// Share is the filter as subscribed.
	Share   string
	Entries []Entry
}

// SharedRouted: QoS 0 messages of a shared subscription that are for this member.
type SharedRouted struct {
	Share    string
	Messages []*Message
}

// Fetched answers Fetch and Join.
type Fetched struct {
	// Token is that of the Fetch or Join.
	Token uint64
	// Entries come in order and may hold some that do not match.
	Entries []Entry
	// UpTo: nothing else up to there matches.
	UpTo Position
	// Live: the session is being handed everything after UpTo.
	Live bool
	// Queued is how many matching messages waited after Fetch.After when it was asked, up to Head; 0 when that is
	// surely within bounds.
	Queued uint64
	Head   Position
	// Lost is how many messages (at most) were passed over because no source holds them any more for this session.
	Lost uint64
	Err  error
}

// ReplaysFound answers FindReplays: one for each of Starts.
type ReplaysFound struct {
	Token uint64
	Found []ReplayFound
}

// ReplayRead answers ReadReplay.
type ReplayRead struct {
	Token   uint64
	Filter  string
	Entries []Entry
	// UpTo: nothing else up to there is for the replay.
	UpTo Position
}

// Overrun: the session was handed more than it took, so the live feed has stopped after what was handed over.
type Overrun struct{}

// Left answers Leave: everything that matches up to Position was handed over before. It is the zero Position when the
// feed had stopped earlier.
type Left struct{ Position Position }

// Loaded answers Load. Messages that are gone are missing.
type Loaded struct {
	// Token is that of the Load.
	Token   uint64
	Entries []Entry
	Err     error
}

// JournalTurn answers RequestJournalTurn.
type JournalTurn struct{}

// TimerFired: the time of a timer has come.
type TimerFired struct {
	Timer Timer
	// Withheld: the broker is not reading from the client at the moment, so that its silence means nothing.
	Withheld bool
}

// Congestion: the client's connection has more unsent bytes than it should, or no longer so.
type Congestion struct{ Congested bool }

// Awake: the session was taken from storage without a client asking for it, because it has something to do: a deadline
// has come, or its last owner died.
type Awake struct{}

// Shutdown: the node is going down, or cannot keep its promises any more. The client may come back to another, or later.
type Shutdown struct {
	// Another: to another, at ServerReference if that is not empty.
	Another         bool
	ServerReference string
}

// Relinquish: the client has connected to another node, which takes the session over.
type Relinquish struct{}

// Timer names the timers of a session; there is one of each.
type Timer uint8

// The timers.
const (
	TimerKeepAlive Timer = iota
	TimerWill
	TimerExpiry
	TimerRecord
	TimerPersistRetry
	TimerFetchRetry
	TimerReplay
	timers
)

func (Connect) input()         {}
func (PacketReceived) input()  {}
func (ConnectionLost) input()  {}
func (Authenticated) input()   {}
func (Persisted) input()       {}
func (RecordSaved) input()     {}
func (JournalSaved) input()    {}
func (Discarded) input()       {}
func (Subscribed) input()      {}
func (RetainedRead) input()    {}
func (Delivered) input()       {}
func (Routed) input()          {}
func (Answered) input()        {}
func (SharedDelivered) input() {}
func (SharedRouted) input()    {}
func (Fetched) input()         {}
func (ReplaysFound) input()    {}
func (ReplayRead) input()      {}
func (Left) input()            {}
func (Overrun) input()         {}
func (Awake) input()           {}
func (Loaded) input()          {}
func (JournalTurn) input()     {}
func (TimerFired) input()      {}
func (Congestion) input()      {}
func (Shutdown) input()        {}
func (Relinquish) input()      {}

// retryAfter is how long an operation that storage did not answer waits before it is tried again.
const retryAfter = 500 * time.Millisecond
