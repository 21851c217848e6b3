package sessions

import (
	"fmt"
	"math"
	"time"

	"dunlin/mqttcodec"
)

// Never is the session expiry that never passes. [MQTT-3.1.2-23]
const Never = time.Duration(math.MaxInt64)

// neverSeconds is Never on the wire. (3.1.2.11.2)
const neverSeconds = math.MaxUint32

// Overflow says which message goes when a session's queue is full.
type Overflow string

// The overflow policies of a session's queue.
const (
	DropOldest Overflow = "drop_oldest"
	DropNewest Overflow = "drop_newest"
)

// Config is what all sessions of a node share. Immutable after Validate.
type Config struct {
	// Boot identifies this start of this node: the owner of the sessions it claims.
	Boot string
	// MaxExpiry caps the Session Expiry Interval; Never allows sessions without end.
	MaxExpiry time.Duration
	// DefaultExpiryV3 is what a 3.1 or 3.1.1 client with clean session 0 gets; those cannot ask, so MaxExpiry does not bound it.
	DefaultExpiryV3 time.Duration
	// MaxQueuedMessages bounds what waits for a client that is away or slow; 0: only the log's own limits do.
	MaxQueuedMessages int
	Overflow          Overflow
	// QueueQoS0 sends QoS 0 messages through the log, so that they are queued too.
	QueueQoS0 bool
	// SendWindow is how many QoS 1 and 2 messages may be unacknowledged by a client, if its Receive Maximum allows it.
	SendWindow int
	// ReceiveMaximum is how many QoS 1 and 2 messages of a 5.0 client may be unacknowledged by us. [MQTT-3.3.4-7]
	ReceiveMaximum uint16
	// TopicAliasMaximum is the highest topic alias we take, announced in CONNACK, and how many we set at a client; 0: none.
	TopicAliasMaximum uint16
	// MaxPacketSize is the largest packet we take, in bytes; announced in CONNACK.
	MaxPacketSize uint32
	// MaxKeepAlive caps the keep alive of clients; 0: any, also none.
	MaxKeepAlive time.Duration
	// SharedSubscriptions says whether clients may have some. (4.8.2)
	SharedSubscriptions bool
	// MaxSubscriptions bounds the subscriptions of one session.
	MaxSubscriptions int
	// MaxDelay bounds how long a message may be delayed; 0: none may.
	MaxDelay time.Duration
	// ReplayRate is how many messages a replay brings a second at most; 0: clients may have no replays.
	ReplayRate int
	// BacklogMessages and BacklogBytes bound what a live session holds in memory beyond its send window.
	BacklogMessages, BacklogBytes int
	// RequestTimeout is how long an answer to a request may take.
	RequestTimeout time.Duration
	// TopicFits reports whether a topic name or filter is not too deep, one that storage can represent and, when it is to be
	// stored, not too long for it. What is not stored may be as long as MQTT allows.
	TopicFits func(topic string, stored bool) bool
	// PermissionsOf is what the owner of a stored session may do while no client of it is there, for the will that is still
	// to be published. It must not wait for anything. With nil, what was allowed when the client connected is.
	PermissionsOf func(principal, clientID string) Permissions
}

// DefaultConfig is the configuration of a node that was told nothing but its boot.
func DefaultConfig(boot string) Config {
	return Config{
		Boot:                boot,
		MaxExpiry:           7 * 24 * time.Hour,
		DefaultExpiryV3:     7 * 24 * time.Hour,
		MaxQueuedMessages:   100_000,
		Overflow:            DropOldest,
		SendWindow:          32,
		ReceiveMaximum:      1024,
		TopicAliasMaximum:   32,
		MaxPacketSize:       1 << 20,
		MaxSubscriptions:    10_000,
		SharedSubscriptions: true,
		MaxDelay:            7 * 24 * time.Hour,
		ReplayRate:          1000,
		BacklogMessages:     256,
		BacklogBytes:        256 << 10,
		RequestTimeout:      time.Minute,
		TopicFits:           func(string, bool) bool { return true },
	}
}

// Validate reports the first setting that makes no sense.
func (c *Config) Validate() error {
	switch {
	case c.Boot == "":
		return fmt.Errorf("boot is empty")
	case c.MaxExpiry < time.Second: // the unit of the wire
		return fmt.Errorf("max expiry %v is less than a second", c.MaxExpiry)
	case c.DefaultExpiryV3 < time.Second:
		return fmt.Errorf("default expiry %v is less than a second", c.DefaultExpiryV3)
	case c.Overflow != DropOldest && c.Overflow != DropNewest:
		return fmt.Errorf("overflow %q is neither %s nor %s", c.Overflow, DropOldest, DropNewest)
	case c.SendWindow < 1 || c.SendWindow > 1024:
		return fmt.Errorf("send window %d is not between 1 and 1024", c.SendWindow)
	case c.RequestTimeout <= 0:
		return fmt.Errorf("request timeout %v is not positive", c.RequestTimeout)
	case c.MaxDelay < 0 || c.MaxDelay > MaxDelay:
		return fmt.Errorf("max delay %v is not between 0 and %v", c.MaxDelay, MaxDelay)
	case c.ReplayRate < 0 || c.ReplayRate > 1_000_000:
		return fmt.Errorf("replay rate %d is not between 0 and 1,000,000", c.ReplayRate)
	case c.ReceiveMaximum < 1:
		return fmt.Errorf("receive maximum is 0")
	case c.MaxQueuedMessages < 0 || c.MaxSubscriptions < 1 || c.BacklogMessages < 1 || c.BacklogBytes < 1:
		return fmt.Errorf("a limit is not positive")
	}
	return nil
}

// capExpiry is the expiry that a client which asked for seconds gets. (3.2.2.3.2)
func (c *Config) capExpiry(seconds uint32) time.Duration {
	return min(wireExpiry(seconds), c.MaxExpiry)
}

// storedExpiry is the expiry of a stored session: as granted then, unless less is granted now.
func (c *Config) storedExpiry(r *Record) time.Duration {
	if r.Protocol != mqttcodec.V5 {
		return min(wireExpiry(r.ExpirySeconds), c.DefaultExpiryV3)
	}
	return c.capExpiry(r.ExpirySeconds)
}

// wireExpiry is an expiry given in seconds on the wire. [MQTT-3.1.2-23]
func wireExpiry(seconds uint32) time.Duration {
	if seconds == neverSeconds {
		return Never
	}
	return time.Duration(seconds) * time.Second
}

// ExpirySeconds is an expiry as it stands on the wire.
func ExpirySeconds(d time.Duration) uint32 {
	if d == Never {
		return neverSeconds
	}
	return uint32(min(d/time.Second, neverSeconds-1))
}
