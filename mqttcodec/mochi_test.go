package mqttcodec

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2/packets"
)

// difference is a case that we judge unlike mochi, and why: the clause that makes us right, or what the entry is instead
// of a packet on the wire.
type difference struct{ mochi, ours, why string }

const notOnTheWire = "the fields contradict one another; written down they are a valid packet"

var mochiDifferences = map[string]difference{
	"CONNECT reserved bit not 0 (2)":                {refused, taken, notOnTheWire},
	"CONNECT has username but no flag":              {refused, taken, notOnTheWire},
	"CONNECT has password flag but no password (2)": {refused, taken, notOnTheWire},
	"CONNECT will flag no payload (2)":              {refused, taken, "Will QoS 4 is Will Retain on the wire"},

	"CONNACK miscellaneous protocol violation": {taken, refused, "3.1.1 table 3.1: return codes above 5 are reserved"},
	"CONNACK bad protocol version":             {taken, refused, "3.1.1 MQTT-3.2.2-4: no session present in a refusal; table 3.1"},
	"CONNACK bad client id":                    {taken, refused, "3.1.1 MQTT-3.2.2-4: no session present in a refusal; table 3.1"},
	"CONNACK server unavailable":               {taken, refused, "3.1.1 MQTT-3.2.2-4: no session present in a refusal; table 3.1"},
	"CONNACK bad username or password":         {taken, refused, "3.1.1 MQTT-3.2.2-4: no session present in a refusal; table 3.1"},
	"CONNACK not authorised":                   {taken, refused, "3.1.1 MQTT-3.2.2-4: no session present in a refusal; table 3.1"},
	"CONNACK drop oversize properties":         {taken, another, "the entry is of a writer that leaves properties out; what is written is as we write it"},
	"CONNACK drop oversize properties partial": {taken, another, "the entry is of a writer that leaves properties out; what is written is as we write it"},

	"PUBLISH mqtt v5":                             {taken, refusedWith(V5, 0x82), "MQTT-3.3.4-6: from a client no Subscription Identifier"},
	"PUBLISH subscription identifiers":            {taken, refusedWith(V5, 0x82), "MQTT-3.3.4-6: from a client no Subscription Identifier"},
	"PUBLISH dup":                                 {taken, refused, "3.1.1 MQTT-3.3.1-2: no DUP at QoS 0"},
	"PUBLISH basic copyable":                      {taken, another, "the bytes are not those of the packet; mochi's tests do not compare them"},
	"PUBLISH drop oversized publish packet":       {refused, taken, "not about the packet but the receiver's Maximum Packet Size, which is FrameLength's"},
	"PUBLISH packet id must be 0 if qos is 0 (b)": {refusedWith(V5, 0x82), taken, notOnTheWire},
	"PUBLISH topic contains wildcards":            {refusedWith(V5, 0x82), refusedWith(V5, 0x90), "MQTT-3.3.2-2: 0x90 is Topic Name invalid (2.4)"},
	"PUBLISH topic contains wildcards 2":          {refusedWith(V5, 0x82), refusedWith(V5, 0x90), "MQTT-3.3.2-2: 0x90 is Topic Name invalid (2.4)"},
	"PUBLISH topic alias over maximum":            {refusedWith(V5, 0x94), taken, "MQTT-3.3.2-9: the connection knows the maximum, not the codec"},
	"PUBLISH topic alias flag and no alias":       {refusedWith(V5, 0x94), taken, notOnTheWire},
	"PUBLISH deny publishing to $SYS topics":      {taken, another, "the topic length in the bytes is not that of the packet; mochi's tests do not compare them"},
	"PUBREC malformed reason code":                {refusedWith(V5, 0x81), taken, "3.5.2.1: without a reason code it is 0x00"},

	"SUBSCRIBE oversize identifier":               {refusedWith(V5, 0x82), taken, "the identifier is a field of the filter and too large to be written"},
	"SUBACK invalid shared no local":              {taken, refusedWith(V5, 0x82), "MQTT-3.9.3-2: 0x82 is no reason code of SUBACK"},
	"DISCONNECT takeover":                         {taken, refusedWith(V5, 0x82), "3.14.2.1: 0x8E is the server's"},
	"DISCONNECT shutting down":                    {taken, refusedWith(V5, 0x82), "3.14.2.1: 0x8B is the server's"},
	"DISCONNECT malformed reason code":            {refusedWith(V5, 0x81), taken, "3.14.2.1: without a reason code it is 0x00"},
	"DISCONNECT drop oversize properties partial": {taken, refusedWith(V5, 0x82), "3.14.2.2.5: a Server Reference is the server's"},
	"AUTH auth":                  {taken, refusedWith(V5, 0x82), "3.15.2.1: 0x00 is the server's"},
	"AUTH malformed reason code": {refusedWith(V5, 0x81), refusedWith(V5, 0x82), "3.15.2.1: without a reason code it is 0x00, which is the server's"},
}

// The packet tables of another broker, mochi-mqtt, valid and invalid packets of all types: we take and refuse what it
// does, for the same reasons in 5.0, and mean the same packet, but for the differences that are listed.
func TestJudgesPacketsAsMochiDoes(t *testing.T) {
	left := maps.Clone(mochiDifferences)
	for _, c := range mochiCases() {
		delete(left, c.name)
		theirs, ours := c.verdict(), c.ours(t)
		listed, ok := mochiDifferences[c.name]
		switch {
		case !ok && ours != theirs:
			t.Errorf("%s: mochi: %s, we: %s\n% x", c.name, theirs, ours, c.frame(t))
		case ok && (theirs != listed.mochi || ours != listed.ours):
			t.Errorf("%s: mochi: %s, we: %s; listed is %+v\n% x", c.name, theirs, ours, listed, c.frame(t))
		}
	}
	for name := range left {
		t.Errorf("%s: listed and in no table of mochi's", name)
	}
}

// mochiCase is one entry of the packet tables that mochi-mqtt exports: bytes or a packet, and what mochi says of it.
type mochiCase struct {
	mochi.TPacketCase
	name    string
	version Version
}

// mochiCases are all of them, in the order of their tables.
func mochiCases() (cases []mochiCase) {
	seen := map[string]int{}
	for of := TypeConnect; of <= TypeAuth; of++ {
		for _, entry := range mochi.TPacketData[byte(of)] {
			c := mochiCase{TPacketCase: entry, name: fmt.Sprintf("%v %s", of, entry.Desc), version: V311}
			if c.RawBytes == nil && of != TypeConnect || of == TypeAuth {
				c.version = V5 // what mochi only validates is of 5.0, and does not say so
			}
			if entry.Packet != nil && entry.Packet.ProtocolVersion != 0 {
				c.version = Version(entry.Packet.ProtocolVersion)
			}
			if entry.Packet != nil && entry.Packet.FixedHeader.Type == 0 {
				c.Packet = nil // it says the version and no more
			}
			if c.Packet != nil {
				packet := *c.Packet
				packet.ProtocolVersion = byte(c.version)
				c.Packet = &packet
			}
			if seen[c.name]++; seen[c.name] > 1 {
				c.name = fmt.Sprintf("%s (%d)", c.name, seen[c.name])
			}
			cases = append(cases, c)
		}
	}
	return cases
}

// The verdicts on a case. A refusal in 5.0 goes with its reason code, which the client is told.
const (
	taken   = "taken"
	refused = "refused"
	another = "taken for another packet"
)

func refusedWith(v Version, reason ReasonCode) string {
	if v != V5 {
		return refused
	}
	return fmt.Sprintf("%s %#02x", refused, byte(reason))
}

// verdict is what mochi says.
func (c *mochiCase) verdict() string {
	for _, err := range []error{c.FailFirst, c.Expect} {
		var code mochi.Code
		if errors.As(err, &code) && code != mochi.CodeSuccess {
			return refusedWith(c.version, ReasonCode(code.Code))
		}
	}
	return taken
}

// ours is our verdict on the case, as a packet from a client, or from a server where only that may send it.
func (c *mochiCase) ours(t *testing.T) string {
	t.Helper()
	frame := c.frame(t)
	p, err := Decode(c.version, frame)
	if err == nil && !serverOnly(p.Type()) {
		err = CheckFromClient(p)
	}
	if subscribe, ok := p.(*Subscribe); ok && err == nil {
		for _, r := range subscribe.Requests {
			err = errors.Join(err, ValidateTopicFilter(r.Filter))
		}
	}
	var fault *ProtocolError
	switch {
	case errors.As(err, &fault):
		return refusedWith(c.version, fault.Reason)
	case c.verdict() != taken || c.Packet == nil:
		return taken
	}
	written, err := Append(nil, c.version, fromMochi(c.Packet))
	if err != nil || len(written) > len(frame) || !reflect.DeepEqual(p, fromMochi(c.Packet)) || !reflect.DeepEqual(p, decoded(c.version, written)) {
		return another
	}
	return taken
}

func decoded(v Version, frame []byte) Packet {
	p, err := Decode(v, frame)
	if err != nil {
		return nil
	}
	return p
}

// frame is the case as it stands on the wire. Many entries have a Remaining Length of 0 or of a longer packet, which
// mochi's own tests never look at; here it is right, so that we judge what they judge: the body.
func (c *mochiCase) frame(t *testing.T) []byte {
	t.Helper()
	whole := c.RawBytes
	if c.ActualBytes != nil {
		whole = c.ActualBytes // what they write
	}
	if whole == nil {
		return c.encoded(t)
	}
	w := writer{dst: []byte{whole[0]}}
	w.varint(len(whole) - 2)
	return append(w.dst, whole[2:]...)
}

// encoded is a case without bytes: a CONNECT as mochi writes it, since we have no form for some of them, any other as we
// do, which is as it stands, right or wrong.
func (c *mochiCase) encoded(t *testing.T) []byte {
	t.Helper()
	if c.Packet.FixedHeader.Type != mochi.Connect {
		frame, err := Append(nil, c.version, fromMochi(c.Packet))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		return frame
	}
	var b bytes.Buffer
	if err := c.Packet.ConnectEncode(&b); err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return b.Bytes()
}

func serverOnly(t PacketType) bool {
	return t == TypeConnack || t == TypeSuback || t == TypeUnsuback || t == TypePingresp
}
