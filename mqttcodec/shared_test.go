package mqttcodec

import (
	"bytes"
	"testing"
)

// A shared PUBLISH is byte by byte what the PUBLISH would have been. [MQTT-3.3.2-17]
func TestSharedPublishIsThePublish(t *testing.T) {
	for _, v := range []Version{V31, V311, V5} {
		var s Shared
		for _, retain := range []bool{false, true} {
			for qos := range QoS(3) {
				p := &Publish{
					QoS: qos, Retain: retain, Topic: "a/b", Payload: bytes.Repeat([]byte("x"), 200),
					Properties: MessageProperties{
						ContentType: Some("text"), UserProperties: []UserProperty{{"k", "v"}, {"k", "w"}}, CorrelationData: []byte{1, 0},
					},
				}
				if s.Form(v, qos, retain) != nil {
					t.Fatalf("version %d QoS %d retain %v: there is a form before one was made", v, qos, retain)
				}
				if _, err := s.Make(v, p); err != nil {
					t.Fatal(err)
				}
				for _, id := range []uint16{1, 256, 65535} {
					got := s.Form(v, qos, retain)
					if qos > 0 {
						got, p.PacketID = got.WithID(id), id
					}
					want, err := Append([]byte("before"), v, p)
					if err != nil {
						t.Fatal(err)
					}
					encoded, err := Append([]byte("before"), v, got)
					if err != nil || !bytes.Equal(encoded, want) {
						t.Errorf("version %d QoS %d retain %v: %x, %v; want %x", v, qos, retain, encoded, err, want)
					}
					if n, err := Size(v, got); n != len(want)-len("before") || n != got.Len() || err != nil {
						t.Errorf("size %d, %d, %v; want %d", n, got.Len(), err, len(want)-len("before"))
					}
				}
			}
		}
	}
}
