package sessions

import (
	"slices"
	"time"
)

// retainedChunk is how many retained messages a session asks for at a time.
const retainedChunk = 256

// owedRetained is what a SUBSCRIBE asked for and its client has not got yet: the messages that were retained at the SUBSCRIBE,
// in the order of their topics. What becomes retained later comes live, and takes the place of what was to be sent. Messages
// at QoS 1 and 2 that wait to be sent are session state (4.1), so it is journaled.
type owedRetained struct {
	filter string
	// at is the position of the SUBSCRIBE.
	at Position
	// after is the topic up to which they were sent.
	after string

	// passing: all that is left is at QoS 0, so nothing is owed to a client that leaves.
	passing bool
	// read is the topic up to which they are in Session.retained, or were; complete: there are no others.
	read     string
	complete bool
}

// oweRetained notes what a SUBSCRIBE brings, in the place of what is left of an earlier one for its filter.
func (s *Session) oweRetained(sub *Subscription, at Position, first RetainedPart) {
	if first.More || len(first.Entries) > 0 { // else an earlier SUBSCRIBE goes on
		s.forgetRetained(func(filter string) bool { return filter == sub.Filter })
	}
	if !first.More && len(first.Entries) == 0 {
		return
	}
	s.owed = append(s.owed, owedRetained{filter: sub.Filter, at: at})
	o := &s.owed[len(s.owed)-1]
	o.passing = sub.QoS == 0 || !first.More && !slices.ContainsFunc(first.Entries, func(e Entry) bool { return e.Message.QoS > 0 })
	s.takeRetained(o, sub, first)
}

// takeRetained takes a part of what is owed, but for what came, or comes, live.
func (s *Session) takeRetained(o *owedRetained, sub *Subscription, part RetainedPart) {
	for _, e := range part.Entries {
		if e.Sequence > o.at.Sequence && (e.Message.QoS > 0 || e.Sequence > max(s.onlineSince, s.missedRetained)) {
			continue
		}
		if sub.NoLocal && e.Message.Publisher == s.clientID {
			continue
		}
		d := delivery{entry: e, qos: min(e.Message.QoS, sub.QoS), retained: true, filter: o.filter}
		if sub.Identifier > 0 {
			d.identifiers = []uint32{sub.Identifier}
		}
		s.retained = append(s.retained, d)
	}
	o.read, o.complete = part.UpTo, !part.More
}

// pumpRetained sends the retained messages that are owed, and asks for more of them. What the session missed before the
// SUBSCRIBE goes first, so that none is followed by an older message of its topic. It reports whether none is left that
// could go now.
func (s *Session) pumpRetained(now time.Time, dst []Effect) (_ []Effect, none bool) {
	for len(s.retained) > 0 {
		d := s.retained[0]
		o := s.owedBy(d.filter)
		if !s.reached(o.at) {
			return dst, true
		}
		var taken bool
		if dst, taken = s.deliver(now, d, dst); !taken {
			return dst, false
		}
		o.after = d.entry.Message.Topic
		s.retained[0] = delivery{}
		s.retained = s.retained[1:]
	}
	s.retained = nil
	if i := slices.IndexFunc(s.owed, func(o owedRetained) bool { return !o.complete }); i >= 0 {
		if !s.reached(s.owed[i].at) {
			return dst, true
		}
		if s.readingRetained == 0 {
			s.readingRetained = s.nextWork()
			dst = append(dst, ReadRetained{Token: s.readingRetained, Filter: s.owed[i].filter, After: s.owed[i].read, Max: retainedChunk})
		}
		return dst, false
	}
	if len(s.owed) > 0 {
		s.owed = nil
		s.journalSoon()
	}
	return dst, true
}

// reached reports whether the session is at a position, or at the end of the log.
func (s *Session) reached(at Position) bool {
	return at.Sequence <= s.position().Sequence || s.mode == modeLive && len(s.backlog) == 0
}

// onRetainedRead takes a part of the retained messages that are owed.
func (s *Session) onRetainedRead(in RetainedRead) {
	if in.Token != s.readingRetained || in.Token == 0 {
		return
	}
	s.readingRetained = 0
	if o := s.owedBy(in.Filter); o != nil {
		s.takeRetained(o, s.subs.find(o.filter), in.RetainedPart)
	}
}

// parkRetained keeps what is owed for the next connection.
func (s *Session) parkRetained() {
	s.retained = nil
	s.owed = slices.DeleteFunc(s.owed, func(o owedRetained) bool { return o.passing })
	for i := range s.owed {
		o := &s.owed[i]
		o.read, o.complete = o.after, false
	}
}

func (s *Session) owedBy(filter string) *owedRetained {
	if i := slices.IndexFunc(s.owed, func(o owedRetained) bool { return o.filter == filter }); i >= 0 {
		return &s.owed[i]
	}
	return nil
}

// owesDurably reports whether there is something of what is owed that the journal has to know.
func (s *Session) owesDurably() bool {
	return slices.ContainsFunc(s.owed, func(o owedRetained) bool { return !o.passing })
}

// forgetRetained drops what is owed to filters.
func (s *Session) forgetRetained(gone func(filter string) bool) {
	if len(s.owed) == 0 {
		return
	}
	s.owed = slices.DeleteFunc(s.owed, func(o owedRetained) bool { return gone(o.filter) })
	s.retained = slices.DeleteFunc(s.retained, func(d delivery) bool { return gone(d.filter) })
	s.readingRetained = 0 // it may be for one of them
}

// supersede takes back a retained message that waits to be sent, since a newer one of its topic is delivered live: never
// stale after newer.
func (s *Session) supersede(e Entry) {
	if e.Message.Retain && len(s.retained) > 0 {
		s.retained = slices.DeleteFunc(s.retained, func(d delivery) bool {
			return d.entry.Message.Topic == e.Message.Topic && d.entry.Sequence < e.Sequence
		})
	}
}

// renewRetained puts a newer retained message, which cannot be delivered live, in the place of the one that waits to be
// sent. It returns false when none does, or the newer one only removes it.
func (s *Session) renewRetained(e Entry) (renewed bool) {
	if !e.Message.Retain {
		return false
	}
	s.missedRetained = max(s.missedRetained, e.Sequence) // those not read yet are read with it
	if len(e.Message.Payload) == 0 {
		s.supersede(e)
		return false
	}
	for i := range s.retained {
		if d := &s.retained[i]; d.entry.Message.Topic == e.Message.Topic && d.entry.Sequence < e.Sequence {
			d.entry, d.qos, renewed = e, 0, true
		}
	}
	return renewed
}
