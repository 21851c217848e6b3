package clients

import (
	"testing"
	"time"

	"dunlin/test/harness"
)

// Clients of every kind and version publish later and have messages again, since both are only topics to them. Those that sort what
// comes by the filters they know, as Node-RED does, have no place for a message that comes by a replay.
func TestEveryClientDelaysAndReplays(t *testing.T) {
	each(t, takesAnyTopic, versions, func(s *subject) {
		stored := numbered(s.topic("stored"), 1, "stored ", 20)
		s.publisher().publish(stored...)
		s.connect(options{Filters: []string{"$replay/first/" + s.topic("#")}, QoS: 1})
		s.publish(message{Topic: "$delayed/1/" + s.topic("later"), QoS: 1, Payload: "later"})
		for _, want := range append(stored, message{Topic: s.topic("later"), Payload: "later"}) {
			select {
			case m := <-s.client.messages():
				if m.Topic != want.Topic || m.Payload != want.Payload {
					s.t.Fatalf("got %s, want %s", describe(m), describe(want))
				}
			case <-time.After(harness.Patience):
				s.t.Fatalf("%s does not come", describe(want))
			}
		}
	})
}
