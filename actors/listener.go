package actors

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"dunlin/sessions"
)

// listeners are where clients connect.
type listeners struct {
	mqtt net.Listener
	// webSocket is nil when there is none.
	webSocket net.Listener
}

// The names of the listeners.
const (
	listenerMQTT      = "mqtt"
	listenerWebSocket = "ws"
)

// listenAll opens the listeners of a configuration.
func listenAll(cfg Config) (l listeners, err error) {
	if l.mqtt, err = listen("MQTT", cfg.Listen, "--mqtt-listen"); err != nil {
		return listeners{}, err
	}
	if cfg.ListenWebSocket == "" {
		return l, nil
	}
	if l.webSocket, err = listen("WebSocket", cfg.ListenWebSocket, "--ws-listen"); err != nil {
		l.close()
		return listeners{}, err
	}
	return l, nil
}

// listen opens a listener, or says in one line what is in the way.
func listen(protocol, address, flag string) (net.Listener, error) {
	l, err := newListenConfig().Listen(context.Background(), "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s address %s is in use by another process; stop it or choose another with %s", protocol, address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %s: %w; choose another address with %s", protocol, address, err, flag)
	}
	return l, nil
}

func (l listeners) close() {
	_ = l.mqtt.Close()
	if l.webSocket != nil {
		_ = l.webSocket.Close()
	}
}

// accept takes network connections until the listener is closed.
func (b *Broker) accept() {
	for {
		socket, err := b.listeners.mqtt.Accept()
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
		if !b.admit() {
			_ = socket.Close()
			continue
		}
		b.serve(&audible{Conn: socket}, listenerMQTT)
	}
}

// admit counts a network connection, unless there are as many as may be. connectionEnded takes it off.
func (b *Broker) admit() bool {
	if b.stats.connections.Add(1) <= int64(b.cfg.MaxConnections) {
		return true
	}
	b.stats.connections.Add(-1)
	b.stats.refused.Add(1)
	return false
}

// serve starts the connection actor and the reader of a socket that was admitted.
func (b *Broker) serve(socket net.Conn, listener string) {
	c := &connection{
		id: sessions.ConnectionID(b.serial.Add(1)), broker: b, socket: socket, listener: listener,
		inflow: newInflow(b.cfg.InboundMessages, b.cfg.InboundBytes),
	}
	c.start()
	b.connections.add(c)
	c.armConnectTimeout()
	go c.read()
}

// connectionEnded forgets a connection whose reader has ended.
func (b *Broker) connectionEnded(c *connection) {
	b.stats.connections.Add(-1)
	b.connections.remove(c)
	c.timeout.settle()
	c.mailbox.PostSystemMessage(stopConnection)
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
