package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A QoS 2 message that the broker has received is known to it after the restart: repeated it is answered and not
// delivered twice; PUBREL completes it and frees the identifier.
// [MQTT-4.3.3-10] [MQTT-4.3.3-12] [3.1.1 MQTT-4.3.3-2] [case 82] [case 83] [case 181]
func TestS05ReceivedQoS2IsNotDeliveredTwice(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t)
		s := b.ConnectRaw(t, harness.PersistentConnect(v, "subscriber"))
		s.Subscribe(harness.Filter("s05", 2), harness.Filter("marker", 2))
		p := b.ConnectRaw(t, harness.PersistentConnect(v, "s05"))
		received := mqttcodec.Publish{Topic: "s05", QoS: 2, PacketID: 7, Payload: []byte("received")}
		p.Send(&received)
		harness.Expect[*mqttcodec.Pubrec](p)
		released := mqttcodec.Publish{Topic: "s05", QoS: 2, PacketID: 8, Payload: []byte("released")}
		p.Send(&released)
		harness.Expect[*mqttcodec.Pubrec](p)
		p.Send(&mqttcodec.Pubrel{PacketID: 8})
		harness.Expect[*mqttcodec.Pubcomp](p)
		marker := b.ConnectRaw(t, harness.CleanConnect(v, "marker"))
		marker.Publish(mqttcodec.Publish{Topic: "marker", QoS: 2})
		expectMessages(t, s, "received", "released")
		b.Restart(how, p, s, marker)

		s = b.Resume(t, v, "subscriber")
		p = b.Resume(t, v, "s05")
		received.Duplicate = true
		for range 2 {
			p.Send(&received)
			if rec := harness.Expect[*mqttcodec.Pubrec](p); rec.PacketID != 7 || rec.Reason.Failed() {
				t.Errorf("PUBREC %+v for the repeated message", rec)
			}
		}
		p.Send(&mqttcodec.Pubrel{PacketID: 7})
		if comp := harness.Expect[*mqttcodec.Pubcomp](p); comp.PacketID != 7 || comp.Reason.Failed() {
			t.Errorf("PUBCOMP %+v for an exchange that was open", comp)
		}
		// The PUBCOMP of 8 might have been lost with the connection: PUBREL again must be answered. [MQTT-4.3.3-11]
		p.Send(&mqttcodec.Pubrel{PacketID: 8})
		harness.Expect[*mqttcodec.Pubcomp](p)
		for id := uint16(7); id <= 8; id++ {
			p.Send(&mqttcodec.Publish{Topic: "s05", QoS: 2, PacketID: id, Payload: fmt.Append(nil, "reused", id)})
			harness.Expect[*mqttcodec.Pubrec](p)
			p.Send(&mqttcodec.Pubrel{PacketID: id})
			harness.Expect[*mqttcodec.Pubcomp](p)
		}
		p.Publish(mqttcodec.Publish{Topic: "marker", QoS: 2})
		expectMessages(t, s, "reused7", "reused8")
	})
}

// expectMessages receives up to the marker: exactly messages with these payloads, in this order.
func expectMessages(t *testing.T, r *harness.Raw, want ...string) {
	t.Helper()
	var got []string
	for _, m := range r.ReceiveUntil("marker") {
		got = append(got, string(m.Payload))
	}
	if !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
}

// The publisher that never saw its PUBREC sends again, and the message arrives once, wherever the kill fell.
// [MQTT-4.3.3-10] [case 82]
func TestS05QoS2RepeatedAfterKillArrivesOnce(t *testing.T) {
	t.Parallel()
	for _, lead := range []time.Duration{0, 500 * time.Microsecond, 2 * time.Millisecond} {
		t.Run(lead.String(), func(t *testing.T) {
			t.Parallel()
			b := harness.Start(t)
			s := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "subscriber"))
			s.Subscribe(harness.Filter("s05", 2), harness.Filter("marker", 1))
			s.Disconnect()
			p := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "s05"))
			var burst []mqttcodec.Packet
			for id := range uint16(20) {
				burst = append(burst, &mqttcodec.Publish{Topic: "s05", QoS: 2, PacketID: id + 1, Payload: fmt.Append(nil, id)})
			}
			p.Send(burst...)
			harness.Wait(lead) // the kill is meant to fall anywhere between receiving and answering
			b.Restart(harness.Kill9, p)

			p = b.Resume(t, mqttcodec.V5, "s05")
			for _, m := range burst {
				m.(*mqttcodec.Publish).Duplicate = true
			}
			p.Send(burst...)
			for completed := 0; completed < len(burst); {
				switch answer := p.Read().(type) {
				case *mqttcodec.Pubrec:
					p.Send(&mqttcodec.Pubrel{PacketID: answer.PacketID})
				case *mqttcodec.Pubcomp:
					completed++
				default:
					t.Fatalf("got %T", answer)
				}
			}
			p.Publish(mqttcodec.Publish{Topic: "marker", QoS: 1})
			expectMessages(t, b.Resume(t, mqttcodec.V5, "subscriber"), harness.Numbered("", 0, 20)...)
		})
	}
}
