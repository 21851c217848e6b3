package main

import (
	"math"
	"strings"
	"time"

	"github.com/lithammer/fuzzysearch/fuzzy"

	"dunlin/jetstream"
	"dunlin/sessions"
)

// key is one configuration key: the single place that says its name, default, bounds and meaning. The command line
// flags, `config print` and docs/CONFIGURATION.md are made from it.
type key struct {
	name string // section.key
	// preset is the default as text. With follows set it is empty: the default is the value of that key.
	preset, follows string
	// flag is a shorter way to set the key on the command line, and operand what its help calls the value.
	flag, operand string
	meaning       string
	bind          func(*Config) value
}

const (
	gibibyte = 1 << 30
	mebibyte = 1 << 20
	// leastMaxBytes is the smallest log that can be asked for.
	leastMaxBytes = mebibyte
)

// keys in the order of the documentation. Sections are contiguous.
var keys = []key{
	{
		name: "listeners.mqtt", preset: "127.0.0.1:1883", flag: "mqtt-listen", operand: "HOST:PORT",
		meaning: "where MQTT clients connect; port 0 takes a free one",
		bind:    func(c *Config) value { return addressValue{to: &c.Listeners.MQTT} },
	},
	{
		name: "listeners.ws", preset: "127.0.0.1:8083", flag: "ws-listen", operand: "HOST:PORT",
		meaning: "where MQTT clients connect by WebSocket, path `/mqtt`; port 0 takes a free one, `off` has no WebSocket",
		bind:    func(c *Config) value { return addressValue{to: &c.Listeners.WebSocket, mayBeOff: true} },
	},
	{
		name: "nats.listen", preset: "127.0.0.1:4222", flag: "nats-listen", operand: "HOST:PORT",
		meaning: "where NATS clients connect; `off` keeps NATS inside the process",
		bind:    func(c *Config) value { return addressValue{to: &c.NATS.Listen, mayBeOff: true} },
	},
	{
		name: "nats.url", flag: "nats", operand: "URLS",
		meaning: "NATS servers to use instead of the one inside, as `nats://host:4222` or `tls://host:4222`, several of one cluster separated by commas",
		bind: func(c *Config) value {
			return textValue{to: &c.NATS.URL, what: "one or more URLs such as nats://host:4222", hide: jetstream.RedactURLs}
		},
	},
	{
		name: "nats.creds", flag: "creds", operand: "FILE",
		meaning: "credentials file (JWT and seed) to log in to these servers",
		bind:    func(c *Config) value { return pathValue{to: &c.NATS.Creds, mayBeEmpty: true} },
	},
	{
		name: "nats.nkey", flag: "nkey", operand: "FILE",
		meaning: "file with the seed of an nkey to log in to these servers",
		bind:    func(c *Config) value { return pathValue{to: &c.NATS.NKey, mayBeEmpty: true} },
	},
	{
		name:    "nats.user",
		meaning: "user name to log in to these servers",
		bind:    func(c *Config) value { return textValue{to: &c.NATS.User, what: "a name"} },
	},
	{
		name:    "nats.password",
		meaning: "password of that user; better in the variable `DUNLIN_NATS__PASSWORD` than on a command line",
		bind:    func(c *Config) value { return textValue{to: &c.NATS.Password, what: "a password", hide: hidden} },
	},
	{
		name:    "nats.token",
		meaning: "token to log in to these servers; better in the variable `DUNLIN_NATS__TOKEN`",
		bind:    func(c *Config) value { return textValue{to: &c.NATS.Token, what: "a token", hide: hidden} },
	},
	{
		name:    "nats.tls_ca",
		meaning: "PEM file of the authorities that may sign the certificates of these servers; without it those of the system",
		bind:    func(c *Config) value { return pathValue{to: &c.NATS.TLSCA, mayBeEmpty: true} },
	},
	{
		name:    "nats.tls_cert",
		meaning: "PEM file of the certificate that is shown to these servers",
		bind:    func(c *Config) value { return pathValue{to: &c.NATS.TLSCert, mayBeEmpty: true} },
	},
	{
		name:    "nats.tls_key",
		meaning: "PEM file of its key",
		bind:    func(c *Config) value { return pathValue{to: &c.NATS.TLSKey, mayBeEmpty: true} },
	},
	{
		name: "nats.js_domain", flag: "js-domain", operand: "DOMAIN",
		meaning: "JetStream domain whose streams are used, when these servers reach it by leaf nodes",
		bind:    func(c *Config) value { return textValue{to: &c.NATS.JSDomain, what: "the name of a domain"} },
	},
	{
		name: "nats.connect_timeout", preset: "30s",
		meaning: "how long a start waits for these servers",
		bind: func(c *Config) value {
			return durationValue{to: &c.NATS.ConnectTimeout, min: 0, max: time.Hour}
		},
	},
	{
		name: "cluster.listen", preset: "off", flag: "cluster-listen", operand: "HOST:PORT",
		meaning: "where the NATS servers inside the other machines' Dunlins reach this one, [CLUSTER](CLUSTER.md); `off`: it is alone",
		bind:    func(c *Config) value { return addressValue{to: &c.Cluster.Listen, mayBeOff: true} },
	},
	{
		name: "cluster.routes", flag: "cluster-routes", operand: "ADDRESSES",
		meaning: "`cluster.listen` of all machines as the others reach it, separated by commas; the own one may be among them",
		bind: func(c *Config) value {
			return textValue{to: &c.Cluster.Routes, what: "addresses such as n1:6222,n2:6222,n3:6222", hide: jetstream.RedactURLs}
		},
	},
	{
		name: "cluster.name", preset: "dunlin",
		meaning: "name of the cluster, the same on all machines, and for ever",
		bind:    func(c *Config) value { return textValue{to: &c.Cluster.Name, what: "a name"} },
	},
	{
		name:    "cluster.advertise",
		meaning: "host:port at which the others reach `cluster.listen`, if that is not the address of this machine",
		bind:    func(c *Config) value { return textValue{to: &c.Cluster.Advertise, what: "host:port"} },
	},
	{
		name: "cluster.user", preset: "dunlin",
		meaning: "user name that the machines show to each other",
		bind:    func(c *Config) value { return textValue{to: &c.Cluster.User, what: "a name"} },
	},
	{
		name:    "cluster.password",
		meaning: "password of that user, the same on all machines; better in the variable `DUNLIN_CLUSTER__PASSWORD`",
		bind:    func(c *Config) value { return textValue{to: &c.Cluster.Password, what: "a password", hide: hidden} },
	},
	{
		name:    "cluster.tls_ca",
		meaning: "PEM file of the authorities that sign the machines' certificates: routes are encrypted, and whose certificate they have not signed is not let in",
		bind:    func(c *Config) value { return pathValue{to: &c.Cluster.TLSCA, mayBeEmpty: true} },
	},
	{
		name:    "cluster.tls_cert",
		meaning: "PEM file of the certificate of this machine, for both ends of a connection",
		bind:    func(c *Config) value { return pathValue{to: &c.Cluster.TLSCert, mayBeEmpty: true} },
	},
	{
		name:    "cluster.tls_key",
		meaning: "PEM file of its key",
		bind:    func(c *Config) value { return pathValue{to: &c.Cluster.TLSKey, mayBeEmpty: true} },
	},
	{
		name: "cluster.insecure", preset: "false",
		meaning: "listen for other machines with neither a password nor TLS: whoever reaches the address can read and write everything",
		bind:    func(c *Config) value { return boolValue{to: &c.Cluster.Insecure} },
	},
	{
		name: "cluster.start_timeout", preset: "5m",
		meaning: "how long a start waits for the other machines: for all in a new cluster, else until two of three are there",
		bind: func(c *Config) value {
			return durationValue{to: &c.Cluster.StartTimeout, min: time.Second, max: 24 * time.Hour}
		},
	},
	{
		name: "cluster.await_migration", preset: "false",
		meaning: "do not make streams, but wait, for as long as it takes, until `dunlin migrate` has brought them; to be left out afterwards",
		bind:    func(c *Config) value { return boolValue{to: &c.Cluster.AwaitMigration} },
	},
	{
		name: "storage.data_dir", preset: "./dunlin-data", flag: "data-dir", operand: "DIR",
		meaning: "directory of everything that lasts; made when missing; beside `nats.url` not used unless it is set, and then it holds the name of this node",
		bind:    func(c *Config) value { return pathValue{to: &c.Storage.DataDir} },
	},
	{
		name: "storage.durability", preset: "process", flag: "durability", operand: "LEVEL",
		meaning: "what an acknowledged message, session or subscription survives: `process` kill -9 of the broker, `fsync` a power loss too; " +
			"with `process` that can take the last second",
		bind: func(c *Config) value {
			return choiceValue{to: &c.Storage.Durability, options: []string{string(jetstream.Process), string(jetstream.Fsync)}}
		},
	},
	{
		name: "storage.max_bytes", preset: "auto",
		meaning: "disk space of the message log, the oldest messages go first; `auto` is 10GiB or half of what the disk has for it, the smaller",
		bind: func(c *Config) value {
			return sizeValue{to: &c.Storage.MaxBytes, min: leastMaxBytes, max: math.MaxInt64, mayBeAuto: true}
		},
	},
	{
		name: "storage.max_age", preset: "168h",
		meaning: "how long the message log keeps a message",
		bind: func(c *Config) value {
			return durationValue{to: &c.Storage.MaxAge, min: time.Minute, max: Never - 1}
		},
	},
	{
		name: "storage.replicas", preset: "auto",
		meaning: "servers that keep each stream; `auto` is three where the NATS cluster has as many, else one, and what is there already stays as it is",
		bind: func(c *Config) value {
			return replicasValue{to: &c.Storage.Replicas}
		},
	},
	{
		name: "log.level", preset: "info", flag: "log-level", operand: "LEVEL",
		meaning: "least important level that is logged",
		bind: func(c *Config) value {
			return choiceValue{to: &c.Log.Level, options: []string{"debug", "info", "warn", "error"}}
		},
	},
	{
		name: "log.format", preset: "text", flag: "log-format", operand: "FORMAT",
		meaning: "how a log line on stderr looks",
		bind:    func(c *Config) value { return choiceValue{to: &c.Log.Format, options: []string{"text", "json"}} },
	},
	{
		name: "auth.allow_anonymous", preset: "false", flag: "allow-anonymous",
		meaning: "let anybody connect from other machines too; without it only loopback addresses may be listened on",
		bind:    func(c *Config) value { return boolValue{to: &c.Auth.AllowAnonymous} },
	},
	{
		name: "sessions.max_expiry", preset: "168h",
		meaning: "longest a session outlives its connection; what an MQTT 5.0 client asks for is cut to this, and CONNACK says so",
		bind: func(c *Config) value {
			return durationValue{to: &c.Sessions.MaxExpiry, min: time.Second, max: Never - 1, mayBeNever: true}
		},
	},
	{
		name: "sessions.default_expiry_v3", follows: "sessions.max_expiry",
		meaning: "how long a persistent session of an MQTT 3.1 or 3.1.1 client outlives its connection; those clients cannot ask for a time, so `sessions.max_expiry` does not cut it",
		bind: func(c *Config) value {
			return durationValue{to: &c.Sessions.DefaultExpiryV3, min: time.Second, max: Never - 1, mayBeNever: true}
		},
	},
	{
		name: "sessions.max_queued_messages", preset: "100000",
		meaning: "messages waiting for one session that is offline or behind; 0 sets no limit",
		bind: func(c *Config) value {
			return intValue{to: &c.Sessions.MaxQueuedMessages, min: 0, max: math.MaxInt32}
		},
	},
	{
		name: "sessions.overflow", preset: "drop_oldest",
		meaning: "which messages a full queue gives up; every one is counted",
		bind: func(c *Config) value {
			return choiceValue{to: &c.Sessions.Overflow, options: []string{"drop_oldest", "drop_newest"}}
		},
	},
	{
		name: "sessions.queue_qos0", preset: "false",
		meaning: "store messages published at QoS 0 too, and queue them for sessions that are offline",
		bind:    func(c *Config) value { return boolValue{to: &c.Sessions.QueueQoS0} },
	},
	{
		name: "sessions.send_window", preset: "32",
		meaning: "QoS 1 and 2 messages on their way to one client at a time; a smaller Receive Maximum of the client counts",
		bind:    func(c *Config) value { return intValue{to: &c.Sessions.SendWindow, min: 1, max: 256} },
	},
	{
		name: "sessions.shared_read_from", preset: "70",
		meaning: "sessions behind, for each 100,000 messages that they are behind, from which on the log is read once for all of them instead of a consumer for each; 0: always, -1: only for those that cannot have one",
		bind: func(c *Config) value {
			return intValue{to: &c.Sessions.SharedReadFrom, min: -1, max: 100_000}
		},
	},
	{
		name: "sessions.max_parked_consumers", preset: "200",
		meaning: "offline sessions whose queue NATS shows as a consumer, about 34 KiB of memory each; the queues of others are made when needed",
		bind: func(c *Config) value {
			return intValue{to: &c.Sessions.MaxParkedConsumers, min: 0, max: 100_000}
		},
	},
	{
		name: "limits.max_packet", preset: "1MiB",
		meaning: "longest MQTT packet taken from a client, announced to MQTT 5.0 clients",
		bind: func(c *Config) value {
			return sizeValue{to: &c.Limits.MaxPacket, min: 1 << 10, max: 16 * mebibyte}
		},
	},
	{
		name: "limits.receive_maximum", preset: "1024",
		meaning: "QoS 1 and 2 messages that one client may have unacknowledged, announced to MQTT 5.0 clients",
		bind:    func(c *Config) value { return intValue{to: &c.Limits.ReceiveMaximum, min: 1, max: math.MaxUint16} },
	},
	{
		name: "limits.topic_alias_maximum", preset: "32",
		meaning: "topic aliases that an MQTT 5.0 client may use on a connection, announced to it, and that are used for it as far as it allows them; 0 for none",
		bind:    func(c *Config) value { return intValue{to: &c.Limits.TopicAliasMaximum, min: 0, max: math.MaxUint16} },
	},
	{
		name: "limits.max_connections", preset: "100000",
		meaning: "MQTT connections at a time; the file descriptors of the process bound it too",
		bind:    func(c *Config) value { return intValue{to: &c.Limits.MaxConnections, min: 1, max: 10_000_000} },
	},
	{
		name: "limits.connect_rate", preset: "50",
		meaning: "times that one client identifier may connect from one address in a second, after ten seconds' worth at once; more are refused, and its session is left alone; 0 sets no limit",
		bind:    func(c *Config) value { return intValue{to: &c.Limits.ConnectRate, min: 0, max: 1_000_000} },
	},
	{
		name: "limits.connect_timeout", preset: "10s",
		meaning: "time from connecting to a complete CONNECT",
		bind: func(c *Config) value {
			return durationValue{to: &c.Limits.ConnectTimeout, min: 100 * time.Millisecond, max: time.Hour}
		},
	},
	{
		name: "limits.write_timeout", preset: "30s",
		meaning: "a client whose network takes nothing for this long is disconnected",
		bind: func(c *Config) value {
			return durationValue{to: &c.Limits.WriteTimeout, min: 100 * time.Millisecond, max: time.Hour}
		},
	},
	{
		name: "limits.max_subscriptions", preset: "10000",
		meaning: "subscriptions of one session",
		bind:    func(c *Config) value { return intValue{to: &c.Limits.MaxSubscriptions, min: 1, max: 1_000_000} },
	},
	{
		name: "limits.max_keep_alive", preset: "0s",
		meaning: "longest keep alive, whole seconds; MQTT 5.0 clients that ask for more, or for none, are told this one; 0s sets no limit",
		bind: func(c *Config) value {
			return durationValue{to: &c.Limits.MaxKeepAlive, min: 0, max: math.MaxUint16 * time.Second, wholeSeconds: true}
		},
	},
	{
		name: "limits.max_topic_levels", preset: "256",
		meaning: "levels of a topic or filter",
		bind:    func(c *Config) value { return intValue{to: &c.Limits.MaxTopicLevels, min: 1, max: 1024} },
	},
	{
		name: "limits.max_retained", preset: "1000000",
		meaning: "retained messages, one per topic",
		bind:    func(c *Config) value { return intValue{to: &c.Limits.MaxRetained, min: 1, max: math.MaxInt32} },
	},
	{
		name: "shares.max_groups", preset: "1000",
		meaning: "shared subscriptions, each a share name with a topic filter, however many clients share it; 0 refuses them; those of stored sessions go on",
		bind:    func(c *Config) value { return intValue{to: &c.Shares.MaxGroups, min: 0, max: 100_000} },
	},
	{
		name: "events.enabled", preset: "true",
		meaning: "tell NATS programs that listen to `dunlin.event.>` which clients connect and leave, what becomes of sessions, and what is dropped",
		bind:    func(c *Config) value { return boolValue{to: &c.Events.Enabled} },
	},
	{
		name: "presence.enabled", preset: "false",
		meaning: "keep who is online, and who was, in the KV bucket `mqtt_presence`",
		bind:    func(c *Config) value { return boolValue{to: &c.Presence.Enabled} },
	},
	{
		name: "presence.offline_ttl", preset: "168h",
		meaning: "how long a client that has left is kept there as offline; one whose identifier the server made up for it, at most an hour",
		bind: func(c *Config) value {
			return durationValue{to: &c.Presence.OfflineTTL, min: time.Second, max: Never - 1}
		},
	},
	{
		name: "nodes.dead_after", preset: "30s",
		meaning: "how long another node on the same NATS has given no sign of life when its wills and the expiry of its sessions become the business of the others; clients may move at any time; the same on all nodes, and at least twice `nodes.isolation_timeout`",
		bind: func(c *Config) value {
			return durationValue{to: &c.Nodes.DeadAfter, min: 6 * time.Second, max: time.Hour}
		},
	},
	{
		name: "nodes.isolation_timeout", preset: "10s",
		meaning: "how long NATS has not answered a node that has company when it disconnects its persistent clients, which others may have by then",
		bind: func(c *Config) value {
			return durationValue{to: &c.Nodes.IsolationTimeout, min: 3 * time.Second, max: time.Hour / 2}
		},
	},
	{
		name: "nodes.drain_timeout", preset: "30s",
		meaning: "how long a node that is told to stop, while another takes clients, takes to send its own there; a second signal ends it at once",
		bind: func(c *Config) value {
			return durationValue{to: &c.Nodes.DrainTimeout, min: time.Second, max: time.Hour}
		},
	},
	{
		name:    "nodes.server_reference",
		meaning: "where MQTT 5 clients are told to go then, such as `broker.example.com:1883`; empty leaves it to them",
		bind: func(c *Config) value {
			return textValue{to: &c.Nodes.ServerReference, what: "a server reference"}
		},
	},
	{
		name: "requests.timeout", preset: "1m",
		meaning: "how long an answer to a request between MQTT clients and NATS services may take",
		bind: func(c *Config) value {
			return durationValue{to: &c.Requests.Timeout, min: time.Second, max: time.Hour}
		},
	},
	{
		name: "topics.mapping", preset: "default",
		meaning: "how a topic becomes a NATS subject, [TOPICS](TOPICS.md): `default` takes every topic, `nats-compat` is what the MQTT of nats-server does, and " +
			"refuses topics that it has no subject for; a message log is bound to the mapping that it was made with",
		bind: func(c *Config) value {
			options := make([]string, 0, 2)
			for _, m := range jetstream.Mappings() {
				options = append(options, string(m))
			}
			return choiceValue{to: &c.Topics.Mapping, options: options}
		},
	},
	{
		name: "topics.prefix", preset: "mqtt",
		meaning: "first tokens of the subjects of stored messages; a message log is bound to the prefix that it was made with",
		bind:    func(c *Config) value { return prefixValue{to: &c.Topics.Prefix} },
	},
	{
		name: "topics.live_prefix", preset: "mqtt0",
		meaning: "first tokens of the subjects of messages at QoS 0 that are not stored",
		bind:    func(c *Config) value { return prefixValue{to: &c.Topics.LivePrefix} },
	},
	{
		name: "topics.max_length", preset: "2048",
		meaning: "bytes of the NATS subject that the topic of a stored message becomes, which is longer where characters are " +
			"escaped; at QoS 0, not retained and not queued, topics may be as long as MQTT allows",
		bind: func(c *Config) value { return intValue{to: &c.Topics.MaxLength, min: 16, max: jetstream.MaxSubject} },
	},
	{
		name: "delayed.enabled", preset: "true",
		meaning: "publish what clients publish to `$delayed/<seconds>/<topic>` to the topic after that time; `false` refuses it, and messages that wait stay stored",
		bind:    func(c *Config) value { return boolValue{to: &c.Delayed.Enabled} },
	},
	{
		name: "delayed.max_seconds", preset: "604800",
		meaning: "longest delay of a message, 7 days; a longer one is refused",
		bind: func(c *Config) value {
			return intValue{to: &c.Delayed.MaxSeconds, min: 1, max: int(sessions.MaxDelay / time.Second)}
		},
	},
	{
		name: "delayed.max_messages", preset: "100000",
		meaning: "delayed messages that wait; more are refused",
		bind:    func(c *Config) value { return intValue{to: &c.Delayed.MaxMessages, min: 1, max: 10_000_000} },
	},
	{
		name: "delayed.max_bytes", preset: "256MiB",
		meaning: "disk space of the delayed messages that wait; more are refused",
		bind: func(c *Config) value {
			return sizeValue{to: &c.Delayed.MaxBytes, min: leastMaxBytes, max: math.MaxInt64}
		},
	},
	{
		name: "replay.enabled", preset: "true",
		meaning: "let clients have messages of the log again by subscribing to `$replay/<start>/<filter>`; `false` refuses it",
		bind:    func(c *Config) value { return boolValue{to: &c.Replay.Enabled} },
	},
	{
		name: "replay.max_rate", preset: "1000",
		meaning: "messages that one replay brings in a second",
		bind:    func(c *Config) value { return intValue{to: &c.Replay.MaxRate, min: 1, max: 1_000_000} },
	},
	{
		name: "replay.max_active", preset: "100",
		meaning: "replays of all clients at a time; more are refused",
		bind:    func(c *Config) value { return intValue{to: &c.Replay.MaxActive, min: 1, max: 100_000} },
	},
}

// findKey returns nil for a name that is not a key.
func findKey(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

// isSection reports whether keys start with name and a dot.
func isSection(name string) bool {
	for i := range keys {
		if strings.HasPrefix(keys[i].name, name+".") {
			return true
		}
	}
	return false
}

// nearestKey is the known key that takes the fewest edits to reach from name, in its section if name is one.
func nearestKey(name string) string {
	nearest, fewest := "", math.MaxInt
	for i := range keys {
		if isSection(name) && !strings.HasPrefix(keys[i].name, name+".") {
			continue
		}
		if distance := fuzzy.LevenshteinDistance(name, keys[i].name); distance < fewest {
			nearest, fewest = keys[i].name, distance
		}
	}
	return nearest
}
