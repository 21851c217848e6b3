package actors

import (
	"fmt"
	"net"
	"time"

	"dunlin/sessions"
)

// Config says how the broker runs. Immutable after New.
type Config struct {
	// Node is the name of this node, which events carry.
	Node string
	// Listen is the address of the MQTT listener, HOST:PORT; port 0 picks one.
	Listen string
	// ListenWebSocket is the same for WebSocket; empty for none.
	ListenWebSocket string
	// Sessions is what all sessions share.
	Sessions sessions.Config
	// Authenticator tells who a client without an authentication method is; with nil all are anonymous and may do everything.
	Authenticator sessions.Authenticator
	// Methods are the authentication methods, by name.
	Methods map[string]sessions.Method
	// MaxConnections bounds the open network connections; more are closed on arrival.
	MaxConnections int
	// ConnectRate is how many CONNECTs of one client identifier from one address are taken a second, after ten seconds' worth
	// at once; 0: any.
	ConnectRate int
	// ConnectTimeout is how long a network connection may take until its CONNECT is answered. (3.1.4)
	ConnectTimeout time.Duration
	// WriteTimeout is how long a client may take nothing before its connection is given up.
	WriteTimeout time.Duration
	// InboundMessages and InboundBytes bound what one connection has sent and is not stored yet. Past them its socket is not read.
	InboundMessages, InboundBytes int
	// OutboundBytes is how much may wait for one client to read; past it QoS 0 is dropped and nothing more is sent.
	OutboundBytes int
	// RingBytes is how much of the end of the log is kept in memory for sessions that are a little behind.
	RingBytes int
	// SharedReadFrom is how many sessions, for each 100,000 messages that they are behind, make one read of the log for all of
	// them cheaper than a durable queue for each. 0: it always is; less: it never is.
	SharedReadFrom int
	// MaxParkedQueues bounds the durable queues made for offline sessions; the most recent sessions have one.
	MaxParkedQueues int
	// ParkAfter is how long a session has been offline when its queue is made: who is back before is spared it.
	ParkAfter time.Duration
	// ParkRate is how many queues are made a second.
	ParkRate int
	// MaxRetained bounds the retained messages.
	MaxRetained int
	// MaxShares bounds the shared subscriptions, each a pair of share name and topic filter; 0: clients may have none.
	MaxShares int
	// MaxReplays bounds the replays of all clients together.
	MaxReplays int
	// DeadAfter is how long another node has given no sign of life when it is taken for dead. IsolationTimeout is how long storage
	// has taken no checkpoint of this one when it lets go of persistent sessions, which others may have taken over then.
	DeadAfter, IsolationTimeout time.Duration
	// DrainTimeout is how long clients may take to go to other nodes before this one ends. ServerReference is where they are sent,
	// empty for anywhere. (4.11)
	DrainTimeout    time.Duration
	ServerReference string
}

// DefaultConfig listens on the loopback address.
func DefaultConfig(boot string) Config {
	return Config{
		Listen:          "127.0.0.1:1883",
		ListenWebSocket: "127.0.0.1:8083",
		Sessions:        sessions.DefaultConfig(boot),
		MaxConnections:  100_000,
		ConnectRate:     50,
		ConnectTimeout:  10 * time.Second,
		WriteTimeout:    30 * time.Second,
		InboundMessages: 1024,
		InboundBytes:    1 << 20,
		OutboundBytes:   1 << 20,
		RingBytes:       64 << 20,
		SharedReadFrom:  70,
		MaxParkedQueues: 200,
		ParkAfter:       time.Second,
		ParkRate:        50,
		MaxRetained:     1_000_000,
		MaxShares:       1000,
		MaxReplays:      100,

		DeadAfter: 30 * time.Second, IsolationTimeout: 10 * time.Second, DrainTimeout: 30 * time.Second,
	}
}

// Validate reports the first setting that makes no sense.
func (c *Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen address %q: %w", c.Listen, err)
	}
	if _, _, err := net.SplitHostPort(c.ListenWebSocket); c.ListenWebSocket != "" && err != nil {
		return fmt.Errorf("WebSocket listen address %q: %w", c.ListenWebSocket, err)
	}
	for _, bound := range []struct {
		name  string
		value int
	}{
		{"maximum of connections", c.MaxConnections},
		{"connect timeout", int(c.ConnectTimeout)},
		{"write timeout", int(c.WriteTimeout)},
		{"inbound messages", c.InboundMessages},
		{"inbound bytes", c.InboundBytes},
		{"outbound bytes", c.OutboundBytes},
		{"ring bytes", c.RingBytes},
		{"park rate", c.ParkRate},
		{"maximum of retained messages", c.MaxRetained},
		{"maximum of replays", c.MaxReplays},
	} {
		if bound.value <= 0 {
			return fmt.Errorf("%s %d is not positive", bound.name, bound.value)
		}
	}
	if c.ConnectRate < 0 {
		return fmt.Errorf("connect rate %d is negative", c.ConnectRate)
	}
	if c.IsolationTimeout < 3*checkpointEvery || c.DeadAfter < 2*c.IsolationTimeout {
		return fmt.Errorf("a node is taken for dead after %v, which is less than twice the isolation timeout %v, or that is less than three checkpoints", c.DeadAfter, c.IsolationTimeout)
	}
	if c.DrainTimeout <= 0 {
		return fmt.Errorf("drain timeout %v is not positive", c.DrainTimeout)
	}
	if c.ParkAfter < 0 {
		return fmt.Errorf("time before a session is parked %v is negative", c.ParkAfter)
	}
	if c.MaxParkedQueues < 0 {
		return fmt.Errorf("maximum of parked queues %d is negative", c.MaxParkedQueues)
	}
	if c.MaxShares < 0 {
		return fmt.Errorf("maximum of shared subscriptions %d is negative", c.MaxShares)
	}
	if (c.MaxShares > 0) != c.Sessions.SharedSubscriptions {
		return fmt.Errorf("at most %d shared subscriptions, and clients are told otherwise", c.MaxShares)
	}
	return c.Sessions.Validate()
}
