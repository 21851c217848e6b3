package mqttcodec

import "testing"

var ackExamples = []example{
	{"PUBACK of 3.1.1", V311, &Puback{PacketID: 1}, frame(0x40, uint16(1))},
	{"PUBREC of 3.1", V31, &Pubrec{PacketID: 2}, frame(0x50, uint16(2))},
	{"PUBREL has flags 2 [MQTT-3.6.1-1]", V311, &Pubrel{PacketID: 3}, frame(0x62, uint16(3))},
	{"PUBCOMP of 3.1.1", V311, &Pubcomp{PacketID: 4}, frame(0x70, uint16(4))},
	{"success leaves out its reason (3.4.2.1)", V5, &Puback{PacketID: 1}, frame(0x40, uint16(1))},
	{"no properties leave out their length (3.5.2.2.1)", V5, &Pubrec{PacketID: 1, Reason: QuotaExceeded}, frame(0x50, uint16(1), 0x97)},
	{"PUBREL with a reason", V5, &Pubrel{PacketID: 1, Reason: PacketIdentifierNotFound}, frame(0x62, uint16(1), 0x92)},
	{"PUBCOMP with a reason", V5, &Pubcomp{PacketID: 1, Reason: PacketIdentifierNotFound}, frame(0x70, uint16(1), 0x92)},
	{
		"success with properties", V5,
		&Puback{PacketID: 1, Reason: NoMatchingSubscribers, Properties: AckProperties{ReasonString: "r", UserProperties: []UserProperty{{"k", "v"}}}},
		frame(0x40, uint16(1), 0x10, props(0x1F, "r", 0x26, "k", "v")),
	},
}

// [MQTT-2.1.3-1] [MQTT-3.6.1-1] [3.1.1 MQTT-2.2.2-1] [3.1.1 MQTT-3.6.1-1]
func TestAckBytes(t *testing.T) { testExamples(t, ackExamples) }

func TestAckAcceptsOtherForms(t *testing.T) {
	testAcceptances(t, []acceptance{
		{"success written out (3.4.2.1)", V5, &Puback{PacketID: 1}, frame(0x40, uint16(1), 0)},
		{"success with property length 0 (3.4.2.2.1)", V5, &Pubcomp{PacketID: 1}, frame(0x70, uint16(1), 0, props())},
		{"PUBREL repeated in 3.1 has DUP", V31, &Pubrel{PacketID: 1}, frame(0x6A, uint16(1))},
	})
}

// What the acknowledgement says beyond its identifier has no place before 5.0.
func TestAckReasonIsLeftOutBeforeV5(t *testing.T) {
	b, err := Append(nil, V311, &Pubrec{PacketID: 1, Reason: QuotaExceeded, Properties: AckProperties{ReasonString: "full"}})
	if err != nil || string(b) != "\x50\x02\x00\x01" {
		t.Errorf("got % x, %v", b, err)
	}
}

func TestAckRefusals(t *testing.T) {
	testRefusals(t, []refusal{
		{"PUBACK with flags", V5, frame(0x42, uint16(1)), MalformedPacket, "MQTT-2.1.3-1"},
		{"PUBREL without flags", V5, frame(0x60, uint16(1)), MalformedPacket, "MQTT-2.1.3-1"},
		{"PUBREL with DUP in 3.1.1", V311, frame(0x6A, uint16(1)), MalformedPacket, "MQTT-2.1.3-1"},
		{"PUBREL with DUP in 5.0", V5, frame(0x6A, uint16(1)), MalformedPacket, "MQTT-2.1.3-1"},
		{"packet identifier 0", V5, frame(0x40, uint16(0)), ProtocolErrorReason, "MQTT-2.2.1-3"},
		{"no packet identifier", V311, frame(0x40), MalformedPacket, ""},
		{"half a packet identifier", V311, frame(0x40, 1), MalformedPacket, ""},
		{"reason code in 3.1.1", V311, frame(0x40, uint16(1), 0), MalformedPacket, ""},
		{"PUBACK 0x01 [MQTT-3.4.2-1]", V5, frame(0x40, uint16(1), 0x01), ProtocolErrorReason, ""},
		{"PUBREC 0x92 [MQTT-3.5.2-1]", V5, frame(0x50, uint16(1), 0x92), ProtocolErrorReason, ""},
		{"PUBREL 0x80 [MQTT-3.6.2-1]", V5, frame(0x62, uint16(1), 0x80), ProtocolErrorReason, ""},
		{"PUBCOMP 0x10 [MQTT-3.7.2-1]", V5, frame(0x70, uint16(1), 0x10), ProtocolErrorReason, ""},
		{"Reason String twice (3.4.2.2.2)", V5, frame(0x40, uint16(1), 0, props(0x1F, "a", 0x1F, "b")), ProtocolErrorReason, ""},
		{"Topic Alias, which does not belong", V5, frame(0x40, uint16(1), 0, props(0x23, uint16(1))), MalformedPacket, ""},
		{"bytes behind the properties", V5, frame(0x40, uint16(1), 0, props(), 0), MalformedPacket, ""},
		{"property length past the end", V5, frame(0x40, uint16(1), 0, 9), MalformedPacket, ""},
	})
}
