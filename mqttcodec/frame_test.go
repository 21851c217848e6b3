package mqttcodec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// frame builds a packet from its first byte and the parts of its body, with the right Remaining Length. An int or rune is one
// byte, a string a UTF-8 Encoded String, a uint16 two bytes, []byte stands for itself.
func frame(first byte, parts ...any) []byte {
	body := raw(parts...)
	return append(lengthOf(body, first), body...)
}

// props builds a property section with its length.
func props(parts ...any) []byte {
	body := raw(parts...)
	return append(lengthOf(body), body...)
}

func raw(parts ...any) (b []byte) {
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			b = append(b, byte(part))
		case rune:
			b = append(b, byte(part))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, part)
		case string:
			b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
			b = append(b, part...)
		case []byte:
			b = append(b, part...)
		default:
			panic(fmt.Sprintf("no bytes for %T", part))
		}
	}
	return b
}

func lengthOf(body []byte, before ...byte) []byte {
	w := writer{dst: before}
	w.varint(len(body))
	return w.dst
}

// example is a packet and its bytes, which stand for each other.
type example struct {
	claim  string
	v      Version
	packet Packet
	frame  []byte
}

func testExamples(t *testing.T, examples []example) {
	t.Helper()
	for _, e := range examples {
		t.Run(e.claim, func(t *testing.T) {
			got, err := Append([]byte("before"), e.v, e.packet)
			if err != nil {
				t.Fatal(err)
			}
			if want := slices.Concat([]byte("before"), e.frame); !slices.Equal(got, want) {
				t.Errorf("Append:\n got % x\nwant % x", got, want)
			}
			if size, err := Size(e.v, e.packet); size != len(e.frame) || err != nil {
				t.Errorf("Size is %d, %v, want %d", size, err, len(e.frame))
			}
			testDecodes(t, e.v, e.frame, e.packet)
		})
	}
}

// acceptance is a frame that decodes to a packet, and is not what the packet encodes to.
type acceptance = example

func testAcceptances(t *testing.T, acceptances []acceptance) {
	t.Helper()
	for _, a := range acceptances {
		t.Run(a.claim, func(t *testing.T) { testDecodes(t, a.v, a.frame, a.packet) })
	}
}

func testDecodes(t *testing.T, v Version, frame []byte, want Packet) {
	t.Helper()
	got, err := Decode(v, frame)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Decode:\n got %+v\nwant %+v", got, want)
	}
}

// refusal is a frame that Decode refuses.
type refusal struct {
	claim  string
	v      Version
	frame  []byte
	reason ReasonCode
	clause string
}

func testRefusals(t *testing.T, refusals []refusal) {
	t.Helper()
	for _, r := range refusals {
		t.Run(r.claim, func(t *testing.T) {
			p, err := Decode(r.v, r.frame)
			if err == nil {
				t.Fatalf("% x decoded to %+v", r.frame, p)
			}
			checkRefusal(t, err, r.reason, r.clause)
		})
	}
}

func checkRefusal(t *testing.T, err error, reason ReasonCode, clause string) {
	t.Helper()
	var refused *ProtocolError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a ProtocolError", err)
	}
	if refused.Reason != reason || refused.Clause != clause {
		t.Errorf("got %#02x %q (%s), want %#02x %q", byte(refused.Reason), refused.Clause, refused.Detail, byte(reason), clause)
	}
}
