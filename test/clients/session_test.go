package clients

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A client learns whether the broker has its session: not at first, then it has, and not after a clean start, which
// ends subscriptions too. 3.1 has no such flag. [MQTT-3.2.2-2][MQTT-3.2.2-3][MQTT-3.1.2-4][3.1.1 MQTT-3.2.2-1][3.1.1 MQTT-3.2.2-2][case 6][case 39][case 40][case 41]
func TestSessionPresentIsToldInConnack(t *testing.T) {
	each(t, tellsSessionPresent, versions, func(s *subject) {
		p := s.publisher()
		for i, step := range []struct{ persistent, present bool }{
			{true, false}, {true, true}, {false, false}, {true, false}, {true, true},
		} {
			topic := s.topic(fmt.Sprint(i))
			present := s.connect(options{Persistent: step.persistent, Filters: []string{topic}, QoS: 1})
			if present != (step.present && s.version != mqttcodec.V31) {
				s.t.Errorf("connection %d: session present %v", i, present)
			}
			if !step.persistent {
				p.publish(message{Topic: s.topic("0"), QoS: 1, Payload: "for a subscription that is gone"})
			}
			m := message{Topic: topic, QoS: 1, Payload: "x"}
			p.publish(m)
			s.expect(m)
			s.disconnect()
		}
	})
}

// What is published at QoS 1 and 2 while a client is away waits for it, in order; what is published at QoS 0 does not.
// A client that resumes its session need not subscribe. [MQTT-3.1.2-5][MQTT-4.5.0-1][3.1.1 MQTT-3.1.2-4][3.1.1 MQTT-3.1.2-5][case 40][case 144]
func TestMessagesWaitForAClientThatIsAway(t *testing.T) {
	each(t, anybody, versions, func(s *subject) {
		s.connect(options{Persistent: true, Filters: []string{s.topic("+/in")}, QoS: 2})
		s.disconnect()
		p := s.publisher()
		one, two := numbered(s.topic("1/in"), 1, "", 50), numbered(s.topic("2/in"), 2, "", 50)
		p.publish(message{Topic: s.topic("0/in"), Payload: "lost"})
		p.publish(append(one[:25:25], two[:25]...)...)
		s.resume(options{})
		s.expect(append(one[:25:25], two[:25]...)...)
		s.disconnect()
		p.publish(append(one[25:50:50], two[25:]...)...)
		s.resume(options{})
		s.expect(append(one[25:50:50], two[25:]...)...)
	})
}

// With sessions.queue_qos0 what is published at QoS 0 waits too.
func TestMessagesAtQoS0WaitWhereConfigured(t *testing.T) {
	each(t, anybody, versions, func(s *subject) {
		s.connect(options{Persistent: true, Filters: []string{s.topic("in")}})
		s.disconnect()
		messages := []message{{Topic: s.topic("in"), Payload: "published at 0"}, {Topic: s.topic("in"), QoS: 1, Payload: "published at 1"}}
		s.publisher().publish(messages...)
		messages[1].QoS = 0
		s.resume(options{})
		s.expect(messages...)
	}, harness.Set("sessions.queue_qos0", true))
}

// A client whose wire is cut comes back by itself, to its session: nothing is missing that was published meanwhile.
// [MQTT-4.5.0-1][case 47]
func TestClientReconnectsToItsSession(t *testing.T) {
	each(t, anybody, versions, func(s *subject) {
		s.connect(options{Persistent: true, Filters: []string{s.topic("in")}, QoS: 2})
		p := s.publisher()
		for range 3 {
			s.settle()
			s.tap.cut()
			messages := append(numbered(s.topic("in"), 1, "", 20), numbered(s.topic("in"), 2, "", 20)...)
			p.publish(messages...)
			s.expect(messages...)
		}
	})
}
