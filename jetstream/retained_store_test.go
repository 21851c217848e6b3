package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

func retained(sequence uint64, topic, payload string) sessions.Entry {
	m := jetstreamtest.Message(topic, payload)
	m.Retain = true
	m.PublishedAt = time.Now().UTC()
	return sessions.Entry{Position: sessions.Position{Sequence: sequence}, Message: m}
}

// put writes entries over whatever is there.
func put(t testing.TB, s sessions.RetainedStore, entries ...sessions.Entry) {
	t.Helper()
	sink := make(jetstreamtest.Sink, 1)
	for _, e := range entries {
		there, err := s.Load(testContext(t), e.Message.Topic)
		if err != nil {
			t.Fatal(err)
		}
		s.Put(e, there.Revision, sink, 0)
		sink.Must(t)
	}
}

// allRetained is what a start finds: by topic, what is retained and what others have removed.
func allRetained(t testing.TB, s sessions.RetainedStore) map[string]sessions.Retained {
	t.Helper()
	all := make(map[string]sessions.Retained)
	_, err := s.Each(testContext(t), func(w sessions.Retained) {
		if _, twice := all[w.Message.Topic]; twice {
			t.Errorf("%q is visited twice", w.Message.Topic)
		}
		all[w.Message.Topic] = w
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRetainedMessagesComeBackWhole(t *testing.T) {
	_, s := newStorage(t)
	topics := []string{"a", "a/b", "/", "a//b", "a b", "größe/漢", "$SYS/x", "a.b", "KV-Operation", strings.Repeat("é/", 500), strings.Repeat("é/", 499) + "é"}
	want := make(map[string]sessions.Entry)
	for i, topic := range topics {
		e := retained(uint64(i+1), topic, fmt.Sprint("payload ", i))
		e.Message.QoS = mqttcodec.QoS(i % 3)
		e.Message.Properties.UserProperties = []mqttcodec.UserProperty{{Key: "KV-Operation", Value: "PURGE"}, {Key: "Nats-TTL", Value: "1"}, {Key: "k", Value: topic}}
		put(t, s.Retained(), e)
		want[topic] = e
	}
	got := allRetained(t, s.Retained())
	if len(got) != len(want) {
		t.Errorf("%d retained messages, want %d", len(got), len(want))
	}
	for topic, w := range want {
		g, ok := got[topic]
		if !ok {
			t.Errorf("%q is missing", topic)
			continue
		}
		if g.Sequence != w.Sequence || !g.Time.Equal(w.Message.PublishedAt) || string(g.Message.Payload) != string(w.Message.Payload) ||
			g.Message.QoS != w.Message.QoS || !g.Message.Retain || fmt.Sprint(g.Message.Properties) != fmt.Sprint(w.Message.Properties) {
			t.Errorf("%q: got %+v %+v", topic, g, g.Message)
		}
	}
	if s.Stats().InvalidRetained.Load()+s.Stats().InvalidHeaders.Load() != 0 {
		t.Error("something was passed over")
	}
}

func TestRetainedMessageIsReplacedAndCleared(t *testing.T) {
	_, s := newStorage(t)
	put(t, s.Retained(), retained(1, "a", "1"), retained(2, "b", "1"), retained(3, "a", "2"), retained(4, "b", ""), retained(5, "c", ""))
	all := allRetained(t, s.Retained())
	if len(all) != 1 || string(all["a"].Message.Payload) != "2" || all["a"].Sequence != 3 {
		t.Errorf("retained %+v", all)
	}
	put(t, s.Retained(), retained(6, "b", "2"))
	if all := allRetained(t, s.Retained()); len(all) != 2 || string(all["b"].Message.Payload) != "2" {
		t.Errorf("retained %+v", all)
	}
}

func TestKVClientsReadAndWriteRetainedMessages(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	put(t, s.Retained(), retained(1, "a/b", "hello"), retained(2, "gone", "x"))
	put(t, s.Retained(), retained(3, "gone", ""))
	kv, err := newJS(t, n.Conn).KeyValue(ctx, "mqtt_retained")
	if err != nil {
		t.Fatal(err)
	}
	if entry, err := kv.Get(ctx, "a.b"); err != nil || string(entry.Value()) != "hello" {
		t.Errorf("get: %v, %v", entry, err)
	}
	if _, err := kv.Get(ctx, "gone"); !errors.Is(err, natsjs.ErrKeyNotFound) {
		t.Errorf("get of what was cleared: %v", err)
	}
	if _, err := kv.PutString(ctx, "from.nats", "hi"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a/b", "x=2e", "x=-0123"} {
		if _, err := kv.PutString(ctx, key, "no topic"); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Delete(ctx, "a.b"); err != nil {
		t.Fatal(err)
	}
	all := allRetained(t, s.Retained())
	if w := all["from/nats"]; len(all) != 2 || !w.Foreign() || string(w.Message.Payload) != "hi" || w.Message.QoS != 1 || w.Time.IsZero() {
		t.Errorf("retained %+v", all)
	}
	if w := all["a/b"]; !w.Foreign() || len(w.Message.Payload) > 0 {
		t.Errorf("what was deleted is %+v", w)
	}
	if got := s.Stats().InvalidRetained.Load(); got != 3 {
		t.Errorf("%d invalid keys were counted", got)
	}
}

func TestRetainedMessageAndTombstoneEndWithTheirTTL(t *testing.T) {
	t.Parallel()
	n := jetstreamtest.StartNATS(t)
	c := testConfig()
	c.TombstoneTTL = time.Second
	s := openStorage(t, n, c)
	short := retained(1, "short", "x")
	short.Message.Properties.MessageExpirySeconds = mqttcodec.Some(uint32(2))
	late := retained(2, "late", "x")
	late.Message.PublishedAt = time.Now().Add(-time.Hour)
	late.Message.Properties.MessageExpirySeconds = mqttcodec.Some(uint32(10))
	long := retained(3, "long", "x")
	long.Message.Properties.MessageExpirySeconds = mqttcodec.Some(uint32(1000))
	put(t, s.Retained(), short, late, long, retained(4, "cleared", ""))
	sink := make(jetstreamtest.Sink, 1)
	s.Store().SaveRecord("c", []byte("r"), 0, sessions.AtOnce, sink, 0)
	s.Store().Delete("c", sink.Must(t).Sequence, sink, 0)
	deleted := sink.Must(t)
	if all := allRetained(t, s.Retained()); all["short"].Message == nil || all["long"].Message == nil {
		t.Errorf("retained %+v", all)
	}
	ctx := testContext(t)
	js := newJS(t, n.Conn)
	left := func(bucket string) uint64 {
		stream, err := js.Stream(ctx, "KV_"+bucket)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs
	}
	eventually(t, "the bucket holds what lasts", func() bool { return left("mqtt_retained") == 1 && left("mqtt_sessions") == 0 })
	if all := allRetained(t, s.Retained()); len(all) != 1 || all["long"].Message == nil {
		t.Errorf("retained %+v", all)
	}
	// A session that still holds the revision of a marker that has ended can be made again.
	s.Store().SaveRecord("c", []byte("again"), deleted.Sequence, sessions.AtOnce, sink, 0)
	sink.Must(t)
	if stored, err := s.Store().Load(ctx, "c"); err != nil || string(stored.Record) != "again" {
		t.Errorf("stored %+v, %v", stored, err)
	}
}
