package mqttcodec

import (
	"fmt"
	"slices"
)

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

// reasonSet is a set of reason codes, one bit each.
type reasonSet [4]uint64

func reasons(codes ...ReasonCode) (s reasonSet) {
	for _, c := range codes {
		s[c>>6] |= 1 << (c & 63)
	}
	return s
}

func (s *reasonSet) has(c ReasonCode) bool { return s[c>>6]>>(c&63)&1 != 0 }

// reasonCodes has the codes that each packet type may carry in 5.0, whoever sends it. (2.4)
var reasonCodes = [16]reasonSet{
	TypeConnack: reasons(Success, UnspecifiedError, MalformedPacket, ProtocolErrorReason, ImplementationSpecificError, // [MQTT-3.2.2-8]
		UnsupportedProtocolVersion, ClientIdentifierNotValid, BadUserNameOrPassword, NotAuthorized, ServerUnavailable, ServerBusy,
		Banned, BadAuthenticationMethod, TopicNameInvalid, PacketTooLarge, QuotaExceeded, PayloadFormatInvalid, RetainNotSupported,
		QoSNotSupported, UseAnotherServer, ServerMoved, ConnectionRateExceeded),
	TypePuback:  reasons(publishReasons...),                 // [MQTT-3.4.2-1]
	TypePubrec:  reasons(publishReasons...),                 // [MQTT-3.5.2-1]
	TypePubrel:  reasons(Success, PacketIdentifierNotFound), // [MQTT-3.6.2-1]
	TypePubcomp: reasons(Success, PacketIdentifierNotFound), // [MQTT-3.7.2-1]
	TypeSuback: reasons(GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError, ImplementationSpecificError, NotAuthorized, // [MQTT-3.9.3-2]
		TopicFilterInvalid, PacketIdentifierInUse, QuotaExceeded, SharedSubscriptionsNotAllowed, SubscriptionIDsNotSupported, WildcardsNotSupported),
	TypeUnsuback: reasons(Success, NoSubscriptionExisted, UnspecifiedError, ImplementationSpecificError, NotAuthorized, // [MQTT-3.11.3-2]
		TopicFilterInvalid, PacketIdentifierInUse),
	TypeDisconnect: reasons(slices.Concat(anyDisconnectReasons, clientDisconnectReasons, serverDisconnectReasons)...), // [MQTT-3.14.2-1]
	TypeAuth:       reasons(Success, ContinueAuthentication, ReAuthenticate),                                          // [MQTT-3.15.2-1]
}

var publishReasons = []ReasonCode{
	Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
	TopicNameInvalid, PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid,
}

// The codes of DISCONNECT by who may send them. (3.14.2.1; BadAuthenticationMethod stands in 2.4 only)
var (
	anyDisconnectReasons = []ReasonCode{
		NormalDisconnection, UnspecifiedError, MalformedPacket, ProtocolErrorReason,
		ImplementationSpecificError, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge, MessageRateTooHigh,
		QuotaExceeded, AdministrativeAction, PayloadFormatInvalid,
	}
	clientDisconnectReasons = []ReasonCode{DisconnectWithWill}
	serverDisconnectReasons = []ReasonCode{
		NotAuthorized, ServerBusy, ServerShuttingDown, BadAuthenticationMethod, KeepAliveTimeout,
		SessionTakenOver, TopicFilterInvalid, RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved,
		SharedSubscriptionsNotAllowed, ConnectionRateExceeded, MaximumConnectTime, SubscriptionIDsNotSupported, WildcardsNotSupported,
	}
)

// reason reads a reason code of packet t.
func (d *decoder) reason(t PacketType) ReasonCode {
	c := ReasonCode(d.byte("reason code"))
	if d.err == nil && !reasonCodes[t].has(c) {
		d.fail(forbidden("", fmt.Sprintf("%v with reason code %#02x", t, byte(c))))
	}
	return c
}

// reasons reads the reason codes that are the rest of packet t, at least one. [MQTT-3.9.3-1] [MQTT-3.11.3-1]
func (d *decoder) reasons(t PacketType) []ReasonCode {
	if d.err == nil && len(d.rest) == 0 {
		d.fail(malformed("", t.String()+" without a reason code"))
		return nil
	}
	list := make([]ReasonCode, 0, len(d.rest))
	for len(d.rest) > 0 {
		list = append(list, d.reason(t))
	}
	return list
}

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
