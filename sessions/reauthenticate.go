package sessions

import (
	"time"

	"dunlin/mqttcodec"
)

// reauthentication is where a client is that authenticates again. Traffic goes on meanwhile, under the permissions that it
// has. (4.12.1)
type reauthentication uint8

const (
	// reauthenticationNone: it does not.
	reauthenticationNone reauthentication = iota
	// reauthenticationAsked: Authenticate has no answer yet.
	reauthenticationAsked
	// reauthenticationContinues: the client has to send more.
	reauthenticationContinues
)

// onAuth takes AUTH of a connected client: it begins to authenticate again, or goes on with that.
func (s *Session) onAuth(now time.Time, p *mqttcodec.Auth, dst []Effect) []Effect {
	begin := p.Reason == mqttcodec.ReAuthenticate
	switch {
	case s.method == "":
		return s.fault(now, protocolError("MQTT-4.12.0-7", "AUTH without an authentication method in CONNECT"), dst)
	case p.AuthenticationMethod.Value != s.method:
		return s.fault(now, protocolError("MQTT-4.12.1-1", "AUTH with another authentication method than CONNECT"), dst)
	case begin && s.reauthentication != reauthenticationNone, !begin && s.reauthentication != reauthenticationContinues:
		return s.fault(now, protocolError("", "AUTH out of turn (4.12.1)"), dst)
	}
	s.reauthentication = reauthenticationAsked
	return append(dst, Authenticate{Connection: s.connection, Begin: begin, Data: p.AuthenticationData})
}

// onAuthenticated takes what the authentication method says to what the client sent. New permissions count for what comes
// after it. The session stays whose it is: one that proves to be somebody else has to go.
func (s *Session) onAuthenticated(now time.Time, in Authenticated, dst []Effect) []Effect {
	if in.Connection != s.connection || s.reauthentication != reauthenticationAsked {
		return dst // of a connection that is over
	}
	err := in.Err
	if err == nil && in.Progress.Done && in.Progress.Identity.Principal != s.identity.Principal {
		err = &Refusal{Reason: mqttcodec.NotAuthorized, Detail: "the client authenticated again as another principal"}
	}
	answer := &mqttcodec.Auth{
		Reason: mqttcodec.ContinueAuthentication, AuthenticationMethod: mqttcodec.Some(s.method), AuthenticationData: in.Progress.Data,
	}
	if in.Progress.Done {
		answer.Reason = mqttcodec.Success
	}
	if err == nil && !s.fits(answer) {
		err = answerTooLarge(answer)
	}
	if err != nil { // [MQTT-4.12.1-2]
		dst = s.hangUp(reasonOf(err), err, dst)
		return s.detach(now, endLost, dst)
	}
	s.reauthentication = reauthenticationContinues
	if in.Progress.Done {
		s.identity, s.reauthentication = in.Progress.Identity, reauthenticationNone
	}
	return s.send(answer, dst)
}
