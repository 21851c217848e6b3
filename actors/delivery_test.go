package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// However long a client takes to acknowledge, nothing is sent to it again while its connection lasts; on the next one it is, at
// once. [MQTT-4.4.0-1] [3.1.1 MQTT-4.4.0-1] [case 143] [case 142]
func TestNothingIsSentAgainOnALiveConnection(t *testing.T) {
	for _, version := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
		bubble(t, func(t *testing.T) {
			b := startOnPipes(t, sessionstest.New(), "boot")
			c, publisher := b.client(version), b.connected("publisher", clean)
			c.send(connectPacket(version, "c"))
			expect[*mqttcodec.Connack](c)
			c.subscribe(2, "a")
			publisher.publish1("a", "one")
			for id := uint16(10); id < 12; id++ {
				publisher.send(&mqttcodec.Publish{QoS: 2, PacketID: id, Topic: "a"})
				expect[*mqttcodec.Pubrec](publisher)
			}
			first := expect[*mqttcodec.Publish](c)
			second, third := expect[*mqttcodec.Publish](c), expect[*mqttcodec.Publish](c)
			c.send(&mqttcodec.Pubrec{PacketID: third.PacketID})
			expect[*mqttcodec.Pubrel](c)
			for range 6 {
				elapse(5 * time.Minute)
				publisher.send(&mqttcodec.Pingreq{})
				expect[*mqttcodec.Pingresp](publisher)
				publisher.send(&mqttcodec.Publish{Topic: "a", Payload: []byte("zero")})
				c.takeAll("zero")
			}
			synctest.Wait()
			if got := c.received(); len(got) > 0 {
				t.Fatalf("%v: %T %+v was sent again", version, got[0], got[0])
			}

			c.close()
			eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
			c = b.client(version)
			began := time.Now()
			c.send(connectPacket(version, "c"))
			expect[*mqttcodec.Connack](c)
			if p := expect[*mqttcodec.Pubrel](c); p.PacketID != third.PacketID {
				t.Fatalf("%v: PUBREL %d, want %d", version, p.PacketID, third.PacketID)
			}
			for _, want := range []*mqttcodec.Publish{first, second} {
				if p := expect[*mqttcodec.Publish](c); p.PacketID != want.PacketID || !p.Duplicate || p.QoS != want.QoS {
					t.Fatalf("%v: got %+v, want %+v with DUP", version, p, want)
				}
			}
			if took := time.Since(began); took > time.Second {
				t.Fatalf("%v: it was sent again after %v", version, took)
			}
		})
	}
}
