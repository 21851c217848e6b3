package mqttcodec

import (
	"encoding/binary"
	"fmt"
	"math"
)

// property is a property identifier. All of them are below 0x80, so the Variable Byte Integer is one byte. (2.2.2.2)
type property byte

// The properties of table 2-4. (2.2.2.2)
const (
	propPayloadFormat               property = 0x01
	propMessageExpiry               property = 0x02
	propContentType                 property = 0x03
	propResponseTopic               property = 0x08
	propCorrelationData             property = 0x09
	propSubscriptionIdentifier      property = 0x0B
	propSessionExpiry               property = 0x11
	propAssignedClientID            property = 0x12
	propServerKeepAlive             property = 0x13
	propAuthenticationMethod        property = 0x15
	propAuthenticationData          property = 0x16
	propRequestProblemInformation   property = 0x17
	propWillDelay                   property = 0x18
	propRequestResponseInformation  property = 0x19
	propResponseInformation         property = 0x1A
	propServerReference             property = 0x1C
	propReasonString                property = 0x1F
	propReceiveMaximum              property = 0x21
	propTopicAliasMaximum           property = 0x22
	propTopicAlias                  property = 0x23
	propMaximumQoS                  property = 0x24
	propRetainAvailable             property = 0x25
	propUser                        property = 0x26
	propMaximumPacketSize           property = 0x27
	propWildcardSubscription        property = 0x28
	propSubscriptionIDAvailable     property = 0x29
	propSharedSubscriptionAvailable property = 0x2A
	propLast                                 = propSharedSubscriptionAvailable
)

// propertyKind is the form of a property's value. (2.2.2.2)
type propertyKind byte

const (
	kindNone propertyKind = iota // the identifier is not defined
	kindByte
	kindUint16
	kindUint32
	kindVarint
	kindString
	kindBinary
	kindPair
)

// packetSet is a set of packet types, one bit each.
type packetSet uint16

// inWill stands in a packetSet for the properties of a will, which are a section of their own inside CONNECT. (3.1.3.2)
const inWill PacketType = 0

func in(types ...PacketType) (s packetSet) {
	for _, t := range types {
		s |= 1 << t
	}
	return s
}

func (s packetSet) has(t PacketType) bool { return s>>t&1 != 0 }

// propertyRule is one row of table 2-4, with the values that the property's own section allows.
type propertyRule struct {
	name string
	kind propertyKind
	in   packetSet
	// repeats has the packets in which the property may stand more than once.
	repeats packetSet
	// least and most bound a number.
	least, most uint32
	// reason is for a number out of bounds, ProtocolErrorReason when 0; clause goes with it.
	reason ReasonCode
	clause string
}

const anyNumber = math.MaxUint32

var (
	inMessage = in(TypePublish, inWill)
	inReply   = in(TypeConnack, TypePuback, TypePubrec, TypePubrel, TypePubcomp, TypeSuback, TypeUnsuback, TypeDisconnect, TypeAuth)
	inAny     = inReply | inMessage | in(TypeConnect, TypeSubscribe, TypeUnsubscribe)
)

// propertyRules is table 2-4. (2.2.2.2)
var propertyRules = [propLast + 1]propertyRule{
	propPayloadFormat:               {name: "Payload Format Indicator", kind: kindByte, in: inMessage, most: 1},
	propMessageExpiry:               {name: "Message Expiry Interval", kind: kindUint32, in: inMessage, most: anyNumber},
	propContentType:                 {name: "Content Type", kind: kindString, in: inMessage},
	propResponseTopic:               {name: "Response Topic", kind: kindString, in: inMessage},
	propCorrelationData:             {name: "Correlation Data", kind: kindBinary, in: inMessage},
	propSubscriptionIdentifier:      {name: "Subscription Identifier", kind: kindVarint, in: in(TypePublish, TypeSubscribe), repeats: in(TypePublish), least: 1, most: maxVarint},
	propSessionExpiry:               {name: "Session Expiry Interval", kind: kindUint32, in: in(TypeConnect, TypeConnack, TypeDisconnect), most: anyNumber},
	propAssignedClientID:            {name: "Assigned Client Identifier", kind: kindString, in: in(TypeConnack)},
	propServerKeepAlive:             {name: "Server Keep Alive", kind: kindUint16, in: in(TypeConnack), most: anyNumber},
	propAuthenticationMethod:        {name: "Authentication Method", kind: kindString, in: in(TypeConnect, TypeConnack, TypeAuth)},
	propAuthenticationData:          {name: "Authentication Data", kind: kindBinary, in: in(TypeConnect, TypeConnack, TypeAuth)},
	propRequestProblemInformation:   {name: "Request Problem Information", kind: kindByte, in: in(TypeConnect), most: 1},
	propWillDelay:                   {name: "Will Delay Interval", kind: kindUint32, in: in(inWill), most: anyNumber},
	propRequestResponseInformation:  {name: "Request Response Information", kind: kindByte, in: in(TypeConnect), most: 1},
	propResponseInformation:         {name: "Response Information", kind: kindString, in: in(TypeConnack)},
	propServerReference:             {name: "Server Reference", kind: kindString, in: in(TypeConnack, TypeDisconnect)},
	propReasonString:                {name: "Reason String", kind: kindString, in: inReply},
	propReceiveMaximum:              {name: "Receive Maximum", kind: kindUint16, in: in(TypeConnect, TypeConnack), least: 1, most: anyNumber},
	propTopicAliasMaximum:           {name: "Topic Alias Maximum", kind: kindUint16, in: in(TypeConnect, TypeConnack), most: anyNumber},
	propTopicAlias:                  {name: "Topic Alias", kind: kindUint16, in: in(TypePublish), least: 1, most: anyNumber, reason: TopicAliasInvalid, clause: "MQTT-3.3.2-8"},
	propMaximumQoS:                  {name: "Maximum QoS", kind: kindByte, in: in(TypeConnack), most: 1},
	propRetainAvailable:             {name: "Retain Available", kind: kindByte, in: in(TypeConnack), most: 1},
	propUser:                        {name: "User Property", kind: kindPair, in: inAny, repeats: inAny},
	propMaximumPacketSize:           {name: "Maximum Packet Size", kind: kindUint32, in: in(TypeConnect, TypeConnack), least: 1, most: anyNumber},
	propWildcardSubscription:        {name: "Wildcard Subscription Available", kind: kindByte, in: in(TypeConnack), most: 1},
	propSubscriptionIDAvailable:     {name: "Subscription Identifiers Available", kind: kindByte, in: in(TypeConnack), most: 1},
	propSharedSubscriptionAvailable: {name: "Shared Subscription Available", kind: kindByte, in: in(TypeConnack), most: 1},
}

// ruleOf is the rule of an identifier from the wire; its kind is kindNone when there is no such property.
func ruleOf(id property) *propertyRule {
	if id > propLast {
		return &propertyRules[0]
	}
	return &propertyRules[id]
}

// properties is a decoded property section. It notes where each value stands instead of holding it, so that it is
// small, and knows how often the repeatable ones occur, so that their slices are allocated once.
//
// Invariant: the section was checked as a whole, so reading values from it cannot fail.
type properties struct {
	section []byte
	// at is the offset of the value of each property's first occurrence, 0 when absent: the identifier precedes it.
	at                     [propLast + 1]uint32
	users, subscriptionIDs int
}

// properties reads the property section of packet t into s. (2.2.2)
func (d *decoder) properties(s *properties, t PacketType) {
	d.section(s, t, d.propertySection())
}

// propertySection is the next property length's worth of bytes.
func (d *decoder) propertySection() []byte {
	return d.take(int(d.varint("property length")), "properties")
}

// section checks a property section of packet t and notes in s what it holds.
func (d *decoder) section(s *properties, t PacketType, section []byte) {
	s.section = section
	r := decoder{rest: section}
	for len(r.rest) > 0 {
		id := property(r.rest[0])
		rule := ruleOf(id)
		r.rest = r.rest[1:]
		offset := len(section) - len(r.rest)
		switch {
		case !rule.in.has(t):
			r.fail(malformed("", fmt.Sprintf("property %#02x does not belong in %v", byte(id), t))) // 2.2.2.2
		case s.at[id] == 0:
			s.at[id] = uint32(offset)
		case !rule.repeats.has(t):
			r.fail(forbidden("", rule.name+" occurs twice"))
		}
		r.value(rule)
		if id == propUser {
			s.users++
		}
		if id == propSubscriptionIdentifier {
			s.subscriptionIDs++
		}
	}
	if r.err != nil {
		d.fail(r.err)
	}
}

// value reads one property value and checks it.
func (d *decoder) value(rule *propertyRule) {
	var number uint32
	switch rule.kind {
	case kindByte:
		number = uint32(d.byte(rule.name))
	case kindUint16:
		number = uint32(d.uint16(rule.name))
	case kindUint32:
		number = d.uint32(rule.name)
	case kindVarint:
		number = d.varint(rule.name)
	case kindString:
		d.string(rule.name)
		return
	case kindBinary:
		d.binary(rule.name)
		return
	case kindPair:
		d.string(rule.name)
		d.string(rule.name)
		return
	case kindNone:
		return
	}
	if number < rule.least || number > rule.most {
		d.fail(&ProtocolError{Reason: max(rule.reason, ProtocolErrorReason), Clause: rule.clause, Detail: fmt.Sprintf("%s is %d", rule.name, number)})
	}
}

// number is the value of a numeric property, 0 when it is absent.
func (s *properties) number(id property) uint32 {
	if s.at[id] == 0 {
		return 0
	}
	b := s.section[s.at[id]:]
	switch propertyRules[id].kind {
	case kindByte:
		return uint32(b[0])
	case kindUint16:
		return uint32(binary.BigEndian.Uint16(b))
	case kindVarint:
		n, _, _ := readVarint(b)
		return n
	default:
		return binary.BigEndian.Uint32(b)
	}
}

func (s *properties) optionalByte(id property) Optional[byte] {
	return Optional[byte]{Value: byte(s.number(id)), Present: s.at[id] != 0}
}

func (s *properties) optionalUint16(id property) Optional[uint16] {
	return Optional[uint16]{Value: uint16(s.number(id)), Present: s.at[id] != 0}
}

func (s *properties) optionalUint32(id property) Optional[uint32] {
	return Optional[uint32]{Value: s.number(id), Present: s.at[id] != 0}
}

func (s *properties) optionalBool(id property) Optional[bool] {
	return Optional[bool]{Value: s.number(id) == 1, Present: s.at[id] != 0}
}

// binary is the value of a property of binary data, nil when it is absent.
func (s *properties) binary(id property) []byte {
	if s.at[id] == 0 {
		return nil
	}
	return block(s.section[s.at[id]:])
}

// text is the value of a string property, empty when it is absent.
func (s *properties) text(id property) string { return alias(s.binary(id)) }

func (s *properties) optionalText(id property) Optional[string] {
	return Optional[string]{Value: s.text(id), Present: s.at[id] != 0}
}

// block is the length-prefixed bytes at the start of b, which has been checked.
func block(b []byte) []byte {
	end := 2 + int(binary.BigEndian.Uint16(b))
	return b[2:end:end]
}

// userProperties is the User Properties in their order. [MQTT-3.1.3-10] [MQTT-3.3.2-18]
func (s *properties) userProperties() []UserProperty {
	if s.users == 0 {
		return nil
	}
	list := make([]UserProperty, 0, s.users)
	for b := range s.occurrences(propUser) {
		key := block(b)
		list = append(list, UserProperty{Key: alias(key), Value: alias(block(b[2+len(key):]))})
	}
	return list
}

// subscriptionIdentifiers is the Subscription Identifiers of a PUBLISH. (3.3.2.3.8)
func (s *properties) subscriptionIdentifiers() []uint32 {
	if s.subscriptionIDs == 0 {
		return nil
	}
	list := make([]uint32, 0, s.subscriptionIDs)
	for b := range s.occurrences(propSubscriptionIdentifier) {
		n, _, _ := readVarint(b)
		list = append(list, n)
	}
	return list
}

// occurrences yields the section from each value of the property on.
func (s *properties) occurrences(id property) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for rest := s.section[s.at[id]-1:]; len(rest) > 0; {
			current, value := property(rest[0]), rest[1:]
			if current == id && !yield(value) {
				return
			}
			rest = value[valueSize(propertyRules[current].kind, value):]
		}
	}
}

// valueSize is the number of bytes that the value at the start of b, which has been checked, takes.
func valueSize(kind propertyKind, b []byte) int {
	switch kind {
	case kindByte:
		return 1
	case kindUint16:
		return 2
	case kindUint32:
		return 4
	case kindVarint:
		_, size, _ := readVarint(b)
		return size
	case kindString, kindBinary:
		return 2 + len(block(b))
	case kindPair:
		key := 2 + len(block(b))
		return key + 2 + len(block(b[key:]))
	default:
		panic("mqttcodec: property of no kind in a checked section")
	}
}
