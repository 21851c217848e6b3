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

// MessageProperties are the properties that belong to an application message and travel with it
// unaltered from publisher to subscriber, in PUBLISH and in a will. (3.3.2.3, 3.1.3.2)
type MessageProperties struct {
	// PayloadFormat is 0 (bytes) or 1 (UTF-8).
	PayloadFormat Optional[byte]
	// MessageExpirySeconds is the lifetime of the message from publication on.
	MessageExpirySeconds Optional[uint32]
	ContentType          Optional[string]
	// ResponseTopic is empty when absent; it cannot be present and empty.
	ResponseTopic string
	// CorrelationData is nil when absent.
	CorrelationData []byte
	UserProperties  []UserProperty
}

// Will is the message that the server publishes when the connection ends without a DISCONNECT. (3.1.3.2)
type Will struct {
	Topic        string
	Payload      []byte
	QoS          QoS
	Retain       bool
	DelaySeconds uint32
	Properties   MessageProperties
}

// Connect asks for a session. (3.1)
type Connect struct {
	Version          Version
	CleanStart       bool // "clean session" before 5.0
	KeepAliveSeconds uint16
	ClientID         string
	Username         Optional[string]
	// Password is nil when absent.
	Password   []byte
	Will       *Will
	Properties ConnectProperties
}

// ConnectProperties are the properties of CONNECT. (3.1.2.11)
type ConnectProperties struct {
	SessionExpirySeconds Optional[uint32]
	// ReceiveMaximum is 0 when absent: 65,535 then applies.
	ReceiveMaximum uint16
	// MaximumPacketSize is 0 when absent: no limit then applies.
	MaximumPacketSize          uint32
	TopicAliasMaximum          uint16
	RequestResponseInformation bool
	// RequestProblemInformation is absent in most CONNECTs: true then applies.
	RequestProblemInformation Optional[bool]
	UserProperties            []UserProperty
	AuthenticationMethod      Optional[string]
	// AuthenticationData is nil when absent.
	AuthenticationData []byte
}

// Connack answers CONNECT. (3.2)
type Connack struct {
	SessionPresent bool
	// Reason is written for 3.1 and 3.1.1 as the return code that means the same.
	Reason     ReasonCode
	Properties ConnackProperties
}

// ConnackProperties are the properties of CONNACK. (3.2.2.3)
type ConnackProperties struct {
	SessionExpirySeconds Optional[uint32]
	// ReceiveMaximum is 0 when absent.
	ReceiveMaximum  uint16
	MaximumQoS      Optional[byte]
	RetainAvailable Optional[bool]
	// MaximumPacketSize is 0 when absent.
	MaximumPacketSize               uint32
	AssignedClientID                string
	TopicAliasMaximum               uint16
	ReasonString                    string
	UserProperties                  []UserProperty
	WildcardSubscriptionAvailable   Optional[bool]
	SubscriptionIdentifierAvailable Optional[bool]
	SharedSubscriptionAvailable     Optional[bool]
	ServerKeepAliveSeconds          Optional[uint16]
	ResponseInformation             Optional[string]
	ServerReference                 string
	AuthenticationMethod            Optional[string]
	AuthenticationData              []byte
}

// Publish carries an application message. (3.3)
type Publish struct {
	Duplicate bool
	QoS       QoS
	Retain    bool
	// PacketID is 0 at QoS 0.
	PacketID uint16
	Topic    string
	Payload  []byte
	// Properties travel with the message; the two below belong to one connection.
	Properties MessageProperties
	// TopicAlias is 0 when absent; present and 0 is a protocol error. [MQTT-3.3.2-8]
	TopicAlias              uint16
	SubscriptionIdentifiers []uint32
}

// AckProperties are the properties that acknowledgements share. (3.4.2.2)
type AckProperties struct {
	ReasonString   string
	UserProperties []UserProperty
}

// Puback ends the delivery of a QoS 1 message. (3.4)
type Puback struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// Pubrec is the first answer to a QoS 2 message. (3.5)
type Pubrec struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// Pubrel answers Pubrec. (3.6)
type Pubrel struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// Pubcomp ends the delivery of a QoS 2 message. (3.7)
type Pubcomp struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// RetainHandling says which retained messages a SUBSCRIBE asks for. (3.8.3.1)
type RetainHandling byte

// The retain handling options. (3.8.3.1)
const (
	RetainSend      RetainHandling = 0 // at each SUBSCRIBE
	RetainSendIfNew RetainHandling = 1 // only when the filter was not subscribed before
	RetainDoNotSend RetainHandling = 2
)

// SubscriptionOptions are the options byte of one topic filter. (3.8.3.1)
type SubscriptionOptions struct {
	QoS               QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    RetainHandling
}

// SubscriptionRequest is one topic filter of a SUBSCRIBE with its options.
type SubscriptionRequest struct {
	Filter  string
	Options SubscriptionOptions
}

// Subscribe asks for messages. (3.8)
type Subscribe struct {
	PacketID uint16
	Requests []SubscriptionRequest
	// SubscriptionIdentifier is 0 when absent.
	SubscriptionIdentifier uint32
	UserProperties         []UserProperty
}

// Suback answers Subscribe with one reason code for each filter. (3.9)
type Suback struct {
	PacketID   uint16
	Reasons    []ReasonCode
	Properties AckProperties
}

// Unsubscribe ends subscriptions. (3.10)
type Unsubscribe struct {
	PacketID       uint16
	Filters        []string
	UserProperties []UserProperty
}

// Unsuback answers Unsubscribe; only 5.0 writes the reason codes. (3.11)
type Unsuback struct {
	PacketID   uint16
	Reasons    []ReasonCode
	Properties AckProperties
}

// Pingreq is a sign of life. (3.12)
type Pingreq struct{}

// Pingresp answers Pingreq. (3.13)
type Pingresp struct{}

// Disconnect ends a connection; only 5.0 servers send it. (3.14)
type Disconnect struct {
	Reason               ReasonCode
	SessionExpirySeconds Optional[uint32]
	ReasonString         string
	UserProperties       []UserProperty
	ServerReference      string
}

// Auth carries enhanced authentication; 5.0 only. (3.15)
type Auth struct {
	Reason               ReasonCode
	AuthenticationMethod Optional[string]
	AuthenticationData   []byte
	ReasonString         string
	UserProperties       []UserProperty
}

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
