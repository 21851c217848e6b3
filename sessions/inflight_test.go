package sessions

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
)

// When all 65,535 packet identifiers are in use a message waits, at QoS 0 it does not; the one that is freed is the one that is
// used. [MQTT-2.2.1-4] [3.1.1 MQTT-2.3.1-4] [case 157]
func TestMessageWaitsWhileAllPacketIDsAreInUse(t *testing.T) {
	for _, v := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
		cfg := DefaultConfig("boot1")
		s := New(&cfg, "c", Stored{})
		var effects []Effect
		step := func(in Input) {
			effects = s.Flush(start, s.Step(start, in, effects))
			checkInvariants(t, s)
			checkFlushed(t, s)
		}
		published := func() (got []string) {
			for _, e := range effects {
				if send, ok := e.(Send); ok {
					if p, ok := send.Packet.(*mqttcodec.Publish); ok {
						got = append(got, fmt.Sprintf("%d:%s", p.PacketID, p.Payload))
					}
				}
			}
			effects = nil
			return got
		}
		want := func(want ...string) {
			t.Helper()
			if got := published(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%v: got %q, want %q", v, got, want)
			}
		}
		deliver := func(sequence uint64, qos mqttcodec.QoS) {
			m := &Message{Topic: "a", Payload: fmt.Append(nil, sequence), QoS: qos}
			step(Delivered{Entries: []Entry{{Position: at(sequence), Message: m}}})
		}

		step(Connect{Connection: 1, Packet: &mqttcodec.Connect{Version: v, CleanStart: true, ClientID: "c"}, Nonce: "n"})
		step(Fetched{Token: 1, Live: true})
		step(PacketReceived{Connection: 1, Packet: &mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{request("a:2")}}})
		step(Subscribed{Token: 1, Retained: make([]RetainedPart, 1)})
		// Of earlier connections, each released and not completed, so that they take no place of the window.
		for id := 1; id < maxPacketID; id++ {
			s.ids.take(uint16(id))
			s.inflight = append(s.inflight, outbound{packetID: uint16(id), qos: 2, state: awaitingPubcomp, sent: true})
		}
		deliver(1, 1)
		deliver(2, 2)
		deliver(3, 1)
		want("65535:1")
		step(Routed{Messages: []*Message{{Topic: "a", Payload: []byte("at once")}}})
		want("0:at once")
		step(PacketReceived{Connection: 1, Packet: &mqttcodec.Pubcomp{PacketID: 777}})
		want("777:2")
		step(PacketReceived{Connection: 1, Packet: &mqttcodec.Puback{PacketID: 65535}})
		want("65535:3")
	}
}
