package mqttcodec

import (
	"errors"
	"testing"
)

var connackExamples = []example{
	{"3.1.1 accepted, session present", V311, &Connack{SessionPresent: true}, []byte{0x20, 2, 1, 0}},
	{"3.1.1 refused: level", V311, &Connack{Reason: UnsupportedProtocolVersion}, []byte{0x20, 2, 0, 1}},
	{"3.1.1 refused: identifier", V311, &Connack{Reason: ClientIdentifierNotValid}, []byte{0x20, 2, 0, 2}},
	{"3.1.1 refused: unavailable", V311, &Connack{Reason: ServerUnavailable}, []byte{0x20, 2, 0, 3}},
	{"3.1.1 refused: password", V311, &Connack{Reason: BadUserNameOrPassword}, []byte{0x20, 2, 0, 4}},
	{"3.1 refused: not authorized", V31, &Connack{Reason: NotAuthorized}, []byte{0x20, 2, 0, 5}},
	{"5.0 without properties", V5, &Connack{SessionPresent: true}, []byte{0x20, 3, 1, 0, 0}},
	{
		"5.0 with everything", V5,
		&Connack{Properties: ConnackProperties{
			SessionExpirySeconds: Some(uint32(1)), ReceiveMaximum: 2, MaximumQoS: Some(byte(1)), RetainAvailable: Some(false),
			MaximumPacketSize: 3, AssignedClientID: "id", TopicAliasMaximum: 4, ReasonString: "why",
			UserProperties:                []UserProperty{{"k", "v"}},
			WildcardSubscriptionAvailable: Some(true), SubscriptionIdentifierAvailable: Some(true), SharedSubscriptionAvailable: Some(false),
			ServerKeepAliveSeconds: Some(uint16(0)), ResponseInformation: Some("ri"), ServerReference: "ref",
			AuthenticationMethod: Some("m"), AuthenticationData: []byte{1},
		}},
		frame(0x20, 0, 0, props(0x11, 0, 0, 0, 1, 0x21, uint16(2), 0x24, 1, 0x25, 0, 0x27, 0, 0, 0, 3, 0x12, "id", 0x22, uint16(4),
			0x1F, "why", 0x26, "k", "v", 0x28, 1, 0x29, 1, 0x2A, 0, 0x13, uint16(0), 0x1A, "ri", 0x1C, "ref", 0x15, "m", 0x16, "\x01")),
	},
}

func TestConnackBytes(t *testing.T) { testExamples(t, connackExamples) }

func TestConnackRefusals(t *testing.T) {
	testRefusals(t, []refusal{
		{"reserved flag", V5, frame(0x20, 2, 0, props()), MalformedPacket, "MQTT-3.2.2-1"},
		{"session present in a refusal", V5, frame(0x20, 1, 0x87, props()), ProtocolErrorReason, "MQTT-3.2.2-6"},
		{"session present in a refusal of 3.1.1", V311, frame(0x20, 1, 5), ProtocolErrorReason, "MQTT-3.2.2-6"},
		{"return code 6", V311, frame(0x20, 0, 6), ProtocolErrorReason, ""},
		{"reason code of another packet", V5, frame(0x20, 0, 0x8E, props()), ProtocolErrorReason, ""},
		{"Maximum QoS 2 (3.2.2.3.4)", V5, frame(0x20, 0, 0, props(0x24, 2)), ProtocolErrorReason, ""},
		{"Receive Maximum 0 (3.2.2.3.3)", V5, frame(0x20, 0, 0, props(0x21, uint16(0))), ProtocolErrorReason, ""},
		{"no property length in 5.0", V5, frame(0x20, 0, 0), MalformedPacket, ""},
		{"properties in 3.1.1", V311, frame(0x20, 0, 0, props()), MalformedPacket, ""},
	})
}

// Before 5.0 a reason that no return code stands for has no CONNACK: the connection is just closed. [3.1.1 MQTT-3.2.2-6]
func TestConnackWrittenForOlderVersions(t *testing.T) {
	for _, c := range []struct {
		v      Version
		packet Connack
		last   [2]byte
	}{
		{V31, Connack{SessionPresent: true}, [2]byte{0, 0}}, // no such flag in 3.1
		{V311, Connack{SessionPresent: true, Reason: NotAuthorized}, [2]byte{0, 5}},
		{V311, Connack{Reason: Banned}, [2]byte{0, 5}},
		{V311, Connack{Reason: ServerBusy}, [2]byte{0, 3}},
		{V311, Connack{Properties: ConnackProperties{AssignedClientID: "x"}}, [2]byte{0, 0}},
	} {
		b, err := Append(nil, c.v, &c.packet)
		if err != nil || string(b) != string([]byte{0x20, 2, c.last[0], c.last[1]}) {
			t.Errorf("%+v: got % x, %v", c.packet, b, err)
		}
	}
	for _, reason := range []ReasonCode{MalformedPacket, ProtocolErrorReason, PacketTooLarge, TopicNameInvalid} {
		if _, err := Append(nil, V311, &Connack{Reason: reason}); !errors.Is(err, ErrNoForm) {
			t.Errorf("%#02x: got %v", byte(reason), err)
		}
	}
}
