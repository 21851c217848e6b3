package mqttcodec

import "fmt"

// Name is the version as people write it.
func (v Version) Name() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return fmt.Sprintf("unknown (%d)", v)
}

// disconnectNames are the names that 5.0 gives the reason codes of DISCONNECT. (3.14.2.1)
var disconnectNames = map[ReasonCode]string{
	NormalDisconnection:           "normal_disconnection",
	DisconnectWithWill:            "disconnect_with_will_message",
	UnspecifiedError:              "unspecified_error",
	MalformedPacket:               "malformed_packet",
	ProtocolErrorReason:           "protocol_error",
	ImplementationSpecificError:   "implementation_specific_error",
	NotAuthorized:                 "not_authorized",
	ServerBusy:                    "server_busy",
	ServerShuttingDown:            "server_shutting_down",
	BadAuthenticationMethod:       "bad_authentication_method",
	KeepAliveTimeout:              "keep_alive_timeout",
	SessionTakenOver:              "session_taken_over",
	TopicFilterInvalid:            "topic_filter_invalid",
	TopicNameInvalid:              "topic_name_invalid",
	ReceiveMaximumExceeded:        "receive_maximum_exceeded",
	TopicAliasInvalid:             "topic_alias_invalid",
	PacketTooLarge:                "packet_too_large",
	MessageRateTooHigh:            "message_rate_too_high",
	QuotaExceeded:                 "quota_exceeded",
	AdministrativeAction:          "administrative_action",
	PayloadFormatInvalid:          "payload_format_invalid",
	RetainNotSupported:            "retain_not_supported",
	QoSNotSupported:               "qos_not_supported",
	UseAnotherServer:              "use_another_server",
	ServerMoved:                   "server_moved",
	SharedSubscriptionsNotAllowed: "shared_subscriptions_not_supported",
	ConnectionRateExceeded:        "connection_rate_exceeded",
	MaximumConnectTime:            "maximum_connect_time",
	SubscriptionIDsNotSupported:   "subscription_identifiers_not_supported",
	WildcardsNotSupported:         "wildcard_subscriptions_not_supported",
}

// DisconnectName is the name of a reason for which a connection ends. A code that DISCONNECT cannot carry is the one that it
// becomes there.
func (c ReasonCode) DisconnectName() string {
	if name, ok := disconnectNames[c]; ok {
		return name
	}
	return disconnectNames[UnspecifiedError]
}
