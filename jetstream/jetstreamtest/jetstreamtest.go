// Package jetstreamtest runs an embedded NATS server for tests, without a port, in the test's own directory.
package jetstreamtest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/jetstream"
)

// NATS is an embedded server with one connection to it. The connection outlives Restart, as one to a server that was
// restarted elsewhere would.
type NATS struct {
	// Conn is the connection that storage is opened with.
	Conn *nats.Conn
	// Config is what the server runs with.
	Config jetstream.EmbeddedConfig

	t  testing.TB
	mu sync.Mutex
	// embedded is nil while the server is stopped. Guarded by mu.
	embedded *jetstream.Embedded
}

// StartNATS starts a server and ends it with the test.
func StartNATS(t testing.TB) *NATS {
	t.Helper()
	config := jetstream.DefaultEmbeddedConfig(t.TempDir())
	config.Listen = jetstream.ListenOff
	config.Logger = slog.New(slog.DiscardHandler)
	return StartNATSWith(t, config)
}

// StartNATSWith starts a server with a configuration of the caller's and ends it with the test.
func StartNATSWith(t testing.TB, config jetstream.EmbeddedConfig) *NATS {
	t.Helper()
	n := &NATS{t: t, Config: config}
	n.Start()
	var err error
	if n.Conn, err = jetstream.Connect(n, config.Logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Conn.Close()
		n.Stop()
	})
	return n
}

// InProcessConn implements nats.InProcessConnProvider for whatever server runs now.
func (n *NATS) InProcessConn() (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.embedded == nil {
		return nil, errors.New("the server is stopped")
	}
	return n.embedded.InProcessConn()
}

// HasInterest reports whether anybody listens to a subject on whatever server runs now.
func (n *NATS) HasInterest(subject string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.embedded != nil && n.embedded.HasInterest(subject)
}

// Start starts the server again on the same directory.
func (n *NATS) Start() {
	n.t.Helper()
	e, err := jetstream.StartEmbedded(n.Config)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.embedded = e
	n.mu.Unlock()
}

// Stop stops the server, if it runs.
func (n *NATS) Stop() {
	n.t.Helper()
	n.mu.Lock()
	e := n.embedded
	n.embedded = nil
	n.mu.Unlock()
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		n.t.Error(err)
	}
}

// Restart stops the server, starts it again and waits until Conn is connected to it.
func (n *NATS) Restart() {
	n.t.Helper()
	connected := n.Conn.StatusChanged(nats.CONNECTED)
	defer n.Conn.RemoveStatusListener(connected)
	n.Stop()
	n.Start()
	select {
	case <-connected:
	case <-time.After(30 * time.Second):
		n.t.Fatal("the connection does not come back")
	}
}

// Address is where NATS clients can connect, empty when the server does not listen.
func (n *NATS) Address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.embedded == nil {
		return ""
	}
	return n.embedded.Address()
}
