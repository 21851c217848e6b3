package actors

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// A message with many receivers is for each of them what it would be for one: by version, grant and options, with its own
// packet and subscription identifiers, and not at all for a client that takes no packet so large. [MQTT-3.3.4-1]
// [MQTT-3.3.1-12] [MQTT-3.3.4-3] [MQTT-3.1.2-25] [MQTT-2.2.1-4]
func TestManyReceiversGetEachTheirOwnPublish(t *testing.T) {
	receivers := []struct {
		name       string
		version    mqttcodec.Version
		qos        mqttcodec.QoS
		asRetained bool
		identifier uint32
		change     func(*mqttcodec.Connect)
		nothing    bool
	}{
		{name: "old-0", version: mqttcodec.V311, qos: 0},
		{name: "old-1", version: mqttcodec.V311, qos: 1},
		{name: "old-2", version: mqttcodec.V311, qos: 2},
		{name: "older-1", version: mqttcodec.V31, qos: 1},
		{name: "new-0", version: mqttcodec.V5, qos: 0},
		{name: "new-1", version: mqttcodec.V5, qos: 1},
		{name: "new-1-again", version: mqttcodec.V5, qos: 1},
		{name: "as-published", version: mqttcodec.V5, qos: 1, asRetained: true},
		{name: "with-identifier", version: mqttcodec.V5, qos: 1, identifier: 7},
		{name: "with-aliases", version: mqttcodec.V5, qos: 1, change: func(p *mqttcodec.Connect) { p.Properties.TopicAliasMaximum = 10 }},
		{name: "small", version: mqttcodec.V5, qos: 1, nothing: true, change: func(p *mqttcodec.Connect) { p.Properties.MaximumPacketSize = 60 }},
	}
	user := []mqttcodec.UserProperty{{Key: "k", Value: "v"}}
	for qos := range mqttcodec.QoS(3) {
		for _, retain := range []bool{false, true} {
			for _, expires := range []bool{false, true} {
				t.Run(fmt.Sprintf("QoS %d retain %v expires %v", qos, retain, expires), func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						b := startOnPipes(t, sessionstest.New(), "boot")
						clients := make([]*testClient, len(receivers))
						for i, r := range receivers {
							c := b.client(r.version)
							connect := connectPacket(r.version, r.name)
							if r.change != nil {
								r.change(connect)
							}
							c.send(connect)
							expect[*mqttcodec.Connack](c)
							subscribe := &mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{
								Filter: "many/+", Options: mqttcodec.SubscriptionOptions{QoS: r.qos, RetainAsPublished: r.asRetained},
							}}}
							subscribe.SubscriptionIdentifier = r.identifier
							c.send(subscribe)
							expect[*mqttcodec.Suback](c)
							clients[i] = c
						}
						publisher := b.connected("publisher")
						for n := range 3 {
							m := &mqttcodec.Publish{
								QoS: qos, Retain: retain, Topic: "many/receivers", Payload: bytes.Repeat([]byte{byte('a' + n)}, 100),
								Properties: mqttcodec.MessageProperties{UserProperties: user},
							}
							if qos > 0 {
								m.PacketID = uint16(n + 1)
							}
							if expires {
								m.Properties.MessageExpirySeconds = mqttcodec.Some(uint32(100))
							}
							publisher.send(m)
						}
						b.connected("later").disconnect() // by then all is handed out
						for i, r := range receivers {
							c := clients[i]
							if r.nothing {
								c.send(&mqttcodec.Pingreq{})
								expect[*mqttcodec.Pingresp](c)
								continue
							}
							for n := range 3 {
								p := expect[*mqttcodec.Publish](c)
								want := min(qos, r.qos)
								old := r.version != mqttcodec.V5
								if p.QoS != want || (p.PacketID == 0) != (want == 0) || p.Duplicate || p.Retain != (retain && r.asRetained) ||
									!bytes.Equal(p.Payload, bytes.Repeat([]byte{byte('a' + n)}, 100)) ||
									slices.Equal(p.Properties.UserProperties, user) == old ||
									p.Properties.MessageExpirySeconds.Present != (expires && !old) ||
									(len(p.SubscriptionIdentifiers) == 1) != (r.identifier > 0) {
									t.Errorf("%s: message %d is %+v", r.name, n, p)
								}
								if want > 0 && p.PacketID != uint16(n+1) {
									t.Errorf("%s: message %d has packet identifier %d", r.name, n, p.PacketID)
								}
								if topic := p.Topic; topic != "many/receivers" && !(r.change != nil && n > 0 && topic == "" && p.TopicAlias > 0) {
									t.Errorf("%s: message %d is on %q", r.name, n, topic)
								}
							}
						}
					})
				})
			}
		}
	}
}
