package sessions

import (
	"errors"
	"math"
	"slices"
	"time"

	"dunlin/mqttcodec"
)

// state is where a session is in its life. Only the become… methods assign it.
type state uint8

const (
	// stateAbsent: there is no session: never was, or it ended and left nothing behind.
	stateAbsent state = iota
	// stateConnecting: a CONNECT waits for its claim to be durable.
	stateConnecting
	// stateConnected: CONNACK was sent.
	stateConnected
	// stateDetached: the session outlives its connection.
	stateDetached
	// stateEnding: it is over, but its will has to be stored or its documents deleted.
	stateEnding
	// stateFenced: a durable write failed, so that what is in memory may not be what is stored. Only storage knows; this
	// value is done for.
	stateFenced
)

// mode says how messages of the log reach the session.
type mode uint8

const (
	// modeParked: not at all, there is no connection.
	modeParked mode = iota
	// modeCatchingUp: fetched after its position, as its window allows.
	modeCatchingUp
	// modeLive: handed over as they come.
	modeLive
)

// Session is the MQTT session of one client identifier. Owned by its session actor. Each client has one, so what is large and
// rare is behind a pointer.
type Session struct {
	cfg      *Config
	clientID string
	state    state
	mode     mode

	// The session proper; durable in the record.
	version     mqttcodec.Version
	incarnation string
	epoch       uint64
	nonce       string
	// identity is that of the last client; its principal owns the session.
	identity   Identity
	expiry     time.Duration
	detachedAt time.Time
	subs       subscriptions
	will       *mqttcodec.Will
	// terms are those of the last client. They are not stored.
	terms Terms
	// firing is the will that is being stored: no longer due, not yet gone from the record, which is not written meanwhile.
	firing *mqttcodec.Will

	// Where it is in the log, and what is half done; durable in the journal.
	// looked: everything up to there was assigned, put into the backlog, or does not match.
	looked Position
	// liveFrom is the sequence up to which it had caught up when it became live.
	liveFrom   uint64
	ids        packetIDs
	inflight   []outbound
	inbound    map[uint16]*inboundMessage
	generation uint64

	record, journal document
	// claim is the version of the record that makes the session ours.
	claim        uint64
	claimJournal uint64
	// foreign: the journal was written by another boot, so it has to be rewritten before CONNACK. contested: see Contest.
	foreign, contested     bool
	discardDue, discarding bool
	// journalLazy: the journal is behind, by something that nothing waits for.
	journalLazy, turnRequested bool
	unsettled                  []settling

	connectionState

	// pending are the messages handed to Persist, in order, until their results are in.
	pending []pendingPublish
	// The memory of the queues of these names, see slide.
	inflightBase []outbound
	pendingBase  []pendingPublish
	backlogBase  []delivery
	lastToken    uint64
	// trail are those at QoS 0, in order, until they are known to be handed out.
	trail []trailing

	backlog      []delivery
	backlogBytes int
	// owed are the retained messages that SUBSCRIBEs still have to bring, retained those of them that were read.
	owed     []owedRetained
	retained []delivery
	// shared are the messages of shared subscriptions that wait for room, fewer than there was when they came.
	shared []delivery
	// toldRoom is one more than the room that ShareRoom told last.
	toldRoom int
	// deferred waits for the documents.
	deferred  []deferred
	fetch     fetchState
	workToken uint64
	leaving   int32
	// stalled: the result of a Persist was a failure that may be passing. New messages wait until those before them are stored.
	stalled bool
	// missed: something at or below a coming Left was not taken.
	missed bool
	// direct: entries that come in this step go out at once, nothing waits before them.
	direct bool
}

// connectionState is what belongs to one network connection and is forgotten with it.
type connectionState struct {
	connection     ConnectionID
	connect        *Connect
	sessionPresent bool
	// unmarked: the stored record says that the client is away; see recordHolds.
	unmarked bool
	// takesAliases: the client has a Topic Alias Maximum, so that what it is sent is made for it.
	takesAliases     bool
	congested        bool
	clientMaxPacket  uint32
	receiveMaximum   int
	keepAlive        time.Duration
	lastHeard        time.Time
	reauthentication reauthentication
	// method is the authentication method of CONNECT, empty for none.
	method string
	// connectedSince is the end of the log when the client connected. onlineSince is the sequence up to which nothing is owed at
	// QoS 0: it was away, or fell behind later and was sent that as it came.
	connectedSince, onlineSince uint64
	// held are the packets that came before CONNACK was due, lost the end of the connection if it came behind them.
	held        []mqttcodec.Packet
	lost        *ConnectionLost
	quotaUsed   int
	inboundUsed int
	answers     []answer
	loading     uint64
	// readingRetained is the token of the ReadRetained that is not answered, 0 when all are.
	readingRetained uint64
	// missedRetained is up to where retained messages at QoS 0 could not be delivered live.
	missedRetained   uint64
	subscriptionWork subscriptionWork
	replays          *replays // nil before the first
	// requested are the requests that the client was sent and has not answered, the oldest first.
	requested []sentRequest
}

// answer is a packet that waits for versions of the documents to be durable.
type answer struct {
	record, journal uint64
	packetID        uint16
	packet          mqttcodec.Packet
	// again is how often more it is sent: as often as the client has sent again meanwhile what it answers.
	again uint8
}

// maxAgain bounds how many answers a client gets that repeats a packet before the first can be given.
const maxAgain = math.MaxUint8

// New is the session of a client identifier of which storage holds nothing but, perhaps, deletion markers.
func New(cfg *Config, clientID string, stored Stored) *Session {
	return &Session{
		cfg: cfg, clientID: clientID,
		record:  document{revision: stored.RecordRevision},
		journal: document{revision: stored.JournalRevision},
	}
}

// ClientID is the client identifier.
func (s *Session) ClientID() string { return s.clientID }

// Incarnation is the incarnation of the session, "" while there is none.
func (s *Session) Incarnation() string { return s.incarnation }

// Identity is that of the last client.
func (s *Session) Identity() Identity { return s.identity }

// Connection is the connection that the session has, or 0.
func (s *Session) Connection() ConnectionID { return s.connection }

// Absent reports whether there is no session, in memory or stored.
func (s *Session) Absent() bool { return s.state == stateAbsent }

// Fenced reports whether a durable write failed: the driver must drop this value and start again from storage.
func (s *Session) Fenced() bool { return s.state == stateFenced }

// Recorded reports whether storage may have a record of the session.
func (s *Session) Recorded() bool { return s.record.stored || !s.record.quiet() }

// Quiet reports whether everything is durable and nothing is awaited, so that a detached or absent session may be
// dropped from memory.
func (s *Session) Quiet() bool {
	return s.connection == 0 && s.leaving == 0 && len(s.pending)+len(s.deferred) == 0 && !s.discardDue && !s.discarding &&
		s.record.quiet() && s.journal.quiet() && !s.journalLazy && s.subscriptionWork.idle()
}

// Pending is how much of what the client sent is kept until something is durable: messages on their way into the log, and
// packets that wait for CONNACK or for a SUBACK before them.
func (s *Session) Pending() int {
	return len(s.pending) + len(s.held) + len(s.subscriptionWork.queue)
}

// Kept is how many packets of the client are kept until something is durable; all others are done with when Step returns.
func (s *Session) Kept() int { return len(s.held) + len(s.subscriptionWork.queue) }

func (s *Session) becomeAbsent() {
	s.state = stateAbsent
	s.incarnation = ""
}
func (s *Session) becomeConnecting() { s.state = stateConnecting }
func (s *Session) becomeConnected()  { s.state = stateConnected }
func (s *Session) becomeDetached()   { s.state = stateDetached }
func (s *Session) becomeEnding()     { s.state = stateEnding }

// becomeFenced gives the session up. What is not durable is for the next owner to find out.
func (s *Session) becomeFenced(reason mqttcodec.ReasonCode, err error, dst []Effect) []Effect {
	if s.state == stateConnecting && errors.Is(err, ErrConflict) {
		dst = append(dst, ConnectAgain{Connection: s.connection, Held: s.held, Lost: s.lost, Err: err})
	} else {
		dst = s.hangUp(reason, err, dst)
	}
	if s.mode != modeParked {
		dst = append(dst, Leave{})
	}
	s.state, s.mode = stateFenced, modeParked
	s.connectionState = connectionState{}
	return dst
}

// Step advances the session by one input, appends to dst the effects the driver must carry out in order, and returns
// it. now is the session's only clock. After the last Step of a batch, Flush must follow.
func (s *Session) Step(now time.Time, in Input, dst []Effect) []Effect {
	if s.state == stateFenced {
		return dst
	}
	switch in := in.(type) {
	case Connect:
		return s.onConnect(now, in, dst)
	case PacketReceived:
		if in.Connection != s.connection || in.Connection == 0 {
			return dst // of a connection that is over
		}
		s.lastHeard = now
		s.endTrail(in.Handed)
		return s.onPacket(now, in.Packet, dst)
	case ConnectionLost:
		return s.onConnectionLost(now, in, dst)
	case Authenticated:
		return s.onAuthenticated(now, in, dst)
	case Persisted:
		for _, r := range in.Results {
			dst = s.onPersisted(now, r, dst)
			dst = s.continueSubscriptionWork(now, dst)
		}
		return dst
	case RecordSaved:
		return s.onRecordSaved(now, in.Result, dst)
	case JournalSaved:
		return s.onJournalSaved(now, in.Result, dst)
	case Discarded:
		return s.onDiscarded(now, in.Result, dst)
	case Subscribed:
		dst = s.onSubscribed(in, dst)
		return s.continueSubscriptionWork(now, dst)
	case Delivered:
		return s.onDelivered(now, in, dst)
	case Routed:
		return s.onRouted(now, in, dst)
	case Answered:
		return s.onAnswered(now, in, dst)
	case SharedDelivered:
		return s.onSharedDelivered(in, dst)
	case SharedRouted:
		return s.onSharedRouted(now, in, dst)
	case Fetched:
		return s.onFetched(now, in, dst)
	case ReplaysFound:
		dst = s.onReplaysFound(in, dst)
		return s.continueSubscriptionWork(now, dst)
	case ReplayRead:
		s.onReplayRead(now, in)
		return dst
	case Overrun:
		if s.mode == modeLive {
			dst = s.fallBehind(dst)
		}
		return dst
	case Awake:
		return s.onAwake(now, dst)
	case RetainedRead:
		s.onRetainedRead(in)
		return dst
	case Left:
		return s.onLeft(in, dst)
	case Loaded:
		return s.onLoaded(in, dst)
	case JournalTurn:
		s.turnRequested = false
		if s.journalLazy {
			s.journalNow()
		}
		return dst
	case TimerFired:
		return s.onTimer(now, in, dst)
	case Congestion:
		s.congested = in.Congested
		return dst
	case Shutdown:
		return s.onShutdown(now, in, dst)
	case Relinquish:
		return s.onRelinquish(now, dst)
	}
	return dst
}

// Flush ends a batch of Steps: it sends what the send window allows and starts the durable writes that are due.
func (s *Session) Flush(now time.Time, dst []Effect) []Effect {
	dst = s.afterDurable(dst) // of what waits for nothing: a session without expiry journals nothing
	dst = s.pump(now, dst)
	dst = s.tellRoom(dst)
	return s.flushWrites(dst)
}

// onPacket is the table of contents of what a client may send.
func (s *Session) onPacket(now time.Time, p mqttcodec.Packet, dst []Effect) []Effect {
	if s.state == stateConnecting {
		if _, leaves := p.(*mqttcodec.Disconnect); s.method != "" && !leaves {
			return s.fault(now, protocolError("MQTT-3.1.2-30", "a packet before CONNACK from a client with an authentication method"), dst)
		}
		s.held = append(s.held, p) // bounded by the connection's inbound bound
		return dst
	}
	switch p := p.(type) {
	case *mqttcodec.SharedPublish: // never read
		return dst
	case *mqttcodec.Publish:
		if s.subscriptionWork.waitsForSubscribe() {
			s.subscriptionWork.queue = append(s.subscriptionWork.queue, p)
			return dst
		}
		return s.onPublish(now, p, dst)
	case *mqttcodec.Puback:
		return s.onPuback(now, p, dst)
	case *mqttcodec.Pubrec:
		return s.onPubrec(now, p, dst)
	case *mqttcodec.Pubrel:
		return s.onPubrel(p, dst)
	case *mqttcodec.Pubcomp:
		return s.onPubcomp(now, p, dst)
	case *mqttcodec.Subscribe:
		return s.enqueueSubscriptionWork(now, p, &mqttcodec.Suback{Reasons: make([]mqttcodec.ReasonCode, len(p.Requests))}, dst)
	case *mqttcodec.Unsubscribe:
		return s.enqueueSubscriptionWork(now, p, &mqttcodec.Unsuback{Reasons: make([]mqttcodec.ReasonCode, len(p.Filters))}, dst)
	case *mqttcodec.Pingreq:
		s.releaseSpare()
		return s.send(&mqttcodec.Pingresp{}, dst) // [MQTT-3.12.4-1]
	case *mqttcodec.Disconnect:
		return s.onDisconnect(now, p, dst)
	case *mqttcodec.Connect:
		return s.fault(now, protocolError("MQTT-3.1.0-2", "second CONNECT"), dst)
	case *mqttcodec.Auth:
		return s.onAuth(now, p, dst)
	case *mqttcodec.Connack, *mqttcodec.Suback, *mqttcodec.Unsuback, *mqttcodec.Pingresp:
		return s.fault(now, protocolError("", "a packet that only servers send"), dst)
	}
	return dst
}

func (s *Session) send(p mqttcodec.Packet, dst []Effect) []Effect {
	if s.connection == 0 {
		return dst
	}
	return append(dst, Send{Connection: s.connection, Packet: p})
}

// fits reports whether the client takes a packet of this size. [MQTT-3.1.2-24]
func (s *Session) fits(p mqttcodec.Packet) bool {
	if s.clientMaxPacket == 0 {
		return true
	}
	n, err := mqttcodec.Size(s.version, p)
	return err == nil && n <= int(s.clientMaxPacket)
}

// answerTooLarge is why a client that cannot be answered is disconnected: it would wait for ever.
func answerTooLarge(p mqttcodec.Packet) *mqttcodec.ProtocolError {
	return &mqttcodec.ProtocolError{Reason: mqttcodec.PacketTooLarge, Clause: "MQTT-3.1.2-24", Detail: p.Type().String() + " is larger than the client takes"}
}

// sendWhen sends an acknowledgement once versions of the documents are durable, 0 for any. The order of calls is kept for
// each document.
func (s *Session) sendWhen(record, journal uint64, id uint16, p mqttcodec.Packet) {
	if s.connection != 0 {
		s.answers = append(s.answers, answer{record: record, journal: journal, packetID: id, packet: p})
	}
}

// sendAgain has an acknowledgement that waits for the journal sent once more. It reports whether there is one.
func (s *Session) sendAgain(t mqttcodec.PacketType, id uint16) bool {
	for i := range s.answers {
		if a := &s.answers[i]; a.packetID == id && a.packet.Type() == t {
			a.again = min(a.again, maxAgain-1) + 1
			return true
		}
	}
	return false
}

// releaseAnswers sends the acknowledgements whose document has become durable.
func (s *Session) releaseAnswers(dst []Effect) []Effect {
	rest := s.answers[:0]
	for _, a := range s.answers {
		if a.record > s.record.durable || a.journal > s.journal.durable {
			rest = append(rest, a)
			continue
		}
		if rel, ok := a.packet.(*mqttcodec.Pubrel); ok {
			s.pubrelSent(rel.PacketID)
		}
		for range 1 + int(a.again) {
			dst = s.send(a.packet, dst)
		}
	}
	clear(s.answers[len(rest):])
	s.answers = rest
	return dst
}

func (s *Session) onRecordSaved(now time.Time, r Result, dst []Effect) []Effect {
	if r.Err != nil {
		return s.becomeFenced(reasonOf(r.Err), r.Err, dst)
	}
	s.record.end(r.Sequence, true)
	s.contested = false
	dst = s.afterDurable(dst)
	if s.state == stateConnecting && s.record.durable >= s.claim {
		s.epoch = r.Sequence
		if s.foreign {
			s.foreign = false
			s.claimJournal = s.journal.want()
			return dst
		}
		if s.claimJournal <= s.journal.durable {
			return s.accept(now, dst)
		}
	}
	return s.continueSubscriptionWork(now, dst)
}

func (s *Session) onJournalSaved(now time.Time, r Result, dst []Effect) []Effect {
	if r.Err != nil {
		return s.becomeFenced(reasonOf(r.Err), r.Err, dst)
	}
	s.journal.end(r.Sequence, true)
	dst = s.afterDurable(dst)
	if s.state == stateConnecting && !s.foreign && s.record.durable >= s.claim && s.claimJournal <= s.journal.durable {
		return s.accept(now, dst)
	}
	return s.continueSubscriptionWork(now, dst)
}

func (s *Session) afterDurable(dst []Effect) []Effect {
	s.advanceSettled()
	return s.releaseAnswers(s.releaseDeferred(dst))
}

// onDiscarded: the documents of a session that ended are gone.
func (s *Session) onDiscarded(now time.Time, r Result, dst []Effect) []Effect {
	s.discarding = false
	if r.Err != nil {
		return s.becomeFenced(reasonOf(r.Err), r.Err, dst)
	}
	s.record.end(r.Sequence, false)
	s.journal.revision, s.journal.stored = r.JournalSequence, false
	s.unsettled = nil
	dst = s.releaseDeferred(dst)
	switch s.state {
	case stateConnecting:
		return s.admit(now, dst)
	case stateEnding:
		s.becomeAbsent()
	case stateAbsent, stateConnected, stateDetached, stateFenced: // detached: made meanwhile, by a client that has left again
	}
	return dst
}

func (s *Session) nextToken() uint64 {
	s.lastToken++
	return s.lastToken
}

// inboundIDs are the identifiers of unfinished inbound QoS 2 messages, sorted: outputs must not depend on map order.
func (s *Session) inboundIDs() []uint16 {
	ids := make([]uint16, 0, len(s.inbound))
	for id := range s.inbound {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
