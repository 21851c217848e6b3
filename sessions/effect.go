package sessions

import (
	"time"

	"dunlin/mqttcodec"
)

// Effect is something that the driver of a session must do, in order.
//
//sumtype:decl
type Effect interface{ effect() }

// Send writes a packet to the client.
type Send struct {
	Connection ConnectionID
	Packet     mqttcodec.Packet
}

// Refuse answers a CONNECT that is not taken with CONNACK, and closes its network connection. The session, and the
// connection that it may have, are not concerned.
type Refuse struct {
	Connection ConnectionID
	Reason     mqttcodec.ReasonCode
	Err        error
}

// ConnectAgain: another node has written the session's documents since they were read, so the CONNECT of a connection is to be
// taken again, by a session that is read anew. Held are the packets that came behind CONNECT, Lost is the end of the connection
// if it came behind them.
type ConnectAgain struct {
	Connection ConnectionID
	Held       []mqttcodec.Packet
	Lost       *ConnectionLost
	Err        error
}

// Close ends the network connection, after what was sent before.
type Close struct {
	Connection ConnectionID
	// Reason is for the log and the counters; it is on the wire already, if it may be.
	Reason mqttcodec.ReasonCode
	Err    error
	// ByClient: the client wants it, and Reason is what it says.
	ByClient bool
}

// Authenticate hands what a client sent in AUTH to its authentication method. Answer: Authenticated.
type Authenticate struct {
	Connection ConnectionID
	// Begin: a new exchange begins.
	Begin bool
	Data  []byte
}

// Persist appends a message to the log. Answer: Persisted.
type Persist struct {
	Message *Message
	// Delay, if not 0, is how long it is to be kept first; the answer says that it is.
	Delay time.Duration
	// ID is the identity under which the log takes the message once; empty for QoS 0 and 1.
	ID    string
	Token uint64
}

// Route hands a QoS 0 message to whoever is subscribed now.
type Route struct{ Message *Message }

// Answer hands the answer to a request to who has asked.
type Answer struct {
	Token   string
	Message *Message
}

// Ask hands a request to whoever is subscribed to its topic now, or listens to it. Answer, if there is one: Answered.
type Ask struct {
	// ID is what the client calls it: the answer's topic is ReplyTopic(ID).
	ID      string
	Message *Message
}

// SaveRecord replaces the session's record. Answer: RecordSaved.
type SaveRecord struct {
	Token uint64
	// Expect is the revision that it replaces.
	Expect  uint64
	Data    []byte
	Urgency Urgency
}

// SaveJournal replaces the session's journal. Answer: JournalSaved.
type SaveJournal struct {
	Token uint64
	// Expect is the revision that it replaces.
	Expect  uint64
	Data    []byte
	Urgency Urgency
	// Position and Live are what the journal says, for the node's checkpoint.
	Position Position
	Live     bool
}

// RequestJournalTurn asks for a JournalTurn soon: there is something to journal that nothing waits for.
type RequestJournalTurn struct{}

// Discard deletes the session's record, journal and queue. Answer: Discarded.
type Discard struct{ Token, Expect uint64 }

// Subscribe makes filters effective, and makes the session one of the subscribers of shared ones. Answer: Subscribed.
type Subscribe struct {
	Token   uint64
	Filters []string
	// WantRetained says for each filter whether its retained messages are wanted.
	WantRetained []bool
	Shares       []string
}

// Attach makes the filters of a session that is resumed effective again, for QoS 0 at once, for the log with Join or Fetch;
// and of shared ones it may be handed messages from now on, as ShareRoom says.
type Attach struct{ Filters, Shares []string }

// ReadRetained asks for retained messages of a filter, in the order of their topics, those behind a topic. Answer:
// RetainedRead, in its place among what is handed over live.
type ReadRetained struct {
	Token  uint64
	Filter string
	// After is empty for the first ones.
	After string
	Max   int
}

// Unsubscribe ends filters. Of shared ones it ends the handing of messages; the session is one of the subscribers until
// LeaveShares.
type Unsubscribe struct{ Filters, Shares []string }

// LeaveShares: the session is not one of the subscribers any more, and its documents say so.
type LeaveShares struct{ Shares []string }

// ShareRoom says how many messages of shared subscriptions the client could be sent now. Without room it still takes QoS 0;
// with less than none it takes nothing.
type ShareRoom struct{ Room int }

// Settle ends a message of a shared subscription: nobody else gets it.
type Settle struct {
	Share    string
	Sequence uint64
}

// GiveBack hands messages of a shared subscription back, for another member or for later. Entries without Message come out
// of a journal.
type GiveBack struct {
	Share   string
	Entries []Entry
	// Why, if not empty, is why they cannot go to this member: they are for others, or dropped for this reason.
	Why DropReason
}

// FindReplays asks where replays begin in the log, and for leave to have them. Answer: ReplaysFound.
type FindReplays struct {
	Token  uint64
	Starts []ReplayStart
}

// ReadReplay asks for what of the log a replay brings next, at most Max messages, or for the first that comes. Answer:
// ReplayRead.
type ReadReplay struct {
	Token  uint64
	Filter string
	After  Position
	Max    int
}

// EndReplay ends a replay that was found.
type EndReplay struct{ Filter string }

// Join asks to be handed everything that matches from now on. Answer: Fetched, live.
type Join struct {
	Token uint64
	// Durable: the session outlives its connection, so its journal follows what it is handed.
	Durable bool
}

// Fetch asks for entries after a position, enough for about Max matching ones. Answer: Fetched.
type Fetch struct {
	Token uint64
	After Position
	Max   int
	// Durable: the session outlives its connection, so its messages may be fetched from its durable queue.
	Durable bool
}

// Leave stops the live feed. Answer: Left.
type Leave struct{}

// Load asks for single messages of the log. Answer: Loaded.
type Load struct {
	Token     uint64
	Sequences []uint64
	// Retained are the topics of those that are retained messages: there they may be when they are gone from the log.
	Retained map[uint64]string
	// Foreign are the topics of retained messages that did not come through the log.
	Foreign []string
}

// SetTimer arms a timer, or disarms it when At is zero. Answer, when it comes: TimerFired.
type SetTimer struct {
	Timer Timer
	At    time.Time
}

// Drop counts messages that will not be delivered.
type Drop struct {
	Reason DropReason
	Count  uint64
}

// Expired tells that the session has ended because its time was over.
type Expired struct{ Principal string }

// DropReason says why a message was not delivered.
type DropReason string

// The reasons for which a session drops messages.
const (
	DropQueueFull    DropReason = "queue_full"       // sessions.max_queued_messages
	DropExpired      DropReason = "expired"          // message expiry interval
	DropTooLarge     DropReason = "packet_too_large" // the client's Maximum Packet Size
	DropSlowConsumer DropReason = "slow_consumer"    // QoS 0, to a client that does not read
	DropTrimmed      DropReason = "trimmed"          // gone from the log before it was delivered
	DropNotStored    DropReason = "not_stored"       // QoS 0 (retained, or queued) that storage refused
	DropRefused      DropReason = "refused"          // a topic that nobody may publish to
	DropMayNotSend   DropReason = "publish_denied"   // the client may not publish it
	DropMayNotRead   DropReason = "receive_denied"   // the client may not be sent it, though it is subscribed
	DropReplaced     DropReason = "log_replaced"     // in flight from a log that was cut or made anew

	DropNoRequest      DropReason = "no_request"      // an answer to what the client was not asked, has answered, or was asked too long ago
	DropRequestsFull   DropReason = "requests_full"   // the oldest of too many requests that wait for an answer
	DropNoSubscription DropReason = "no_subscription" // an answer to a session that is not subscribed to it
)

func (Send) effect()               {}
func (Refuse) effect()             {}
func (ConnectAgain) effect()       {}
func (Close) effect()              {}
func (Authenticate) effect()       {}
func (Persist) effect()            {}
func (Route) effect()              {}
func (Answer) effect()             {}
func (Ask) effect()                {}
func (SaveRecord) effect()         {}
func (SaveJournal) effect()        {}
func (RequestJournalTurn) effect() {}
func (Discard) effect()            {}
func (Subscribe) effect()          {}
func (Attach) effect()             {}
func (ReadRetained) effect()       {}
func (Unsubscribe) effect()        {}
func (LeaveShares) effect()        {}
func (ShareRoom) effect()          {}
func (Settle) effect()             {}
func (GiveBack) effect()           {}
func (FindReplays) effect()        {}
func (ReadReplay) effect()         {}
func (EndReplay) effect()          {}
func (Join) effect()               {}
func (Fetch) effect()              {}
func (Leave) effect()              {}
func (Load) effect()               {}
func (SetTimer) effect()           {}
func (Drop) effect()               {}
func (Expired) effect()            {}
