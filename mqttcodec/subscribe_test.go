package mqttcodec

import "testing"

var subscribeExamples = []example{
	{
		"SUBSCRIBE of 3.1.1", V311,
		&Subscribe{PacketID: 10, Requests: []SubscriptionRequest{{"a/b", SubscriptionOptions{QoS: 1}}, {"c/#", SubscriptionOptions{QoS: 2}}}},
		frame(0x82, uint16(10), "a/b", 1, "c/#", 2),
	},
	{
		"SUBSCRIBE of 5.0 with everything", V5,
		&Subscribe{
			PacketID: 10, SubscriptionIdentifier: maxVarint, UserProperties: []UserProperty{{"k", "v"}},
			Requests: []SubscriptionRequest{
				{"a", SubscriptionOptions{QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: RetainDoNotSend}},
				{"$share/g/a", SubscriptionOptions{RetainHandling: RetainSendIfNew}},
			},
		},
		frame(0x82, uint16(10), props(0x0B, 0xFF, 0xFF, 0xFF, 0x7F, 0x26, "k", "v"), "a", 0x2E, "$share/g/a", 0x10),
	},
	{"SUBACK of 3.1", V31, &Suback{PacketID: 10, Reasons: []ReasonCode{0, 1, 2}}, frame(0x90, uint16(10), 0, 1, 2)},
	{"SUBACK of 3.1.1", V311, &Suback{PacketID: 10, Reasons: []ReasonCode{2, UnspecifiedError}}, frame(0x90, uint16(10), 2, 0x80)},
	{
		"SUBACK of 5.0", V5,
		&Suback{PacketID: 10, Reasons: []ReasonCode{0, TopicFilterInvalid, NotAuthorized}, Properties: AckProperties{ReasonString: "r"}},
		frame(0x90, uint16(10), props(0x1F, "r"), 0, 0x8F, 0x87),
	},
	{"UNSUBSCRIBE of 3.1.1", V311, &Unsubscribe{PacketID: 10, Filters: []string{"a", "+"}}, frame(0xA2, uint16(10), "a", "+")},
	{
		"UNSUBSCRIBE of 5.0", V5,
		&Unsubscribe{PacketID: 10, Filters: []string{"a"}, UserProperties: []UserProperty{{"k", "v"}}},
		frame(0xA2, uint16(10), props(0x26, "k", "v"), "a"),
	},
	{"UNSUBACK of 3.1.1 has no payload", V311, &Unsuback{PacketID: 10}, frame(0xB0, uint16(10))},
	{"UNSUBACK of 5.0", V5, &Unsuback{PacketID: 10, Reasons: []ReasonCode{Success, NoSubscriptionExisted}}, frame(0xB0, uint16(10), props(), 0, 0x11)},
}

func TestSubscribeBytes(t *testing.T) { testExamples(t, subscribeExamples) }

func TestSubscribeAcceptsOtherForms(t *testing.T) {
	testAcceptances(t, []acceptance{
		{
			"a filter with a misplaced wildcard is left to SUBACK (3.9.3)", V5,
			&Subscribe{PacketID: 1, Requests: []SubscriptionRequest{{Filter: "a#"}}}, frame(0x82, uint16(1), props(), "a#", 0),
		},
		{
			"SUBSCRIBE repeated in 3.1 has DUP", V31,
			&Subscribe{PacketID: 1, Requests: []SubscriptionRequest{{Filter: "a"}}}, frame(0x8A, uint16(1), "a", 0),
		},
		{"UNSUBSCRIBE repeated in 3.1 has DUP", V31, &Unsubscribe{PacketID: 1, Filters: []string{"a"}}, frame(0xAA, uint16(1), "a")},
	})
}

// 3.1.1 knows one failure, 3.1 none; neither knows reasons in UNSUBACK.
func TestSubackWrittenForOlderVersions(t *testing.T) {
	suback := &Suback{PacketID: 1, Reasons: []ReasonCode{GrantedQoS1, NotAuthorized}, Properties: AckProperties{ReasonString: "x"}}
	unsuback := &Unsuback{PacketID: 1, Reasons: []ReasonCode{NoSubscriptionExisted}}
	for _, c := range []struct {
		v    Version
		p    Packet
		want string
	}{
		{V311, suback, "\x90\x04\x00\x01\x01\x80"},
		{V31, suback, "\x90\x04\x00\x01\x01\x00"},
		{V311, unsuback, "\xB0\x02\x00\x01"},
	} {
		if b, err := Append(nil, c.v, c.p); string(b) != c.want || err != nil {
			t.Errorf("%d: got % x, %v, want % x", c.v, b, err, c.want)
		}
	}
}

// Options and properties of 5.0 do not leak into older versions.
func TestSubscribeWrittenForOlderVersions(t *testing.T) {
	p := &Subscribe{PacketID: 1, SubscriptionIdentifier: 5, Requests: []SubscriptionRequest{{"a", SubscriptionOptions{QoS: 1, NoLocal: true, RetainHandling: 2}}}}
	if b, err := Append(nil, V311, p); string(b) != "\x82\x06\x00\x01\x00\x01a\x01" || err != nil {
		t.Errorf("got % x, %v", b, err)
	}
}

func TestSubscribeRefusals(t *testing.T) {
	testRefusals(t, []refusal{
		{"SUBSCRIBE without flags", V5, frame(0x80, uint16(1), props(), "a", 0), MalformedPacket, "MQTT-2.1.3-1"},
		{"SUBSCRIBE with DUP in 3.1.1", V311, frame(0x8A, uint16(1), "a", 0), MalformedPacket, "MQTT-2.1.3-1"},
		{"UNSUBSCRIBE without flags", V311, frame(0xA0, uint16(1), "a"), MalformedPacket, "MQTT-2.1.3-1"},
		{"SUBSCRIBE with packet identifier 0", V311, frame(0x82, uint16(0), "a", 0), ProtocolErrorReason, "MQTT-2.2.1-3"},
		{"UNSUBSCRIBE with packet identifier 0", V5, frame(0xA2, uint16(0), props(), "a"), ProtocolErrorReason, "MQTT-2.2.1-3"},
		{"SUBSCRIBE without filter", V5, frame(0x82, uint16(1), props()), ProtocolErrorReason, "MQTT-3.8.3-2"},
		{"SUBSCRIBE without filter in 3.1.1 [3.1.1 MQTT-3.8.3-3]", V311, frame(0x82, uint16(1)), ProtocolErrorReason, "MQTT-3.8.3-2"},
		{"UNSUBSCRIBE without filter", V5, frame(0xA2, uint16(1), props()), ProtocolErrorReason, "MQTT-3.10.3-2"},
		{"UNSUBSCRIBE without filter in 3.1", V31, frame(0xA2, uint16(1)), ProtocolErrorReason, "MQTT-3.10.3-2"},
		{"filter without options", V5, frame(0x82, uint16(1), props(), "a"), MalformedPacket, ""},
		{"second filter without options", V311, frame(0x82, uint16(1), "a", 0, "b"), MalformedPacket, ""},
		{"cut before the option byte", V5, []byte{0x82, 0x06, 0x12, 0x34, 0x00, 0x00, 0x01, 0x70}, MalformedPacket, ""},
		{"cut after the properties", V5, []byte{0x82, 0x03, 0x12, 0x34, 0x00}, ProtocolErrorReason, "MQTT-3.8.3-2"},
		{"requested QoS 3 (3.8.3.1)", V5, frame(0x82, uint16(1), props(), "a", 3), ProtocolErrorReason, ""},
		{"requested QoS 3 in 3.1.1", V311, frame(0x82, uint16(1), "a", 3), ProtocolErrorReason, ""},
		{"options of 5.0 in 3.1.1", V311, frame(0x82, uint16(1), "a", 4), MalformedPacket, "3.1.1 MQTT-3.8.3-4"},
		{"reserved option bit 6", V5, frame(0x82, uint16(1), props(), "a", 0x40), MalformedPacket, "MQTT-3.8.3-5"},
		{"reserved option bit 7", V5, frame(0x82, uint16(1), props(), "a", 0x80), MalformedPacket, "MQTT-3.8.3-5"},
		{"Retain Handling 3 (3.8.3.1)", V5, frame(0x82, uint16(1), props(), "a", 0x30), ProtocolErrorReason, ""},
		{"No Local on a shared subscription", V5, frame(0x82, uint16(1), props(), "$share/g/a", 0x04), ProtocolErrorReason, "MQTT-3.8.3-4"},
		{"empty filter", V5, frame(0x82, uint16(1), props(), "", 0), ProtocolErrorReason, "MQTT-4.7.3-1"},
		{"empty filter in UNSUBSCRIBE", V311, frame(0xA2, uint16(1), ""), ProtocolErrorReason, "MQTT-4.7.3-1"},
		{"filter not UTF-8", V311, frame(0x82, uint16(1), "\xff", 0), MalformedPacket, "MQTT-1.5.4-1"},
		{"filter with U+0000", V5, frame(0xA2, uint16(1), props(), "\x00"), MalformedPacket, "MQTT-1.5.4-2"},
		{"Subscription Identifier 0 (3.8.2.1.2)", V5, frame(0x82, uint16(1), props(0x0B, 0), "a", 0), ProtocolErrorReason, ""},
		{"Subscription Identifier twice (3.8.2.1.2)", V5, frame(0x82, uint16(1), props(0x0B, 1, 0x0B, 2), "a", 0), ProtocolErrorReason, ""},
		{"Subscription Identifier above 268,435,455", V5, frame(0x82, uint16(1), props(0x0B, 0x80, 0x80, 0x80, 0x80, 1), "a", 0), MalformedPacket, "MQTT-1.5.5-1"},
		{"Subscription Identifier in UNSUBSCRIBE", V5, frame(0xA2, uint16(1), props(0x0B, 1), "a"), MalformedPacket, ""},
		{"Reason String in SUBSCRIBE", V5, frame(0x82, uint16(1), props(0x1F, "x"), "a", 0), MalformedPacket, ""},
		{"SUBACK without reason", V5, frame(0x90, uint16(1), props()), MalformedPacket, ""},
		{"SUBACK 0x03 [MQTT-3.9.3-2]", V5, frame(0x90, uint16(1), props(), 3), ProtocolErrorReason, ""},
		{"SUBACK 0x87 in 3.1.1", V311, frame(0x90, uint16(1), 0x87), ProtocolErrorReason, "3.1.1 MQTT-3.9.3-2"},
		{"SUBACK 0x80 in 3.1", V31, frame(0x90, uint16(1), 0x80), ProtocolErrorReason, "3.1.1 MQTT-3.9.3-2"},
		{"UNSUBACK 0x01 [MQTT-3.11.3-2]", V5, frame(0xB0, uint16(1), props(), 1), ProtocolErrorReason, ""},
		{"UNSUBACK with a payload in 3.1.1", V311, frame(0xB0, uint16(1), 0), MalformedPacket, ""},
	})
}
