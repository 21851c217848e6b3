package sessions

import (
	"context"

	"dunlin/mqttcodec"
)

// Authenticator tells who a client is by its CONNECT. It is asked before the client reaches its session.
type Authenticator interface {
	// Authenticate returns who the client is, or why it is not let in: a *Refusal, which the client is told, or any other
	// error when that could not be found out; then the client is told to try later. It may take its time until ctx ends. It is
	// called by many goroutines.
	Authenticate(ctx context.Context, c Credentials) (Identity, error)
}

// Credentials is what a client says about itself, and what is known about its connection. What it refers to must not be
// changed.
type Credentials struct {
	// ClientID is the client identifier, one that we made when the client gave none.
	ClientID string
	Username mqttcodec.Optional[string]
	// Password is nil when the client gave none. [MQTT-3.1.2-18]
	Password []byte
	Version  mqttcodec.Version
	// RemoteAddress is where the client connects from, HOST:PORT.
	RemoteAddress string
	// Listener is the name of the listener that it came in by.
	Listener string
}

// Refusal is why a client is not let in, or has to go.
type Refusal struct {
	// Reason is told to the client; one that is no answer to a CONNECT becomes Not Authorized.
	Reason mqttcodec.ReasonCode
	// ServerReference is where the client should go, with Use Another Server and Server Moved only. (4.11)
	ServerReference string
	// Detail is for the log.
	Detail string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Detail }

// Method is a way to authenticate in AUTH packets, known to clients by a name. (4.12)
type Method interface {
	// Begin starts to authenticate one client. It must not wait for anything. It is called by many goroutines.
	Begin(c Credentials) Exchange
}

// Exchange is a conversation with one client, when it connects or authenticates again. One goroutine at a time uses it.
type Exchange interface {
	// Step takes what the client sent, nil when it sent no data, and returns what comes next. Errors and ctx are as for
	// Authenticator.
	Step(ctx context.Context, data []byte) (Progress, error)
}

// Progress is how far an exchange has come.
type Progress struct {
	// Data is sent to the client, nil for none.
	Data []byte
	// Done: the client has proved to be Identity. Otherwise it has to send more.
	Done     bool
	Identity Identity
}

// RefusalConnack is the CONNACK for a client that an Authenticator or Exchange did not let in. [MQTT-4.12.0-4]
func RefusalConnack(err error) *mqttcodec.Connack {
	ack := &mqttcodec.Connack{Reason: connackReason(reasonOf(err))}
	ack.Properties.ServerReference = serverReference(ack.Reason, err)
	return ack
}
