package jetstream

import (
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// text are strings as MQTT packets may hold them.
func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("ab =%\r\n\t\x01\x7f:é漢-_Nats")), 0, 12, -1),
		rapid.String(),
		rapid.SampledFrom([]string{"", " ", "a=b", "Nats-Rollup", "x\r\nNats-Rollup: all", "Status", "KV-Operation", "%41"}),
	).Filter(validString)
}

func messages() *rapid.Generator[*sessions.Message] {
	return rapid.Custom(func(t *rapid.T) *sessions.Message {
		m := &sessions.Message{
			QoS: mqttcodec.QoS(rapid.IntRange(0, 2).Draw(t, "qos")), Retain: rapid.Bool().Draw(t, "retain"),
			Publisher: text().Draw(t, "publisher"),
		}
		p := &m.Properties
		if rapid.Bool().Draw(t, "has format") {
			p.PayloadFormat = mqttcodec.Some(rapid.ByteRange(0, 1).Draw(t, "format"))
		}
		if rapid.Bool().Draw(t, "has expiry") {
			p.MessageExpirySeconds = mqttcodec.Some(rapid.Uint32().Draw(t, "expiry"))
		}
		if rapid.Bool().Draw(t, "has type") {
			p.ContentType = mqttcodec.Some(text().Draw(t, "type"))
		}
		if rapid.Bool().Draw(t, "has response topic") {
			p.ResponseTopic = topics().Draw(t, "response topic")
		}
		if rapid.Bool().Draw(t, "has correlation") {
			p.CorrelationData = rapid.SliceOf(rapid.Byte()).Draw(t, "correlation")
		}
		for range rapid.IntRange(0, 6).Draw(t, "user properties") {
			p.UserProperties = append(p.UserProperties, mqttcodec.UserProperty{Key: text().Draw(t, "key"), Value: text().Draw(t, "value")})
		}
		return m
	})
}

// overTheWire is what a client library reads of a header that another has written.
func overTheWire(t interface{ Fatalf(string, ...any) }, h nats.Header) nats.Header {
	if h == nil {
		return nil
	}
	var b strings.Builder
	b.WriteString("NATS/1.0\r\n")
	for name, values := range h {
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n") || strings.ContainsAny(name, "\r\n: ") || strings.TrimSpace(v) != v && strings.Trim(v, " \t") != v {
				t.Fatalf("header %q: %q does not survive", name, v)
			}
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	read, err := nats.DecodeHeadersMsg([]byte(b.String()))
	if err != nil {
		t.Fatalf("read header: %v", err)
	}
	return read
}

func TestHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := messages().Draw(t, "message")
		got := new(sessions.Message)
		if invalid := decodeHeader(overTheWire(t, encodeHeader(want)), got); invalid > 0 {
			t.Fatalf("%d values passed over", invalid)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
	})
}

func TestPlainMessageHasNoHeader(t *testing.T) {
	if h := encodeHeader(&sessions.Message{QoS: 1}); h != nil {
		t.Fatalf("header %v", h)
	}
	m := new(sessions.Message)
	decodeHeader(nil, m)
	if m.QoS != 1 {
		t.Fatalf("a message without header has QoS %d", m.QoS)
	}
}

func TestClientCannotWriteReservedHeaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &sessions.Message{QoS: 1}
		key := rapid.OneOf(text(), rapid.StringMatching(`(?i)(nats|mqtt|kv|dunlin)-[A-Za-z-]{0,12}|status|description`)).Draw(t, "key")
		m.Properties.UserProperties = []mqttcodec.UserProperty{{Key: key, Value: text().Draw(t, "value")}}
		for name := range encodeHeader(m) {
			lower := strings.ToLower(name)
			if lower == "status" || lower == "description" || name != headerUserProperty && (strings.HasPrefix(lower, "nats-") ||
				strings.HasPrefix(lower, "mqtt-") || strings.HasPrefix(lower, "kv-") || strings.HasPrefix(lower, "dunlin-")) {
				t.Fatalf("user property %q became header %q", key, name)
			}
		}
	})
}

func TestPlainHeadersBecomeUserProperties(t *testing.T) {
	m := new(sessions.Message)
	invalid := decodeHeader(nats.Header{
		"Zone":             {"3"},
		"Area":             {"north", "south"},
		"Trace":            {"t1"},
		"Mqtt-Qos":         {"2"},
		"mqtt-qos":         {"0"},
		"Nats-Msg-Id":      {"x"},
		"bad name":         {"x"},
		"Broken":           {"\xff"},
		headerUserProperty: {"Trace=t1", "b=%3D2", "nothing"},
	}, m)
	want := []mqttcodec.UserProperty{{Key: "Trace", Value: "t1"}, {Key: "b", Value: "=2"}, {Key: "Area", Value: "north"}, {Key: "Area", Value: "south"}, {Key: "Zone", Value: "3"}}
	if !reflect.DeepEqual(m.Properties.UserProperties, want) {
		t.Errorf("user properties %q, want %q", m.Properties.UserProperties, want)
	}
	if m.QoS != 2 || invalid != 2 {
		t.Errorf("QoS %d, %d invalid values; want 2 and 2", m.QoS, invalid)
	}
}

func TestSenselessHeadersAreCountedAndIgnored(t *testing.T) {
	for name, value := range map[string]string{
		headerQoS: "3", headerRetain: "yes", headerPayloadFormat: "2", headerMessageExpiry: "4294967296", headerContentType: "%0",
		headerResponseTopic: "a/+", headerCorrelationData: "*", headerUserProperty: "x", headerPublisher: "%00",
	} {
		m := new(sessions.Message)
		if invalid := decodeHeader(nats.Header{name: {value}}, m); invalid != 1 {
			t.Errorf("%s: %q: %d invalid values", name, value, invalid)
		}
		if !reflect.DeepEqual(m, &sessions.Message{QoS: 1}) {
			t.Errorf("%s: %q was believed: %+v", name, value, m)
		}
	}
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add([]byte("NATS/1.0\r\nMqtt-Qos: 1\r\nMqtt-User-Property: a=%41\r\nA: b\r\n\r\n"))
	f.Add([]byte("NATS/1.0 503\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := nats.DecodeHeadersMsg(data)
		if err != nil {
			return
		}
		m := new(sessions.Message)
		decodeHeader(h, m)
		again := new(sessions.Message)
		if invalid := decodeHeader(overTheWire(t, encodeHeader(m)), again); invalid > 0 || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v became %+v", m, again)
		}
	})
}
