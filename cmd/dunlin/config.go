package main

import (
	"fmt"
	"net"
	"time"
)

// Never is the value of an expiry that does not come.
const Never = time.Duration(1<<63 - 1)

// Config is the whole configuration of one node. keys.go lists each key with its default, bounds and meaning.
// Immutable after loadConfig.
type Config struct {
	Listeners ListenersConfig
	NATS      NATSConfig
	Storage   StorageConfig
	Log       LogConfig
	Auth      AuthConfig
	Sessions  SessionsConfig
	Limits    LimitsConfig
	Shares    SharesConfig
	Topics    TopicsConfig
}

// ListenersConfig says where MQTT clients connect.
type ListenersConfig struct {
	MQTT      string // host:port, port 0 takes a free one
	WebSocket string // the same, or "off": no listener
}

// NATSConfig is about the NATS server inside.
type NATSConfig struct {
	Listen string // host:port, or "off": no listener, in-process only
}

// StorageConfig bounds what is kept on disk.
type StorageConfig struct {
	DataDir    string
	Durability string // process or fsync
	MaxBytes   int64  // 0 means auto, until serve has looked at the disk
	MaxAge     time.Duration
}

// LogConfig is about the log on stderr.
type LogConfig struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// AuthConfig says who may connect.
type AuthConfig struct {
	AllowAnonymous bool
}

// SessionsConfig bounds MQTT sessions and their queues.
type SessionsConfig struct {
	MaxExpiry          time.Duration // may be Never
	DefaultExpiryV3    time.Duration // may be Never, and more than MaxExpiry
	MaxQueuedMessages  int           // 0 means no limit
	SharedReadFrom     int           // less than 0 means never
	Overflow           string        // drop_oldest or drop_newest
	QueueQoS0          bool
	SendWindow         int
	MaxParkedConsumers int
}

// LimitsConfig bounds what one client, and all clients together, may use.
type LimitsConfig struct {
	MaxPacket         int64
	ReceiveMaximum    int
	TopicAliasMaximum int
	MaxConnections    int
	ConnectRate       int // 0 means no limit
	ConnectTimeout    time.Duration
	WriteTimeout      time.Duration
	MaxSubscriptions  int
	MaxKeepAlive      time.Duration // 0 means what the client asks for; whole seconds
	MaxTopicLevels    int
	MaxRetained       int
}

// SharesConfig bounds shared subscriptions.
type SharesConfig struct {
	MaxGroups int // 0 means that there are none
}

// TopicsConfig bounds topic names and filters.
type TopicsConfig struct {
	MaxLength int // bytes of the NATS subject that the topic becomes
}

// Validate checks what concerns more than one key. The bounds of single keys hold since they were set.
func (c *Config) Validate() error {
	if c.Auth.AllowAnonymous {
		return nil
	}
	for _, listener := range []struct{ key, address string }{
		{"listeners.mqtt", c.Listeners.MQTT},
		{"listeners.ws", c.Listeners.WebSocket},
		{"nats.listen", c.NATS.Listen},
	} {
		if listener.address != wordOff && !isLoopback(listener.address) {
			return fmt.Errorf("%s %s: other machines can reach this address and nobody has to log in; "+
				"use a loopback address such as 127.0.0.1, or add --allow-anonymous", listener.key, listener.address)
		}
	}
	return nil
}

// isLoopback reports whether only this machine can reach address. A name other than localhost counts as reachable:
// what it resolves to can change after the check.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
