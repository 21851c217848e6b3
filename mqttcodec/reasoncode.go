package mqttcodec

// ReasonCode is the result of an operation as it stands on the wire in 5.0. (2.4)
type ReasonCode byte

// The reason codes of MQTT 5.0, and no others. Several names share 0x00: which one is meant follows from the packet. (2.4)
const (
	Success                       ReasonCode = 0x00
	NormalDisconnection           ReasonCode = 0x00
	GrantedQoS0                   ReasonCode = 0x00
	GrantedQoS1                   ReasonCode = 0x01
	GrantedQoS2                   ReasonCode = 0x02
	DisconnectWithWill            ReasonCode = 0x04
	NoMatchingSubscribers         ReasonCode = 0x10
	NoSubscriptionExisted         ReasonCode = 0x11
	ContinueAuthentication        ReasonCode = 0x18
	ReAuthenticate                ReasonCode = 0x19
	UnspecifiedError              ReasonCode = 0x80
	MalformedPacket               ReasonCode = 0x81
	ProtocolErrorReason           ReasonCode = 0x82
	ImplementationSpecificError   ReasonCode = 0x83
	UnsupportedProtocolVersion    ReasonCode = 0x84
	ClientIdentifierNotValid      ReasonCode = 0x85
	BadUserNameOrPassword         ReasonCode = 0x86
	NotAuthorized                 ReasonCode = 0x87
	ServerUnavailable             ReasonCode = 0x88
	ServerBusy                    ReasonCode = 0x89
	Banned                        ReasonCode = 0x8A
	ServerShuttingDown            ReasonCode = 0x8B
	BadAuthenticationMethod       ReasonCode = 0x8C
	KeepAliveTimeout              ReasonCode = 0x8D
	SessionTakenOver              ReasonCode = 0x8E
	TopicFilterInvalid            ReasonCode = 0x8F
	TopicNameInvalid              ReasonCode = 0x90
	PacketIdentifierInUse         ReasonCode = 0x91
	PacketIdentifierNotFound      ReasonCode = 0x92
	ReceiveMaximumExceeded        ReasonCode = 0x93
	TopicAliasInvalid             ReasonCode = 0x94
	PacketTooLarge                ReasonCode = 0x95
	MessageRateTooHigh            ReasonCode = 0x96
	QuotaExceeded                 ReasonCode = 0x97
	AdministrativeAction          ReasonCode = 0x98
	PayloadFormatInvalid          ReasonCode = 0x99
	RetainNotSupported            ReasonCode = 0x9A
	QoSNotSupported               ReasonCode = 0x9B
	UseAnotherServer              ReasonCode = 0x9C
	ServerMoved                   ReasonCode = 0x9D
	SharedSubscriptionsNotAllowed ReasonCode = 0x9E
	ConnectionRateExceeded        ReasonCode = 0x9F
	MaximumConnectTime            ReasonCode = 0xA0
	SubscriptionIDsNotSupported   ReasonCode = 0xA1
	WildcardsNotSupported         ReasonCode = 0xA2
)

// Failed reports whether the code stands for a failure. (2.4)
func (c ReasonCode) Failed() bool { return c >= 0x80 }

// ProtocolError is the client's fault. Reason goes on the wire; Clause and Detail go to the log.
type ProtocolError struct {
	Reason         ReasonCode
	Clause, Detail string
}

// Error implements error.
func (e *ProtocolError) Error() string {
	if e.Clause == "" {
		return e.Detail
	}
	return e.Detail + " [" + e.Clause + "]"
}
