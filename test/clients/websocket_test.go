package clients

import (
	"strings"
	"testing"

	"dunlin/test/harness"
)

// By WebSocket everything works as by TCP: each QoS both ways, large messages, and a session that goes on by TCP and
// comes back. [MQTT-4.2.0-1][MQTT-6.0.0-4][case 178]
func TestClientsByWebSocket(t *testing.T) {
	each(t, speaksWebSocket, versions, func(s *subject) {
		o := options{URL: "ws://" + s.broker.WebSocket + "/mqtt", Persistent: true, Filters: []string{s.topic("in")}, QoS: 2}
		s.connect(o)
		p, seen := s.publisher(), s.observer(s.topic("out"))
		large := strings.Repeat("large", 100_000)
		if s.kind.name == "Paho for Python" {
			large = large[:5000] // it forgets the rest of a frame that the socket does not take at once
		}
		for qos := range byte(3) {
			for _, payload := range []string{"small", large} {
				in, out := message{Topic: s.topic("in"), QoS: qos, Payload: payload}, message{Topic: s.topic("out"), QoS: qos, Payload: payload}
				p.publish(in)
				s.expect(in)
				s.publish(out)
				seen.expect(out)
			}
		}
		s.disconnect()
		byTCP, byWebSocket := numbered(s.topic("in"), 1, "for TCP ", 10), numbered(s.topic("in"), 2, "for WebSocket ", 10)
		p.publish(byTCP...)
		s.resume(options{})
		s.expect(byTCP...)
		s.disconnect()
		p.publish(byWebSocket...)
		s.resume(options{URL: o.URL})
		s.expect(byWebSocket...)
	}, harness.WithWebSocket())
}
