package mqttcodec

import (
	"strings"
	"testing"
)

var publishExamples = []example{
	{"QoS 0 has no packet identifier [MQTT-2.2.1-2]", V311, &Publish{Topic: "a/b", Payload: []byte("hi")}, frame(0x30, "a/b", []byte("hi"))},
	{
		"3.1 with all flags", V31,
		&Publish{Duplicate: true, QoS: 2, Retain: true, PacketID: 0x1234, Topic: "a", Payload: []byte{}},
		frame(0x3D, "a", uint16(0x1234)),
	},
	{"5.0 without properties", V5, &Publish{QoS: 1, PacketID: 1, Topic: "a", Payload: []byte{0}}, frame(0x32, "a", uint16(1), props(), 0)},
	{"5.0 with an alias for a topic", V5, &Publish{Topic: "", TopicAlias: 1, Payload: []byte{}}, frame(0x30, "", props(0x23, uint16(1)))},
	{
		"5.0 with everything", V5,
		&Publish{
			QoS: 1, PacketID: 0xFFFF, Topic: "a", Payload: []byte("p"), TopicAlias: 0xFFFF,
			Properties: MessageProperties{
				PayloadFormat: Some(byte(0)), MessageExpirySeconds: Some(uint32(0)), ContentType: Some(""), ResponseTopic: "r/t",
				CorrelationData: []byte{1, 2}, UserProperties: []UserProperty{{"b", "1"}, {"a", "2"}, {"b", "1"}}, // order kept [MQTT-3.3.2-18]
			},
			SubscriptionIdentifiers: []uint32{1, 128, maxVarint},
		},
		frame(0x32, "a", uint16(0xFFFF), props(0x23, uint16(0xFFFF), 0x01, 0, 0x02, 0, 0, 0, 0, 0x03, "", 0x08, "r/t", 0x09, "\x01\x02",
			0x26, "b", "1", 0x26, "a", "2", 0x26, "b", "1", 0x0B, 1, 0x0B, 0x80, 0x01, 0x0B, 0xFF, 0xFF, 0xFF, 0x7F), 'p'),
	},
}

// [MQTT-2.2.1-2] [MQTT-2.2.2-1] [MQTT-3.3.1-2] [3.1.1 MQTT-2.3.1-5]
func TestPublishBytes(t *testing.T) { testExamples(t, publishExamples) }

// Topics are kept byte for byte. [MQTT-4.7.3-4] [3.1.1 MQTT-4.7.3-4]
func TestPublishKeepsUnusualTopics(t *testing.T) {
	for _, topic := range []string{
		"/", "//", "/a/", " ", "a b", "*", ">", "a.b", "$SYS/x", "\x01\x1f\x7f", "\u0080\uffff", "\ufeffbom", "e\u0301", "\u00e9",
		strings.Repeat("x", 65535), strings.Repeat("/", 300),
	} {
		for _, v := range []Version{V31, V311, V5} {
			b, err := Append(nil, v, &Publish{Topic: topic})
			if err != nil {
				t.Fatal(err)
			}
			testDecodes(t, v, b, &Publish{Topic: topic, Payload: []byte{}})
		}
	}
}

func TestPublishRefusals(t *testing.T) {
	v5 := func(section []byte) []byte { return frame(0x30, "a", section) }
	testRefusals(t, []refusal{
		{"QoS 3", V5, frame(0x36, "a", uint16(1), props()), MalformedPacket, "MQTT-3.3.1-4"},
		{"QoS 3 in 3.1", V31, frame(0x36, "a", uint16(1)), MalformedPacket, "MQTT-3.3.1-4"},
		{"DUP at QoS 0", V311, frame(0x38, "a"), MalformedPacket, "MQTT-3.3.1-2"},
		{"packet identifier 0", V5, frame(0x32, "a", uint16(0), props()), ProtocolErrorReason, "MQTT-2.2.1-3"},
		{"packet identifier 0 in 3.1.1", V311, frame(0x34, "a", uint16(0)), ProtocolErrorReason, "MQTT-2.2.1-3"},
		{"no packet identifier", V311, frame(0x32, "a"), MalformedPacket, ""},
		{"topic with +", V5, frame(0x30, "a/+", props()), TopicNameInvalid, "MQTT-3.3.2-2"},
		{"topic with #", V311, frame(0x30, "a#"), TopicNameInvalid, "MQTT-3.3.2-2"},
		{"empty topic in 3.1.1", V311, frame(0x30, ""), ProtocolErrorReason, "MQTT-4.7.3-1"},
		{"empty topic without alias (3.3.2.1)", V5, frame(0x30, "", props()), ProtocolErrorReason, "MQTT-4.7.3-1"},
		{"topic with U+0000", V311, frame(0x30, "a\x00b"), MalformedPacket, "MQTT-1.5.4-2"},
		{"topic with a surrogate", V311, frame(0x30, "\xed\xbf\xbf"), MalformedPacket, "MQTT-1.5.4-1"},
		{"topic with an overlong form", V5, frame(0x30, "\xc1\x81", props()), MalformedPacket, "MQTT-1.5.4-1"},
		{"topic cut within a sequence", V5, frame(0x30, "\xf0\x9f\x98", props()), MalformedPacket, "MQTT-1.5.4-1"},
		{"topic beyond U+10FFFF", V5, frame(0x30, "\xf4\x90\x80\x80", props()), MalformedPacket, "MQTT-1.5.4-1"},
		{"topic longer than the packet", V311, frame(0x30, uint16(5), 'a'), MalformedPacket, ""},
		{"Topic Alias 0", V5, v5(props(0x23, uint16(0))), TopicAliasInvalid, "MQTT-3.3.2-8"},
		{"Payload Format Indicator 2 (3.3.2.3.2)", V5, v5(props(0x01, 2)), ProtocolErrorReason, ""},
		{"Response Topic with a wildcard", V5, v5(props(0x08, "r/#")), ProtocolErrorReason, "MQTT-3.3.2-14"},
		{"empty Response Topic", V5, v5(props(0x08, "")), ProtocolErrorReason, "MQTT-3.3.2-14"},
		{"Subscription Identifier 0 (3.3.2.3.8)", V5, v5(props(0x0B, 0)), ProtocolErrorReason, ""},
		{"Subscription Identifier of five bytes", V5, v5(props(0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 0x01)), MalformedPacket, "MQTT-1.5.5-1"},
		{"Reason String, which does not belong (2.2.2.2)", V5, v5(props(0x1F, "x")), MalformedPacket, ""},
		{"undefined property", V5, v5(props(0x2B, 0)), MalformedPacket, ""},
		{"property identifier 0", V5, v5(props(0x00)), MalformedPacket, ""},
		{"property identifier of two bytes", V5, v5(props(0x81, 0x01)), MalformedPacket, ""},
		{"Message Expiry Interval twice", V5, v5(props(0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1)), ProtocolErrorReason, ""},
		{"Content Type twice", V5, v5(props(0x03, "", 0x03, "")), ProtocolErrorReason, ""},
		{"User Property not UTF-8", V5, v5(props(0x26, "k", "\xff")), MalformedPacket, "MQTT-1.5.4-1"},
		{"User Property without value", V5, v5(props(0x26, "k")), MalformedPacket, ""},
		{"property cut off by its section", V5, v5(append(props(0x02, 0, 0), 0, 1)), MalformedPacket, ""},
		{"property length not minimal", V5, frame(0x30, "a", 0x80, 0x00), MalformedPacket, "MQTT-1.5.5-1"},
		{"property length of five bytes", V5, frame(0x30, "a", 0x80, 0x80, 0x80, 0x80, 0x01), MalformedPacket, "MQTT-1.5.5-1"},
		{"property length past the end", V5, frame(0x30, "a", 5, 0x01, 1), MalformedPacket, ""},
		{"no property length in 5.0", V5, frame(0x30, "a"), MalformedPacket, ""},
	})
}
