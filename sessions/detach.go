package sessions

import (
	"errors"
	"slices"
	"time"

	"dunlin/mqttcodec"
)

// ending is how a connection ended, as far as the will is concerned.
type ending uint8

const (
	// endLost: without a DISCONNECT that forgives the will. [MQTT-3.1.2-8]
	endLost ending = iota
	// endNormal: DISCONNECT 0x00. [MQTT-3.14.4-3]
	endNormal
	// endShutdown: the node goes down; publication of the will is put off until it is up again. (3.1.2.5)
	endShutdown
)

// hangUp tells the client why and closes the connection. The session has to be detached after it.
func (s *Session) hangUp(reason mqttcodec.ReasonCode, err error, dst []Effect) []Effect {
	if s.connection == 0 {
		return dst
	}
	if s.version == mqttcodec.V5 {
		if s.state == stateConnecting {
			refusal := &mqttcodec.Connack{Reason: connackReason(reason)}
			if reason != mqttcodec.SessionTakenOver && s.fits(refusal) {
				dst = s.send(refusal, dst)
			}
		} else { // never before CONNACK [MQTT-3.14.0-1]
			bye := &mqttcodec.Disconnect{Reason: DisconnectReason(reason)}
			bye.ServerReference = serverReference(bye.Reason, err)
			if !s.fits(bye) {
				bye.ServerReference = "" // rather than not a word
			}
			dst = s.send(bye, dst)
		}
	} else if s.state == stateConnecting && reason != mqttcodec.SessionTakenOver {
		dst = s.send(&mqttcodec.Connack{Reason: mqttcodec.ServerUnavailable}, dst)
	}
	return append(dst, Close{Connection: s.connection, Reason: reason, Err: err})
}

// fault ends the connection for the client's fault. (4.13)
func (s *Session) fault(now time.Time, err *mqttcodec.ProtocolError, dst []Effect) []Effect {
	dst = s.hangUp(err.Reason, err, dst)
	return s.detach(now, endLost, dst)
}

func (s *Session) onConnectionLost(now time.Time, in ConnectionLost, dst []Effect) []Effect {
	if in.Connection != s.connection || in.Connection == 0 {
		return dst
	}
	if s.state == stateConnecting && len(s.held) > 0 {
		s.lost = &in // a client need not wait for CONNACK, nor for anything else
		return dst
	}
	if dst = s.publishWaiting(now, dst); s.connection == 0 {
		return dst
	}
	var fault *mqttcodec.ProtocolError
	if errors.As(in.Err, &fault) {
		return s.fault(now, fault, dst)
	}
	dst = append(dst, Close{Connection: s.connection, Err: in.Err})
	return s.detach(now, endLost, dst)
}

func (s *Session) onDisconnect(now time.Time, p *mqttcodec.Disconnect, dst []Effect) []Effect {
	if dst = s.publishWaiting(now, dst); s.connection == 0 {
		return dst
	}
	if asked := p.SessionExpirySeconds; asked.Present {
		if s.expiry == 0 && asked.Value > 0 {
			return s.fault(now, protocolError("", "DISCONNECT gives an expiry to a session that had none (3.14.2.2.2)"), dst)
		}
		s.expiry = s.cfg.capExpiry(asked.Value)
	}
	dst = append(dst, Close{Connection: s.connection, Reason: p.Reason, ByClient: true})
	if p.Reason == mqttcodec.NormalDisconnection {
		return s.detach(now, endNormal, dst)
	}
	return s.detach(now, endLost, dst)
}

func (s *Session) onShutdown(now time.Time, in Shutdown, dst []Effect) []Effect {
	if s.connection == 0 {
		return dst
	}
	if in.Another {
		dst = s.hangUp(mqttcodec.UseAnotherServer, &Refusal{
			Reason: mqttcodec.UseAnotherServer, ServerReference: in.ServerReference, Detail: "another node takes the session over",
		}, dst)
	} else {
		dst = s.hangUp(mqttcodec.ServerShuttingDown, nil, dst)
	}
	return s.detach(now, endShutdown, dst)
}

// onRelinquish ends the connection as a CONNECT on this node would. [MQTT-3.1.4-3]
func (s *Session) onRelinquish(now time.Time, dst []Effect) []Effect {
	if s.connection == 0 {
		return dst
	}
	dst = s.hangUp(mqttcodec.SessionTakenOver, nil, dst)
	return s.detach(now, endLost, dst)
}

// detach takes leave of the connection: what belongs to it is forgotten, the session stays, or ends with it.
func (s *Session) detach(now time.Time, how ending, dst []Effect) []Effect {
	accepted := s.state == stateConnected
	dst = s.endReplays(dst)
	s.connectionState = connectionState{subscriptionWork: s.subscriptionWork.orphaned()}
	s.detachedAt = now
	s.becomeDetached()
	dst = append(dst, SetTimer{Timer: TimerKeepAlive})
	if s.mode != modeParked {
		dst = s.park(dst)
	}
	dst = s.giveBackShared(func(string) bool { return true }, dst)
	s.rewindInflight()
	s.releaseSpare()
	want := s.record.wantSoon
	if s.will != nil || s.journalTells() { // after a crash the will is to be sent just once; and the journal comes behind
		want = s.record.want
	}
	if how == endNormal || !accepted {
		s.will = nil
	}
	if s.foreign && s.expiry > 0 { // the claim was cut short: what recovery found out is made durable as that would have
		s.foreign = false
		s.claimJournal = s.journal.want()
	}
	if how == endShutdown && (s.expiry > 0 || s.will != nil) {
		s.claim = min(s.claim, s.record.want())
		return dst
	}
	if s.will != nil && s.willDue().After(now) {
		dst = append(dst, SetTimer{Timer: TimerWill, At: s.willDue()})
	} else if s.will != nil {
		dst = s.fireWill(now, dst)
	}
	if s.expiry == 0 {
		return s.end(now, dst)
	}
	s.claim = min(s.claim, want())
	if s.expiry != Never {
		dst = append(dst, SetTimer{Timer: TimerExpiry, At: s.detachedAt.Add(s.expiry)})
	}
	return dst
}

// park stops the feed. What was not assigned yet stays in the log, after the session's position.
func (s *Session) park(dst []Effect) []Effect {
	s.looked = s.position()
	s.missed = len(s.backlog) > 0 || s.mode == modeCatchingUp
	s.clearBacklog()
	s.parkRetained()
	s.mode = modeParked
	s.fetch = fetchState{token: s.fetch.token}
	s.leaving++
	return append(dst, Leave{})
}

// onLeft: the feed has stopped. If nothing was missed, the session has seen everything up to there.
func (s *Session) onLeft(in Left, dst []Effect) []Effect {
	s.leaving--
	if s.mode != modeParked || s.leaving > 0 {
		return dst
	}
	if !s.missed && in.Position.Sequence > s.looked.Sequence {
		s.looked = in.Position
	}
	if s.state == stateDetached && s.expiry > 0 && (s.queues() || s.journal.stored || len(s.inflight)+len(s.inbound) > 0) {
		if s.journalTells() {
			s.journal.want()
		} else {
			s.journal.wantSoon()
		}
	}
	return dst
}

// journalTells reports whether the stored journal may not say what is unfinished, or what the client has acknowledged.
func (s *Session) journalTells() bool { return s.journalLazy || len(s.inflight)+len(s.inbound) > 0 }

// queues reports whether messages are queued for the session while its client is away.
func (s *Session) queues() bool {
	return slices.ContainsFunc(s.subs.list, s.queuesFor)
}

// queuesFor reports whether messages for a subscription are, or still are, queued.
func (s *Session) queuesFor(sub *Subscription) bool {
	return sub.QoS > 0 || s.cfg.QueueQoS0 || sub.FormerQoS > 0 && s.position().Sequence < sub.FormerUntil.Sequence
}

// onAwake settles a stored session: what recovery found out about its past becomes durable, and what is overdue happens.
func (s *Session) onAwake(now time.Time, dst []Effect) []Effect {
	if s.state != stateDetached {
		return dst
	}
	if s.foreign {
		s.foreign = false
		s.claim = s.record.want() // the record first: a durable journal means that all that recovery found out is
		s.claimJournal = s.journalNow()
	}
	if s.will != nil && !s.willDue().After(now) {
		dst = s.fireWill(now, dst)
	}
	if s.expired(now) {
		dst = s.expire(now, dst)
	}
	return dst
}

func (s *Session) expired(now time.Time) bool {
	return s.expiry != Never && !now.Before(s.detachedAt.Add(s.expiry))
}

// expire ends a session whose time is over. One that ends with its connection, only later since the node went down, does not
// expire.
func (s *Session) expire(now time.Time, dst []Effect) []Effect {
	if s.expiry > 0 {
		dst = append(dst, Expired{Principal: s.identity.Principal})
	}
	return s.end(now, dst)
}

// end is the end of the session, not just of its connection: the will that waits is sent now, everything else goes. [MQTT-3.1.2-8]
func (s *Session) end(now time.Time, dst []Effect) []Effect {
	if s.will != nil {
		dst = s.fireWill(now, dst)
	}
	if filters := s.subs.filters(); len(filters) > 0 {
		dst = append(dst, Unsubscribe{Filters: filters})
	}
	s.leaveAllShares()
	s.startAfresh(s.incarnation)
	s.expiry = 0
	s.discardDue = true
	s.becomeEnding()
	return append(dst, SetTimer{Timer: TimerWill}, SetTimer{Timer: TimerExpiry})
}

func (s *Session) onTimer(now time.Time, in TimerFired, dst []Effect) []Effect {
	switch in.Timer {
	case TimerKeepAlive:
		return s.onKeepAlive(now, in.Withheld, dst)
	case TimerWill:
		if s.state != stateDetached || s.will == nil {
			return dst
		}
		if due := s.willDue(); due.After(now) {
			return append(dst, SetTimer{Timer: TimerWill, At: due})
		}
		return s.fireWill(now, dst)
	case TimerExpiry:
		if s.state != stateDetached || s.expiry == Never {
			return dst
		}
		if !s.expired(now) {
			return append(dst, SetTimer{Timer: TimerExpiry, At: s.detachedAt.Add(s.expiry)})
		}
		return s.expire(now, dst)
	case TimerRecord:
		if s.unmarked {
			s.record.want()
		}
		return dst
	case TimerPersistRetry:
		return s.retryPersist(dst)
	case TimerFetchRetry:
		s.fetch.failed, s.fetch.armed, s.fetch.smallRoom = false, false, true
		return dst
	case TimerReplay:
		if s.replays != nil {
			s.replays.armed = false
		}
		return dst
	case timers:
	}
	return dst
}

// willDue is when the will of a detached session is published: after its delay, or with the end of the session. [MQTT-3.1.2-8]
func (s *Session) willDue() time.Time {
	return s.detachedAt.Add(min(time.Duration(s.will.DelaySeconds)*time.Second, s.expiry))
}

// fireWill publishes the will. It leaves the record with the first write after it is stored; recovery in between finds it
// in the log by its identity, so that it is published once. The record is not written before, since it may be another
// incarnation's by then, in which the will would have another identity.
func (s *Session) fireWill(now time.Time, dst []Effect) []Effect {
	w := s.will
	s.will = nil
	m := s.willMessage(now, w)
	delay, reason, drop := s.admitPublish(&s.identity, m)
	if reason != mqttcodec.Success {
		if s.expiry > 0 { // it was allowed when the client connected, and is not any more
			s.record.want()
		}
		return append(dst, Drop{Reason: drop, Count: 1})
	}
	if s.throughLog(m) || delay > 0 {
		s.firing = w
		return s.persist(pendingPublish{kind: pendingWill, message: m, delay: delay, id: willID(s.incarnation, s.nonce)}, dst)
	}
	if s.expiry > 0 {
		s.record.want()
	}
	return append(dst, Route{Message: m})
}

// willMessage is a will as the message that it becomes.
func (s *Session) willMessage(now time.Time, w *mqttcodec.Will) *Message {
	return &Message{
		Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Properties: w.Properties, PublishedAt: now,
		Publisher: s.publisherTag(w.Retain),
	}
}

// onWillStored: the will is in the log; now the record may forget it.
func (s *Session) onWillStored(now time.Time, token uint64, dst []Effect) []Effect {
	s.firing = nil
	switch s.state {
	case stateConnecting:
		s.settle(token, true, s.record.sent+1)
		return s.admit(now, dst)
	case stateDetached, stateConnected:
		s.settle(token, true, s.record.want())
	case stateEnding:
		s.settle(token, true, s.record.sent+1) // the record goes altogether
	case stateAbsent, stateFenced:
	}
	return dst
}
