package sessions

import (
	"errors"
	"slices"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// subscriptionWork is the SUBSCRIBE or UNSUBSCRIBE that is being carried out, and those behind it, with every PUBLISH in
// between: they take effect in the order in which they came, one at a time.
type subscriptionWork struct {
	queue []mqttcodec.Packet
	// subscribing is the SUBSCRIBE that is waiting for Subscribed, nil otherwise.
	subscribing *mqttcodec.Subscribe
	token       uint64
	// behind is what follows when the places are found where replays begin, nil when none are looked for.
	behind  *Subscribe
	reasons []mqttcodec.ReasonCode
	// saving is the version of the record that the acknowledgement waits for, 0 when none does; journaling that of the
	// journal, which has to know what retained messages are owed.
	saving, journaling uint64
	// withholds: retained messages wait for the SUBACK.
	withholds bool
	// orphan: the connection that sent subscribing is over.
	orphan bool
}

func (w *subscriptionWork) idle() bool { return w.subscribing == nil }

// holds reports whether messages have to wait for a SUBACK.
func (w *subscriptionWork) holds() bool { return w.saving > 0 && w.withholds }

// orphaned is what stays of the work when its connection ends: a SUBSCRIBE on its way. Its client was never told, so it
// is undone; what the next connection asks for waits until then.
func (w *subscriptionWork) orphaned() subscriptionWork {
	return subscriptionWork{subscribing: w.subscribing, token: w.token, reasons: w.reasons, orphan: w.subscribing != nil}
}

// enqueueSubscriptionWork takes a SUBSCRIBE or UNSUBSCRIBE whose answer will be as large as answer.
func (s *Session) enqueueSubscriptionWork(now time.Time, p, answer mqttcodec.Packet, dst []Effect) []Effect {
	if !s.fits(answer) {
		return s.fault(now, answerTooLarge(answer), dst)
	}
	s.subscriptionWork.queue = append(s.subscriptionWork.queue, p) // bounded by the connection's inbound bound
	return s.continueSubscriptionWork(now, dst)
}

// waitsForSubscribe reports whether a PUBLISH has to wait: packets take effect in the order in which they come, so what a
// client publishes behind its SUBSCRIBE finds the subscription made.
func (w *subscriptionWork) waitsForSubscribe() bool {
	return len(w.queue) > 0 || w.subscribing != nil && !w.orphan
}

// continueSubscriptionWork goes on with the next SUBSCRIBE or UNSUBSCRIBE when the one before is through, and with what
// was published behind it.
func (s *Session) continueSubscriptionWork(now time.Time, dst []Effect) []Effect {
	w := &s.subscriptionWork
	if w.saving > 0 && w.saving <= s.record.durable && w.journaling <= s.journal.durable {
		w.saving, w.journaling, w.withholds = 0, 0, false
	}
	for w.subscribing == nil && len(w.queue) > 0 {
		p := w.queue[0]
		if w.saving > 0 && p.Type() != mqttcodec.TypePublish { // the filter is effective, but the SUBACK is owed
			break
		}
		if p.Type() == mqttcodec.TypeSubscribe && s.publishing() {
			break // what the client published before is in the log first: it is not live any more for the new subscription
		}
		w.queue[0] = nil // so that the packet is not kept
		if w.queue = w.queue[1:]; len(w.queue) == 0 {
			w.queue = nil
		}
		switch p := p.(type) {
		case *mqttcodec.Subscribe:
			dst = s.onSubscribe(now, p, dst)
		case *mqttcodec.Unsubscribe:
			dst = s.onUnsubscribe(p, dst)
		case *mqttcodec.Publish:
			dst = s.onPublish(now, p, dst)
		}
	}
	return dst
}

// publishWaiting publishes what waits for a SUBSCRIBE, for the connection ends.
func (s *Session) publishWaiting(now time.Time, dst []Effect) []Effect {
	queue := s.subscriptionWork.queue
	s.subscriptionWork.queue = nil
	for _, p := range queue {
		if p, ok := p.(*mqttcodec.Publish); ok && s.connection != 0 {
			dst = s.onPublish(now, p, dst)
		}
	}
	return dst
}

// onSubscribe looks at each filter of a SUBSCRIBE and makes those that may be effective. (3.8.4)
func (s *Session) onSubscribe(now time.Time, p *mqttcodec.Subscribe, dst []Effect) []Effect {
	w := &s.subscriptionWork
	w.reasons = make([]mqttcodec.ReasonCode, len(p.Requests))
	effect, find := Subscribe{Token: s.nextWork()}, FindReplays{}
	count := s.subs.count() + len(s.replays.all())
	for i, r := range p.Requests {
		if isReplay(r.Filter) {
			dst, _ = s.endReplay(r.Filter, dst)
			w.reasons[i] = s.grantReplay(now, r, count+len(find.Starts)+1, &find)
			continue
		}
		if isShared(r.Filter) && r.Options.NoLocal {
			return s.fault(now, protocolError("MQTT-3.8.3-4", "No Local on a shared subscription"), dst)
		}
		old := s.subs.find(r.Filter)
		after := count
		if old == nil {
			after++
		}
		w.reasons[i] = s.grant(r, after)
		if w.reasons[i].Failed() {
			continue
		}
		count = after
		p.Requests[i].Filter = strings.Clone(r.Filter) // it outlives the packet
		if isShared(r.Filter) {                        // retained messages are not for it (4.8.2)
			effect.Shares = append(effect.Shares, p.Requests[i].Filter)
			continue
		}
		wants := r.Options.RetainHandling == mqttcodec.RetainSend || // [MQTT-3.3.1-9]
			r.Options.RetainHandling == mqttcodec.RetainSendIfNew && old == nil // [MQTT-3.3.1-10]
		effect.Filters = append(effect.Filters, p.Requests[i].Filter)
		effect.WantRetained = append(effect.WantRetained, wants)
	}
	if len(find.Starts) > 0 {
		find.Token = s.nextWork()
		behind := effect // on the heap only here
		w.subscribing, w.token, w.behind = p, find.Token, &behind
		return append(dst, find)
	}
	return s.makeEffective(p, effect, dst)
}

// makeEffective asks for the filters of a SUBSCRIBE to be made effective. Without any it is through.
func (s *Session) makeEffective(p *mqttcodec.Subscribe, effect Subscribe, dst []Effect) []Effect {
	w := &s.subscriptionWork
	if len(effect.Filters)+len(effect.Shares) == 0 {
		return s.send(&mqttcodec.Suback{PacketID: p.PacketID, Reasons: w.reasons}, dst)
	}
	w.subscribing, w.token = p, effect.Token
	return append(dst, effect)
}

// grant decides about one filter. A refused one does not hurt the others. [MQTT-3.8.4-5]
func (s *Session) grant(r mqttcodec.SubscriptionRequest, count int) mqttcodec.ReasonCode {
	var fault *mqttcodec.ProtocolError
	switch err := mqttcodec.ValidateTopicFilter(r.Filter); {
	case errors.As(err, &fault):
		return mqttcodec.TopicFilterInvalid // [MQTT-4.7.1-1]
	case isShared(r.Filter) && !s.cfg.SharedSubscriptions, sharesReplay(r.Filter):
		return mqttcodec.SharedSubscriptionsNotAllowed // as CONNACK says
	case isShared(r.Filter) && ExchangeTopic(innerFilter(r.Filter)), strings.HasPrefix(r.Filter, requestPrefix):
		return mqttcodec.TopicFilterInvalid // an answer is for one session, a request for those who subscribe to its topic
	case !s.cfg.TopicFits(r.Filter, true):
		return mqttcodec.TopicFilterInvalid
	case !s.identity.maySubscribe(r):
		return mqttcodec.NotAuthorized
	case count > s.cfg.MaxSubscriptions:
		return mqttcodec.QuotaExceeded
	case isShared(r.Filter):
		return mqttcodec.ReasonCode(min(r.Options.QoS, maxShareQoS))
	}
	return mqttcodec.ReasonCode(r.Options.QoS)
}

// innerFilter is the filter in that of a shared subscription.
func innerFilter(filter string) string {
	_, inner, _ := mqttcodec.SharedFilter(filter)
	return inner
}

// onSubscribed: the filters are effective. SUBACK promises that they stay so, hence it waits for the record.
func (s *Session) onSubscribed(in Subscribed, dst []Effect) []Effect {
	w := &s.subscriptionWork
	if w.subscribing == nil || in.Token != w.token {
		return dst
	}
	p := w.subscribing
	w.subscribing = nil
	if in.Err != nil {
		return s.becomeFenced(reasonOf(in.Err), in.Err, dst)
	}
	if w.orphan {
		w.orphan = false
		return s.forgetOrphan(p, dst)
	}
	next, joined := 0, []string(nil)
	for i, r := range p.Requests {
		if w.reasons[i].Failed() || isReplay(r.Filter) {
			continue
		}
		shared := isShared(r.Filter)
		if shared {
			err := in.ShareErrs[0]
			in.ShareErrs = in.ShareErrs[1:]
			if err != nil {
				w.reasons[i] = shareRefusal(err)
				continue
			}
			joined = append(joined, r.Filter)
		}
		s.subs.put(Subscription{
			Filter: r.Filter, QoS: mqttcodec.QoS(w.reasons[i]), NoLocal: r.Options.NoLocal, RetainAsPublished: r.Options.RetainAsPublished,
			RetainHandling: r.Options.RetainHandling, Identifier: p.SubscriptionIdentifier, Since: in.Position,
		})
		if shared {
			continue
		}
		s.oweRetained(s.subs.find(r.Filter), in.Position, in.Retained[next])
		next++
	}
	if len(joined) > 0 {
		dst = append(dst, Attach{Shares: joined})
	}
	ack := &mqttcodec.Suback{PacketID: p.PacketID, Reasons: w.reasons}
	if s.expiry == 0 || next+len(joined) == 0 {
		return s.send(ack, dst)
	}
	w.saving = s.record.want()
	w.withholds = len(s.owed) > 0
	if s.owesDurably() {
		w.journaling = s.journalNow()
	}
	s.sendWhen(w.saving, w.journaling, p.PacketID, ack)
	return dst
}

// forgetOrphan ends the filters of a SUBSCRIBE whose connection is over, but for those that the session has anyway.
func (s *Session) forgetOrphan(p *mqttcodec.Subscribe, dst []Effect) []Effect {
	var filters, shares []string
	for i, r := range p.Requests {
		switch {
		case s.subscriptionWork.reasons[i].Failed() || isReplay(r.Filter) || s.subs.find(r.Filter) != nil:
		case isShared(r.Filter):
			shares = append(shares, r.Filter)
		default:
			filters = append(filters, r.Filter)
		}
	}
	if len(filters) > 0 {
		dst = append(dst, Unsubscribe{Filters: filters})
	}
	if len(shares) > 0 {
		dst = append(dst, LeaveShares{Shares: shares})
	}
	return dst
}

// onUnsubscribe ends subscriptions, compared character by character. [MQTT-3.10.4-1]
func (s *Session) onUnsubscribe(p *mqttcodec.Unsubscribe, dst []Effect) []Effect {
	ack := &mqttcodec.Unsuback{PacketID: p.PacketID, Reasons: make([]mqttcodec.ReasonCode, len(p.Filters))}
	var ended Unsubscribe
	for i, filter := range p.Filters {
		var replayed bool
		if dst, replayed = s.endReplay(filter, dst); replayed {
			continue
		}
		switch {
		case !s.subs.remove(filter):
			ack.Reasons[i] = mqttcodec.NoSubscriptionExisted // [MQTT-3.10.4-5]
		case isShared(filter):
			ended.Shares = append(ended.Shares, filter)
		default:
			ended.Filters = append(ended.Filters, filter)
		}
	}
	if len(ended.Filters)+len(ended.Shares) == 0 {
		return s.send(ack, dst)
	}
	dst = append(dst, ended)
	owed := s.owesDurably()
	s.forgetRetained(func(filter string) bool { return slices.Contains(ended.Filters, filter) })
	s.rematch()
	dst = s.leaveShares(ended.Shares, dst)
	if s.expiry == 0 {
		return s.send(ack, dst)
	}
	w := &s.subscriptionWork
	w.saving = s.record.want()
	if owed {
		w.journaling = s.journalNow()
	}
	s.sendWhen(w.saving, w.journaling, p.PacketID, ack)
	return dst
}

// rematch drops from what waits whatever no subscription wants any more. [MQTT-3.10.4-2]
func (s *Session) rematch() {
	unwanted := func(d delivery) bool {
		_, ok := s.match(Entry{Message: d.entry.Message, Position: Position{Sequence: alwaysNew}})
		return !ok
	}
	if len(s.backlog) > 0 {
		first := s.backlog[0].before
		s.backlog = slices.DeleteFunc(s.backlog, unwanted)
		if len(s.backlog) > 0 {
			s.backlog[0].before = first
		}
		s.backlogBytes = 0
		for i := range s.backlog {
			s.backlogBytes += s.backlog[i].size()
		}
	}
}

func (s *Session) nextWork() uint64 {
	s.workToken++
	return s.workToken
}
