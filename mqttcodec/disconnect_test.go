package mqttcodec

import (
	"errors"
	"testing"
)

var connectionExamples = []example{
	{"PINGREQ", V31, &Pingreq{}, []byte{0xC0, 0}},
	{"PINGRESP", V5, &Pingresp{}, []byte{0xD0, 0}},
	{"DISCONNECT of 3.1.1", V311, &Disconnect{}, []byte{0xE0, 0}},
	{"a normal disconnection leaves out its reason (3.14.2.1)", V5, &Disconnect{}, []byte{0xE0, 0}},
	{"no properties leave out their length (3.14.2.2.1)", V5, &Disconnect{Reason: SessionTakenOver}, []byte{0xE0, 1, 0x8E}},
	{
		"DISCONNECT with everything", V5,
		&Disconnect{SessionExpirySeconds: Some(uint32(0)), ReasonString: "r", UserProperties: []UserProperty{{"k", "v"}}, ServerReference: "s"},
		frame(0xE0, 0, props(0x11, 0, 0, 0, 0, 0x1F, "r", 0x26, "k", "v", 0x1C, "s")),
	},
	{"AUTH success without properties (3.15.2.1)", V5, &Auth{}, []byte{0xF0, 0}},
	{
		"AUTH with everything", V5,
		&Auth{Reason: ContinueAuthentication, AuthenticationMethod: Some("m"), AuthenticationData: []byte{}, ReasonString: "r", UserProperties: []UserProperty{{"k", "v"}}},
		frame(0xF0, 0x18, props(0x15, "m", 0x16, "", 0x1F, "r", 0x26, "k", "v")),
	},
}

func TestConnectionPacketBytes(t *testing.T) { testExamples(t, connectionExamples) }

func TestDisconnectAcceptsOtherForms(t *testing.T) {
	testAcceptances(t, []acceptance{
		{"reason written out (3.14.2.1)", V5, &Disconnect{}, []byte{0xE0, 1, 0}},
		{"property length written out", V5, &Disconnect{Reason: DisconnectWithWill}, []byte{0xE0, 2, 4, 0}},
		{"AUTH success with property length 0", V5, &Auth{}, []byte{0xF0, 2, 0, 0}},
	})
}

func TestConnectionPacketRefusals(t *testing.T) {
	testRefusals(t, []refusal{
		{"PINGREQ with flags", V311, []byte{0xC1, 0}, MalformedPacket, "MQTT-2.1.3-1"},
		{"PINGREQ with a body", V311, []byte{0xC0, 1, 0}, MalformedPacket, ""},
		{"PINGRESP with a body", V5, []byte{0xD0, 1, 0}, MalformedPacket, ""},
		{"DISCONNECT with flags [MQTT-3.14.1-1]", V5, []byte{0xE2, 0}, MalformedPacket, "MQTT-2.1.3-1"},
		{"DISCONNECT with a body in 3.1.1", V311, []byte{0xE0, 1, 0}, MalformedPacket, ""},
		{"DISCONNECT 0x01 [MQTT-3.14.2-1]", V5, []byte{0xE0, 1, 1}, ProtocolErrorReason, ""},
		{"DISCONNECT with Receive Maximum", V5, frame(0xE0, 0, props(0x21, uint16(1))), MalformedPacket, ""},
		{"DISCONNECT with Session Expiry Interval twice (3.14.2.2.2)", V5, frame(0xE0, 0, props(0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1)), ProtocolErrorReason, ""},
		{"bytes behind DISCONNECT", V5, frame(0xE0, 0, props(), 0), MalformedPacket, ""},
		{"AUTH with flags [MQTT-3.15.1-1]", V5, []byte{0xF1, 0}, MalformedPacket, "MQTT-2.1.3-1"},
		{"AUTH in 3.1.1", V311, []byte{0xF0, 0}, MalformedPacket, ""},
		{"AUTH 0x01 [MQTT-3.15.2-1]", V5, frame(0xF0, 1, props(0x15, "m")), ProtocolErrorReason, ""},
		{"AUTH without method (3.15.2.2.2)", V5, frame(0xF0, 0x18, props()), ProtocolErrorReason, ""},
		{"AUTH with data and no method", V5, frame(0xF0, 0, props(0x16, "x")), ProtocolErrorReason, ""},
	})
}

// Before 5.0 only the client disconnects, and says nothing.
func TestPacketsWithoutOlderForm(t *testing.T) {
	for _, p := range []Packet{
		&Auth{}, &Disconnect{Reason: ServerShuttingDown}, &Disconnect{ReasonString: "x"}, &Disconnect{SessionExpirySeconds: Some(uint32(1))},
	} {
		for _, v := range []Version{V31, V311} {
			dst := []byte("before")
			got, err := Append(dst, v, p)
			if !errors.Is(err, ErrNoForm) || string(got) != "before" {
				t.Errorf("%+v: got %q, %v", p, got, err)
			}
			if _, err := Size(v, p); !errors.Is(err, ErrNoForm) {
				t.Errorf("Size of %+v: %v", p, err)
			}
		}
	}
}

func TestOnlyServerPacketsAreRefusedFromClients(t *testing.T) {
	for _, p := range []Packet{
		&Connack{}, &Suback{}, &Unsuback{}, &Pingresp{}, // table 2-1
		&Publish{SubscriptionIdentifiers: []uint32{1}}, // [MQTT-3.3.4-6]
		&Disconnect{Reason: SessionTakenOver}, &Disconnect{Reason: ServerShuttingDown}, &Disconnect{ServerReference: "s"},
		&Auth{Reason: Success},
	} {
		var refused *ProtocolError
		if err := CheckFromClient(p); !errors.As(err, &refused) || refused.Reason != ProtocolErrorReason {
			t.Errorf("%T %+v: %v", p, p, err)
		}
	}
	for _, p := range []Packet{
		&Connect{}, &Publish{}, &Puback{}, &Pubrec{}, &Pubrel{}, &Pubcomp{}, &Subscribe{}, &Unsubscribe{}, &Pingreq{},
		&Disconnect{}, &Disconnect{Reason: DisconnectWithWill}, &Disconnect{Reason: ReceiveMaximumExceeded},
		&Auth{Reason: ContinueAuthentication}, &Auth{Reason: ReAuthenticate},
	} {
		if err := CheckFromClient(p); err != nil {
			t.Errorf("%T %+v: %v", p, p, err)
		}
	}
}
