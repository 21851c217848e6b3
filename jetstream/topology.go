package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

// The metadata by which we know our own streams and consumers.
const (
	metadataKind     = "dunlin.kind"
	metadataFormat   = "dunlin.format"
	metadataClientID = "dunlin.client_id"
	metadataShare    = "dunlin.share"

	// format is the version of what is in our streams.
	format = "1"

	kindLog      = "log"
	kindJournal  = "journal"
	kindSessions = "sessions"
	kindRetained = "retained"
	kindPresence = "presence"
	kindQueue    = "queue"
	kindShared   = "shared"
	kindDelayed  = "delayed"
)

// metadata is that of an asset of ours; of is whose it is, a client identifier or a shared subscription.
func metadata(kind, of string) map[string]string {
	m := map[string]string{metadataKind: kind, metadataFormat: format}
	switch kind {
	case kindQueue:
		m[metadataClientID] = of
	case kindShared:
		m[metadataShare] = of
	}
	return m
}

// errForeignConsumer: somebody else has a consumer of the name we need.
var errForeignConsumer = errors.New("a consumer of this name is not ours")

// checkOurs makes sure that we may change a consumer: that we made it, and for this client or shared subscription.
func checkOurs(info *natsjs.ConsumerInfo, kind, of string) error {
	for key, value := range metadata(kind, of) {
		if key != metadataFormat && info.Config.Metadata[key] != value {
			return fmt.Errorf("%w: %w: %s", sessions.ErrRejected, errForeignConsumer, info.Name)
		}
	}
	return nil
}

// removeConsumer deletes a consumer of the log, if it is ours; it is no error when there is none.
func removeConsumer(ctx context.Context, js natsjs.JetStream, stream, name, kind, of string) error {
	consumer, err := js.Consumer(ctx, stream, name)
	if err == nil {
		if err := checkOurs(consumer.CachedInfo(), kind, of); err != nil {
			return fmt.Errorf("remove queue: %w", err)
		}
		err = js.DeleteConsumer(ctx, stream, name)
	}
	if err = clientErr(err); errors.Is(err, sessions.ErrNotFound) {
		return nil
	}
	return err
}

// maxConsumers lifts the limit of 1,000 that the server sets on a stream that names none.
const maxConsumers = 1 << 30

// duplicateWindow is how long the log knows the identity of a message.
const duplicateWindow = 2 * time.Minute

// ErrTopology: a stream or bucket of ours has a shape that we cannot work with.
var ErrTopology = errors.New("unsuitable stream")

// bucketStream is the stream behind a KV bucket.
func bucketStream(bucket string) string { return "KV_" + bucket }

// EnsureTopology makes the streams and buckets that are missing and checks those that exist. Of those that we made it
// updates the limits; anything else that differs is an error which says what.
func EnsureTopology(ctx context.Context, nc *nats.Conn, c Config) error {
	js, err := c.client(nc)
	if err != nil {
		return clientErr(err)
	}
	for _, want := range topology(&c) {
		if err := ensureStream(ctx, js, &c, want); err != nil {
			return err
		}
	}
	return nil
}

// topology is what we need.
func topology(c *Config) []natsjs.StreamConfig {
	n := c.Names
	base := natsjs.StreamConfig{
		Retention: natsjs.LimitsPolicy, Storage: natsjs.FileStorage, Discard: natsjs.DiscardOld, Replicas: c.Replicas,
		MaxConsumers: maxConsumers, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1,
		Duplicates: duplicateWindow, AllowDirect: true, AllowAtomicPublish: c.Durability == Fsync,
	}
	log := base
	log.Name, log.Subjects, log.Metadata = n.Stream, []string{n.Subjects + ".>"}, metadata(kindLog, "")
	log.Metadata[metadataMapping] = string(c.Mapping)
	log.Description = "MQTT messages at QoS 1 and 2: topic a/b is subject " + n.Subjects + ".a.b"
	log.MaxAge, log.MaxBytes, log.AllowBatchPublish = c.MaxAge, c.MaxBytes, c.Durability == Process
	if c.MaxAge > 0 {
		log.Duplicates = min(duplicateWindow, c.MaxAge)
	}

	journal := base
	journal.Name, journal.Metadata = n.JournalStream, metadata(kindJournal, "")
	journal.Description = "delivery state of MQTT sessions"
	journal.Subjects = []string{n.JournalSubjects + ".>", n.CheckpointSubjects + ".>"}
	journal.MaxMsgsPerSubject, journal.AllowMsgTTL = 1, true

	bucket := func(name, kind, description string) natsjs.StreamConfig {
		b := base
		b.Name, b.Subjects = bucketStream(name), []string{"$KV." + name + ".>"}
		b.Description, b.Metadata = description, metadata(kind, "")
		b.MaxMsgsPerSubject, b.AllowMsgTTL = 1, true
		b.Discard, b.AllowRollup, b.DenyDelete = natsjs.DiscardNew, true, true // as KV clients expect
		return b
	}
	records := bucket(n.SessionBucket, kindSessions, "MQTT sessions")
	retained := bucket(n.RetainedBucket, kindRetained, "retained MQTT messages: topic a/b is key a.b")
	retained.SubjectDeleteMarkerTTL = c.TombstoneTTL // tells watchers of the bucket what message expiry took
	needed := []natsjs.StreamConfig{log, journal, records, retained}
	if c.Presence.Enabled {
		presence := bucket(n.PresenceBucket, kindPresence, "which MQTT clients are online: the key is the client identifier")
		presence.SubjectDeleteMarkerTTL = c.TombstoneTTL // tells watchers of the bucket what its time took
		needed = append(needed, presence)
	}
	if c.MaxDelayed > 0 {
		needed = append(needed, delayedStream(c, base))
	}
	return needed
}

func ensureStream(ctx context.Context, js natsjs.JetStream, c *Config, want natsjs.StreamConfig) error {
	stream, err := js.Stream(ctx, want.Name)
	isLog := want.Metadata[metadataKind] == kindLog
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		if isLog && c.AwaitMigration {
			return fmt.Errorf("%w: stream %s is to come from elsewhere: run 'dunlin migrate', or set cluster.await_migration to false", sessions.ErrUnavailable, want.Name)
		}
		return createStream(ctx, js, c, want)
	}
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", want.Name, clientErr(err))
	}
	have := stream.CachedInfo().Config
	if isLog && have.Metadata[metadataMigration] != "" {
		return fmt.Errorf("%w: streams are being taken over from elsewhere: wait for the end of 'dunlin migrate'; if it was killed, remove stream %s and those that came after it, and run it again", sessions.ErrUnavailable, want.Name)
	}
	if c.Replicas == 0 {
		want.Replicas = have.Replicas
	}
	allowAtomic(&want)
	if isLog && c.KeepMaxBytes {
		want.MaxBytes = have.MaxBytes
	}
	if err := cmp.Or(checkTopics(have, want), checkShape(have, want)); err != nil {
		return err
	}
	if have.Metadata[metadataKind] == "" { // not ours: fit for use, and left as it is
		if have.Duplicates < want.Duplicates {
			return unsuitable(want.Name, "duplicate_window", have.Duplicates, want.Duplicates)
		}
		if want.AllowAtomicPublish && !have.AllowAtomicPublish {
			return unsuitable(want.Name, "allow_atomic", false, true)
		}
		if have.Replicas != want.Replicas {
			return unsuitable(want.Name, "num_replicas", have.Replicas, want.Replicas)
		}
		return nil
	}
	if have.Metadata[metadataKind] != want.Metadata[metadataKind] || have.Metadata[metadataFormat] != format {
		return fmt.Errorf("%w: %s holds %s in format %s, we need %s in format %s", ErrTopology, want.Name,
			have.Metadata[metadataKind], have.Metadata[metadataFormat], want.Metadata[metadataKind], format)
	}
	return updateLimits(ctx, js, have, want)
}

// allowAtomic has the log take atomic batches where it has replicas: its writer is an ordered one then.
func allowAtomic(want *natsjs.StreamConfig) {
	want.AllowAtomicPublish = want.AllowAtomicPublish || want.Metadata[metadataKind] == kindLog && want.Replicas > 1
}

// replicasByDefault is how many servers keep each stream, where there are as many.
const replicasByDefault = 3

// createStream makes a stream, with as many replicas as the cluster has room for, if the configuration does not say.
func createStream(ctx context.Context, js natsjs.JetStream, c *Config, want natsjs.StreamConfig) error {
	create := func(replicas int) error {
		want.Replicas = replicas
		made := want
		allowAtomic(&made)
		_, err := js.CreateStream(ctx, made)
		return err
	}
	err := create(cmp.Or(c.Replicas, replicasByDefault))
	switch code := errorCode(err); {
	case code == codeStreamNameInUse: // another node has just made it
		return fmt.Errorf("%w: create stream %s: %w", sessions.ErrUnavailable, want.Name, err)
	case code == codeNoSuitablePeers && c.AwaitServers:
		return fmt.Errorf("%w: stream %s needs %d servers that are ready: start them, or set storage.replicas to fewer: %w", sessions.ErrUnavailable, want.Name, want.Replicas, err)
	}
	if code := errorCode(err); c.Replicas == 0 && (code == codeNoSuitablePeers || code == codeReplicasNotSupported) {
		if code == codeNoSuitablePeers {
			c.Logger.Warn("the NATS cluster has no three servers for it: the stream is kept on one", "stream", want.Name, "cause", err)
		}
		err = create(1)
	}
	if err != nil {
		return fmt.Errorf("create stream %s: %w%s", want.Name, clientErr(err), createAdvice(ctx, js, errorCode(err), &want))
	}
	return nil
}

// bytesSetting is the setting that bounds a stream.
func bytesSetting(want *natsjs.StreamConfig) string {
	if want.Metadata[metadataKind] == kindDelayed {
		return "delayed.max_bytes"
	}
	return "storage.max_bytes"
}

// createAdvice says what to do about a stream that cannot be made.
func createAdvice(ctx context.Context, js natsjs.JetStream, code natsjs.ErrorCode, want *natsjs.StreamConfig) string {
	switch code {
	case codeSubjectOverlap:
		other, err := js.StreamNameBySubject(ctx, want.Subjects[0])
		if err != nil {
			other = "another stream"
		}
		return fmt.Sprintf(": %s takes subjects of %s: change it, or let us use other names", other, strings.Join(want.Subjects, " "))
	case codeStreamLimit:
		return ": give the account more streams (max_streams)"
	case codeInsufficientResources, codeStorageExceeded, codeStreamBytesLimit:
		return fmt.Sprintf(": give the account more storage, or set %s to less than %d", bytesSetting(want), want.MaxBytes)
	case codeNoSuitablePeers, codeReplicasNotSupported:
		return fmt.Sprintf(": the NATS cluster cannot keep it on %d servers: start them, or set storage.replicas to 1", want.Replicas)
	default:
		return ""
	}
}

// errorCode is the server's code of an error of its API, 0 for others.
func errorCode(err error) natsjs.ErrorCode {
	var api natsjs.JetStreamError
	if errors.As(err, &api) && api.APIError() != nil {
		return api.APIError().ErrorCode
	}
	return 0
}

// updateLimits sets the limits that the configuration names on a stream of ours, lets it take batches if we need them, and
// changes nothing else.
func updateLimits(ctx context.Context, js natsjs.JetStream, have, want natsjs.StreamConfig) error {
	if have.MaxAge == want.MaxAge && have.MaxBytes == want.MaxBytes && have.MaxMsgs == want.MaxMsgs && have.Duplicates == want.Duplicates &&
		have.Replicas == want.Replicas && have.SubjectDeleteMarkerTTL == want.SubjectDeleteMarkerTTL &&
		(have.AllowAtomicPublish || !want.AllowAtomicPublish) && (have.AllowBatchPublish || !want.AllowBatchPublish) {
		return nil
	}
	have.MaxAge, have.MaxBytes, have.MaxMsgs, have.Duplicates = want.MaxAge, want.MaxBytes, want.MaxMsgs, want.Duplicates
	have.SubjectDeleteMarkerTTL, have.Replicas = want.SubjectDeleteMarkerTTL, want.Replicas
	have.AllowAtomicPublish = have.AllowAtomicPublish || want.AllowAtomicPublish
	have.AllowBatchPublish = have.AllowBatchPublish || want.AllowBatchPublish
	if _, err := js.UpdateStream(ctx, have); err != nil {
		return fmt.Errorf("update limits of stream %s: %w", want.Name, clientErr(err))
	}
	return nil
}

// checkShape reports the first field in which a stream differs from what we rely on.
func checkShape(have, want natsjs.StreamConfig) error {
	consumers := -1 // who watches a bucket can do with few
	if want.Metadata[metadataKind] == kindLog {
		consumers = maxConsumers
	}
	messages := want.MaxMsgs
	if want.Metadata[metadataKind] == kindDelayed {
		messages = have.MaxMsgs // a limit that is configured, or the owner's business
	}
	fields := []struct {
		name       string
		have, want any
	}{
		{"subjects", fmt.Sprint(have.Subjects), fmt.Sprint(want.Subjects)},
		{"retention", have.Retention, want.Retention},
		{"storage", have.Storage, want.Storage},
		{"discard", have.Discard, want.Discard},
		{"max_consumers", min(have.MaxConsumers, consumers), consumers},
		{"max_msgs", have.MaxMsgs, messages},
		{"max_msg_size", have.MaxMsgSize, want.MaxMsgSize},
		{"max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"discard_new_per_subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject},
		{"allow_direct", have.AllowDirect, want.AllowDirect},
		{"allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL},
		{"allow_rollup_hdrs", have.AllowRollup, want.AllowRollup},
		{"allow_msg_schedules", have.AllowMsgSchedules, false},
		{"allow_msg_counter", have.AllowMsgCounter, false},
		{"no_ack", have.NoAck, false},
		{"sealed", have.Sealed, false},
		{"mirror", have.Mirror != nil, false},
		{"sources", len(have.Sources) > 0, false},
		{"subject_transform", have.SubjectTransform != nil, false},
		{"persist_mode", have.PersistMode, want.PersistMode},
	}
	for _, f := range fields {
		if f.have != f.want {
			return unsuitable(want.Name, f.name, f.have, f.want)
		}
	}
	return nil
}

func unsuitable(stream, field string, have, want any) error {
	return fmt.Errorf("%w: %s has %s %v, we need %v: change it, or let us use another name", ErrTopology, stream, field, have, want)
}
