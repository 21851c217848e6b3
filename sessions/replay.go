package sessions

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// replayPrefix begins the topic filter of a replay: "$replay/{start}/{filter}".
const replayPrefix = "$replay/"

// The user properties that say where a replayed message stands in the log.
const (
	replaySequence = "dunlin-sequence"
	replayTime     = "dunlin-time"
)

const (
	// replayChunk is how many messages a replay has in memory at most; portions of the log bound their bytes.
	replayChunk = 256
	// replayBurst is for how long a replay that did not use its rate may make up for it.
	replayBurst = 200 * time.Millisecond
	// replayPause is how long a replay that has used its rate waits at least, so that it goes on with several messages.
	replayPause = 50 * time.Millisecond
)

// replay is a subscription that brings the messages of the log from some place on, at the pace of the client. It belongs to
// the connection. It only reads: at the end of the log it waits for what comes. So it follows the log from first to last in
// one way, and there is no seam between what is stored and what is live.
type replay struct {
	filter string // as subscribed
	sub    Subscription
	// after: everything up to there was read.
	after Position
	// reading is the token of the ReadReplay that is not answered, 0 when all are.
	reading uint64
	// waiting are messages that were read and wait for room.
	waiting []delivery
	// due is when the next message may be sent.
	due time.Time
}

// replays are those of a connection.
type replays struct {
	list []*replay // in the order in which they began
	// turn says which is first to send.
	turn int
	// armed: the timer runs.
	armed bool
}

// all are the replays. Nil has none.
func (r *replays) all() []*replay {
	if r == nil {
		return nil
	}
	return r.list
}

// ReplayStart is where a replay begins: with a sequence, or the first message that was stored at or after a time. Without
// either it is the oldest message.
type ReplayStart struct {
	// Filter is the filter as subscribed, Topics the filter in it.
	Filter, Topics string
	Sequence       uint64
	Time           time.Time
}

// ReplayFound is where a replay begins in the log.
type ReplayFound struct {
	// After is the position behind which it begins.
	After Position
	// Err wraps ErrNotFound when there is no such place, and ErrRejected when there are too many replays.
	Err error
}

// isReplay reports whether a topic filter asks for a replay.
func isReplay(filter string) bool { return strings.HasPrefix(filter, replayPrefix) }

// parseReplay reads the filter of a replay. now is what a duration counts back from.
func parseReplay(filter string, now time.Time) (start ReplayStart, ok bool) {
	text, topics, ok := strings.Cut(strings.TrimPrefix(filter, replayPrefix), "/")
	start.Filter, start.Topics = filter, topics
	if !ok || isReplay(topics) || isShared(topics) || mqttcodec.ValidateTopicFilter(topics) != nil {
		return start, false
	}
	if text == "first" {
		return start, true
	}
	var err error
	if start.Sequence, err = strconv.ParseUint(text, 10, 64); err == nil {
		return start, true
	}
	if ago, err := time.ParseDuration(text); err == nil {
		start.Time = now.Add(-ago)
		return start, ago >= 0
	}
	start.Time, err = time.Parse(time.RFC3339Nano, text)
	return start, err == nil && !start.Time.After(now)
}

// sharesReplay reports whether a topic filter shares a replay: that is everybody's own.
func sharesReplay(filter string) bool {
	_, shared, ok := mqttcodec.SharedFilter(filter)
	return ok && isReplay(shared)
}

// grantReplay decides about the filter of a replay, and notes where it is to begin.
func (s *Session) grantReplay(now time.Time, r mqttcodec.SubscriptionRequest, count int, find *FindReplays) mqttcodec.ReasonCode {
	start, ok := parseReplay(strings.Clone(r.Filter), now)
	if !ok || s.cfg.ReplayRate == 0 {
		return mqttcodec.TopicFilterInvalid
	}
	r.Filter = start.Topics
	reason := s.grant(r, count)
	if !reason.Failed() {
		find.Starts = append(find.Starts, start)
	}
	return reason
}

// findReplay is the replay of a filter, nil for none.
func (s *Session) findReplay(filter string) *replay {
	for _, r := range s.replays.all() {
		if r.filter == filter {
			return r
		}
	}
	return nil
}

// replaysNoLocal reports whether a replay has the No Local option.
func (s *Session) replaysNoLocal() bool {
	return slices.ContainsFunc(s.replays.all(), func(r *replay) bool { return r.sub.NoLocal })
}

// onReplaysFound begins the replays of a SUBSCRIBE, and goes on with its other filters.
func (s *Session) onReplaysFound(in ReplaysFound, dst []Effect) []Effect {
	w := &s.subscriptionWork
	if w.subscribing == nil || in.Token != w.token {
		return dst
	}
	p, behind := w.subscribing, w.behind
	w.subscribing, w.behind = nil, nil
	for i, r := range p.Requests {
		if w.reasons[i].Failed() || !isReplay(r.Filter) {
			continue
		}
		found := in.Found[0]
		in.Found = in.Found[1:]
		switch {
		case errors.Is(found.Err, ErrNotFound):
			w.reasons[i] = mqttcodec.TopicFilterInvalid
		case errors.Is(found.Err, ErrRejected):
			w.reasons[i] = mqttcodec.QuotaExceeded
		case found.Err != nil:
			w.reasons[i] = mqttcodec.UnspecifiedError
		case w.orphan:
			dst = append(dst, EndReplay{Filter: r.Filter})
		default:
			s.startReplay(r, p.SubscriptionIdentifier, found.After)
		}
	}
	if w.orphan {
		w.orphan = false
		return dst
	}
	return s.makeEffective(p, *behind, dst)
}

// startReplay begins a replay behind a position, in the place of an earlier one of its filter.
func (s *Session) startReplay(r mqttcodec.SubscriptionRequest, identifier uint32, after Position) {
	if s.replays == nil {
		s.replays = &replays{}
	}
	s.replays.remove(r.Filter)
	s.replays.list = append(s.replays.list, &replay{
		filter: strings.Clone(r.Filter), after: after,
		sub: Subscription{QoS: r.Options.QoS, NoLocal: r.Options.NoLocal, RetainAsPublished: r.Options.RetainAsPublished, Identifier: identifier},
	})
}

// remove forgets the replay of a filter.
func (r *replays) remove(filter string) {
	r.list = slices.DeleteFunc(r.list, func(old *replay) bool { return old.filter == filter })
}

// endReplay ends the replay of a filter, if there is one. What was sent is finished all the same. [MQTT-3.10.4-3]
func (s *Session) endReplay(filter string, dst []Effect) (_ []Effect, ended bool) {
	if s.findReplay(filter) == nil {
		return dst, false
	}
	s.replays.remove(filter)
	return append(dst, EndReplay{Filter: filter}), true
}

// endReplays ends all replays: the connection ends.
func (s *Session) endReplays(dst []Effect) []Effect {
	for _, r := range s.replays.all() {
		dst = append(dst, EndReplay{Filter: r.filter})
	}
	s.replays = nil
	return dst
}

// onReplayRead takes what was read for a replay.
func (s *Session) onReplayRead(now time.Time, in ReplayRead) {
	r := s.findReplay(in.Filter)
	if r == nil || in.Token != r.reading {
		return // of one that has ended
	}
	r.reading, r.after = 0, in.UpTo
	for _, e := range in.Entries {
		m := e.Message
		if m == nil || m.Expired(now) || r.sub.NoLocal && m.Publisher == s.clientID {
			continue
		}
		d := delivery{entry: e, replayed: true, qos: min(r.sub.QoS, m.QoS), retain: r.sub.RetainAsPublished && m.Retain}
		if r.sub.Identifier > 0 {
			d.identifiers = []uint32{r.sub.Identifier}
		}
		r.waiting = append(r.waiting, d)
	}
}

// pumpReplays sends what replays have read, as their rate and the room allow, and reads on. They take turns at being first.
func (s *Session) pumpReplays(now time.Time, dst []Effect) []Effect {
	all := s.replays.all()
	if len(all) == 0 {
		return dst
	}
	room := s.replayRoom()
	var due time.Time
	first := s.replays.turn
	s.replays.turn++
	for i := range all {
		r := all[(first+i)%len(all)]
		if dst = s.pumpReplay(now, r, &room, dst); r.due.After(now) && (due.IsZero() || r.due.Before(due)) {
			due = r.due
		}
	}
	if !due.IsZero() && !s.replays.armed {
		s.replays.armed = true
		dst = append(dst, SetTimer{Timer: TimerReplay, At: now.Add(max(due.Sub(now), replayPause))})
	}
	return dst
}

// replayRoom is how many messages at QoS 1 and 2 replays may send now. They leave half of the window to others, and one place
// of it to what waits.
func (s *Session) replayRoom() int {
	unfinished := 0
	for i := range s.inflight {
		if o := &s.inflight[i]; o.replayed && o.counted {
			unfinished++
		}
	}
	room := s.receiveMaximum - s.quotaUsed - min(len(s.backlog)+len(s.shared), 1)
	return min(room, (s.receiveMaximum+1)/2-unfinished)
}

func (s *Session) pumpReplay(now time.Time, r *replay, room *int, dst []Effect) []Effect {
	for len(r.waiting) > 0 {
		d := r.waiting[0]
		if r.due.After(now) || d.qos > 0 && *room <= 0 {
			return dst
		}
		used := s.quotaUsed
		var taken bool
		if dst, taken = s.deliver(now, d, dst); !taken {
			return dst
		}
		*room -= s.quotaUsed - used
		if earliest := now.Add(-replayBurst); r.due.Before(earliest) {
			r.due = earliest
		}
		r.due = r.due.Add(time.Second / time.Duration(s.cfg.ReplayRate))
		r.waiting[0] = delivery{}
		r.waiting = r.waiting[1:]
	}
	r.waiting = nil
	if r.reading == 0 && !r.due.After(now) {
		r.reading = s.nextWork()
		dst = append(dst, ReadReplay{Token: r.reading, Filter: r.filter, After: r.after, Max: min(replayChunk, s.cfg.ReplayRate)})
	}
	return dst
}

// markReplayed tells a 5.0 client where a message stands in the log.
func markReplayed(v mqttcodec.Version, p *mqttcodec.Publish, e *Entry) {
	if v != mqttcodec.V5 {
		return
	}
	p.Properties.UserProperties = append(slices.Clip(p.Properties.UserProperties),
		mqttcodec.UserProperty{Key: replaySequence, Value: strconv.FormatUint(e.Sequence, 10)},
		mqttcodec.UserProperty{Key: replayTime, Value: e.Time.UTC().Format(time.RFC3339Nano)})
}
