package actors

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"dunlin/sessions"
)

// listen opens the MQTT listener, or says in one line what is in the way.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("MQTT address %s is in use by another process; stop it or choose another with --mqtt-listen", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for MQTT on %s: %w; choose another address with --mqtt-listen", address, err)
	}
	return l, nil
}

// accept takes network connections until the listener is closed.
func (b *Broker) accept() {
	for {
		socket, err := b.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors, or the client was gone already
			b.log.Warn("connection not accepted", "err", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-b.running.Done():
				return
			}
			continue
		}
		if b.stats.connections.Load() >= int64(b.cfg.MaxConnections) {
			b.stats.refused.Add(1)
			_ = socket.Close()
			continue
		}
		b.serve(socket)
	}
}

// serve starts the connection actor and the reader of a socket.
func (b *Broker) serve(socket net.Conn) {
	c := &connection{
		id: sessions.ConnectionID(b.serial.Add(1)), broker: b, socket: socket, mailbox: &mailbox{},
		inflow: newInflow(b.cfg.InboundMessages, b.cfg.InboundBytes),
	}
	props := actor.PropsFromProducer(func() actor.Actor { return c },
		actor.WithMailbox(func() actor.Mailbox { return c.mailbox }), actor.WithGuardian(b.guardian))
	pid, err := b.system.Root.SpawnNamed(props, fmt.Sprintf("connection/%d", c.id))
	if err != nil {
		panic(fmt.Sprintf("spawn connection actor: %v", err)) // Invariant: the serial makes the name unique.
	}
	c.pid = pid
	b.stats.connections.Add(1)
	b.connections.add(c)
	c.armConnectTimeout()
	go c.read()
}

// connectionEnded forgets a connection whose reader has ended.
func (b *Broker) connectionEnded(c *connection) {
	b.stats.connections.Add(-1)
	b.connections.remove(c)
	b.system.Root.Poison(c.pid)
}

// connectionSet are the open connections, for the shutdown.
type connectionSet struct {
	// mu guards open.
	mu   sync.Mutex
	open map[*connection]struct{}
}

func (s *connectionSet) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
}

func (s *connectionSet) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// each calls f for each open connection.
func (s *connectionSet) each(f func(*connection)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		f(c)
	}
}

func (s *connectionSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// endConnections ends the connections that are still open, behind what waits to be written, and waits a little for
// clients to read it.
func (b *Broker) endConnections(ctx context.Context) {
	b.connections.each(func(c *connection) { c.mailbox.PostUserMessage(&outbound{close: true}) })
	ctx, cancel := context.WithTimeout(ctx, lingerTimeout/8)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for b.connections.len() > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	b.connections.each((*connection).abort)
}
