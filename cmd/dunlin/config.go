package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"dunlin/jetstream"
)

// Never is the value of an expiry that does not come.
const Never = time.Duration(1<<63 - 1)

// Config is the whole configuration of one node. keys.go lists each key with its default, bounds and meaning.
// Immutable after loadConfig.
type Config struct {
	Listeners ListenersConfig
	NATS      NATSConfig
	Cluster   ClusterConfig
	Storage   StorageConfig
	Log       LogConfig
	Auth      AuthConfig
	Sessions  SessionsConfig
	Limits    LimitsConfig
	Shares    SharesConfig
	Events    EventsConfig
	Presence  PresenceConfig
	Nodes     NodesConfig
	Topics    TopicsConfig
	Requests  RequestsConfig
	Delayed   DelayedConfig
	Replay    ReplayConfig
}

// ListenersConfig says where MQTT clients connect.
type ListenersConfig struct {
	MQTT      string // host:port, port 0 takes a free one
	WebSocket string // the same, or "off": no listener
}

// NATSConfig is about the NATS server inside, or about those outside that are used instead.
type NATSConfig struct {
	Listen         string // host:port, or "off": no listener, in-process only
	URL            string // empty: the server inside
	Creds, NKey    string // paths
	User, Password string
	Token          string
	TLSCA          string // path
	TLSCert        string // path
	TLSKey         string // path
	JSDomain       string
	ConnectTimeout time.Duration
}

// ClusterConfig is about the NATS servers inside of several machines, which are one cluster.
type ClusterConfig struct {
	Listen         string // host:port, or "off": no cluster
	Routes         string // addresses, separated by commas
	Name           string
	Advertise      string
	User, Password string
	TLSCA          string // path
	TLSCert        string // path
	TLSKey         string // path
	Insecure       bool
	StartTimeout   time.Duration
	AwaitMigration bool
}

// StorageConfig bounds what is kept on disk.
type StorageConfig struct {
	DataDir    string
	Durability string // process or fsync
	MaxBytes   int64  // 0 means auto, until serve has looked at the disk
	// KeepMaxBytes: MaxBytes is what this machine's disk has room for, which is no news to a log of several machines.
	KeepMaxBytes bool
	MaxAge       time.Duration
	Replicas     int // 0 means auto
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

// RequestsConfig is about requests between MQTT clients and NATS services.
type RequestsConfig struct {
	Timeout time.Duration
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

// EventsConfig is about what NATS programs are told of clients.
type EventsConfig struct {
	Enabled bool
}

// PresenceConfig is about the bucket that says who is online.
type PresenceConfig struct {
	Enabled    bool
	OfflineTTL time.Duration
}

// NodesConfig is about the other nodes on the same NATS.
type NodesConfig struct {
	DeadAfter        time.Duration
	IsolationTimeout time.Duration
	DrainTimeout     time.Duration
	ServerReference  string
}

// TopicsConfig says what topics are in NATS, and bounds topic names and filters.
type TopicsConfig struct {
	Mapping    string // default or nats-compat
	Prefix     string // of subjects, one or more tokens
	LivePrefix string // the same, for what is not stored
	MaxLength  int    // bytes of the NATS subject that the topic becomes
}

// ReplayConfig is about subscriptions that bring messages of the log again.
type ReplayConfig struct {
	Enabled   bool
	MaxRate   int
	MaxActive int
}

// DelayedConfig is about messages that are published later.
type DelayedConfig struct {
	Enabled     bool
	MaxSeconds  int
	MaxMessages int
	MaxBytes    int64
}

// settle decides what follows from where NATS is: with servers outside there is no listener of ours, and only a data directory
// that was asked for.
func (c *Config) settle(set settings) error {
	if err := c.settleCluster(set); err != nil {
		return err
	}
	if c.NATS.URL == "" {
		for _, name := range []string{"nats.creds", "nats.nkey", "nats.user", "nats.password", "nats.token", "nats.tls_ca", "nats.tls_cert", "nats.tls_key", "nats.js_domain"} {
			if set.given(name) {
				return fmt.Errorf("%s from %s: it is for NATS servers outside; add --nats with their URL", name, set[name].origin)
			}
		}
		if c.Storage.Replicas > 1 && c.Cluster.Listen == wordOff {
			return fmt.Errorf("storage.replicas %d: the NATS server inside is alone; make it one of a cluster with --cluster-listen and --cluster-routes, or use a cluster of NATS servers with --nats", c.Storage.Replicas)
		}
		return nil
	}
	if set.given("nats.listen") {
		return fmt.Errorf("nats.listen from %s beside --nats: the servers outside listen for NATS clients; leave one of them out", set["nats.listen"].origin)
	}
	c.NATS.Listen = wordOff
	if !set.given("storage.data_dir") {
		c.Storage.DataDir = ""
	}
	if (c.NATS.TLSCert == "") != (c.NATS.TLSKey == "") {
		return errors.New("nats.tls_cert and nats.tls_key go together: set both")
	}
	return nil
}

// settleCluster checks that what is said of a cluster goes together, and with the rest.
func (c *Config) settleCluster(set settings) error {
	listens, routes := c.Cluster.Listen != wordOff, c.Cluster.Routes != ""
	switch {
	case c.NATS.URL != "" && listens:
		return fmt.Errorf("cluster.listen from %s beside --nats: the cluster is one of the NATS servers inside; leave one of them out", set["cluster.listen"].origin)
	case c.NATS.URL != "" && routes:
		return fmt.Errorf("cluster.routes from %s beside --nats: the cluster is one of the NATS servers inside; leave one of them out", set["cluster.routes"].origin)
	case routes && !listens:
		return fmt.Errorf("cluster.routes from %s without cluster.listen: the others have to reach this server, too; add --cluster-listen", set["cluster.routes"].origin)
	case listens && !routes:
		return errors.New("cluster.listen without cluster.routes: a cluster has three servers or more; name them with --cluster-routes n1:6222,n2:6222,n3:6222")
	case !listens:
		return nil
	}
	cluster := clusterConfig(*c)
	switch err := cluster.Validate(); {
	case errors.Is(err, jetstream.ErrOpenRoutes):
		return fmt.Errorf("cluster.listen: %w; set cluster.password on all machines (DUNLIN_CLUSTER__PASSWORD), or cluster.tls_ca, cluster.tls_cert and cluster.tls_key, or cluster.insecure if nobody else can reach it", err)
	case err != nil:
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// alone reports whether nobody else can reach the NATS server: it is inside, with no listener and no cluster.
func (c *Config) alone() bool {
	return c.NATS.URL == "" && c.NATS.Listen == wordOff && c.Cluster.Listen == wordOff
}

// Validate checks what concerns more than one key. The bounds of single keys hold since they were set.
func (c *Config) Validate() error {
	if c.Nodes.DeadAfter < 2*c.Nodes.IsolationTimeout {
		return fmt.Errorf("nodes.dead_after %v is less than twice nodes.isolation_timeout, %v", c.Nodes.DeadAfter, c.Nodes.IsolationTimeout)
	}
	names := streamNames(*c)
	if err := names.Validate(); err != nil {
		return fmt.Errorf("topics.prefix %s with topics.live_prefix %s: %w; choose another one", c.Topics.Prefix, c.Topics.LivePrefix, err)
	}
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
