package clients

import (
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Odd topics go through every client as they are, and a NATS subscriber has them on the subjects of the mapping.
// [MQTT-4.7.3-4][case 71]
func TestOddTopicsComeAsTheyAre(t *testing.T) {
	t.Parallel()
	for mapping, subjects := range map[string][][2]string{ // topic and subject, below the root of a client
		"default": {
			{"a/b", "a.b"},
			{"v1.0/temp", "v1=2E0.temp"},
			{"living room lamp/set", "living=20room=20lamp.set"},
			{"a//b/", "a.=00.b.=00"},
			{"*/>", "=2A.=3E"},
			{"a*=b", "a=2A=3Db"},
			{"$a/größe/漢字", "$a.größe.漢字"},
			{"Tibber (VW ID.3, Cupra Tavascan)", "Tibber=20(VW=20ID=2E3,=20Cupra=20Tavascan)"},
		},
		"nats-compat": {
			{"a/b", "a.b"},
			{"v1.0/temp", "v1//0.temp"},
			{"a//b/", "a./.b./"},
			{"a*=b", "a*=b"},
			{"$a/größe/漢字", "$a.größe.漢字"},
		},
	} {
		t.Run(mapping, func(t *testing.T) {
			each(t, anybody, []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5}, func(s *subject) {
				root := strings.ReplaceAll(s.id, ".", "-")
				conn := s.broker.JetStream(s.t).Conn()
				sub, err := conn.SubscribeSync("mqtt." + root + ".>")
				s.must("subscribe in NATS", err)
				s.must("subscribe in NATS", conn.Flush())
				s.connect(options{Filters: []string{root + "/#"}, QoS: 1})
				for _, c := range subjects {
					m := message{Topic: root + "/" + c[0], QoS: 1, Payload: c[0]}
					s.publish(m)
					s.expect(m)
					got, err := sub.NextMsg(harness.Patience)
					s.must("receive in NATS", err)
					if want := "mqtt." + root + "." + c[1]; got.Subject != want || string(got.Data) != c[0] {
						s.t.Errorf("topic %q is %q on %s in NATS, want %s", m.Topic, got.Data, got.Subject, want)
					}
					s.must("publish in NATS", conn.Publish(got.Subject, []byte("from NATS")))
					m.Payload = "from NATS"
					s.expect(m)
					_, err = sub.NextMsg(harness.Patience) // its own
					s.must("receive in NATS", err)
				}
			}, harness.WithNATS(), harness.Set("topics.mapping", mapping))
		})
	}
}
