package mqttcodec

import "testing"

// sampleValue is a value that the rule allows.
func sampleValue(rule *propertyRule) []byte {
	switch rule.kind {
	case kindByte:
		return raw(int(rule.least))
	case kindUint16:
		return raw(uint16(1))
	case kindUint32:
		return raw(0, 0, 0, 1)
	case kindVarint:
		return raw(0x80, 0x01)
	case kindPair:
		return raw("k", "v")
	case kindString, kindBinary:
		return raw("m")
	default:
		return nil
	}
}

// carriers are packets of each type that differ in their properties only; a will stands for its CONNECT.
var carriers = map[PacketType]func(section []byte) []byte{
	TypeConnect:     func(s []byte) []byte { return frame(0x10, "MQTT", 5, 0, uint16(0), s, "c") },
	inWill:          func(s []byte) []byte { return frame(0x10, "MQTT", 5, 4, uint16(0), props(), "c", s, "w", "") },
	TypeConnack:     func(s []byte) []byte { return frame(0x20, 0, 0, s) },
	TypePublish:     func(s []byte) []byte { return frame(0x30, "t", s) },
	TypePuback:      func(s []byte) []byte { return frame(0x40, uint16(1), 0, s) },
	TypePubrec:      func(s []byte) []byte { return frame(0x50, uint16(1), 0, s) },
	TypePubrel:      func(s []byte) []byte { return frame(0x62, uint16(1), 0, s) },
	TypePubcomp:     func(s []byte) []byte { return frame(0x70, uint16(1), 0, s) },
	TypeSubscribe:   func(s []byte) []byte { return frame(0x82, uint16(1), s, "f", 0) },
	TypeSuback:      func(s []byte) []byte { return frame(0x90, uint16(1), s, 0) },
	TypeUnsubscribe: func(s []byte) []byte { return frame(0xA2, uint16(1), s, "f") },
	TypeUnsuback:    func(s []byte) []byte { return frame(0xB0, uint16(1), s, 0) },
	TypeDisconnect:  func(s []byte) []byte { return frame(0xE0, 0, s) },
	TypeAuth:        func(s []byte) []byte { return frame(0xF0, 0, s) },
}

// Each property in each packet: once where it belongs, refused where it does not, refused twice unless it repeats, refused
// when it is cut. (2.2.2.2)
func TestEveryPropertyInEveryPacket(t *testing.T) {
	for of, carry := range carriers {
		for id := range property(0x80) {
			rule := ruleOf(id)
			once := raw(int(id), sampleValue(rule))
			if id == propAuthenticationData { // goes with its method only (3.1.2.11.10)
				once = raw(int(propAuthenticationMethod), "m", once)
			}
			_, err := Decode(V5, carry(props(once)))
			if !rule.in.has(of) {
				checkRefusal(t, err, MalformedPacket, "")
				continue
			}
			if err != nil {
				t.Errorf("%v with %s: %v", of, rule.name, err)
			}
			_, err = Decode(V5, carry(props(once, once)))
			if repeats := id == propUser || id == propSubscriptionIdentifier && of == TypePublish; !repeats {
				checkRefusal(t, err, ProtocolErrorReason, "")
			} else if err != nil {
				t.Errorf("%v with %s twice: %v", of, rule.name, err)
			}
			_, err = Decode(V5, carry(props(once[:len(once)-1])))
			if err == nil {
				t.Errorf("%v with %s cut off passed", of, rule.name)
			}
		}
	}
}

// Text is UTF-8 without U+0000, data is anything. (1.5.4, 1.5.6)
func TestPropertyTextAndData(t *testing.T) {
	for id, of := range map[property]PacketType{
		propContentType: TypePublish, propResponseTopic: inWill, propAssignedClientID: TypeConnack, propAuthenticationMethod: TypeConnect,
		propResponseInformation: TypeConnack, propServerReference: TypeDisconnect, propReasonString: TypePuback,
	} {
		_, err := Decode(V5, carriers[of](props(int(id), "\xff")))
		checkRefusal(t, err, MalformedPacket, "MQTT-1.5.4-1")
		_, err = Decode(V5, carriers[of](props(int(id), "\x00")))
		checkRefusal(t, err, MalformedPacket, "MQTT-1.5.4-2")
	}
	for _, section := range [][]byte{props(0x26, "\xff", ""), props(0x26, "", "\xff")} {
		_, err := Decode(V5, carriers[TypePublish](section))
		checkRefusal(t, err, MalformedPacket, "MQTT-1.5.4-1")
	}
	for _, frame := range [][]byte{
		carriers[TypePublish](props(0x09, "\x00\xff")), carriers[TypeAuth](props(0x15, "m", 0x16, "\x00\xff")),
	} {
		if _, err := Decode(V5, frame); err != nil {
			t.Errorf("% x: %v", frame, err)
		}
	}
}

// The bounds that the sections of the properties set, at both sides.
func TestPropertyNumbersOutOfBounds(t *testing.T) {
	for _, c := range []struct {
		id       property
		in       PacketType
		good, no [][]byte
		reason   ReasonCode
		clause   string
	}{
		{propPayloadFormat, inWill, [][]byte{{0}, {1}}, [][]byte{{2}, {255}}, ProtocolErrorReason, ""},
		{propPayloadFormat, TypePublish, [][]byte{{0}, {1}}, [][]byte{{2}, {255}}, ProtocolErrorReason, ""},
		{propSubscriptionIdentifier, TypeSubscribe, [][]byte{{1}, {255, 255, 255, 127}}, [][]byte{{0}}, ProtocolErrorReason, ""},
		{propRequestProblemInformation, TypeConnect, [][]byte{{0}, {1}}, [][]byte{{2}}, ProtocolErrorReason, ""},
		{propRequestResponseInformation, TypeConnect, [][]byte{{0}, {1}}, [][]byte{{2}}, ProtocolErrorReason, ""},
		{propReceiveMaximum, TypeConnect, [][]byte{{0, 1}, {255, 255}}, [][]byte{{0, 0}}, ProtocolErrorReason, ""},
		{propReceiveMaximum, TypeConnack, [][]byte{{0, 1}, {255, 255}}, [][]byte{{0, 0}}, ProtocolErrorReason, ""},
		{propMaximumPacketSize, TypeConnect, [][]byte{{0, 0, 0, 1}, {255, 255, 255, 255}}, [][]byte{{0, 0, 0, 0}}, ProtocolErrorReason, ""},
		{propMaximumQoS, TypeConnack, [][]byte{{0}, {1}}, [][]byte{{2}}, ProtocolErrorReason, ""},
		{propRetainAvailable, TypeConnack, [][]byte{{0}, {1}}, [][]byte{{2}}, ProtocolErrorReason, ""},
		{propWildcardSubscription, TypeConnack, [][]byte{{0}, {1}}, [][]byte{{2}}, ProtocolErrorReason, ""},
		{propSubscriptionIDAvailable, TypeConnack, [][]byte{{0}, {1}}, [][]byte{{2}}, ProtocolErrorReason, ""},
		{propSharedSubscriptionAvailable, TypeConnack, [][]byte{{0}, {1}}, [][]byte{{2}}, ProtocolErrorReason, ""},
		{propTopicAlias, TypePublish, [][]byte{{0, 1}, {255, 255}}, [][]byte{{0, 0}}, TopicAliasInvalid, "MQTT-3.3.2-8"},
		{propTopicAliasMaximum, TypeConnect, [][]byte{{0, 0}, {255, 255}}, nil, 0, ""},
		{propSessionExpiry, TypeDisconnect, [][]byte{{0, 0, 0, 0}, {255, 255, 255, 255}}, nil, 0, ""},
		{propMessageExpiry, TypePublish, [][]byte{{0, 0, 0, 0}, {255, 255, 255, 255}}, nil, 0, ""},
		{propWillDelay, inWill, [][]byte{{0, 0, 0, 0}, {255, 255, 255, 255}}, nil, 0, ""},
		{propServerKeepAlive, TypeConnack, [][]byte{{0, 0}, {255, 255}}, nil, 0, ""},
	} {
		for _, value := range c.good {
			if _, err := Decode(V5, carriers[c.in](props(int(c.id), value))); err != nil {
				t.Errorf("% x: %v", value, err)
			}
		}
		for _, value := range c.no {
			_, err := Decode(V5, carriers[c.in](props(int(c.id), value)))
			checkRefusal(t, err, c.reason, c.clause)
		}
	}
}
