package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// maxAuthentications bounds how many clients are authenticated at a time. Overflow policy: the others wait for their turn,
// as long as their connect timeout allows.
const maxAuthentications = 64

// handshake is a client on its way from CONNECT to its session: it has to be who it says before anybody else notices it.
// Owned by the reader, which waits for whoever tells; what the client sends meanwhile is not looked at.
type handshake struct {
	connection  *connection
	packet      *mqttcodec.Connect
	assigned    bool
	deadline    time.Time
	credentials sessions.Credentials
	// exchange is what authenticates a client with an authentication method.
	exchange sessions.Exchange
}

// authenticateAgain is how a client with an authentication method authenticates again.
type authenticateAgain struct {
	method      sessions.Method
	credentials sessions.Credentials
	exchange    sessions.Exchange // the one under way
}

// begin takes up the handshake.
func (h *handshake) begin() error {
	cfg, p := &h.connection.broker.cfg, h.packet
	if name := p.Properties.AuthenticationMethod; name.Present {
		method := cfg.Methods[name.Value]
		if method == nil {
			return h.refuse(&sessions.Refusal{Reason: mqttcodec.BadAuthenticationMethod, Detail: "unknown authentication method"}) // [MQTT-4.12.0-1]
		}
		h.connection.again = &authenticateAgain{method: method, credentials: h.credentials}
		h.connection.again.credentials.Username.Value = strings.Clone(h.credentials.Username.Value) // it outlives the packet
		h.connection.again.credentials.Password = nil
		h.exchange = method.Begin(h.credentials)
		return h.step(p.Properties.AuthenticationData)
	}
	if cfg.Authenticator == nil {
		return h.enter(sessions.Identity{}, nil)
	}
	var who sessions.Identity
	err := h.ask(func(ctx context.Context) (err error) {
		who, err = cfg.Authenticator.Authenticate(ctx, h.credentials)
		return err
	})
	if err != nil {
		return h.refuse(err)
	}
	return h.enter(who, nil)
}

// step hands the client's data to the exchange. The client is asked for more, let in, or refused.
func (h *handshake) step(data []byte) error {
	var progress sessions.Progress
	err := h.ask(func(ctx context.Context) (err error) {
		progress, err = h.exchange.Step(ctx, data)
		return err
	})
	switch {
	case err != nil:
		return h.refuse(err)
	case progress.Done:
		return h.enter(progress.Identity, progress.Data)
	}
	ask := &mqttcodec.Auth{ // [MQTT-4.12.0-2]
		Reason: mqttcodec.ContinueAuthentication, AuthenticationMethod: h.packet.Properties.AuthenticationMethod, AuthenticationData: progress.Data, // [MQTT-4.12.0-5]
	}
	if !h.connection.fits(ask) { // [MQTT-3.1.2-24]
		return &mqttcodec.ProtocolError{Reason: mqttcodec.PacketTooLarge, Clause: "MQTT-3.1.2-24", Detail: "AUTH is larger than the client takes"}
	}
	h.connection.send([]mqttcodec.Packet{ask}, 0, int64(len(progress.Data)), false)
	return nil
}

// next takes a packet of a client that was asked for more: nothing else may come before CONNACK. [MQTT-3.1.2-30]
func (h *handshake) next(frame []byte) error {
	p, err := mqttcodec.Decode(h.packet.Version, frame)
	if err != nil {
		return err
	}
	switch p := p.(type) {
	case *mqttcodec.Disconnect:
		return io.EOF
	case *mqttcodec.Auth:
		if p.Reason != mqttcodec.ContinueAuthentication { // [MQTT-4.12.0-3]
			return &mqttcodec.ProtocolError{Reason: mqttcodec.ProtocolErrorReason, Clause: "MQTT-4.12.0-3", Detail: "AUTH does not continue the authentication"}
		}
		if p.AuthenticationMethod != h.packet.Properties.AuthenticationMethod {
			return &mqttcodec.ProtocolError{Reason: mqttcodec.ProtocolErrorReason, Clause: "MQTT-4.12.0-5", Detail: "AUTH with another authentication method"}
		}
		return h.step(p.AuthenticationData)
	default:
		return &mqttcodec.ProtocolError{Reason: mqttcodec.ProtocolErrorReason, Clause: "MQTT-3.1.2-30", Detail: "neither AUTH nor DISCONNECT while authenticating"}
	}
}

// ask runs a call of whoever tells who the client is.
func (h *handshake) ask(call func(ctx context.Context) error) error {
	ctx, cancel := context.WithDeadline(h.connection.broker.running, h.deadline)
	defer cancel()
	return h.connection.broker.askWho(ctx, call)
}

// askWho runs a call of an authenticator or a method when its turn has come. What it fails with beside a refusal is that
// the client could not be authenticated now.
func (b *Broker) askWho(ctx context.Context, call func(ctx context.Context) error) error {
	select {
	case b.authentications <- struct{}{}:
		defer func() { <-b.authentications }()
	case <-ctx.Done():
		return fmt.Errorf("%w: no turn to authenticate: %w", sessions.ErrUnavailable, ctx.Err())
	}
	err := call(ctx)
	var refusal *sessions.Refusal
	if err != nil && !errors.As(err, &refusal) {
		return fmt.Errorf("%w: authenticate: %w", sessions.ErrUnavailable, err)
	}
	return err
}

// refuse turns the client away. [MQTT-4.12.0-4]
func (h *handshake) refuse(err error) error {
	c := h.connection
	ack := sessions.RefusalConnack(err)
	c.broker.stats.unauthenticated.Add(1)
	c.broker.log.Info("client refused", "client", h.packet.ClientID, "address", h.credentials.RemoteAddress, "reason", ack.Reason, "err", err)
	c.refuseWith(ack)
	return errRefused
}

// enter hands the CONNECT to the session of its client identifier.
func (h *handshake) enter(who sessions.Identity, data []byte) error {
	c := h.connection
	if c.closing.Load() {
		return io.EOF
	}
	entered := c.broker.directory.connect(c, &attach{
		connection: c, packet: h.packet, assigned: h.assigned, identity: who, authenticationData: data,
	})
	if !entered {
		return errRefused
	}
	return nil
}

// authenticate hands what a connected client sent in AUTH to its exchange, on a goroutine of its own.
func (a *sessionActor) authenticate(e sessions.Authenticate) {
	b, c := a.broker, a.connection
	if c == nil || c.id != e.Connection {
		return
	}
	if e.Begin {
		c.again.exchange = c.again.method.Begin(c.again.credentials)
	}
	exchange := c.again.exchange
	b.task(func() {
		ctx, cancel := context.WithTimeout(b.running, b.cfg.ConnectTimeout)
		defer cancel()
		in := sessions.Authenticated{Connection: e.Connection}
		in.Err = b.askWho(ctx, func(ctx context.Context) (err error) {
			in.Progress, err = exchange.Step(ctx, e.Data)
			return err
		})
		a.ref.post(in)
	})
}
