package sessions

import (
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"dunlin/mqttcodec"
)

// inboundMessage is a QoS 2 message received and not completed. [MQTT-4.3.3-8]
type inboundMessage struct {
	generation uint64
	stored     bool
	// journaled is the version of the journal that holds it as stored; PUBREC waits for it.
	journaled uint64
	// counted is the connection of whose Receive Maximum it takes a place.
	counted ConnectionID
}

// pendingKind says what becomes of the result of a Persist.
type pendingKind uint8

const (
	pendingUnanswered pendingKind = iota // QoS 0 through the log
	pendingPuback
	pendingPubrec
	pendingWill
)

// pendingPublish is a message on its way into the log.
type pendingPublish struct {
	token      uint64
	kind       pendingKind
	connection ConnectionID
	packetID   uint16
	generation uint64
	message    *Message
	id         string
	// delay is how long it is to be kept before it is published.
	delay time.Duration
	// asked: Persist was emitted and has no result yet. done: the result is in, or none is needed.
	asked, done bool
	// again is how often more its connection has sent it: each is answered.
	again  uint8
	err    error
	reason mqttcodec.ReasonCode
}

// maxInbound times our Receive Maximum is how many QoS 2 messages even a client that was not told of it may leave
// uncompleted: each of them is in every journal that is written.
const maxInbound = 4

// onPublish takes a message from the client. (3.3.4)
func (s *Session) onPublish(now time.Time, p *mqttcodec.Publish, dst []Effect) []Effect {
	var before *inboundMessage
	if p.QoS == 2 {
		before = s.inbound[p.PacketID]
	}
	if p.QoS > 0 && (before == nil || before.counted != s.connection) {
		s.inboundUsed++
		if s.version == mqttcodec.V5 && s.inboundUsed > int(s.cfg.ReceiveMaximum) || len(s.inbound) > maxInbound*int(s.cfg.ReceiveMaximum) {
			err := &mqttcodec.ProtocolError{Reason: mqttcodec.ReceiveMaximumExceeded, Clause: "MQTT-3.3.4-7", Detail: "more unacknowledged messages than our Receive Maximum"}
			return s.fault(now, err, dst)
		}
	}
	if before != nil {
		before.counted = s.connection
		return s.repeated(p.PacketID, before, dst) // [MQTT-4.3.3-10]
	}
	m := &Message{
		Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Properties: p.Properties, PublishedAt: now,
		Publisher: s.publisherTag(p.Retain),
	}
	if ExchangeTopic(m.Topic) {
		return s.onExchange(now, p, m, dst)
	}
	delay, reason, drop := s.admitPublish(&s.identity, m)
	if reason != mqttcodec.Success {
		return s.answerUnstored(now, p, reason, append(dst, Drop{Reason: drop, Count: 1}))
	}
	entry := pendingPublish{connection: s.connection, packetID: p.PacketID, message: m, delay: delay}
	switch p.QoS {
	case 0:
		if delay == 0 && !s.throughLog(m) && !s.trails(m.Topic) {
			return append(dst, Route{Message: m})
		}
		entry.kind = pendingUnanswered
	case 1:
		entry.kind = pendingPuback
	default:
		s.generation++
		s.expectPubrel(p.PacketID)
		entry.kind, entry.generation = pendingPubrec, s.generation
		entry.id = publishID(s.incarnation, p.PacketID, s.generation)
	}
	return s.persist(entry, dst)
}

// expectPubrel notes a QoS 2 message of the present generation.
func (s *Session) expectPubrel(id uint16) {
	if s.inbound == nil {
		s.inbound = map[uint16]*inboundMessage{}
	}
	s.inbound[id] = &inboundMessage{generation: s.generation, counted: s.connection}
}

// throughLog reports whether a message goes to its receivers through the log: QoS 1 and 2, and whatever is retained,
// since the log is the one order of retained messages.
func (s *Session) throughLog(m *Message) bool { return m.QoS > 0 || m.Retain || s.cfg.QueueQoS0 }

// publisherTag marks the messages that a No Local subscription of this client may meet: those published while there is
// one, and the retained ones, which wait for subscriptions to come. [MQTT-3.8.3-3]
func (s *Session) publisherTag(retain bool) string {
	if retain || s.subs.noLocal > 0 || s.replaysNoLocal() {
		return s.clientID
	}
	return ""
}

// publishing reports whether a message is still on its way into the log.
func (s *Session) publishing() bool {
	return slices.ContainsFunc(s.pending, func(e pendingPublish) bool { return e.message != nil })
}

// publishRefusal is why a client may not publish a message, and how that is counted, or Success.
func (s *Session) publishRefusal(who *Identity, m *Message) (mqttcodec.ReasonCode, DropReason) {
	switch {
	case !s.cfg.TopicFits(m.Topic, s.throughLog(m)):
		return mqttcodec.TopicNameInvalid, DropRefused
	case ReservedTopic(m.Topic):
		return mqttcodec.NotAuthorized, DropRefused // the server's own topics (4.7.2)
	case !who.mayPublish(m):
		return mqttcodec.NotAuthorized, DropMayNotSend
	case m.Properties.PayloadFormat.Value == 1 && !utf8.Valid(m.Payload):
		return mqttcodec.PayloadFormatInvalid, DropRefused // (3.3.2.3.2)
	}
	return mqttcodec.Success, ""
}

// answerUnstored answers a PUBLISH of which nothing is stored: it is not taken, or on its way outside of the log. Before 5.0
// there is no negative answer: the message is acknowledged and dropped. [3.1.1 MQTT-3.3.5-2] At QoS 0 only a payload that is not what it says has an answer. (3.3.2.3.2)
func (s *Session) answerUnstored(now time.Time, p *mqttcodec.Publish, reason mqttcodec.ReasonCode, dst []Effect) []Effect {
	if p.QoS == 0 {
		if reason == mqttcodec.PayloadFormatInvalid {
			return s.fault(now, &mqttcodec.ProtocolError{Reason: reason, Detail: "the payload is not UTF-8 as its format says"}, dst)
		}
		return dst
	}
	kind := pendingPuback
	if p.QoS == 2 {
		kind = pendingPubrec
	}
	entry := pendingPublish{token: s.nextToken(), kind: kind, connection: s.connection, packetID: p.PacketID, done: true, reason: reason}
	if p.QoS == 2 && !reason.Failed() { // the generation is that of the message before: the log has one for each
		s.expectPubrel(p.PacketID)
		entry.generation = s.generation
	}
	s.pending = slide(&s.pendingBase, s.pending, entry)
	return s.settlePending(now, dst)
}

// repeated answers a QoS 2 PUBLISH that came before, as soon as it is stored.
func (s *Session) repeated(id uint16, in *inboundMessage, dst []Effect) []Effect {
	switch {
	case in.stored && in.journaled <= s.journal.durable:
		return s.send(&mqttcodec.Pubrec{PacketID: id}, dst)
	case in.stored && s.sendAgain(mqttcodec.TypePubrec, id):
		return dst
	case in.stored: // the one on its way was another connection's
		s.sendWhen(0, in.journaled, id, &mqttcodec.Pubrec{PacketID: id})
		return dst
	}
	for i := range s.pending {
		e := &s.pending[i]
		switch {
		case e.kind != pendingPubrec || e.packetID != id || e.generation != in.generation:
		case e.connection != s.connection:
			e.connection, e.again = s.connection, 0 // answers go to the connection that asked last
		default:
			e.again = min(e.again, maxAgain-1) + 1
		}
	}
	return dst
}

// persist puts a message on its way into the log.
func (s *Session) persist(e pendingPublish, dst []Effect) []Effect {
	e.token = s.nextToken()
	if e.kind == pendingUnanswered && e.delay == 0 {
		s.leaveTrail(e)
	}
	e.asked = !s.stalled
	s.pending = slide(&s.pendingBase, s.pending, e)
	if !e.asked {
		return dst
	}
	return append(dst, e.effect())
}

// effect asks for the message to be stored.
func (e *pendingPublish) effect() Persist {
	return Persist{Message: e.message, Delay: e.delay, ID: e.id, Token: e.token}
}

// onPersisted takes the outcome of a Persist. PUBACK and PUBREC come from here only, so they cannot overtake
// durability. [MQTT-4.3.2-4]
func (s *Session) onPersisted(now time.Time, r Result, dst []Effect) []Effect {
	i := s.pendingIndex(r.Token)
	if i < 0 || !s.pending[i].asked {
		return dst
	}
	e := &s.pending[i]
	e.asked = false
	s.trailResult(r)
	switch {
	case r.Err == nil:
		e.done, e.err = true, nil
	case errors.Is(r.Err, ErrUnavailable) && e.kind != pendingUnanswered:
		e.done, e.err = false, r.Err
		s.stalled = true
	case e.id != "" && errors.Is(e.err, ErrUnavailable) && errors.Is(r.Err, ErrRejected):
		// The attempt before may be stored: refused now, it would come again under another identity. It waits until it is taken,
		// or known. What is refused for good is refused at the first attempt.
		e.done = false
		s.stalled = true
	default:
		e.done, e.err = true, r.Err
	}
	if s.stalled {
		dst = s.restoreOrder(now, i, dst)
	}
	return s.settlePending(now, dst)
}

func (s *Session) pendingIndex(token uint64) int {
	if len(s.pending) == 0 || token < s.pending[0].token {
		return -1
	}
	// Tokens are consecutive, so the first guess is right.
	i := int(token - s.pending[0].token)
	if i < len(s.pending) && s.pending[i].token == token {
		return i
	}
	for i := range s.pending {
		if s.pending[i].token == token {
			return i
		}
	}
	return -1
}

// restoreOrder goes on after a failure: duplicates are allowed, disorder is not. Once no result is awaited, the first
// message that failed and all QoS 1 messages after it are stored again, one at a time. (4.6) just is the one whose
// result came in.
func (s *Session) restoreOrder(now time.Time, just int, dst []Effect) []Effect {
	if slices.ContainsFunc(s.pending, func(e pendingPublish) bool { return e.asked }) {
		return dst
	}
	failed := slices.IndexFunc(s.pending, func(e pendingPublish) bool { return !e.done })
	if failed < 0 {
		s.stalled = false
		return dst
	}
	for i := failed; i < len(s.pending); i++ {
		if e := &s.pending[i]; e.done && e.err == nil && e.kind == pendingPuback && e.reason == mqttcodec.Success {
			e.done = false
		}
	}
	if !s.pending[just].done && s.pending[just].err != nil {
		return append(dst, SetTimer{Timer: TimerPersistRetry, At: now.Add(retryAfter)})
	}
	return s.retryPersist(dst)
}

// retryPersist stores the first message again that is not stored yet.
func (s *Session) retryPersist(dst []Effect) []Effect {
	for i := range s.pending {
		e := &s.pending[i]
		if e.asked {
			return dst
		}
		if !e.done {
			e.asked = true
			return append(dst, e.effect())
		}
	}
	return dst
}

// settlePending answers the publishes at the head of the queue whose outcome is known. Acknowledgements leave in the
// order of the messages. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
func (s *Session) settlePending(now time.Time, dst []Effect) []Effect {
	for len(s.pending) > 0 && s.pending[0].done {
		e := s.pending[0]
		s.pending[0] = pendingPublish{}
		s.pending = s.pending[1:]
		dst = s.answerPublish(now, e, dst)
	}
	if len(s.pending) == 0 {
		s.stalled = false
	}
	return dst
}

func (s *Session) answerPublish(now time.Time, e pendingPublish, dst []Effect) []Effect {
	here := e.connection == s.connection && e.connection != 0 // never on a new connection
	if e.err != nil {
		e.reason = reasonOf(e.err)
	}
	if e.reason.Failed() && e.err != nil {
		dst = append(dst, Drop{Reason: DropNotStored, Count: 1})
		if e.kind == pendingPubrec && e.generation == s.generation {
			s.generation-- // no message has it, and after a crash the next one would not be known to have another
		}
		if here && s.version != mqttcodec.V5 && e.kind != pendingUnanswered {
			if in := s.inbound[e.packetID]; e.kind == pendingPubrec && in != nil && in.generation == e.generation {
				s.forgetInbound(e.packetID, in) // it comes again on the next connection
			}
			err := &mqttcodec.ProtocolError{Reason: e.reason, Detail: "the message could not be stored: " + e.err.Error()}
			return s.fault(now, err, dst) // a 3.1.1 client can only be told by closing
		}
	}
	switch e.kind {
	case pendingUnanswered:
	case pendingWill:
		return s.onWillStored(now, e.token, dst)
	case pendingPuback:
		if here {
			s.inboundUsed--
			ack := mqttcodec.NewPuback()
			ack.PacketID, ack.Reason = e.packetID, e.reason
			dst = s.send(ack, dst)
		}
	case pendingPubrec:
		return s.answerQoS2(e, here, dst)
	}
	return dst
}

// answerQoS2: the message is in the log. PUBREC promises that it is not taken again, so it waits for the journal.
func (s *Session) answerQoS2(e pendingPublish, here bool, dst []Effect) []Effect {
	in := s.inbound[e.packetID]
	known := in != nil && in.generation == e.generation
	if e.reason.Failed() {
		if known {
			s.forgetInbound(e.packetID, in) // [MQTT-4.3.3-9]
		} else if here {
			s.inboundUsed--
		}
		for range 1 + int(e.again) {
			if here {
				dst = s.send(&mqttcodec.Pubrec{PacketID: e.packetID, Reason: e.reason}, dst)
			}
		}
		return dst
	}
	if !known {
		return dst // the session it was for is over
	}
	in.stored = true
	in.journaled = s.journalNow()
	s.settle(e.token, false, in.journaled)
	if here {
		s.sendWhen(0, in.journaled, e.packetID, &mqttcodec.Pubrec{PacketID: e.packetID, Reason: e.reason})
		s.answers[len(s.answers)-1].again = e.again
	}
	return dst
}

// onPubrel completes a QoS 2 message. PUBCOMP waits until it is durable that the identifier is free, or a message
// reusing it would be taken for a repetition. [MQTT-4.3.3-11]
func (s *Session) onPubrel(p *mqttcodec.Pubrel, dst []Effect) []Effect {
	in := s.inbound[p.PacketID]
	if in == nil {
		if !s.sendAgain(mqttcodec.TypePubcomp, p.PacketID) {
			// It may have been freed on an earlier connection, and the journal not say so yet.
			s.sendWhen(0, max(s.journal.sent, s.journal.wanted), p.PacketID, &mqttcodec.Pubcomp{PacketID: p.PacketID, Reason: mqttcodec.PacketIdentifierNotFound})
		}
		return dst
	}
	s.forgetInbound(p.PacketID, in)
	s.sendWhen(0, s.journalNow(), p.PacketID, &mqttcodec.Pubcomp{PacketID: p.PacketID})
	return dst
}

// forgetInbound frees the identifier of a QoS 2 message and its place of the Receive Maximum.
func (s *Session) forgetInbound(id uint16, in *inboundMessage) {
	delete(s.inbound, id)
	if in.counted == s.connection && s.connection != 0 {
		s.inboundUsed--
	}
}
