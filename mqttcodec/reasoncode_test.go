package mqttcodec

import (
	"slices"
	"testing"
)

// Table 2-6 lists the packets of each code; our table lists the codes of each packet. (2.4)
func TestReasonCodesBelongToThePacketsOfTheTable(t *testing.T) {
	const (
		connack, puback, pubrec, pubrel, pubcomp = TypeConnack, TypePuback, TypePubrec, TypePubrel, TypePubcomp
		suback, unsuback, disconnect, auth       = TypeSuback, TypeUnsuback, TypeDisconnect, TypeAuth
	)
	table := map[ReasonCode][]PacketType{
		0x00: {connack, puback, pubrec, pubrel, pubcomp, suback, unsuback, disconnect, auth},
		0x01: {suback},
		0x02: {suback},
		0x04: {disconnect},
		0x10: {puback, pubrec},
		0x11: {unsuback},
		0x18: {auth},
		0x19: {auth},
		0x80: {connack, puback, pubrec, suback, unsuback, disconnect},
		0x81: {connack, disconnect},
		0x82: {connack, disconnect},
		0x83: {connack, puback, pubrec, suback, unsuback, disconnect},
		0x84: {connack},
		0x85: {connack},
		0x86: {connack},
		0x87: {connack, puback, pubrec, suback, unsuback, disconnect},
		0x88: {connack},
		0x89: {connack, disconnect},
		0x8A: {connack},
		0x8B: {disconnect},
		0x8C: {connack, disconnect},
		0x8D: {disconnect},
		0x8E: {disconnect},
		0x8F: {suback, unsuback, disconnect},
		0x90: {connack, puback, pubrec, disconnect},
		0x91: {puback, pubrec, suback, unsuback},
		0x92: {pubrel, pubcomp},
		0x93: {disconnect},
		0x94: {disconnect},
		0x95: {connack, disconnect},
		0x96: {disconnect},
		0x97: {connack, puback, pubrec, suback, disconnect},
		0x98: {disconnect},
		0x99: {connack, puback, pubrec, disconnect},
		0x9A: {connack, disconnect},
		0x9B: {connack, disconnect},
		0x9C: {connack, disconnect},
		0x9D: {connack, disconnect},
		0x9E: {suback, disconnect},
		0x9F: {connack, disconnect},
		0xA0: {disconnect},
		0xA1: {suback, disconnect},
		0xA2: {suback, disconnect},
	}
	for c := range 256 {
		for of := TypeConnect; of <= TypeAuth; of++ {
			code := ReasonCode(c)
			if got, want := reasonCodes[of].has(code), slices.Contains(table[code], of); got != want {
				t.Errorf("%v with %#02x: got %t", of, c, got)
			}
		}
	}
}

func TestProtocolErrorNamesItsClause(t *testing.T) {
	for want, err := range map[string]error{
		"wrong":        &ProtocolError{Detail: "wrong"},
		"wrong [4.13]": &ProtocolError{Detail: "wrong", Clause: "4.13"},
	} {
		if err.Error() != want {
			t.Errorf("got %q", err)
		}
	}
}

// The codes that 3.14.2.1 gives to the server alone.
func TestServerOnlyDisconnectReasons(t *testing.T) {
	only := []ReasonCode{0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2}
	for c := range 256 {
		code := ReasonCode(c)
		if got := CheckFromClient(&Disconnect{Reason: code}) != nil; got != slices.Contains(only, code) {
			t.Errorf("%#02x: refused is %t", c, got)
		}
	}
}
