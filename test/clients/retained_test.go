package clients

import "testing"

// A client sets a retained message, replaces it, reads it back, and clears it.
// [MQTT-3.3.1-5][MQTT-3.3.1-6][MQTT-3.3.1-7][MQTT-3.3.1-8][MQTT-3.3.1-12][case 126][case 130][case 131]
func TestRetainedMessageIsSetReadAndCleared(t *testing.T) {
	each(t, anybody, versions, func(s *subject) {
		topic, filter := s.topic("state/temp"), s.topic("state/+")
		live := s.observer(filter)
		s.connect(options{Filters: []string{s.topic("other")}, QoS: 1})

		s.publish(message{Topic: topic, QoS: 1, Retain: true, Payload: "20"}, message{Topic: topic, QoS: 2, Retain: true, Payload: "21"})
		s.publish(message{Topic: topic, QoS: 1, Payload: "passing"})
		live.expect(message{Topic: topic, QoS: 1, Payload: "20"}, message{Topic: topic, QoS: 2, Payload: "21"}, message{Topic: topic, QoS: 1, Payload: "passing"})

		stored := message{Topic: topic, QoS: 2, Retain: true, Payload: "21"}
		afterwards := s.observer(filter)
		afterwards.expect(stored)
		s.disconnect()
		s.connect(options{Filters: []string{filter}, QoS: 2})
		s.expect(stored)

		s.publish(message{Topic: topic, QoS: 1, Retain: true})
		s.expect(message{Topic: topic, QoS: 1})
		live.expect(message{Topic: topic, QoS: 1})
		s.disconnect()
		s.connect(options{Filters: []string{filter}, QoS: 2})
		mark := message{Topic: s.topic("state/mark"), QoS: 1, Payload: "the next message there is"}
		s.publisher().publish(mark)
		s.expect(mark)
	})
}
