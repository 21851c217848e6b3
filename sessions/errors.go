package sessions

import (
	"errors"

	"dunlin/mqttcodec"
)

// protocolError is a fault of the client that ends the connection with 0x82. (4.13)
func protocolError(clause, detail string) *mqttcodec.ProtocolError {
	return &mqttcodec.ProtocolError{Reason: mqttcodec.ProtocolErrorReason, Clause: clause, Detail: detail}
}

// reasonOf is what a client is told about an error, ours or its own.
func reasonOf(err error) mqttcodec.ReasonCode {
	var fault *mqttcodec.ProtocolError
	var refusal *Refusal
	switch {
	case errors.As(err, &fault):
		return fault.Reason
	case errors.As(err, &refusal):
		return refusal.reason()
	case errors.Is(err, ErrConflict):
		return mqttcodec.SessionTakenOver
	case errors.Is(err, ErrRejected):
		return mqttcodec.QuotaExceeded
	case errors.Is(err, ErrUnavailable):
		return mqttcodec.ServerUnavailable
	}
	return mqttcodec.UnspecifiedError
}

// connackReason is a reason in the terms of CONNACK, which does not have them all. [MQTT-3.2.2-8]
func connackReason(reason mqttcodec.ReasonCode) mqttcodec.ReasonCode {
	switch reason {
	case mqttcodec.ServerShuttingDown:
		return mqttcodec.ServerUnavailable
	case mqttcodec.TopicAliasInvalid, mqttcodec.TopicFilterInvalid, mqttcodec.ReceiveMaximumExceeded:
		return mqttcodec.ProtocolErrorReason
	default:
		return reason
	}
}

// DisconnectReason is a reason in the terms of DISCONNECT. [MQTT-3.14.2-1]
func DisconnectReason(reason mqttcodec.ReasonCode) mqttcodec.ReasonCode {
	switch reason {
	case mqttcodec.ServerUnavailable:
		return mqttcodec.ServerBusy
	case mqttcodec.BadUserNameOrPassword, mqttcodec.Banned, mqttcodec.ClientIdentifierNotValid:
		return mqttcodec.NotAuthorized
	default:
		return reason
	}
}

// reason is what the client is told, in the terms of CONNACK.
func (r *Refusal) reason() mqttcodec.ReasonCode {
	switch r.Reason {
	case mqttcodec.BadUserNameOrPassword, mqttcodec.ClientIdentifierNotValid, mqttcodec.Banned, mqttcodec.BadAuthenticationMethod,
		mqttcodec.ServerUnavailable, mqttcodec.ServerBusy, mqttcodec.QuotaExceeded, mqttcodec.ConnectionRateExceeded,
		mqttcodec.UseAnotherServer, mqttcodec.ServerMoved:
		return r.Reason
	default:
		return mqttcodec.NotAuthorized
	}
}

// serverReference is where a client that is turned away with a reason should go. (4.11)
func serverReference(reason mqttcodec.ReasonCode, err error) string {
	var refusal *Refusal
	if (reason == mqttcodec.UseAnotherServer || reason == mqttcodec.ServerMoved) && errors.As(err, &refusal) {
		return refusal.ServerReference
	}
	return ""
}
