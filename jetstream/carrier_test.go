package jetstream

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// Properties of any size come back as they were, and no header is larger than JetStream takes. [case 198]
func TestLargePropertiesComeBackWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := messages().Draw(t, "message")
		want.Payload = rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		n := rapid.IntRange(0, maxString).Draw(t, "size")
		switch p := &want.Properties; rapid.SampledFrom([]string{"correlation", "user", "escaped", "publisher", "many"}).Draw(t, "large") {
		case "correlation":
			p.CorrelationData = make([]byte, n)
		case "user":
			p.UserProperties = append(p.UserProperties, mqttcodec.UserProperty{Key: "k", Value: strings.Repeat("v", n)})
		case "escaped":
			p.ContentType = mqttcodec.Some(strings.Repeat("\x01", n))
		case "publisher":
			want.Publisher = strings.Repeat("%", n)
		case "many":
			for range n / 8 {
				p.UserProperties = append(p.UserProperties, mqttcodec.UserProperty{Key: "a", Value: "b"})
			}
		}
		h, data := encodeMessage(want)
		if size := headerSize(h); size > headerMax {
			t.Fatalf("a header of %d bytes", size)
		}
		got := new(sessions.Message)
		if invalid := decodeMessage(overTheWire(t, h), data, got); invalid > 0 {
			t.Fatalf("%d values passed over", invalid)
		}
		if !bytes.Equal(got.Payload, want.Payload) {
			t.Fatalf("payload %q, want %q", got.Payload, want.Payload)
		}
		got.Payload = want.Payload // nil or empty is the same
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %.300v\nwant %.300v", got, want)
		}
	})
}

// Who writes nonsense about where the properties are gets a message without any.
func TestSenselessCarrierIsCountedAndIgnored(t *testing.T) {
	for _, c := range []struct{ length, data string }{
		{"x", "data"},
		{"0", "data"},
		{"5", "data"},
		{"-1", "data"},
		{"4", "data"},
		{"2", "\xc0\x00 a PINGREQ"},
		{"6", "\x30\x04\x00\x01#\x00"},
	} {
		m := new(sessions.Message)
		if invalid := decodeMessage(nats.Header{headerProperties: {c.length}}, []byte(c.data), m); invalid != 1 {
			t.Errorf("%q: %d invalid values", c, invalid)
		}
		if want := (&sessions.Message{QoS: 1, Payload: []byte(c.data)}); !reflect.DeepEqual(m, want) {
			t.Errorf("%q was believed: %+v", c, m)
		}
	}
}
