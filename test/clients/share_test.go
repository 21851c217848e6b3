package clients

import (
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Two clients that share a subscription divide its messages among them: each message reaches one of them, and both get
// some. Another group gets all of them, once. Clients of every version have this. [case 162]
func TestMembersOfAGroupDivideItsMessages(t *testing.T) {
	each(t, anybody, versions, func(s *subject) {
		o := options{Filters: []string{"$share/group/" + s.topic("+")}, QoS: 1}
		twin := newSubject(s.t, s.broker, s.kind, s.version)
		s.connect(o)
		twin.connect(o)
		other := s.broker.ConnectRaw(s.t, harness.CleanConnect(mqttcodec.V5, s.peerID()))
		other.Subscribe(harness.Filter("$share/other/"+s.topic("+"), 1))
		messages := numbered(s.topic("work"), 1, "job ", 100)
		s.publisher().publish(messages...)
		var got, gotOfTwin int
		due := map[string]bool{}
		for _, m := range messages {
			due[m.Payload] = true
		}
		for len(due) > 0 {
			var m message
			select {
			case m = <-s.client.messages():
				got++
			case m = <-twin.client.messages():
				gotOfTwin++
			case <-time.After(harness.Patience):
				s.t.Fatalf("%d messages reach one member, %d the other, and nobody: %v", got, gotOfTwin, due)
			}
			if !due[m.Payload] {
				s.t.Fatalf("comes again: %s", describe(m))
			}
			delete(due, m.Payload)
		}
		if got == 0 || gotOfTwin == 0 {
			s.t.Errorf("one member got %d messages, the other %d", got, gotOfTwin)
		}
		(&observer{t: s.t, raw: other}).expect(messages...)
	})
}

// What a group was sent while its only member was away waits for it, in order, also when the broker is killed meanwhile;
// the member is in the group when it comes back. [case 168][case 171][case 181]
func TestGroupKeepsMessagesForItsMember(t *testing.T) {
	t.Parallel()
	before, after := "before ", "after "
	publish := func(s *subject, prefix string) {
		s.publisher().publish(numbered(s.topic("work"), 1, prefix, 20)...)
	}
	restarted(t, harness.Kill9, func(s *subject) {
		s.connect(options{Persistent: true, Filters: []string{"$share/group/" + s.topic("work")}, QoS: 1})
		s.disconnect()
		publish(s, before)
	}, func(*subject) {}, func(s *subject) {
		publish(s, after)
		s.resume(options{})
		s.expect(append(numbered(s.topic("work"), 1, before, 20), numbered(s.topic("work"), 1, after, 20)...)...)
	})
}
