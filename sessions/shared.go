package sessions

import (
	"errors"
	"slices"
	"time"

	"dunlin/mqttcodec"
)

// maxShareQoS is what a shared subscription is granted at most: a message at QoS 2 could not be given to another member.
// [MQTT-4.8.2-3]
const maxShareQoS = mqttcodec.QoS(1)

// shareRefusal is the reason code for a shared subscription that could not be joined. (3.9.3)
func shareRefusal(err error) mqttcodec.ReasonCode {
	if errors.Is(err, ErrRejected) {
		return mqttcodec.QuotaExceeded
	}
	return mqttcodec.UnspecifiedError
}

// onSharedDelivered takes messages that the group has chosen this member for. What it cannot take any more goes back.
func (s *Session) onSharedDelivered(in SharedDelivered, dst []Effect) []Effect {
	sub := s.subs.findShared(in.Share)
	if s.state != stateConnected || sub == nil {
		return append(dst, GiveBack{Share: in.Share, Entries: slices.Clone(in.Entries)})
	}
	for _, e := range in.Entries {
		d := s.sharedDelivery(sub, e)
		// Published at QoS 0 while the client was away. What it is granted does not matter: another member may have more.
		if s.passing(e.Message) && e.Sequence <= s.connectedSince {
			dst = settleShared(d.share, e.Sequence, dst)
			continue
		}
		s.shared = append(s.shared, d) // pump sends it
	}
	return dst
}

// onSharedRouted takes QoS 0 messages, which are never in the log.
func (s *Session) onSharedRouted(now time.Time, in SharedRouted, dst []Effect) []Effect {
	sub := s.subs.findShared(in.Share)
	if s.state != stateConnected || sub == nil {
		return dst
	}
	for _, m := range in.Messages {
		if s.congested {
			dst = append(dst, Drop{Reason: DropSlowConsumer, Count: 1})
			continue
		}
		d := s.sharedDelivery(sub, Entry{Message: m})
		d.share = "" // the group does not wait for it
		dst, _ = s.deliver(now, d, dst)
	}
	return dst
}

// sharedDelivery is how a message of a shared subscription goes to this member: at its own grant, with its own identifier.
// [MQTT-4.8.2-3]
func (s *Session) sharedDelivery(sub *Subscription, e Entry) delivery {
	d := delivery{entry: e, share: sub.Filter, qos: min(sub.QoS, e.Message.QoS), retain: sub.RetainAsPublished && e.Message.Retain}
	if sub.Identifier > 0 {
		d.identifiers = []uint32{sub.Identifier}
	}
	return d
}

// settleShared ends a message, if it came by a shared subscription.
func settleShared(share string, sequence uint64, dst []Effect) []Effect {
	if share == "" {
		return dst
	}
	return append(dst, Settle{Share: share, Sequence: sequence})
}

// giveBackShared hands back the messages that wait for room, of the shares that are meant.
func (s *Session) giveBackShared(meant func(share string) bool, dst []Effect) []Effect {
	s.shared = slices.DeleteFunc(s.shared, func(d delivery) bool {
		if !meant(d.share) {
			return false
		}
		dst = append(dst, GiveBack{Share: d.share, Entries: []Entry{d.entry}})
		return true
	})
	return dst
}

// leaveShares ends shared subscriptions that were unsubscribed. What was sent is finished all the same. [MQTT-3.10.4-3]
// The session is a subscriber until its record says otherwise: the last one takes the group's backlog with it.
func (s *Session) leaveShares(shares []string, dst []Effect) []Effect {
	if len(shares) == 0 {
		return dst
	}
	dst = s.giveBackShared(func(share string) bool { return slices.Contains(shares, share) }, dst)
	leave := LeaveShares{Shares: shares}
	if s.expiry == 0 {
		return append(dst, leave)
	}
	s.deferred = append(s.deferred, deferred{true, s.record.want(), leave})
	return dst
}

// leaveAllShares: the session ends. What its client has not acknowledged is for another member, as soon as no document says
// any more that it is this client's.
func (s *Session) leaveAllShares() {
	var effects []Effect
	for i := range s.inflight {
		if o := &s.inflight[i]; o.share != "" {
			effects = append(effects, GiveBack{Share: o.share, Entries: []Entry{o.entry}})
		}
	}
	if shares := s.subs.shares(); len(shares) > 0 {
		effects = append(effects, LeaveShares{Shares: shares})
	}
	if len(effects) == 0 {
		return
	}
	gone := s.record.want() // it is deleted, or replaced by that of another session
	for _, e := range effects {
		s.deferred = append(s.deferred, deferred{true, gone, e})
	}
}

// tellRoom says how much of shared subscriptions the client can be sent, when that has changed.
func (s *Session) tellRoom(dst []Effect) []Effect {
	room := -1
	if len(s.subs.shared) > 0 && s.state == stateConnected && !s.congested {
		room = max(0, s.receiveMaximum-max(s.quotaUsed, len(s.inflight))-len(s.retained)-len(s.shared)-len(s.backlog))
	}
	if s.toldRoom == room+1 {
		return dst
	}
	s.toldRoom = room + 1
	return append(dst, ShareRoom{Room: room})
}
