package sessions

import (
	"slices"
	"strings"
)

// trailing is a message of this client at QoS 0 that went through the log, because it is retained or follows one that is,
// and may not have been handed out yet. Another one to its topic, routed past the log, would overtake it. [MQTT-4.6.0-5]
type trailing struct {
	token uint64
	topic string
	// sequence is 0 until the message is stored.
	sequence uint64
}

// leaveTrail notes that a message at QoS 0 goes through the log.
func (s *Session) leaveTrail(e pendingPublish) {
	if !s.cfg.QueueQoS0 { // else all of them do
		s.trail = append(s.trail, trailing{token: e.token, topic: strings.Clone(e.message.Topic)})
	}
}

// trailResult takes the outcome of a Persist.
func (s *Session) trailResult(r Result) {
	i := slices.IndexFunc(s.trail, func(t trailing) bool { return t.token == r.Token })
	switch {
	case i < 0:
	case r.Err != nil:
		s.trail = slices.Delete(s.trail, i, i+1)
	default:
		s.trail[i].sequence = r.Sequence
	}
}

// endTrail forgets what was handed out.
func (s *Session) endTrail(handed uint64) {
	for len(s.trail) > 0 && s.trail[0].sequence > 0 && s.trail[0].sequence <= handed {
		s.trail = s.trail[1:]
	}
	if len(s.trail) == 0 {
		s.trail = nil
	}
}

// trails reports whether a message to a topic must go through the log too, behind the one before it.
func (s *Session) trails(topic string) bool {
	return slices.ContainsFunc(s.trail, func(t trailing) bool { return t.topic == topic })
}
