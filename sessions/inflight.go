package sessions

import (
	"slices"
	"time"

	"dunlin/mqttcodec"
)

// outboundState is how far a delivery at QoS 1 or 2 has come.
type outboundState uint8

const (
	// outboundAssigned: it has an identifier and was not sent on this connection.
	outboundAssigned outboundState = iota
	awaitingPuback
	awaitingPubrec
	// pubrecSeen: PUBREL is due once the journal says so.
	pubrecSeen
	awaitingPubcomp
	outboundStates
)

// outbound is a message on its way to the client at QoS 1 or 2.
type outbound struct {
	packetID uint16
	qos      mqttcodec.QoS
	state    outboundState
	// entry's Message is nil after a restart until it is loaded again.
	entry Entry
	// retained: it is a retained message sent for a new subscription; retain: a live one whose flag is kept.
	retained, retain bool
	identifiers      []uint32
	// sent: it was sent on some connection, so it goes out again with DUP. [MQTT-3.3.1-1]
	sent bool
	// journaled is the version of the journal that must be durable before it is sent.
	journaled uint64
	// counted: it takes a place of the send quota. (4.9)
	counted bool
	// replayed: it came by a replay.
	replayed bool
	// share is the shared subscription that it came by, empty for others.
	share string
	// topic is that of a retained message which is not loaded yet, empty for others.
	topic string
}

// retainedTopic is the topic of a retained message that may have to be loaded again.
func (o *outbound) retainedTopic() string {
	if o.retained && o.entry.Message != nil {
		return o.entry.Message.Topic
	}
	return o.topic
}

// rewindInflight makes the unfinished deliveries ready to be sent again on the next connection. [MQTT-4.4.0-1]
func (s *Session) rewindInflight() {
	for i := range s.inflight {
		o := &s.inflight[i]
		o.counted = false
		if o.state == awaitingPuback || o.state == awaitingPubrec {
			o.state = outboundAssigned
		}
	}
}

// resumeInflight takes up the unfinished deliveries on a new connection: PUBRELs at once, PUBLISHes in order as soon as
// their messages are loaded. [MQTT-4.4.0-1]
func (s *Session) resumeInflight(dst []Effect) []Effect {
	load := Load{}
	for i := range s.inflight {
		o := &s.inflight[i]
		switch {
		case o.state == awaitingPubcomp:
			dst = s.send(&mqttcodec.Pubrel{PacketID: o.packetID}, dst)
		case o.state == pubrecSeen && o.journaled <= s.journal.durable:
			o.state = awaitingPubcomp
			dst = s.send(&mqttcodec.Pubrel{PacketID: o.packetID}, dst)
		case o.state == pubrecSeen:
			s.sendWhen(0, o.journaled, o.packetID, &mqttcodec.Pubrel{PacketID: o.packetID})
		case o.entry.Message == nil && o.entry.Sequence == 0:
			load.Foreign = append(load.Foreign, o.topic)
		case o.entry.Message == nil:
			load.Sequences = append(load.Sequences, o.entry.Sequence)
			if o.topic != "" {
				if load.Retained == nil {
					load.Retained = map[uint64]string{}
				}
				load.Retained[o.entry.Sequence] = o.topic
			}
		}
	}
	if len(load.Sequences)+len(load.Foreign) == 0 {
		return dst
	}
	s.loading = s.nextWork()
	load.Token = s.loading
	return append(dst, load)
}

// onLoaded gives the unfinished deliveries their messages back. One that is gone from the log frees its identifier, as
// does one whose place in the log is taken by another message.
func (s *Session) onLoaded(in Loaded, dst []Effect) []Effect {
	if in.Token != s.loading || s.loading == 0 {
		return dst
	}
	s.loading = 0
	if in.Err != nil {
		return s.becomeFenced(reasonOf(in.Err), in.Err, dst)
	}
	found, foreign := make(map[uint64]Entry, len(in.Entries)), map[string]Entry{}
	for _, e := range in.Entries {
		if e.Sequence == 0 {
			foreign[e.Message.Topic] = e
		} else {
			found[e.Sequence] = e
		}
	}
	keep := s.inflight[:0]
	for _, o := range s.inflight {
		if o.entry.Message != nil || o.state == pubrecSeen || o.state == awaitingPubcomp {
			keep = append(keep, o)
			continue
		}
		e, ok := found[o.entry.Sequence]
		if o.entry.Sequence == 0 {
			e, ok = foreign[o.topic]
		}
		switch {
		case !ok || e.Message == nil:
			dst = append(dst, Drop{Reason: DropTrimmed, Count: 1})
		case !o.entry.Time.IsZero() && !o.entry.SameTime(e.Time):
			dst = append(dst, Drop{Reason: DropReplaced, Count: 1})
		default:
			o.entry, o.topic = e, ""
			keep = append(keep, o)
			continue
		}
		s.ids.release(o.packetID)
		s.journalSoon()
		dst = settleShared(o.share, o.entry.Sequence, dst)
	}
	clear(s.inflight[len(keep):])
	s.inflight = keep
	return dst
}

// pump sends what may be sent: first what has an identifier already, then what the send quota allows of what waits.
func (s *Session) pump(now time.Time, dst []Effect) []Effect {
	if s.state != stateConnected || s.congested {
		return dst
	}
	dst, none := s.sendAssigned(now, dst)
	if !none || s.loading != 0 || s.subscriptionWork.holds() {
		return s.fetchMore(now, dst)
	}
	if dst, none = s.pumpRetained(now, dst); !none {
		return s.fetchMore(now, dst)
	}
	dst = s.pumpReplays(now, dst)
	for len(s.shared) > 0 {
		var taken bool
		if dst, taken = s.deliver(now, s.shared[0], dst); !taken {
			return s.fetchMore(now, dst)
		}
		s.shared[0] = delivery{}
		s.shared = s.shared[1:]
	}
	s.shared = nil
	for len(s.backlog) > 0 {
		var taken bool
		if dst, taken = s.deliver(now, s.backlog[0], dst); !taken {
			return s.fetchMore(now, dst)
		}
		s.backlogBytes -= s.backlog[0].size()
		s.backlog[0] = delivery{}
		s.backlog = s.backlog[1:]
	}
	dst, _ = s.pumpRetained(now, dst)
	return s.fetchMore(now, dst)
}

// sendAssigned sends the messages that have an identifier, in order, as far as journal, quota and loading allow. It
// reports whether none is left behind, so that later ones may go.
func (s *Session) sendAssigned(now time.Time, dst []Effect) ([]Effect, bool) {
	for i := 0; i < len(s.inflight); i++ {
		o := &s.inflight[i]
		if o.state != outboundAssigned {
			continue
		}
		if o.journaled > s.journal.durable || o.entry.Message == nil || !o.counted && s.quotaUsed >= s.receiveMaximum {
			return dst, false
		}
		p := s.publishPacket(now, o.entry.Message, o.qos, o.retained || o.retain, o.identifiers)
		p.PacketID, p.Duplicate = o.packetID, o.sent
		if o.replayed {
			markReplayed(s.version, p, &o.entry)
		}
		if why := s.undeliverable(p); why != "" { // to this connection: an earlier one took larger packets, or might read it
			dst = s.finish(i, dst)
			i--
			dst = append(dst, Drop{Reason: why, Count: 1})
			continue
		}
		dst = s.sendOutbound(o, p, dst)
	}
	return dst, true
}

func (s *Session) sendOutbound(o *outbound, p mqttcodec.Packet, dst []Effect) []Effect {
	o.state = awaitingPuback
	if o.qos == 2 {
		o.state = awaitingPubrec
	}
	o.sent = true
	if !o.counted {
		o.counted = true
		s.quotaUsed++
	}
	return s.send(p, dst)
}

// publishPacket is the PUBLISH that carries a message to this client.
func (s *Session) publishPacket(now time.Time, m *Message, qos mqttcodec.QoS, retain bool, identifiers []uint32) *mqttcodec.Publish {
	p := mqttcodec.NewPublish()
	p.Topic, p.Payload, p.QoS, p.Retain = m.Topic, m.Payload, qos, retain
	if s.version != mqttcodec.V5 {
		return p
	}
	p.Properties = m.Properties // unaltered [MQTT-3.3.2-17] …
	if expiry := &p.Properties.MessageExpirySeconds; expiry.Present {
		left := (m.remaining(now) + time.Second - 1) / time.Second // … but for the time it waited [MQTT-3.3.2-6]
		expiry.Value = uint32(min(max(left, 1), time.Duration(expiry.Value)))
	}
	p.SubscriptionIdentifiers = identifiers // [MQTT-3.3.4-3]
	return p
}

// deliver hands one message to the client, or to the send window. taken is false when the window has no room.
func (s *Session) deliver(now time.Time, d delivery, dst []Effect) (_ []Effect, taken bool) {
	m := d.entry.Message
	if m.Expired(now) {
		dst = append(dst, Drop{Reason: DropExpired, Count: 1}) // [MQTT-3.3.2-5]
		return settleShared(d.share, d.entry.Sequence, dst), true
	}
	if d.qos > 0 && s.quotaUsed >= s.receiveMaximum {
		return dst, false // [MQTT-3.3.4-9]
	}
	form := s.sharedForm(now, &d)
	var p *mqttcodec.Publish
	var why DropReason
	if form != nil {
		why = s.undeliverableForm(m, form)
	} else {
		p = s.publishPacket(now, m, d.qos, d.retained || d.retain, d.identifiers)
		if d.qos > 0 {
			p.PacketID = 1 // any: the size is the same
		}
		if d.replayed {
			markReplayed(s.version, p, &d.entry)
		}
		why = s.undeliverable(p)
	}
	if why != "" {
		if d.share != "" { // another member may take it
			return append(dst, GiveBack{Share: d.share, Entries: []Entry{d.entry}, Why: why}), true
		}
		return append(dst, Drop{Reason: why, Count: 1}), true
	}
	if d.qos == 0 {
		if m.Request {
			dst = s.noteRequest(now, m, dst)
		}
		if form != nil {
			return settleShared(d.share, d.entry.Sequence, s.send(form, dst)), true
		}
		return settleShared(d.share, d.entry.Sequence, s.send(p, dst)), true
	}
	id, ok := s.ids.allocate()
	if !ok {
		return dst, false
	}
	o := outbound{
		packetID: id, qos: d.qos, entry: d.entry, retained: d.retained, retain: d.retain, identifiers: d.identifiers,
		counted: true, share: d.share, replayed: d.replayed,
	}
	s.quotaUsed++
	s.journalSoon()
	waiting := s.assignedWait()
	if d.qos == 2 {
		o.journaled = s.journalNow() // exactly once: the identifier is durable before it is on the wire
	}
	switch {
	case o.journaled > s.journal.durable || waiting:
	case form != nil:
		dst = s.sendOutbound(&o, form.WithID(id), dst)
	default:
		p.PacketID = id
		dst = s.sendOutbound(&o, p, dst)
	}
	s.inflight = slide(&s.inflightBase, s.inflight, o)
	return dst, true
}

// assignedWait reports whether messages wait that have an identifier and are not sent: they go before any other.
func (s *Session) assignedWait() bool {
	return len(s.inflight) > 0 && s.inflight[len(s.inflight)-1].state == outboundAssigned
}

// sharedForm is the PUBLISH that a message is for all receivers like this one, nil when there are few, or something in it is
// for this one alone: identifiers of subscriptions, a topic alias, what is left of an expiry interval.
func (s *Session) sharedForm(now time.Time, d *delivery) *mqttcodec.SharedPublish {
	m := d.entry.Message
	if d.shared == nil || len(d.identifiers) > 0 || s.takesAliases || s.version == mqttcodec.V5 && m.Properties.MessageExpirySeconds.Present {
		return nil
	}
	retain := d.retained || d.retain
	if form := d.shared.Form(s.version, d.qos, retain); form != nil {
		return form
	}
	p := s.publishPacket(now, m, d.qos, retain, nil)
	form, err := d.shared.Make(s.version, p)
	if err != nil {
		return nil // too long for a packet: as without sharing
	}
	mqttcodec.Recycle(p)
	return form
}

// undeliverableForm is undeliverable for a shared PUBLISH.
func (s *Session) undeliverableForm(m *Message, form *mqttcodec.SharedPublish) DropReason {
	if !s.identity.mayReceive(m.Topic) {
		return DropMayNotRead
	}
	if s.clientMaxPacket > 0 && form.Len() > int(s.clientMaxPacket) {
		return DropTooLarge
	}
	return ""
}

// undeliverable is why the client cannot be sent a message, empty when it can. What cannot goes as if it had been
// delivered: the client takes no packet of this size [MQTT-3.1.2-25], or may not read the topic.
func (s *Session) undeliverable(p *mqttcodec.Publish) DropReason {
	if !s.identity.mayReceive(p.Topic) {
		return DropMayNotRead
	}
	if !s.fits(p) {
		return DropTooLarge
	}
	return ""
}

func (s *Session) inflightIndex(id uint16) int {
	for i := range s.inflight {
		if s.inflight[i].packetID == id {
			return i
		}
	}
	return -1
}

// finish ends a delivery and frees its identifier.
func (s *Session) finish(i int, dst []Effect) []Effect {
	o := &s.inflight[i]
	if o.counted {
		s.quotaUsed--
	}
	s.ids.release(o.packetID)
	dst = settleShared(o.share, o.entry.Sequence, dst)
	if i == 0 { // the usual case: clients acknowledge in order
		s.inflight[0] = outbound{}
		s.inflight = s.inflight[1:]
	} else {
		s.inflight = slices.Delete(s.inflight, i, i+1)
	}
	s.journalSoon()
	return dst
}

// onPuback ends a QoS 1 delivery, whatever the reason code. [MQTT-4.4.0-2]
func (s *Session) onPuback(now time.Time, p *mqttcodec.Puback, dst []Effect) []Effect {
	i := s.inflightIndex(p.PacketID)
	switch {
	case i < 0:
		return dst // late, or for the same message twice
	case s.inflight[i].qos != 1:
		return s.fault(now, protocolError("MQTT-3.3.4-1", "PUBACK for a QoS 2 message"), dst)
	case !s.inflight[i].sent:
		return s.fault(now, protocolError("", "PUBACK for a message that was not sent"), dst)
	}
	return s.finish(i, dst)
}

// onPubrec: the client has the message. PUBREL goes out when that is durable, so that PUBLISH never goes out again. [MQTT-4.3.3-6]
func (s *Session) onPubrec(now time.Time, p *mqttcodec.Pubrec, dst []Effect) []Effect {
	i := s.inflightIndex(p.PacketID)
	if i < 0 {
		return s.send(&mqttcodec.Pubrel{PacketID: p.PacketID, Reason: mqttcodec.PacketIdentifierNotFound}, dst)
	}
	o := &s.inflight[i]
	switch {
	case o.qos != 2:
		return s.fault(now, protocolError("MQTT-3.3.4-1", "PUBREC for a QoS 1 message"), dst)
	case !o.sent:
		return s.fault(now, protocolError("", "PUBREC for a message that was not sent"), dst)
	case o.state == awaitingPubcomp:
		return s.send(&mqttcodec.Pubrel{PacketID: p.PacketID}, dst)
	case o.state == pubrecSeen: // its PUBREL waits for the journal
		s.sendAgain(mqttcodec.TypePubrel, p.PacketID)
		return dst
	case p.Reason.Failed():
		dst = s.finish(i, dst) // [MQTT-4.4.0-2]
		s.journalNow()
		return dst
	}
	o.state = pubrecSeen
	o.entry.Message, o.identifiers, o.topic = nil, nil, "" // never sent again
	o.journaled = s.journalNow()
	s.sendWhen(0, o.journaled, p.PacketID, &mqttcodec.Pubrel{PacketID: p.PacketID})
	s.moveReleased(i)
	return dst
}

// moveReleased puts a delivery whose PUBREC has come behind those whose PUBREC came before, ahead of all others: PUBRELs are
// sent again in the order of the PUBRECs [MQTT-4.6.0-4], the other messages in that of their first sending [MQTT-4.6.0-1].
func (s *Session) moveReleased(i int) {
	first := i
	for first > 0 && s.inflight[first-1].state < pubrecSeen {
		first--
	}
	o := s.inflight[i]
	copy(s.inflight[first+1:i+1], s.inflight[first:i])
	s.inflight[first] = o
}

// pubrelSent notes that a PUBREL which waited for the journal is on the wire.
func (s *Session) pubrelSent(id uint16) {
	if i := s.inflightIndex(id); i >= 0 && s.inflight[i].state == pubrecSeen {
		s.inflight[i].state = awaitingPubcomp
	}
}

// onPubcomp ends a QoS 2 delivery.
func (s *Session) onPubcomp(now time.Time, p *mqttcodec.Pubcomp, dst []Effect) []Effect {
	i := s.inflightIndex(p.PacketID)
	switch {
	case i < 0:
		return dst
	case s.inflight[i].state != awaitingPubcomp:
		return s.fault(now, protocolError("", "PUBCOMP without PUBREL"), dst)
	}
	return s.finish(i, dst)
}
