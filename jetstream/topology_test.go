package jetstream_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
)

func TestTopologyIsMadeOnceAndThenFound(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	ctx := testContext(t)
	c := testConfig()
	for range 2 {
		if err := jetstream.EnsureTopology(ctx, n.Conn, c); err != nil {
			t.Fatal(err)
		}
	}
	n.Restart()
	if err := jetstream.EnsureTopology(ctx, n.Conn, c); err != nil {
		t.Fatal(err)
	}
	js := newJS(t, n.Conn)
	for name, subject := range map[string]string{
		"MQTT": "mqtt.>", "MQTT_JOURNAL": "mqtt_journal.>", "KV_mqtt_sessions": "$KV.mqtt_sessions.>", "KV_mqtt_retained": "$KV.mqtt_retained.>",
		"MQTT_DELAYED": "mqtt_delayed.*.>",
	} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		got := stream.CachedInfo().Config
		if got.Subjects[0] != subject || got.MaxConsumers < 1_000_000 || !got.AllowDirect || got.Storage != natsjs.FileStorage || got.Metadata["dunlin.format"] != "1" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, bucket := range []string{"mqtt_sessions", "mqtt_retained"} {
		kv, err := js.KeyValue(ctx, bucket)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := kv.Status(ctx); err != nil || status.History() != 1 {
			t.Errorf("%s: %v, %v", bucket, status, err)
		}
	}
}

func TestLimitsOfOurStreamsFollowTheConfiguration(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	ctx := testContext(t)
	c := testConfig()
	for _, limits := range []struct {
		bytes int64
		age   time.Duration
	}{{1 << 30, time.Hour}, {2 << 30, 0}, {1 << 20, 30 * time.Second}, {1 << 30, time.Hour}} {
		c.MaxBytes, c.MaxAge = limits.bytes, limits.age
		if err := jetstream.EnsureTopology(ctx, n.Conn, c); err != nil {
			t.Fatal(err)
		}
		stream, err := newJS(t, n.Conn).Stream(ctx, "MQTT")
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().Config; got.MaxBytes != c.MaxBytes || got.MaxAge != c.MaxAge || got.Metadata["dunlin.kind"] != "log" {
			t.Errorf("%+v", got)
		}
	}
}

func TestOurStreamsTakeBatchesWhenTheyAreNeeded(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	ctx := testContext(t)
	c := testConfig()
	for _, step := range []struct {
		durability jetstream.Durability
		want       bool
	}{{jetstream.Process, false}, {jetstream.Fsync, true}, {jetstream.Process, true}} {
		c.Durability = step.durability
		if err := jetstream.EnsureTopology(ctx, n.Conn, c); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"MQTT", "MQTT_JOURNAL", "KV_mqtt_sessions", "KV_mqtt_retained", "MQTT_DELAYED"} {
			stream, err := newJS(t, n.Conn).Stream(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if got := stream.CachedInfo().Config.AllowAtomicPublish; got != step.want {
				t.Errorf("%s: %s takes batches: %v", step.durability, name, got)
			}
		}
	}
}

// foreignLog is a stream that somebody else has made as we need it.
func foreignLog() natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name: "MQTT", Subjects: []string{"mqtt.>"}, MaxConsumers: 1 << 30, AllowDirect: true, MaxBytes: 5 << 20, MaxAge: time.Hour,
		Duplicates: 2 * time.Minute,
	}
}

func TestForeignStreamIsUsedAsItIs(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	ctx := testContext(t)
	js := newJS(t, n.Conn)
	if _, err := js.CreateStream(ctx, foreignLog()); err != nil {
		t.Fatal(err)
	}
	s := openStorage(t, n, testConfig())
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", "1"))
	stream, err := js.Stream(ctx, "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().Config; got.MaxBytes != 5<<20 || got.MaxAge != time.Hour || got.Metadata["dunlin.kind"] != "" {
		t.Errorf("it was changed: %+v", got)
	}
}

func TestUnsuitableStreamIsNamedWithItsFault(t *testing.T) {
	for fault, change := range map[string]func(*natsjs.StreamConfig){
		"subjects [mqtt.x], we need [mqtt.>]":   func(c *natsjs.StreamConfig) { c.Subjects = []string{"mqtt.x"} },
		"retention Interest, we need Limits":    func(c *natsjs.StreamConfig) { c.Retention = natsjs.InterestPolicy },
		"storage Memory, we need File":          func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage },
		"discard DiscardNew, we need":           func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardNew },
		"max_consumers -1, we need 1073741824":  func(c *natsjs.StreamConfig) { c.MaxConsumers = -1 },
		"max_msgs_per_subject 5, we need -1":    func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"max_msg_size 10, we need -1":           func(c *natsjs.StreamConfig) { c.MaxMsgSize = 10 },
		"allow_direct false, we need true":      func(c *natsjs.StreamConfig) { c.AllowDirect = false },
		"allow_rollup_hdrs true, we need false": func(c *natsjs.StreamConfig) { c.AllowRollup = true },
		"duplicate_window 1m0s, we need 2m0s":   func(c *natsjs.StreamConfig) { c.Duplicates = time.Minute },
		"no_ack true, we need false":            func(c *natsjs.StreamConfig) { c.NoAck = true },
		"holds journal in format 1, we need log": func(c *natsjs.StreamConfig) {
			c.Metadata = map[string]string{"dunlin.kind": "journal", "dunlin.format": "1"}
		},
		"holds log in format 2, we need log in format 1": func(c *natsjs.StreamConfig) {
			c.Metadata = map[string]string{"dunlin.kind": "log", "dunlin.format": "2"}
		},
	} {
		t.Run(fault, func(t *testing.T) {
			n := jetstreamtest.StartNATS(t)
			ctx := testContext(t)
			config := foreignLog()
			change(&config)
			js := newJS(t, n.Conn)
			if _, err := js.CreateStream(ctx, config); err != nil {
				t.Fatal(err)
			}
			err := jetstream.EnsureTopology(ctx, n.Conn, testConfig())
			if !errors.Is(err, jetstream.ErrTopology) || !strings.Contains(err.Error(), "MQTT") || !strings.Contains(err.Error(), fault) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// changed is the test configuration with a change.
func changed(change func(*jetstream.Config)) jetstream.Config {
	c := testConfig()
	change(&c)
	return c
}

var (
	compat    = changed(func(c *jetstream.Config) { c.Mapping = jetstream.MappingNATSCompat })
	elsewhere = changed(func(c *jetstream.Config) { c.Names.Subjects = "acme.mqtt" })
)

// assertOtherTopics expects an error in one line that says what the log has, what is asked for, and what to do.
func assertOtherTopics(t *testing.T, err error, says ...string) {
	t.Helper()
	if !errors.Is(err, jetstream.ErrTopology) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("error %v", err)
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
}

func TestLogIsBoundToItsMappingAndPrefix(t *testing.T) {
	for name, c := range map[string]struct {
		made, other jetstream.Config
		says        []string
	}{
		"default": {testConfig(), compat, []string{"subjects of the topic mapping default, we need nats-compat", "set topics.mapping to default"}},
		"compat":  {compat, testConfig(), []string{"subjects of the topic mapping nats-compat, we need default", "set topics.mapping to nats-compat"}},
		"mqtt":    {testConfig(), elsewhere, []string{"subjects [mqtt.>], we need [acme.mqtt.>]", "set topics.prefix to mqtt,"}},
		"other":   {elsewhere, testConfig(), []string{"subjects [acme.mqtt.>], we need [mqtt.>]", "set topics.prefix to acme.mqtt,"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := jetstreamtest.StartNATS(t)
			ctx := testContext(t)
			if err := jetstream.EnsureTopology(ctx, n.Conn, c.made); err != nil {
				t.Fatal(err)
			}
			assertOtherTopics(t, jetstream.EnsureTopology(ctx, n.Conn, c.other), append(c.says, "MQTT", "or begin with an empty log")...)
			if err := jetstream.EnsureTopology(ctx, n.Conn, c.made); err != nil {
				t.Errorf("as it was made: %v", err)
			}
			stream, err := newJS(t, n.Conn).Stream(ctx, "MQTT")
			if err != nil {
				t.Fatal(err)
			}
			if got := stream.CachedInfo().Config.Metadata["dunlin.mapping"]; got != string(c.made.Mapping) {
				t.Errorf("its metadata say %q", got)
			}
		})
	}
}

// A log that says nothing about its mapping is from before there were two, or was not made by us.
func TestLogWithoutAMappingHasTheDefaultOne(t *testing.T) {
	for name, c := range map[string]struct {
		kind string
		says string
	}{
		"ours":     {"log", "set topics.mapping to default, or begin"},
		"not ours": {"", "give it the metadata dunlin.mapping=nats-compat if its subjects are of that mapping, or set topics.mapping to default"},
	} {
		t.Run(name, func(t *testing.T) {
			n := jetstreamtest.StartNATS(t)
			ctx := testContext(t)
			js := newJS(t, n.Conn)
			stream := foreignLog()
			if c.kind != "" {
				stream.Metadata = map[string]string{"dunlin.kind": c.kind, "dunlin.format": "1"}
			}
			if _, err := js.CreateStream(ctx, stream); err != nil {
				t.Fatal(err)
			}
			assertOtherTopics(t, jetstream.EnsureTopology(ctx, n.Conn, compat), c.says)
			if err := jetstream.EnsureTopology(ctx, n.Conn, testConfig()); err != nil {
				t.Errorf("with the default mapping: %v", err)
			}
			stream.Metadata = map[string]string{"dunlin.mapping": "nats-compat"}
			if _, err := js.UpdateStream(ctx, stream); err != nil {
				t.Fatal(err)
			}
			if err := jetstream.EnsureTopology(ctx, n.Conn, compat); err != nil {
				t.Errorf("with its metadata: %v", err)
			}
		})
	}
}

func TestForeignStreamMustTakeBatchesForFsync(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	ctx := testContext(t)
	if _, err := newJS(t, n.Conn).CreateStream(ctx, foreignLog()); err != nil {
		t.Fatal(err)
	}
	c := testConfig()
	c.Durability = jetstream.Fsync
	err := jetstream.EnsureTopology(ctx, n.Conn, c)
	if !errors.Is(err, jetstream.ErrTopology) || !strings.Contains(err.Error(), "allow_atomic false, we need true") {
		t.Errorf("error %v", err)
	}
}

func TestSubjectsTakenByAnotherStreamAreAnError(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	ctx := testContext(t)
	if _, err := newJS(t, n.Conn).CreateStream(ctx, natsjs.StreamConfig{Name: "OTHER", Subjects: []string{"mqtt.a"}}); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.EnsureTopology(ctx, n.Conn, testConfig()); err == nil || !strings.Contains(err.Error(), "stream MQTT") {
		t.Errorf("error %v", err)
	}
}
