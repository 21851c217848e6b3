package sessions

import (
	"math"
	"time"

	"dunlin/mqttcodec"
)

// alwaysNew is a sequence above all: that of messages which are not in the log.
const alwaysNew = math.MaxUint64

// delivery is a message that this session gets, and how.
type delivery struct {
	entry Entry
	// before is the session's position before it.
	before           Position
	qos              mqttcodec.QoS
	retained, retain bool
	identifiers      []uint32
	// filter is that of the SUBSCRIBE which a retained message answers.
	filter string
	// replayed: it comes by a replay.
	replayed bool
	// share is the shared subscription that it comes by, empty for others.
	share string
	// shared is what the receivers of the message have in common, nil when they are few.
	shared *mqttcodec.Shared
}

func (d *delivery) size() int { return d.entry.Message.Memory() }

// fetchState is what is known about catching up.
type fetchState struct {
	token   uint64
	pending bool
	// failed: the last Fetch failed; the next one waits for the timer.
	failed bool
	// armed: the timer runs. smallRoom: it has fired, so a Fetch need not wait for more room.
	armed, smallRoom bool
	// excess is how many more of the oldest messages have to go; with DropOldest only.
	excess uint64
	// bound is where the queue ends, nil when all of it is taken; with DropNewest only.
	bound *queueBound
}

// queueBound is how many more messages of a queue that is too long may be taken, up to its end as it was found.
type queueBound struct {
	left  uint64
	until Position
}

// position is the place in the log up to which everything was assigned or is not for this session.
func (s *Session) position() Position {
	if len(s.backlog) > 0 {
		return s.backlog[0].before
	}
	return s.looked
}

// journalsLive reports whether the node's checkpoint may stand for the session's position from now on: everything up to
// where it became live is assigned. Before that a checkpoint may be above the position.
func (s *Session) journalsLive() bool {
	return s.mode == modeLive && s.position().Sequence >= s.liveFrom
}

func (s *Session) clearBacklog() { s.backlog, s.backlogBase, s.backlogBytes = nil, nil, 0 }

// resumeFeed starts to feed a new connection: from where the session was left, if something is queued for it.
func (s *Session) resumeFeed(dst []Effect) []Effect {
	if s.queues() {
		s.mode = modeCatchingUp
		return dst // pump asks
	}
	s.mode = modeCatchingUp
	s.fetch.token++
	s.fetch.pending = true
	return append(dst, Join{Token: s.fetch.token, Durable: s.expiry > 0})
}

// smallRoomAfter is how long a session that catches up waits for half of its window to become free before it fetches for
// less. It must not wait for ever: the client may be waiting for the next message before it acknowledges these.
const smallRoomAfter = 100 * time.Millisecond

// fetchMore asks for more messages when the window has room for them, preferably for many.
func (s *Session) fetchMore(now time.Time, dst []Effect) []Effect {
	room := s.receiveMaximum - s.quotaUsed - len(s.backlog)
	if s.connection == 0 || s.mode != modeCatchingUp || s.fetch.pending || room <= 0 {
		return dst
	}
	if s.fetch.failed || room < (s.receiveMaximum+1)/2 && !s.fetch.smallRoom {
		if s.fetch.armed {
			return dst
		}
		s.fetch.armed = true
		return append(dst, SetTimer{Timer: TimerFetchRetry, At: now.Add(smallRoomAfter)})
	}
	s.fetch.token++
	s.fetch.pending, s.fetch.smallRoom = true, false
	return append(dst, Fetch{Token: s.fetch.token, After: s.looked, Max: s.fetchMax(), Durable: s.expiry > 0})
}

// fetchMax is how many messages are asked for at once: what the client can be sent, twice, and not less than what a live
// session may hold for it.
func (s *Session) fetchMax() int { return max(2*s.receiveMaximum, s.cfg.BacklogMessages) }

// onFetched takes what Fetch or Join brought.
func (s *Session) onFetched(now time.Time, in Fetched, dst []Effect) []Effect {
	if in.Token != s.fetch.token || !s.fetch.pending {
		return dst // asked for by a connection that is over
	}
	s.fetch.pending = false
	if in.Err != nil {
		s.fetch.failed, s.fetch.armed = true, true
		return append(dst, SetTimer{Timer: TimerFetchRetry, At: now.Add(retryAfter)})
	}
	if in.Lost > 0 {
		dst = append(dst, Drop{Reason: DropSlowConsumer, Count: in.Lost})
	}
	s.boundQueue(in)
	s.direct = s.nothingWaits()
	for _, e := range in.Entries {
		dst = s.look(now, e, nil, dst)
	}
	if in.UpTo.Sequence > s.looked.Sequence {
		s.looked = in.UpTo
	}
	if in.Live {
		s.mode, s.liveFrom = modeLive, s.looked.Sequence
		s.fetch = fetchState{token: s.fetch.token}
		if s.queues() {
			s.journalSoon()
		}
	}
	return dst
}

// boundQueue holds the queue against its limit, while the client is away and while it catches up: the oldest messages go,
// or, with DropNewest, the end of the queue as it was found.
func (s *Session) boundQueue(in Fetched) {
	limit := uint64(s.cfg.MaxQueuedMessages)
	switch {
	case limit == 0 || in.Queued <= limit:
	case s.cfg.Overflow == DropOldest:
		s.fetch.excess = in.Queued - limit
	case s.fetch.bound == nil:
		s.fetch.bound = &queueBound{left: limit, until: in.Head}
	}
}

// passing reports whether a message goes to those who are there when the log is handed out, live or not, and to nobody
// else: QoS 0 that is in the log only because it is retained.
func (s *Session) passing(m *Message) bool { return m != nil && m.QoS == 0 && !s.cfg.QueueQoS0 }

// pass takes a message as it comes, while the client is here.
func (s *Session) pass(now time.Time, e Entry, dst []Effect) []Effect {
	if s.mode == modeLive && e.Sequence > s.looked.Sequence {
		s.looked = e.Position
	}
	if s.state != stateConnected || e.Sequence <= s.onlineSince {
		return dst
	}
	if d, ok := s.match(e); ok {
		dst = s.sendNow(now, d, dst)
	}
	return dst
}

// sendNow sends a message at QoS 0, which is not held back by the quota (4.9), behind what may go before it.
func (s *Session) sendNow(now time.Time, d delivery, dst []Effect) []Effect {
	if s.congested {
		if s.renewRetained(d.entry) {
			return dst
		}
		return append(dst, Drop{Reason: DropSlowConsumer, Count: 1})
	}
	s.supersede(d.entry)
	if len(s.backlog) > 0 {
		dst = s.pump(now, dst)
	}
	dst, _ = s.deliver(now, d, dst)
	return dst
}

// onDelivered takes live entries. What does not fit into the window and the backlog is left in the log: the session
// then catches up, which costs no memory.
func (s *Session) onDelivered(now time.Time, in Delivered, dst []Effect) []Effect {
	s.direct = s.nothingWaits()
	for i, e := range in.Entries {
		switch {
		case s.passing(e.Message):
			dst = s.pass(now, e, dst)
		case s.mode == modeLive:
			dst = s.look(now, e, sharedAt(in.Shared, i), dst)
		}
	}
	if s.mode != modeLive {
		s.missed = true
		return dst
	}
	s.journalSoon()
	dst = s.pump(now, dst)
	if len(s.backlog) > s.cfg.BacklogMessages || s.backlogBytes > s.cfg.BacklogBytes {
		dst = s.fallBehind(dst)
	}
	return dst
}

// fallBehind turns a live session whose client is too slow into one that catches up.
func (s *Session) fallBehind(dst []Effect) []Effect {
	s.onlineSince = max(s.onlineSince, s.looked.Sequence) // at QoS 0 everything up to there was sent
	s.looked = s.position()
	s.clearBacklog()
	s.mode = modeCatchingUp
	s.fetch = fetchState{token: s.fetch.token}
	s.leaving++
	s.journalNow() // the checkpoint no longer stands for its position
	return append(dst, Leave{})
}

// nothingWaits reports whether a message that comes now may be sent at once: nothing has to go before it.
func (s *Session) nothingWaits() bool {
	return s.state == stateConnected && !s.congested && len(s.backlog)+len(s.shared)+len(s.retained)+len(s.owed) == 0 &&
		s.loading == 0 && !s.subscriptionWork.holds() && !s.assignedWait()
}

// look decides about one entry of the log.
func (s *Session) look(now time.Time, e Entry, shared *mqttcodec.Shared, dst []Effect) []Effect {
	if e.Sequence <= s.looked.Sequence {
		return dst // seen before
	}
	before := s.looked
	s.looked = e.Position
	if e.Message == nil {
		return dst
	}
	d, ok := s.match(e)
	if !ok {
		return dst
	}
	d.before, d.shared = before, shared
	if s.notQueued(&d) {
		return dst
	}
	if s.fetch.excess > 0 {
		s.fetch.excess--
		return append(dst, Drop{Reason: DropQueueFull, Count: 1})
	}
	if b := s.fetch.bound; b != nil && e.Sequence <= b.until.Sequence {
		if b.left == 0 {
			return append(dst, Drop{Reason: DropQueueFull, Count: 1})
		}
		b.left--
	} else {
		s.fetch.bound = nil
	}
	if d.qos == 0 && !s.cfg.QueueQoS0 {
		return s.sendNow(now, d, dst)
	}
	s.supersede(e)
	if s.direct {
		var taken bool
		if dst, taken = s.deliver(now, d, dst); taken {
			return dst
		}
		s.direct = false
	}
	s.backlog = slide(&s.backlogBase, s.backlog, d)
	s.backlogBytes += d.size()
	return dst
}

// notQueued reports whether a message of the log is for those only who were there: at QoS 0 it was published while the client
// was away, or sent as it came.
func (s *Session) notQueued(d *delivery) bool {
	return d.qos == 0 && d.entry.Sequence <= s.onlineSince && !s.cfg.QueueQoS0 || s.passing(d.entry.Message)
}

// onRouted takes QoS 0 messages, which are never in the log.
func (s *Session) onRouted(now time.Time, in Routed, dst []Effect) []Effect {
	if s.state != stateConnected {
		return dst
	}
	for i, m := range in.Messages {
		d, ok := s.match(Entry{Message: m, Position: Position{Sequence: alwaysNew}})
		d.shared = sharedAt(in.Shared, i)
		switch {
		case !ok:
		case s.congested:
			dst = append(dst, Drop{Reason: DropSlowConsumer, Count: 1})
		default:
			dst, _ = s.deliver(now, d, dst)
		}
	}
	return dst
}

// match decides whether and how a message is for this client: one copy, at the highest QoS that a matching subscription
// grants, with the identifiers of all of them. [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
func (s *Session) match(e Entry) (d delivery, ok bool) {
	m := e.Message
	d.entry = e
	granted := mqttcodec.QoS(0)
	s.subs.matching(m.Topic, func(sub *Subscription) {
		if e.Sequence <= sub.Since.Sequence {
			return // published before the SUBSCRIBE
		}
		if sub.answers {
			return // a request to others
		}
		if sub.NoLocal && m.Publisher == s.clientID {
			return // [MQTT-3.8.3-3]
		}
		ok = true
		granted = max(granted, sub.grantedFor(e.Sequence))
		d.retain = d.retain || sub.RetainAsPublished && m.Retain // [MQTT-3.3.1-13]
		if sub.Identifier > 0 {
			d.identifiers = append(d.identifiers, sub.Identifier)
		}
	})
	d.qos = min(granted, m.QoS) // [MQTT-3.8.4-8]
	return d, ok
}
