package mqttcodec

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

// returnCodes are the return codes of CONNACK before 5.0, in the terms of 5.0. (3.1.1: table 3.1)
var returnCodes = [...]ReasonCode{
	0: Success,
	1: UnsupportedProtocolVersion,
	2: ClientIdentifierNotValid,
	3: ServerUnavailable,
	4: BadUserNameOrPassword,
	5: NotAuthorized,
}

// returnCode is the return code that means the same to a client as the reason code. There is none for a client that
// broke the protocol: it is closed without a CONNACK. [3.1.1 MQTT-3.2.2-6]
func returnCode(reason ReasonCode) (code byte, ok bool) {
	switch reason {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case ServerUnavailable, ServerBusy, UnspecifiedError, ImplementationSpecificError, QuotaExceeded,
		UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return 3, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return 5, true
	default:
		return 0, false
	}
}

func (d *decoder) connack() *Connack {
	flags := d.byte("connack flags")
	if flags&^0x01 != 0 {
		d.fail(malformed("MQTT-3.2.2-1", "reserved connack flag is set"))
	}
	p := &Connack{SessionPresent: flags == 1 && d.version != V31} // 3.1 has no such flag
	if d.version == V5 {
		p.Reason = d.reason(TypeConnack)
		var s properties
		d.properties(&s, TypeConnack)
		if d.err == nil {
			p.Properties = connackProperties(&s)
		}
	} else if code := d.byte("return code"); int(code) < len(returnCodes) {
		p.Reason = returnCodes[code]
	} else {
		d.fail(forbidden("", "return code is reserved"))
	}
	if p.SessionPresent && p.Reason.Failed() { // [3.1.1 MQTT-3.2.2-4]
		d.fail(forbidden("MQTT-3.2.2-6", "session present in a refusal"))
	}
	return p
}

func connackProperties(s *properties) ConnackProperties {
	return ConnackProperties{
		SessionExpirySeconds:            s.optionalUint32(propSessionExpiry),
		ReceiveMaximum:                  uint16(s.number(propReceiveMaximum)),
		MaximumQoS:                      s.optionalByte(propMaximumQoS),
		RetainAvailable:                 s.optionalBool(propRetainAvailable),
		MaximumPacketSize:               s.number(propMaximumPacketSize),
		AssignedClientID:                s.text(propAssignedClientID),
		TopicAliasMaximum:               uint16(s.number(propTopicAliasMaximum)),
		ReasonString:                    s.text(propReasonString),
		UserProperties:                  s.userProperties(),
		WildcardSubscriptionAvailable:   s.optionalBool(propWildcardSubscription),
		SubscriptionIdentifierAvailable: s.optionalBool(propSubscriptionIDAvailable),
		SharedSubscriptionAvailable:     s.optionalBool(propSharedSubscriptionAvailable),
		ServerKeepAliveSeconds:          s.optionalUint16(propServerKeepAlive),
		ResponseInformation:             s.optionalText(propResponseInformation),
		ServerReference:                 s.text(propServerReference),
		AuthenticationMethod:            s.optionalText(propAuthenticationMethod),
		AuthenticationData:              s.binary(propAuthenticationData),
	}
}

func (w *writer) connack(p *Connack) {
	present := p.SessionPresent && !p.Reason.Failed() // [MQTT-3.2.2-6] [3.1.1 MQTT-3.2.2-4]
	if present && w.version != V31 {
		w.byte(1)
	} else {
		w.byte(0)
	}
	if w.version == V5 {
		w.byte(byte(p.Reason))
		w.properties(func() { w.connackProperties(&p.Properties) })
		return
	}
	code, ok := returnCode(p.Reason)
	if !ok {
		w.err = ErrNoForm
	}
	w.byte(code)
}

func (w *writer) connackProperties(p *ConnackProperties) {
	optional(w, propSessionExpiry, p.SessionExpirySeconds)
	w.nonZero(propReceiveMaximum, uint32(p.ReceiveMaximum))
	optional(w, propMaximumQoS, p.MaximumQoS)
	w.optionalFlag(propRetainAvailable, p.RetainAvailable)
	w.nonZero(propMaximumPacketSize, p.MaximumPacketSize)
	w.text(propAssignedClientID, p.AssignedClientID)
	w.nonZero(propTopicAliasMaximum, uint32(p.TopicAliasMaximum))
	w.text(propReasonString, p.ReasonString)
	w.userProperties(p.UserProperties)
	w.optionalFlag(propWildcardSubscription, p.WildcardSubscriptionAvailable)
	w.optionalFlag(propSubscriptionIDAvailable, p.SubscriptionIdentifierAvailable)
	w.optionalFlag(propSharedSubscriptionAvailable, p.SharedSubscriptionAvailable)
	optional(w, propServerKeepAlive, p.ServerKeepAliveSeconds)
	w.optionalText(propResponseInformation, p.ResponseInformation)
	w.text(propServerReference, p.ServerReference)
	w.optionalText(propAuthenticationMethod, p.AuthenticationMethod)
	w.data(propAuthenticationData, p.AuthenticationData)
}
