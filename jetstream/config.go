package jetstream

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

// Names are the names of our assets in JetStream. The log's subject space must not contain the others.
type Names struct {
	// Stream and Subjects name the log and the first tokens of its subjects.
	Stream, Subjects string
	// LiveSubjects are the first tokens of the subjects of messages that no stream keeps.
	LiveSubjects string
	// JournalStream holds journals and checkpoints under their two first tokens.
	JournalStream, JournalSubjects, CheckpointSubjects string
	// SessionBucket, RetainedBucket and PresenceBucket are KV buckets.
	SessionBucket, RetainedBucket, PresenceBucket string
	// QueuePrefix begins the name of each session's durable consumer, GroupPrefix that of each shared subscription's.
	QueuePrefix, GroupPrefix string
	// DelayedStream holds delayed messages, under DelayedSubjects as the first token.
	DelayedStream, DelayedSubjects string
}

// Config is what the storage is made with. Immutable after Validate.
type Config struct {
	Names Names
	// Mapping makes topics into the subjects behind Names.Subjects and Names.LiveSubjects.
	Mapping Mapping
	// MaxAge and MaxBytes bound the log; the oldest messages go first.
	MaxAge   time.Duration
	MaxBytes int64
	// KeepMaxBytes: MaxBytes is for a log that is made; one that exists keeps its own.
	KeepMaxBytes bool
	// MaxDelayed and MaxDelayedBytes bound the delayed messages; 0 messages: there is no stream for them.
	MaxDelayed      int
	MaxDelayedBytes int64
	// Durability is what an answered write survives. Fsync needs a server that has it too.
	Durability Durability
	// Replicas is how many servers of a cluster keep each stream that is made; 0: three where the cluster has them, else one.
	// Streams of ours that exist get as many, unless it is 0.
	Replicas int
	// AwaitServers: servers that a new stream needs are still to come, so that it is not made with fewer but ErrUnavailable.
	AwaitServers bool
	// AwaitMigration: the streams are to come with a Migration, so that they are not made.
	AwaitMigration bool
	// Domain is the JetStream domain whose streams are used, empty for that of the server.
	Domain string
	// Events says whether events are published.
	Events bool
	// Presence says whether and how the presence of clients is kept.
	Presence PresenceConfig
	// TombstoneTTL is how long deletion markers stay in the buckets and the journal.
	TombstoneTTL time.Duration
	// Window is how many writes of one publisher may be unanswered, WindowBytes how many bytes; the rest waits in order. Each has
	// a reply subject, and the server remembers whom 1,024 subjects lead to: more cost it a search for each answer.
	Window, WindowBytes int
	// AckTimeout is how long an answer may take; after it the outcome is unknown.
	AckTimeout time.Duration
	// Heartbeat is how often the server proves to the log reader that it is there; three missed ones restart it.
	Heartbeat time.Duration
	// RenewWithin is sessions.RenewWithin; a test that cannot wait so long says less.
	RenewWithin time.Duration
	Logger      *slog.Logger
}

// PresenceConfig is about the presence of clients.
type PresenceConfig struct {
	// Enabled: there is a bucket for it.
	Enabled bool
	// OfflineTTL is how long it is told of a client that it is offline.
	OfflineTTL time.Duration
}

// DefaultConfig is the configuration of a store that was told nothing.
func DefaultConfig() Config {
	return Config{
		Names: Names{
			Stream: "MQTT", Subjects: "mqtt", LiveSubjects: "mqtt0",
			JournalStream: "MQTT_JOURNAL", JournalSubjects: "mqtt_journal", CheckpointSubjects: "mqtt_checkpoint",
			SessionBucket: "mqtt_sessions", RetainedBucket: "mqtt_retained", PresenceBucket: "mqtt_presence",
			QueuePrefix: "dunlin-s-", GroupPrefix: "dunlin-g-",
			DelayedStream: "MQTT_DELAYED", DelayedSubjects: "mqtt_delayed",
		},
		Mapping:         MappingDefault,
		MaxAge:          7 * 24 * time.Hour,
		MaxBytes:        10 << 30,
		MaxDelayed:      100_000,
		MaxDelayedBytes: 256 << 20,
		Durability:      Process,
		Presence:        PresenceConfig{OfflineTTL: 7 * 24 * time.Hour},
		TombstoneTTL:    time.Hour,
		Window:          640,
		WindowBytes:     32 << 20,
		AckTimeout:      5 * time.Second,
		Heartbeat:       time.Second,
		RenewWithin:     sessions.RenewWithin,
		Logger:          slog.New(slog.DiscardHandler),
	}
}

// Validate reports the first setting that makes no sense.
func (c *Config) Validate() error {
	if err := c.Names.Validate(); err != nil {
		return err
	}
	if err := c.Mapping.validate(); err != nil {
		return err
	}
	if err := c.Durability.validate(); err != nil {
		return err
	}
	switch {
	case c.MaxAge != 0 && c.MaxAge < time.Second:
		return fmt.Errorf("max age %v is neither 0 nor at least 1s", c.MaxAge)
	case c.MaxBytes < 1<<20:
		return fmt.Errorf("max bytes %d is less than 1 MiB", c.MaxBytes)
	case c.Replicas < 0 || c.Replicas > 5 || c.Replicas%2 == 0 && c.Replicas != 0:
		return fmt.Errorf("replicas %d is not 0, 1, 3 or 5", c.Replicas)
	case c.Domain != "" && !validName(c.Domain):
		return fmt.Errorf("domain %q is not made of A-Z a-z 0-9 _ -", c.Domain)
	case c.Presence.OfflineTTL < time.Second:
		return fmt.Errorf("offline TTL %v is less than 1s", c.Presence.OfflineTTL)
	case c.MaxDelayed < 0 || c.MaxDelayed > 0 && c.MaxDelayedBytes < 1<<20:
		return fmt.Errorf("max delayed messages %d is negative, or their bytes %d are less than 1 MiB", c.MaxDelayed, c.MaxDelayedBytes)
	case c.TombstoneTTL < time.Second:
		return fmt.Errorf("tombstone TTL %v is less than 1s", c.TombstoneTTL)
	case c.Window < 1 || c.WindowBytes < 1:
		return fmt.Errorf("window %d or window bytes %d is not positive", c.Window, c.WindowBytes)
	case c.AckTimeout < 100*time.Millisecond:
		return fmt.Errorf("ack timeout %v is less than 100ms", c.AckTimeout)
	case c.Heartbeat < 100*time.Millisecond:
		return fmt.Errorf("heartbeat %v is less than 100ms", c.Heartbeat)
	case c.RenewWithin < time.Second:
		return fmt.Errorf("renew within %v is less than 1s", c.RenewWithin)
	case c.Logger == nil:
		return fmt.Errorf("logger is nil")
	}
	return nil
}

// api begins the subjects of the JetStream API.
func (c *Config) api() string {
	if c.Domain == "" {
		return natsjs.DefaultAPIPrefix
	}
	return "$JS." + c.Domain + ".API."
}

// wire is the subject on which a write goes out that is stored under subject: a leaf node passes no $KV to another domain but in
// its API.
func (c *Config) wire(subject string) string {
	if c.Domain == "" || !strings.HasPrefix(subject, "$KV.") {
		return subject
	}
	return c.api() + subject
}

// client is the NATS library's client for the domain.
func (c *Config) client(nc *nats.Conn) (natsjs.JetStream, error) {
	if c.Domain == "" {
		return natsjs.New(nc)
	}
	return natsjs.NewWithDomain(nc, c.Domain)
}

// tokenAlphabet is what a name may be made of: it is valid as stream, bucket and consumer name and as subject token.
const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
