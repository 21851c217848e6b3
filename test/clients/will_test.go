package clients

import (
	"testing"

	"dunlin/mqttcodec"
)

// The will of a client that is gone without DISCONNECT is published, with all its properties, and retained where it
// says so. [MQTT-3.1.2-8][MQTT-3.1.2-15][MQTT-3.1.3-10][3.1.1 MQTT-3.1.2-8][case 50][case 59][case 60]
func TestWillIsSeenAfterAnUncleanEnd(t *testing.T) {
	each(t, anybody, versions, func(s *subject) {
		o := s.observer(s.topic("status"))
		will := message{Topic: s.topic("status"), QoS: 1, Retain: true, Payload: "gone"}
		if s.version == mqttcodec.V5 {
			will.User = s.kind.user
		}
		if s.version == mqttcodec.V5 && s.kind.can&fullWills != 0 {
			will.ContentType, will.ResponseTopic, will.CorrelationData = "text/plain", s.topic("who"), "c 1"
			will.ExpirySeconds, will.Format = 3600, 1
		}
		s.connect(options{Filters: []string{s.topic("any")}, Will: &will})
		s.drop()
		retained := will
		will.Retain = false
		o.expect(will)
		s.observer(s.topic("status")).expect(retained)
	})
}

// The will of a client that disconnects is not published; but it is where DISCONNECT asks for it, which in 5.0 is how
// mosquitto_sub ends. [MQTT-3.1.2-10][MQTT-3.14.4-3][3.1.1 MQTT-3.1.2-10][case 51]
func TestWillIsForgottenOnDisconnect(t *testing.T) {
	each(t, anybody, versions, func(s *subject) {
		o := s.observer(s.topic("status"))
		will := message{Topic: s.topic("status"), QoS: 1, Payload: "gone"}
		s.connect(options{Filters: []string{s.topic("any")}, Will: &will})
		s.disconnect()
		if s.kind.name == "mosquitto" && s.version == mqttcodec.V5 {
			o.expect(will)
		}
		mark := message{Topic: s.topic("status"), QoS: 1, Payload: "the next message there is"}
		s.publisher().publish(mark)
		o.expect(mark)
	})
}
