package mqttcodec

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	paho "github.com/eclipse/paho.golang/packets"
	"pgregory.net/rapid"
)

// TestAgreesWithPahoOnV5 compares with the codec of another author: it reads what we write as the packet we meant, and
// we read what it writes.
func TestAgreesWithPahoOnV5(t *testing.T) {
	eachKind(t, V5, func(t *rapid.T, p Packet) {
		forPaho(p)
		if !emptyDisconnect(p) {
			b, err := Append(nil, V5, p)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := paho.ReadPacket(bytes.NewReader(b))
			if err != nil {
				t.Fatalf("paho does not read % x of %+v: %v", b, p, err)
			}
			if want := toPaho(p); !reflect.DeepEqual(theirs.Content, want) {
				t.Fatalf("we write, paho reads\n got %+v\nwant %+v", theirs.Content, want)
			}
		}
		withoutWillProperties(p)
		var b bytes.Buffer
		if _, err := toPaho(p).WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		got, err := Decode(V5, b.Bytes())
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("paho writes % x, we read: %v\n got %+v\nwant %+v", b.Bytes(), err, got, p)
		}
	})
}

// Table 2-4 is paho's too, but for telling a will's properties from those of its CONNECT.
func TestAgreesWithPahoOnWhereAPropertyBelongs(t *testing.T) {
	for id := range 256 {
		for of := TypeConnect; of <= TypeAuth; of++ {
			got := ruleOf(property(id)).in.has(of)
			if of == TypeConnect {
				got = got || ruleOf(property(id)).in.has(inWill)
			}
			if want := paho.ValidateID(byte(of), byte(id)); got != want {
				t.Errorf("property %#02x in %v: got %t", id, of, got)
			}
		}
	}
}

// emptyDisconnect reports a packet that paho reports as io.EOF, although 3.14.2.1 allows a DISCONNECT without a body.
func emptyDisconnect(p Packet) bool {
	size, err := Size(V5, p)
	return p.Type() == TypeDisconnect && size == 2 && err == nil
}

// withoutWillProperties takes away what paho reads in a will and does not write.
func withoutWillProperties(p Packet) {
	if c, ok := p.(*Connect); ok && c.Will != nil {
		c.Will.Properties = MessageProperties{UserProperties: c.Will.Properties.UserProperties}
	}
}

// forPaho takes away the differences that paho does not make: it holds an empty string or no bytes for an absent one,
// and one Subscription Identifier.
func forPaho(p Packet) {
	switch p := p.(type) {
	case *Connect:
		absentWhenEmpty(&p.Properties.AuthenticationMethod, &p.Properties.AuthenticationData)
		if !p.Properties.AuthenticationMethod.Present {
			p.Properties.AuthenticationData = nil
		}
		if p.Will != nil {
			absentWhenEmpty(&p.Will.Properties.ContentType, &p.Will.Properties.CorrelationData)
		}
	case *Connack:
		absentWhenEmpty(&p.Properties.AuthenticationMethod, &p.Properties.AuthenticationData)
		absentWhenEmpty(&p.Properties.ResponseInformation, &p.Properties.AuthenticationData)
	case *Publish:
		absentWhenEmpty(&p.Properties.ContentType, &p.Properties.CorrelationData)
		if len(p.SubscriptionIdentifiers) > 1 {
			p.SubscriptionIdentifiers = p.SubscriptionIdentifiers[:1]
		}
	case *Auth:
		absentWhenEmpty(&p.AuthenticationMethod, &p.AuthenticationData)
		if p.AuthenticationMethod.Value == "" && (p.Reason != Success || p.AuthenticationData != nil) {
			p.AuthenticationMethod = Some("method")
		}
	case *Puback, *Pubrec, *Pubrel, *Pubcomp, *Subscribe, *Suback, *Unsubscribe, *Unsuback, *Pingreq, *Pingresp, *Disconnect: // no such fields
	}
}

func absentWhenEmpty(text *Optional[string], data *[]byte) {
	if text.Value == "" {
		text.Present = false
	}
	if len(*data) == 0 {
		*data = nil
	}
}

// toPaho is the packet in paho's terms.
func toPaho(p Packet) io.WriterTo {
	switch p := p.(type) {
	case *Connect:
		return pahoConnect(p)
	case *Connack:
		return &paho.Connack{SessionPresent: p.SessionPresent, ReasonCode: byte(p.Reason), Properties: pahoConnackProperties(&p.Properties)}
	case *Publish:
		properties := pahoMessage(&p.Properties)
		properties.TopicAlias = unlessZero(p.TopicAlias)
		for _, id := range p.SubscriptionIdentifiers {
			properties.SubscriptionIdentifier = unlessZero(int(id))
		}
		return &paho.Publish{
			Duplicate: p.Duplicate, QoS: byte(p.QoS), Retain: p.Retain, PacketID: p.PacketID, Topic: p.Topic, Payload: p.Payload, Properties: properties,
		}
	case *Puback:
		return &paho.Puback{PacketID: p.PacketID, ReasonCode: byte(p.Reason), Properties: pahoAck(&p.Properties)}
	case *Pubrec:
		return &paho.Pubrec{PacketID: p.PacketID, ReasonCode: byte(p.Reason), Properties: pahoAck(&p.Properties)}
	case *Pubrel:
		return &paho.Pubrel{PacketID: p.PacketID, ReasonCode: byte(p.Reason), Properties: pahoAck(&p.Properties)}
	case *Pubcomp:
		return &paho.Pubcomp{PacketID: p.PacketID, ReasonCode: byte(p.Reason), Properties: pahoAck(&p.Properties)}
	case *Subscribe:
		s := &paho.Subscribe{PacketID: p.PacketID, Properties: &paho.Properties{User: pahoUsers(p.UserProperties)}}
		s.Properties.SubscriptionIdentifier = unlessZero(int(p.SubscriptionIdentifier))
		for _, r := range p.Requests {
			s.Subscriptions = append(s.Subscriptions, paho.SubOptions{
				Topic: r.Filter, QoS: byte(r.Options.QoS), NoLocal: r.Options.NoLocal,
				RetainAsPublished: r.Options.RetainAsPublished, RetainHandling: byte(r.Options.RetainHandling),
			})
		}
		return s
	case *Suback:
		return &paho.Suback{PacketID: p.PacketID, Reasons: codesToBytes(p.Reasons), Properties: pahoAck(&p.Properties)}
	case *Unsubscribe:
		return &paho.Unsubscribe{PacketID: p.PacketID, Topics: p.Filters, Properties: &paho.Properties{User: pahoUsers(p.UserProperties)}}
	case *Unsuback:
		return &paho.Unsuback{PacketID: p.PacketID, Reasons: codesToBytes(p.Reasons), Properties: pahoAck(&p.Properties)}
	case *Pingreq:
		return &paho.Pingreq{}
	case *Pingresp:
		return &paho.Pingresp{}
	case *Disconnect:
		return &paho.Disconnect{ReasonCode: byte(p.Reason), Properties: &paho.Properties{
			SessionExpiryInterval: pointer(p.SessionExpirySeconds), ReasonString: p.ReasonString,
			User: pahoUsers(p.UserProperties), ServerReference: p.ServerReference,
		}}
	case *Auth:
		return &paho.Auth{ReasonCode: byte(p.Reason), Properties: &paho.Properties{
			AuthMethod: p.AuthenticationMethod.Value, AuthData: p.AuthenticationData,
			ReasonString: p.ReasonString, User: pahoUsers(p.UserProperties),
		}}
	}
	panic("unknown packet")
}

func pahoConnect(p *Connect) *paho.Connect {
	c := &paho.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: p.CleanStart, KeepAlive: p.KeepAliveSeconds, ClientID: p.ClientID,
		UsernameFlag: p.Username.Present, Username: p.Username.Value, PasswordFlag: p.Password != nil, Password: p.Password,
		Properties: &paho.Properties{
			SessionExpiryInterval: pointer(p.Properties.SessionExpirySeconds), ReceiveMaximum: unlessZero(p.Properties.ReceiveMaximum),
			MaximumPacketSize: unlessZero(p.Properties.MaximumPacketSize), TopicAliasMaximum: unlessZero(p.Properties.TopicAliasMaximum),
			RequestResponseInfo: unlessZero(boolByte(p.Properties.RequestResponseInformation)),
			RequestProblemInfo:  boolPointer(p.Properties.RequestProblemInformation), User: pahoUsers(p.Properties.UserProperties),
			AuthMethod: p.Properties.AuthenticationMethod.Value, AuthData: p.Properties.AuthenticationData,
		},
	}
	if p.Will != nil {
		c.WillFlag, c.WillTopic, c.WillMessage, c.WillQOS, c.WillRetain = true, p.Will.Topic, p.Will.Payload, byte(p.Will.QoS), p.Will.Retain
		c.WillProperties = pahoMessage(&p.Will.Properties)
		c.WillProperties.WillDelayInterval = unlessZero(p.Will.DelaySeconds)
	}
	return c
}

func pahoConnackProperties(p *ConnackProperties) *paho.Properties {
	return &paho.Properties{
		SessionExpiryInterval: pointer(p.SessionExpirySeconds), ReceiveMaximum: unlessZero(p.ReceiveMaximum), MaximumQOS: pointer(p.MaximumQoS),
		RetainAvailable: boolPointer(p.RetainAvailable), MaximumPacketSize: unlessZero(p.MaximumPacketSize), AssignedClientID: p.AssignedClientID,
		TopicAliasMaximum: unlessZero(p.TopicAliasMaximum), ReasonString: p.ReasonString, User: pahoUsers(p.UserProperties),
		WildcardSubAvailable: boolPointer(p.WildcardSubscriptionAvailable), SubIDAvailable: boolPointer(p.SubscriptionIdentifierAvailable),
		SharedSubAvailable: boolPointer(p.SharedSubscriptionAvailable), ServerKeepAlive: pointer(p.ServerKeepAliveSeconds),
		ResponseInfo: p.ResponseInformation.Value, ServerReference: p.ServerReference,
		AuthMethod: p.AuthenticationMethod.Value, AuthData: p.AuthenticationData,
	}
}

func pahoMessage(m *MessageProperties) *paho.Properties {
	return &paho.Properties{
		PayloadFormat: pointer(m.PayloadFormat), MessageExpiry: pointer(m.MessageExpirySeconds), ContentType: m.ContentType.Value,
		ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData, User: pahoUsers(m.UserProperties),
	}
}

func pahoAck(p *AckProperties) *paho.Properties {
	return &paho.Properties{ReasonString: p.ReasonString, User: pahoUsers(p.UserProperties)}
}

func pahoUsers(list []UserProperty) (users []paho.User) {
	for _, p := range list {
		users = append(users, paho.User{Key: p.Key, Value: p.Value})
	}
	return users
}

func codesToBytes(list []ReasonCode) (b []byte) {
	for _, code := range list {
		b = append(b, byte(code))
	}
	return b
}

func pointer[T any](o Optional[T]) *T {
	if !o.Present {
		return nil
	}
	return &o.Value
}

func unlessZero[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func boolPointer(o Optional[bool]) *byte {
	return pointer(Optional[byte]{Value: boolByte(o.Value), Present: o.Present})
}
