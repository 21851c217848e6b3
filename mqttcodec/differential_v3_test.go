package mqttcodec

import (
	"bytes"
	"reflect"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// TestAgreesWithPahoOnV3 compares with the codec of another author, for 3.1 and 3.1.1: we read what it writes, and it
// reads what we write as the packet we meant.
func TestAgreesWithPahoOnV3(t *testing.T) {
	for _, v := range []Version{V31, V311} {
		eachKind(t, v, func(t *rapid.T, p Packet) {
			want := toPahoV3(p)
			var b bytes.Buffer
			if err := want.Write(&b); err != nil { // also notes the Remaining Length in want
				t.Fatal(err)
			}
			got, err := Decode(v, b.Bytes())
			if err != nil || !reflect.DeepEqual(got, p) {
				t.Fatalf("paho writes % x, we read: %v\n got %+v\nwant %+v", b.Bytes(), err, got, p)
			}
			ours, err := Append(nil, v, p)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := paho.ReadPacket(bytes.NewReader(ours))
			if err != nil {
				t.Fatalf("paho does not read % x of %+v: %v", ours, p, err)
			}
			if !reflect.DeepEqual(theirs, want) {
				t.Fatalf("we write, paho reads\n got %+v\nwant %+v", theirs, want)
			}
		})
	}
}

// toPahoV3 is the packet in paho's terms.
func toPahoV3(p Packet) paho.ControlPacket {
	packet := paho.NewControlPacket(byte(p.Type()))
	switch p := p.(type) {
	case *Connect:
		c := packet.(*paho.ConnectPacket)
		c.ProtocolName, c.ProtocolVersion = protocolName(p.Version), byte(p.Version)
		c.CleanSession, c.Keepalive, c.ClientIdentifier = p.CleanStart, p.KeepAliveSeconds, p.ClientID
		c.UsernameFlag, c.Username = p.Username.Present, p.Username.Value
		c.PasswordFlag, c.Password = p.Password != nil, p.Password
		if p.Will != nil {
			c.WillFlag, c.WillTopic, c.WillMessage = true, p.Will.Topic, p.Will.Payload
			c.WillQos, c.WillRetain = byte(p.Will.QoS), p.Will.Retain
		}
	case *Connack:
		c := packet.(*paho.ConnackPacket)
		c.SessionPresent = p.SessionPresent
		c.ReturnCode, _ = returnCode(p.Reason)
	case *Publish:
		c := packet.(*paho.PublishPacket)
		c.Dup, c.Qos, c.Retain = p.Duplicate, byte(p.QoS), p.Retain
		c.MessageID, c.TopicName, c.Payload = p.PacketID, p.Topic, p.Payload
	case *Puback:
		packet.(*paho.PubackPacket).MessageID = p.PacketID
	case *Pubrec:
		packet.(*paho.PubrecPacket).MessageID = p.PacketID
	case *Pubrel:
		packet.(*paho.PubrelPacket).MessageID = p.PacketID
	case *Pubcomp:
		packet.(*paho.PubcompPacket).MessageID = p.PacketID
	case *Subscribe:
		c := packet.(*paho.SubscribePacket)
		c.MessageID = p.PacketID
		for _, r := range p.Requests {
			c.Topics = append(c.Topics, r.Filter)
			c.Qoss = append(c.Qoss, byte(r.Options.QoS))
		}
	case *Suback:
		c := packet.(*paho.SubackPacket)
		c.MessageID, c.ReturnCodes = p.PacketID, codesToBytes(p.Reasons)
	case *Unsubscribe:
		c := packet.(*paho.UnsubscribePacket)
		c.MessageID, c.Topics = p.PacketID, p.Filters
	case *Unsuback:
		packet.(*paho.UnsubackPacket).MessageID = p.PacketID
	case *Pingreq, *Pingresp, *Disconnect: // no fields
	case *Auth:
		panic("AUTH has no older form")
	}
	return packet
}
