package sessions

import (
	"fmt"
	"math"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// onConnect lets a client in, in place of the one that was there. CONNACK goes out once the claim is durable.
func (s *Session) onConnect(now time.Time, in Connect, dst []Effect) []Effect {
	if err := s.connectRefusal(now, in); err != nil {
		return append(dst, Refuse{Connection: in.Connection, Reason: connackReason(reasonOf(err)), Err: err})
	}
	if s.connection != 0 {
		// The old connection ends first, with its will and, if it had no expiry, its session. [MQTT-3.1.4-3]
		dst = s.hangUp(mqttcodec.SessionTakenOver, nil, dst)
		dst = s.detach(now, endLost, dst)
	}
	if s.state == stateDetached && s.will != nil && !s.willDue().After(now) {
		dst = s.fireWill(now, dst)
	}
	if s.state == stateDetached && s.expired(now) {
		dst = s.expire(now, dst)
	}
	resumable := s.state == stateDetached
	present := resumable && !in.Packet.CleanStart // [MQTT-3.1.2-4] [MQTT-3.1.2-5]
	holds := present && s.recordHolds(now, in)
	if resumable && !present {
		dst = s.end(now, dst)
	}
	if !present {
		s.startAfresh(in.Nonce)
	}
	dst = append(dst, SetTimer{Timer: TimerExpiry}, SetTimer{Timer: TimerWill}) // the will of before is not sent [MQTT-3.1.3-9]

	p := in.Packet
	s.nonce = in.Nonce
	s.version = p.Version
	s.identity = in.Identity
	s.will = cloneWill(p.Will)
	s.expiry = s.grantedExpiry(p)
	s.journalLazy = s.journalLazy && s.expiry > 0
	s.connectionState = connectionState{
		connection:      in.Connection,
		connect:         &in,
		sessionPresent:  present,
		keepAlive:       s.grantedKeepAlive(p),
		lastHeard:       now,
		method:          strings.Clone(p.Properties.AuthenticationMethod.Value), // it outlives the packet
		receiveMaximum:  s.cfg.SendWindow,
		clientMaxPacket: p.Properties.MaximumPacketSize, takesAliases: p.Properties.TopicAliasMaximum > 0 && s.cfg.TopicAliasMaximum > 0,
		connectedSince: in.Head,
		onlineSince:    in.Head,

		subscriptionWork: s.subscriptionWork.orphaned(),
	}
	if m := int(p.Properties.ReceiveMaximum); m > 0 {
		s.receiveMaximum = min(s.receiveMaximum, m) // [MQTT-3.3.4-9]
	}
	s.becomeConnecting()
	if holds {
		s.unmarked = true
		return s.accept(now, append(dst, SetTimer{Timer: TimerRecord, At: now.Add(markWithin)}))
	}
	s.claim = unclaimed
	return s.admit(now, dst)
}

const (
	// soonBack is how long a client may have been away whose record need not say at once that it is back.
	soonBack = 50 * time.Second
	// markWithin is when it says so at the latest, if the client stays that long and nothing else is to be written.
	markWithin = time.Second
	// staleFor is how long after a recorded end of the connection the client may have had another one that is not
	// recorded: soonBack, markWithin and the time in which storage answers.
	staleFor = time.Minute
)

// recordHolds reports whether the stored record would be right for the session with this CONNECT too, but for one thing: it
// says that the client is away. The record is ours then, so CONNACK promises nothing that it does not keep, and need not
// wait for another write; see LeftAt for what becomes of the session when the node dies before that.
func (s *Session) recordHolds(now time.Time, in Connect) bool {
	p := in.Packet
	away := now.Sub(s.detachedAt)
	return s.record.stored && s.record.quiet() && !s.foreign && !s.contested && s.claimJournal <= s.journal.durable &&
		s.will == nil && s.firing == nil && p.Will == nil && 0 <= away && away <= soonBack &&
		p.Version == s.version && in.Identity.Principal == s.identity.Principal && s.grantedExpiry(p) == s.expiry
}

// connectRefusal is why a client is not let in, nil when it is. Whoever is there does not notice. A will that the client may
// not publish is told it at once: when it is due there is nobody to tell.
func (s *Session) connectRefusal(now time.Time, in Connect) error {
	if s.stalled && len(s.pending) >= maxStalled {
		return errStalled
	}
	if s.BelongsToAnother(now, in.Identity.Principal) {
		return &mqttcodec.ProtocolError{Reason: mqttcodec.NotAuthorized, Detail: "the session belongs to another principal"}
	}
	if w := in.Packet.Will; w != nil {
		_, reason, _ := s.admitPublish(&in.Identity, s.willMessage(now, w))
		if reason != mqttcodec.Success {
			return &mqttcodec.ProtocolError{Reason: reason, Detail: "the client may not publish its will"}
		}
	}
	return nil
}

// maxStalled is how many messages of former connections may wait for a storage that is away; while more do, the client is
// not let in again.
const maxStalled = 4096

var errStalled = fmt.Errorf("messages of former connections wait: %w", ErrUnavailable)

// unclaimed is the claim of a CONNECT that waits for something else first: writes of before do not let it in.
const unclaimed = math.MaxUint64

// admit makes the claim durable that CONNACK promises: a record for what outlives the connection, no record for what
// does not.
func (s *Session) admit(now time.Time, dst []Effect) []Effect {
	switch {
	case s.discarding, s.firing != nil:
		return dst // goes on in onDiscarded, onWillStored
	case s.expiry > 0 || s.will != nil:
		s.discardDue = false
		s.claim = s.record.want()
		return dst
	case s.record.stored || s.record.inFlight:
		s.discardDue = true
		return dst
	}
	s.discardDue = false
	s.record.forgo()
	s.journal.forgo()
	s.unsettled = nil
	dst = s.releaseDeferred(dst) // the session of before leaves before this one subscribes
	return s.accept(now, dst)
}

// accept sends CONNACK and takes up where the session was left. [MQTT-3.2.0-1]
func (s *Session) accept(now time.Time, dst []Effect) []Effect {
	s.claim = min(s.claim, s.record.durable)
	ack := s.connack()
	if !s.fits(ack) {
		return s.fault(now, answerTooLarge(ack), dst)
	}
	s.becomeConnected()
	s.terms = s.grantedTerms()
	dst = s.send(ack, dst)
	s.connect = nil // it pins the packet
	dst = s.armKeepAlive(dst)
	if s.subs.count() > 0 {
		dst = append(dst, Attach{Filters: s.subs.filters(), Shares: s.subs.shares()})
	}
	dst = s.resumeInflight(dst)
	dst = s.resumeFeed(dst)
	held, lost := s.held, s.lost
	s.held, s.lost = nil, nil
	for _, p := range held {
		if s.connection == 0 {
			break
		}
		dst = s.onPacket(now, p, dst)
	}
	if lost != nil {
		dst = s.onConnectionLost(now, *lost, dst)
	}
	return dst
}

func (s *Session) connack() *mqttcodec.Connack {
	ack := &mqttcodec.Connack{SessionPresent: s.sessionPresent}
	if s.version != mqttcodec.V5 {
		return ack
	}
	asked := s.connect.Packet
	p := &ack.Properties
	if granted := ExpirySeconds(s.expiry); granted != asked.Properties.SessionExpirySeconds.Or(0) {
		p.SessionExpirySeconds = mqttcodec.Some(granted) // (3.2.2.3.2)
	}
	if s.connect.Assigned {
		p.AssignedClientID = s.clientID // [MQTT-3.2.2-16]
	}
	if granted := uint16(s.keepAlive / time.Second); granted != asked.KeepAliveSeconds {
		p.ServerKeepAliveSeconds = mqttcodec.Some(granted) // [MQTT-3.2.2-21]
	}
	p.ReceiveMaximum = s.cfg.ReceiveMaximum
	p.TopicAliasMaximum = s.cfg.TopicAliasMaximum
	p.MaximumPacketSize = s.cfg.MaxPacketSize
	if asked.Properties.AuthenticationMethod.Present { // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
		p.AuthenticationMethod = asked.Properties.AuthenticationMethod
		p.AuthenticationData = s.connect.AuthenticationData
	}
	if !s.cfg.SharedSubscriptions {
		p.SharedSubscriptionAvailable = mqttcodec.Some(false)
	}
	return ack
}

// startAfresh makes a new session under the client identifier. [MQTT-3.1.2-6]
func (s *Session) startAfresh(incarnation string) {
	s.incarnation = incarnation
	s.epoch = 0
	s.looked = Position{}
	s.inflight, s.inflightBase = nil, nil
	s.ids = packetIDs{}
	s.inbound = nil
	s.generation = 0
	s.foreign, s.claimJournal = false, 0
	s.subs = subscriptions{}
	s.owed, s.retained = nil, nil
	s.journalLazy = false
}

// Terms are what a client asked for and was granted when it was let in.
type Terms struct {
	KeepAlive, Expiry time.Duration
	CleanStart, Will  bool
}

func (s *Session) grantedTerms() Terms {
	return Terms{
		KeepAlive: s.keepAlive, Expiry: s.expiry, CleanStart: s.connect.Packet.CleanStart, Will: s.will != nil,
	}
}

// Terms are those of the client that was let in last, whatever has become of it.
func (s *Session) Terms() Terms { return s.terms }

// Principal owns the session, empty for an anonymous client.
func (s *Session) Principal() string { return s.identity.Principal }

func (s *Session) grantedExpiry(p *mqttcodec.Connect) time.Duration {
	if p.Version == mqttcodec.V5 {
		return s.cfg.capExpiry(p.Properties.SessionExpirySeconds.Or(0))
	}
	if p.CleanStart {
		return 0 // [3.1.1 MQTT-3.1.2-6]
	}
	return s.cfg.DefaultExpiryV3
}

func (s *Session) grantedKeepAlive(p *mqttcodec.Connect) time.Duration {
	asked := time.Duration(p.KeepAliveSeconds) * time.Second
	if limit := s.cfg.MaxKeepAlive; limit > 0 && (asked == 0 || asked > limit) {
		return limit
	}
	return asked
}

// armKeepAlive sets the timer after which a silent client is taken for gone. [MQTT-3.1.2-22]
func (s *Session) armKeepAlive(dst []Effect) []Effect {
	if s.keepAlive == 0 {
		return append(dst, SetTimer{Timer: TimerKeepAlive})
	}
	return append(dst, SetTimer{Timer: TimerKeepAlive, At: s.lastHeard.Add(s.keepAlive * 3 / 2)})
}

func (s *Session) onKeepAlive(now time.Time, withheld bool, dst []Effect) []Effect {
	if s.state != stateConnected || s.keepAlive == 0 {
		return dst
	}
	if withheld {
		s.lastHeard = now // we are not listening: the clock of its silence stands still
	}
	if now.Sub(s.lastHeard) < s.keepAlive*3/2 {
		return s.armKeepAlive(dst)
	}
	err := &mqttcodec.ProtocolError{Reason: mqttcodec.KeepAliveTimeout, Clause: "MQTT-3.1.2-22", Detail: "keep alive timeout"}
	return s.fault(now, err, dst)
}
