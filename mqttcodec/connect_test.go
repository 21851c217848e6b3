package mqttcodec

import (
	"errors"
	"testing"
)

var connectExamples = []example{
	{
		"3.1 names itself MQIsdp", V31,
		&Connect{Version: V31, CleanStart: true, KeepAliveSeconds: 60, ClientID: "c"},
		frame(0x10, "MQIsdp", 3, 0x02, uint16(60), "c"),
	},
	{
		"3.1.1 with everything", V311,
		&Connect{
			Version: V311, CleanStart: true, KeepAliveSeconds: 10, ClientID: "c",
			Username: Some("u"), Password: []byte{0, 1},
			Will: &Will{Topic: "w", Payload: []byte("gone"), QoS: 2, Retain: true},
		},
		frame(0x10, "MQTT", 4, 0xF6, uint16(10), "c", "w", "gone", "u", "\x00\x01"),
	},
	{
		"5.0 without properties has a property length of 0 [MQTT-2.2.2-1]", V5,
		&Connect{Version: V5, ClientID: ""},
		frame(0x10, "MQTT", 5, 0x00, uint16(0), props(), ""),
	},
	{
		"5.0 allows a password without a user name (3.1.2.9)", V5,
		&Connect{Version: V5, ClientID: "c", Password: []byte{}},
		frame(0x10, "MQTT", 5, 0x40, uint16(0), props(), "c", ""),
	},
	{
		"5.0 with everything", V5,
		&Connect{
			Version: V5, CleanStart: true, KeepAliveSeconds: 0xFFFF, ClientID: "c", Username: Some(""), Password: []byte("p"),
			Properties: ConnectProperties{
				SessionExpirySeconds: Some(uint32(0xFFFFFFFF)), ReceiveMaximum: 1, MaximumPacketSize: 2, TopicAliasMaximum: 3,
				RequestResponseInformation: true, RequestProblemInformation: Some(false),
				UserProperties:       []UserProperty{{"k", "1"}, {"k", "2"}, {"", ""}},
				AuthenticationMethod: Some("m"), AuthenticationData: []byte{9},
			},
			Will: &Will{
				Topic: "w", Payload: []byte{}, QoS: 1, DelaySeconds: 5,
				Properties: MessageProperties{
					PayloadFormat: Some(byte(1)), MessageExpirySeconds: Some(uint32(7)), ContentType: Some("t"), ResponseTopic: "r",
					CorrelationData: []byte{}, UserProperties: []UserProperty{{"a", "b"}},
				},
			},
		},
		frame(0x10, "MQTT", 5, 0xCE, uint16(0xFFFF),
			props(0x11, 0xFF, 0xFF, 0xFF, 0xFF, 0x21, uint16(1), 0x27, 0, 0, 0, 2, 0x22, uint16(3), 0x19, 1, 0x17, 0,
				0x26, "k", "1", 0x26, "k", "2", 0x26, "", "", 0x15, "m", 0x16, "\x09"),
			"c",
			props(0x18, 0, 0, 0, 5, 0x01, 1, 0x02, 0, 0, 0, 7, 0x03, "t", 0x08, "r", 0x09, "", 0x26, "a", "b"),
			"w", "", "", "p"),
	},
}

func TestConnectBytes(t *testing.T) { testExamples(t, connectExamples) }

func TestConnectAcceptsOtherForms(t *testing.T) {
	testAcceptances(t, []acceptance{
		{
			"the version is the frame's, whatever Decode is told", V31,
			&Connect{Version: V5, ClientID: "c"}, frame(0x10, "MQTT", 5, 0, uint16(0), props(), "c"),
		},
		{
			"control characters and U+FFFF are text in 3.1.1", V311,
			&Connect{Version: V311, ClientID: "\x01\u007f\uffff"}, frame(0x10, "MQTT", 4, 0, uint16(0), "\x01\u007f\uffff"),
		},
		{
			"U+FEFF is kept [MQTT-1.5.4-3]", V5,
			&Connect{Version: V5, ClientID: "\ufeffc"}, frame(0x10, "MQTT", 5, 0, uint16(0), props(), "\ufeffc"),
		},
		{
			"in 3.1 the Remaining Length takes precedence over the user name and password flags", V31,
			&Connect{Version: V31, ClientID: "c"}, frame(0x10, "MQIsdp", 3, 0xC0, uint16(0), "c"),
		},
		{
			"in 3.1 a password may be missing behind a user name", V31,
			&Connect{Version: V31, ClientID: "c", Username: Some("u")}, frame(0x10, "MQIsdp", 3, 0xC0, uint16(0), "c", "u"),
		},
	})
}

func TestConnectRefusals(t *testing.T) {
	v5 := func(flags int, rest ...any) []byte {
		return frame(0x10, append([]any{"MQTT", 5, flags, uint16(0)}, rest...)...)
	}
	testRefusals(t, []refusal{
		{"unknown protocol name", V5, frame(0x10, "HTTP", 4, 0, uint16(0), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"name in lower case", V5, frame(0x10, "mqtt", 5, 0, uint16(0), props(), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"MQTT level 3", V5, frame(0x10, "MQTT", 3, 0, uint16(0), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"MQTT level 6", V5, frame(0x10, "MQTT", 6, 0, uint16(0), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"MQIsdp level 4", V5, frame(0x10, "MQIsdp", 4, 0, uint16(0), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"MQIsdp level 5", V5, frame(0x10, "MQIsdp", 5, 0, uint16(0), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"bridge bit, 3.1", V5, frame(0x10, "MQIsdp", 0x83, 0, uint16(0), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"bridge bit, 3.1.1", V5, frame(0x10, "MQTT", 0x84, 0, uint16(0), "c"), UnsupportedProtocolVersion, "MQTT-3.1.2-2"},
		{"reserved flag", V5, v5(0x01, props(), "c"), MalformedPacket, "MQTT-3.1.2-3"},
		{"reserved flag in 3.1.1", V311, frame(0x10, "MQTT", 4, 0x03, uint16(0), "c"), MalformedPacket, "MQTT-3.1.2-3"},
		{"Will QoS without will", V5, v5(0x08, props(), "c"), MalformedPacket, "MQTT-3.1.2-11"},
		{"Will Retain without will", V5, v5(0x20, props(), "c"), MalformedPacket, "MQTT-3.1.2-13"},
		{"Will QoS 3", V5, v5(0x1C, props(), "c", props(), "w", ""), MalformedPacket, "MQTT-3.1.2-12"},
		{"password without user name in 3.1.1", V311, frame(0x10, "MQTT", 4, 0x40, uint16(0), "c", "p"), MalformedPacket, "3.1.1 MQTT-3.1.2-22"},
		{"user name without its flag", V5, v5(0, props(), "c", "u"), MalformedPacket, ""},
		{"user name without its flag in 3.1.1", V311, frame(0x10, "MQTT", 4, 0, uint16(0), "c", "u"), MalformedPacket, ""},
		{"password without its flag", V5, v5(0x80, props(), "c", "u", "p"), MalformedPacket, ""},
		{"user name flag, no user name", V5, v5(0x80, props(), "c"), MalformedPacket, ""},
		{"user name flag, no user name in 3.1.1", V311, frame(0x10, "MQTT", 4, 0x80, uint16(0), "c"), MalformedPacket, ""},
		{"password flag, no password", V5, v5(0x40, props(), "c"), MalformedPacket, ""},
		{"will flag, no will", V5, v5(0x04, props(), "c"), MalformedPacket, ""},
		{"user name longer than the packet", V311, frame(0x10, "MQTT", 4, 0x80, uint16(0), "c", uint16(9), 'u'), MalformedPacket, ""},
		{"user name cut in 3.1", V31, frame(0x10, "MQIsdp", 3, 0x80, uint16(0), "c", uint16(9), 'u'), MalformedPacket, ""},
		{"no client identifier", V311, frame(0x10, "MQTT", 4, 0, uint16(0)), MalformedPacket, ""},
		{"client identifier not UTF-8", V311, frame(0x10, "MQTT", 4, 0, uint16(0), "\xff"), MalformedPacket, "MQTT-1.5.4-1"},
		{"client identifier with a surrogate", V5, v5(0, props(), "\xed\xa0\x80"), MalformedPacket, "MQTT-1.5.4-1"},
		{"client identifier with an overlong form", V5, v5(0, props(), "\xc0\x80"), MalformedPacket, "MQTT-1.5.4-1"},
		{"client identifier with a cut sequence", V5, v5(0, props(), "\xe2\x82"), MalformedPacket, "MQTT-1.5.4-1"},
		{"client identifier with U+0000", V5, v5(0, props(), "a\x00"), MalformedPacket, "MQTT-1.5.4-2"},
		{"user name with U+0000", V311, frame(0x10, "MQTT", 4, 0x80, uint16(0), "c", "\x00"), MalformedPacket, "MQTT-1.5.4-2"},
		{"empty will topic", V311, frame(0x10, "MQTT", 4, 0x04, uint16(0), "c", "", ""), ProtocolErrorReason, "MQTT-4.7.3-1"},
		{"will topic with a wildcard", V5, v5(0x04, props(), "c", props(), "a/#", ""), TopicNameInvalid, "MQTT-3.3.2-2"},
		{"will topic with U+0000", V5, v5(0x04, props(), "c", props(), "\x00", ""), MalformedPacket, "MQTT-1.5.4-2"},
		{"Will Delay Interval outside the will", V5, v5(0, props(0x18, 0, 0, 0, 1), "c"), MalformedPacket, ""},
		{"Session Expiry Interval inside the will", V5, v5(0x04, props(), "c", props(0x11, 0, 0, 0, 1), "w", ""), MalformedPacket, ""},
		{"Will Delay Interval twice", V5, v5(0x04, props(), "c", props(0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1), "w", ""), ProtocolErrorReason, ""},
		{"Receive Maximum 0 (3.1.2.11.3)", V5, v5(0, props(0x21, uint16(0)), "c"), ProtocolErrorReason, ""},
		{"Maximum Packet Size 0 (3.1.2.11.4)", V5, v5(0, props(0x27, 0, 0, 0, 0), "c"), ProtocolErrorReason, ""},
		{"Request Problem Information 2 (3.1.2.11.7)", V5, v5(0, props(0x17, 2), "c"), ProtocolErrorReason, ""},
		{"Request Response Information 2 (3.1.2.11.6)", V5, v5(0, props(0x19, 2), "c"), ProtocolErrorReason, ""},
		{"Authentication Data without method (3.1.2.11.10)", V5, v5(0, props(0x16, "x"), "c"), ProtocolErrorReason, ""},
	})
}

// Each CONNECT property but User Property once only. (3.1.2.11) [case 19]
func TestConnectPropertyTwice(t *testing.T) {
	for id, value := range map[property][]byte{
		propSessionExpiry:              raw(0, 0, 0, 1),
		propReceiveMaximum:             raw(uint16(1)),
		propMaximumPacketSize:          raw(0, 0, 0, 1),
		propTopicAliasMaximum:          raw(uint16(1)),
		propRequestResponseInformation: raw(1),
		propRequestProblemInformation:  raw(1),
		propAuthenticationMethod:       raw("m"),
		propAuthenticationData:         raw("d"),
	} {
		_, err := Decode(V5, frame(0x10, "MQTT", 5, 0, uint16(0), props(int(id), value, int(id), value), "c"))
		checkRefusal(t, err, ProtocolErrorReason, "")
	}
}

func TestConnectWithoutForm(t *testing.T) {
	for _, p := range []*Connect{
		{ClientID: "no version"},
		{Version: 6},
		{Version: V311, Password: []byte("without user name")}, // [3.1.1 MQTT-3.1.2-22]
	} {
		if _, err := Append(nil, V5, p); !errors.Is(err, ErrNoForm) {
			t.Errorf("%+v: got %v", p, err)
		}
	}
}

// A refused CONNECT is answered in the version that it asked for, when there is one. [MQTT-3.1.2-2]
func TestConnackVersion(t *testing.T) {
	for _, c := range []struct {
		name  string
		level int
		v     Version
		ok    bool
	}{
		{"MQTT", 5, V5, true},
		{"MQTT", 6, V5, true},
		{"MQTT", 4, V311, true},
		{"MQTT", 3, V311, true},
		{"MQTT", 0x7F, V5, true},
		{"MQTT", 0x80, V311, true},
		{"MQTT", 0x84, V311, true},
		{"MQIsdp", 3, V31, true},
		{"MQIsdp", 4, V31, true},
		{"HTTP", 5, 0, false},
	} {
		if v, ok := ConnackVersion(frame(0x10, c.name, c.level, "whatever follows")); v != c.v || ok != c.ok {
			t.Errorf("%s %d: got %d, %t", c.name, c.level, v, ok)
		}
	}
	for _, b := range [][]byte{nil, {0x10}, {0x10, 0}, frame(0x10, "MQTT"), frame(0x20, "MQTT", 5), {0x10, 0xFF, 0xFF, 0xFF, 0xFF, 1}} {
		if v, ok := ConnackVersion(b); ok {
			t.Errorf("% x: got %d", b, v)
		}
	}
}
