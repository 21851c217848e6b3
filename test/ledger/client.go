// Package ledger holds clients that keep account: publishers of all that they have sent and what was acknowledged, subscribers of
// all that they were delivered. A Fleet of them is kept connected while a test plays its faults, and in the end compares the
// two: nothing acknowledged is lost, nothing comes twice at QoS 2, the order is kept, no session is forgotten.
package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// ErrBroken: the broker broke the protocol, which a dying connection does not excuse.
var ErrBroken = errors.New("the broker broke the protocol")

// ErrUnavailable: the broker says that it cannot serve a session now, as its storage is away, or it is about to leave.
var ErrUnavailable = errors.New("the broker cannot serve a session now")

// errMoved: the client has left its connection on purpose.
var errMoved = errors.New("moved")

// client is what publishers and subscribers have in common: one client identifier, and one connection after another. Owned by
// one goroutine at a time.
type client struct {
	id      string
	version mqttcodec.Version
	met     bool // it has been connected before
	// patience is how long it waits for the next packet.
	patience time.Duration
	// restless, unless nil, makes it leave its connection now and then, without cause, for another.
	restless *rand.Rand
	// loss, unless its Lost is zero, is of a connection that broke and is not replaced yet; losses are those before.
	loss   Loss
	losses []Loss
	// left is a connection that it has not closed before it opened the next: that one takes its session over.
	left *harness.Raw

	connection atomic.Pointer[harness.Raw] // nil without one
}

// Loss is a connection that broke.
type Loss struct {
	// Lost is when the client noticed, Back when it had CONNACK on another connection.
	Lost, Back time.Time
	// Address is where it was connected.
	Address string
	// Version is the client's, Farewell the reason of the DISCONNECT that came before, 0 without one.
	Version  mqttcodec.Version
	Farewell mqttcodec.ReasonCode
}

// HangUp ends the connection, from any goroutine.
func (c *client) HangUp() {
	if r := c.connection.Load(); r != nil {
		r.Drop()
	}
}

// connected reports, to any goroutine, whether it has a connection.
func (c *client) connected() bool { return c.connection.Load() != nil }

// connect connects to the session, which must be there once the client has been met.
func (c *client) connect(t testing.TB, address string) (*harness.Raw, error) {
	r, err := harness.DialRaw(t, address, c.version)
	if err != nil {
		return nil, err
	}
	if c.patience > 0 {
		r.Patience = c.patience
	}
	if err := c.meet(r); err != nil {
		r.Drop()
		return nil, err
	}
	c.met = true
	if c.left != nil {
		c.left.Drop()
		c.left = nil
	}
	if !c.loss.Lost.IsZero() {
		c.loss.Back = time.Now()
		c.losses = append(c.losses, c.loss)
	}
	c.loss = Loss{Address: address, Version: c.version}
	c.connection.Store(r)
	return r, nil
}

// meet is CONNECT and CONNACK.
func (c *client) meet(r *harness.Raw) error {
	if err := r.TrySend(harness.PersistentConnect(c.version, c.id)); err != nil {
		return err
	}
	packet, err := r.TryRead()
	if err != nil {
		return err
	}
	connack, ok := packet.(*mqttcodec.Connack)
	if !ok {
		return fmt.Errorf("%w: CONNECT of %s answered with %T %+v", ErrBroken, c.id, packet, packet)
	}
	switch connack.Reason {
	case mqttcodec.Success:
	case mqttcodec.ServerUnavailable, mqttcodec.ServerBusy, mqttcodec.ServerShuttingDown, mqttcodec.UseAnotherServer:
		return fmt.Errorf("%w: %s", ErrUnavailable, c.id)
	default:
		return fmt.Errorf("%w: CONNECT of %s refused: %+v", ErrBroken, c.id, connack)
	}
	if c.met && !connack.SessionPresent {
		return fmt.Errorf("%w: the session of %s is forgotten", ErrBroken, c.id)
	}
	return nil
}

// end notes how a connection ended. One that is left on purpose is closed in order, or not, or not yet.
func (c *client) end(r *harness.Raw, err error) {
	c.connection.Store(nil)
	switch {
	case !errors.Is(err, errMoved):
		r.Drop()
		if err != nil {
			c.loss.Lost = time.Now()
		}
	case c.restless.IntN(3) == 0:
		c.left = r
	case c.restless.IntN(2) == 0:
		r.Drop()
	default:
		_ = r.TryDisconnect() // the broker may be gone
	}
}

// keep runs one connection after another until stopped is closed: on one address until that connection ends, then on the next.
func keep(t *testing.T, stopped <-chan struct{}, addresses []string, first int, rest func() time.Duration, run func(address string) error) {
	for i := first; ; i++ {
		if err := run(addresses[i%len(addresses)]); errors.Is(err, ErrBroken) {
			t.Error(err)
			return
		}
		select {
		case <-stopped:
			return
		case <-time.After(rest()):
		}
	}
}

// packetsBetweenMoves is how many packets a restless client reads from one move to the next, on average.
const packetsBetweenMoves = 1500

// move says whether the client leaves its connection now.
func (c *client) move() error {
	if c.restless != nil && c.restless.IntN(packetsBetweenMoves) == 0 {
		return errMoved
	}
	return nil
}
