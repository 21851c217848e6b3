package mqttcodec

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

// The connect flags. (3.1.2.3)
const (
	connectReserved   = 0x01
	connectCleanStart = 0x02
	connectWill       = 0x04
	connectWillQoS    = 0x18 // 2 bits
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUsername   = 0x80
)

// protocolName is the name that goes with the version in CONNECT. [MQTT-3.1.2-1]
func protocolName(v Version) string {
	if v == V31 {
		return "MQIsdp"
	}
	return "MQTT"
}

// ConnackVersion is the version in which the answer to a CONNECT is written, also when Decode refuses the CONNECT. ok is
// false when the frame does not name a protocol that has an answer: the connection is then just closed. [MQTT-3.1.2-1]
func ConnackVersion(frame []byte) (v Version, ok bool) {
	_, size, err := readVarint(frame[min(1, len(frame)):])
	if err != nil || size == 0 || PacketType(frame[0]>>4) != TypeConnect {
		return 0, false
	}
	d := decoder{rest: frame[1+size:]}
	name, level := string(d.binary("")), d.byte("")
	switch {
	case d.err != nil:
		return 0, false
	case name == protocolName(V31):
		return V31, true
	case name != protocolName(V5):
		return 0, false
	case level >= byte(V5) && level < 0x80: // 5.0 or yet to come [MQTT-3.1.2-2]
		return V5, true
	}
	return V311, true // an older level under the newer name, or a bridge
}

func (d *decoder) connect() *Connect {
	name, level := d.binary("protocol name"), d.byte("protocol level")
	if d.err != nil {
		return nil
	}
	d.version = Version(level)
	if d.version < V31 || d.version > V5 || string(name) != protocolName(d.version) { // [MQTT-3.1.2-1] [MQTT-3.1.2-2]
		d.fail(&ProtocolError{Reason: UnsupportedProtocolVersion, Clause: "MQTT-3.1.2-2", Detail: "unknown protocol name or level"})
		return nil
	}
	flags := d.byte("connect flags")
	d.connectFlags(flags)
	p := &Connect{Version: d.version, CleanStart: flags&connectCleanStart != 0, KeepAliveSeconds: d.uint16("keep alive")}
	if d.version == V5 {
		var s properties
		d.properties(&s, TypeConnect)
		if d.err == nil {
			p.Properties = d.connectProperties(&s)
		}
	}
	p.ClientID = d.string("client identifier")
	if flags&connectWill != 0 {
		p.Will = d.will(flags)
	}
	if flags&connectUsername != 0 && !d.omitted() {
		p.Username = Some(d.string("user name"))
	}
	if flags&connectPassword != 0 && !d.omitted() {
		p.Password = d.binary("password")
	}
	return p
}

// omitted reports that the packet ends before a user name or password which its flag promises: 3.1, and only 3.1, gives
// the Remaining Length precedence over the flag and tells servers to accept it. (3.1: section 3.1, user name flag)
func (d *decoder) omitted() bool { return d.version == V31 && d.err == nil && len(d.rest) == 0 }

// connectFlags reports connect flags that do not go together. (3.1.2.3)
func (d *decoder) connectFlags(flags byte) {
	switch {
	case flags&connectReserved != 0:
		d.fail(malformed("MQTT-3.1.2-3", "reserved connect flag is set"))
	case flags&connectWill == 0 && flags&connectWillQoS != 0: // [3.1.1 MQTT-3.1.2-13]
		d.fail(malformed("MQTT-3.1.2-11", "Will QoS without a will"))
	case flags&connectWill == 0 && flags&connectWillRetain != 0: // [3.1.1 MQTT-3.1.2-15]
		d.fail(malformed("MQTT-3.1.2-13", "Will Retain without a will"))
	case flags&connectWillQoS == connectWillQoS: // [3.1.1 MQTT-3.1.2-14]
		d.fail(malformed("MQTT-3.1.2-12", "Will QoS is 3"))
	case d.version != V5 && flags&connectPassword != 0 && flags&connectUsername == 0: // 5.0 allows it
		d.fail(malformed("3.1.1 MQTT-3.1.2-22", "password without a user name"))
	}
}

func (d *decoder) connectProperties(s *properties) ConnectProperties {
	if s.at[propAuthenticationData] != 0 && s.at[propAuthenticationMethod] == 0 { // 3.1.2.11.10
		d.fail(forbidden("", "Authentication Data without Authentication Method"))
	}
	return ConnectProperties{
		SessionExpirySeconds:       s.optionalUint32(propSessionExpiry),
		ReceiveMaximum:             uint16(s.number(propReceiveMaximum)),
		MaximumPacketSize:          s.number(propMaximumPacketSize),
		TopicAliasMaximum:          uint16(s.number(propTopicAliasMaximum)),
		RequestResponseInformation: s.number(propRequestResponseInformation) == 1,
		RequestProblemInformation:  s.optionalBool(propRequestProblemInformation),
		UserProperties:             s.userProperties(),
		AuthenticationMethod:       s.optionalText(propAuthenticationMethod),
		AuthenticationData:         s.binary(propAuthenticationData),
	}
}

func (d *decoder) will(flags byte) *Will {
	will := &Will{QoS: QoS(flags & connectWillQoS >> 3), Retain: flags&connectWillRetain != 0}
	if d.version == V5 {
		var s properties
		d.properties(&s, inWill)
		if d.err == nil {
			will.DelaySeconds = s.number(propWillDelay)
			will.Properties = d.message(&s)
		}
	}
	will.Topic = d.string("will topic")
	d.topicName(will.Topic) // [MQTT-3.1.3-11]
	will.Payload = d.binary("will payload")
	return will
}

func (w *writer) connect(p *Connect) {
	if p.Version < V31 || p.Version > V5 || p.Version != V5 && p.Password != nil && !p.Username.Present { // [3.1.1 MQTT-3.1.2-22]
		w.err = ErrNoForm
		return
	}
	w.version = p.Version
	w.string(protocolName(p.Version))
	w.byte(byte(p.Version))
	w.byte(p.flags())
	w.uint16(p.KeepAliveSeconds)
	w.properties(func() { w.connectProperties(&p.Properties) })
	w.string(p.ClientID)
	if p.Will != nil {
		w.properties(func() {
			w.nonZero(propWillDelay, p.Will.DelaySeconds)
			w.message(&p.Will.Properties)
		})
		w.string(p.Will.Topic)
		w.binary(p.Will.Payload)
	}
	if p.Username.Present {
		w.string(p.Username.Value)
	}
	if p.Password != nil {
		w.binary(p.Password)
	}
}

func (p *Connect) flags() (flags byte) {
	if p.CleanStart {
		flags |= connectCleanStart
	}
	if p.Will != nil {
		flags |= connectWill | byte(p.Will.QoS)<<3
		if p.Will.Retain {
			flags |= connectWillRetain
		}
	}
	if p.Password != nil {
		flags |= connectPassword
	}
	if p.Username.Present {
		flags |= connectUsername
	}
	return flags
}

func (w *writer) connectProperties(p *ConnectProperties) {
	optional(w, propSessionExpiry, p.SessionExpirySeconds)
	w.nonZero(propReceiveMaximum, uint32(p.ReceiveMaximum))
	w.nonZero(propMaximumPacketSize, p.MaximumPacketSize)
	w.nonZero(propTopicAliasMaximum, uint32(p.TopicAliasMaximum))
	if p.RequestResponseInformation {
		w.flag(propRequestResponseInformation, true)
	}
	w.optionalFlag(propRequestProblemInformation, p.RequestProblemInformation)
	w.userProperties(p.UserProperties)
	w.optionalText(propAuthenticationMethod, p.AuthenticationMethod)
	w.data(propAuthenticationData, p.AuthenticationData)
}
