package mqttcodec

// Version is a protocol level of MQTT as it stands in CONNECT. [MQTT-3.1.2-2]
type Version byte

// The protocol levels that Dunlin speaks.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// QoS is a quality of service: 0, 1 or 2.
type QoS byte

// PacketType is the control packet type of a fixed header. (2.1.2)
type PacketType byte

// The 15 control packet types. (2.1.2)
const (
	TypeConnect PacketType = iota + 1
	TypeConnack
	TypePublish
	TypePuback
	TypePubrec
	TypePubrel
	TypePubcomp
	TypeSubscribe
	TypeSuback
	TypeUnsubscribe
	TypeUnsuback
	TypePingreq
	TypePingresp
	TypeDisconnect
	TypeAuth
)

// String is the type's name as the specification writes it.
func (t PacketType) String() string { return packetTypeNames[t&0x0F] }

// packetTypeNames has at 0, which is no packet, the will: its properties are named like a packet's. (see inWill)
var packetTypeNames = [16]string{
	"will", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
	"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// Packet is one MQTT control packet in 5.0 terms, whatever version it is read from or written for.
//
//sumtype:decl
type Packet interface {
	// Type is the packet's control packet type.
	Type() PacketType
	packet()
}

// Optional is a value which may be absent, for properties whose absence differs from their zero value.
type Optional[T any] struct {
	Value   T
	Present bool
}

// Some is a present Optional.
func Some[T any](v T) Optional[T] { return Optional[T]{Value: v, Present: true} }

// Or is the value, or otherwise when it is absent.
func (o Optional[T]) Or(otherwise T) T {
	if o.Present {
		return o.Value
	}
	return otherwise
}

// UserProperty is one name and value pair; names may repeat and their order matters. (3.3.2.3.7)
type UserProperty struct{ Key, Value string }

// Type implements Packet.
func (*Connect) Type() PacketType { return TypeConnect }

// Type implements Packet.
func (*Connack) Type() PacketType { return TypeConnack }

// Type implements Packet.
func (*Publish) Type() PacketType { return TypePublish }

// Type implements Packet.
func (*Puback) Type() PacketType { return TypePuback }

// Type implements Packet.
func (*Pubrec) Type() PacketType { return TypePubrec }

// Type implements Packet.
func (*Pubrel) Type() PacketType { return TypePubrel }

// Type implements Packet.
func (*Pubcomp) Type() PacketType { return TypePubcomp }

// Type implements Packet.
func (*Subscribe) Type() PacketType { return TypeSubscribe }

// Type implements Packet.
func (*Suback) Type() PacketType { return TypeSuback }

// Type implements Packet.
func (*Unsubscribe) Type() PacketType { return TypeUnsubscribe }

// Type implements Packet.
func (*Unsuback) Type() PacketType { return TypeUnsuback }

// Type implements Packet.
func (*Pingreq) Type() PacketType { return TypePingreq }

// Type implements Packet.
func (*Pingresp) Type() PacketType { return TypePingresp }

// Type implements Packet.
func (*Disconnect) Type() PacketType { return TypeDisconnect }

// Type implements Packet.
func (*Auth) Type() PacketType { return TypeAuth }

func (*Connect) packet()     {}
func (*Connack) packet()     {}
func (*Publish) packet()     {}
func (*Puback) packet()      {}
func (*Pubrec) packet()      {}
func (*Pubrel) packet()      {}
func (*Pubcomp) packet()     {}
func (*Subscribe) packet()   {}
func (*Suback) packet()      {}
func (*Unsubscribe) packet() {}
func (*Unsuback) packet()    {}
func (*Pingreq) packet()     {}
func (*Pingresp) packet()    {}
func (*Disconnect) packet()  {}
func (*Auth) packet()        {}
