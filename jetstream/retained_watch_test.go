package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// watch collects what a Watch brings.
type watch struct {
	t testing.TB

	mu      sync.Mutex // guards brought
	brought []sessions.Retained
}

// startWatch watches until the test ends, from what is there now on.
func startWatch(t testing.TB, s sessions.RetainedStore) *watch {
	t.Helper()
	revision, err := s.Each(testContext(t), func(sessions.Retained) {})
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, revision, func(r sessions.Retained) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.brought = append(w.brought, r)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return w
}

// all is what was brought so far.
func (w *watch) all() []sessions.Retained {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.brought[:len(w.brought):len(w.brought)]
}

// until waits until the last write that was brought for a topic has a payload.
func (w *watch) until(topic, payload string) sessions.Retained {
	w.t.Helper()
	var found sessions.Retained
	eventually(w.t, fmt.Sprintf("%s=%q is brought", topic, payload), func() bool {
		found = sessions.Retained{}
		for _, r := range w.all() {
			if r.Message.Topic == topic {
				found = r
			}
		}
		return found.Revision > 0 && string(found.Message.Payload) == payload
	})
	return found
}

func retainedBucket(t testing.TB, nc *nats.Conn) natsjs.KeyValue {
	t.Helper()
	kv, err := newJS(t, nc).KeyValue(testContext(t), "mqtt_retained")
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func kvPut(t testing.TB, kv natsjs.KeyValue, key, value string) {
	t.Helper()
	if _, err := kv.PutString(testContext(t), key, value); err != nil {
		t.Fatal(err)
	}
}

func TestPutReplacesWhatItExpects(t *testing.T) {
	inBothDurabilities(t, func(t *testing.T, open func(testing.TB) *jetstream.Storage) {
		s := open(t).Retained()
		sink := make(jetstreamtest.Sink, 1)
		s.Put(retained(1, "a", "1"), 0, sink, 0)
		first := sink.Must(t).Sequence
		for _, expect := range []uint64{0, first + 1} {
			s.Put(retained(2, "a", "2"), expect, sink, 0)
			if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrConflict) {
				t.Errorf("put over revision %d, while it is %d: %+v", expect, first, r)
			}
		}
		s.Put(retained(3, "a", ""), first, sink, 0)
		cleared := sink.Must(t).Sequence
		for topic, want := range map[string]sessions.Retained{"a": {Entry: sessions.Entry{Position: sessions.Position{Sequence: 3}}, Revision: cleared}, "never": {}} {
			if got, err := s.Load(testContext(t), topic); err != nil || got.Revision != want.Revision || got.Sequence != want.Sequence || got.Foreign() {
				t.Errorf("%s: loaded %+v, %v, want %+v", topic, got, err, want)
			}
		}
	})
}

func TestWatchBringsWhatOthersWrite(t *testing.T) {
	n, s := newStorage(t)
	kv := retainedBucket(t, stranger(t, n))
	kvPut(t, kv, "before", "x")
	put(t, s.Retained(), retained(1, "a/b", "ours"))
	w := startWatch(t, s.Retained())
	begin := time.Now()
	kvPut(t, kv, "a.b", "theirs")
	r := w.until("a/b", "theirs")
	if !r.Foreign() || r.Message.QoS != 1 || !r.Message.Retain || r.Time.Sub(begin).Abs() > time.Minute {
		t.Errorf("brought %+v %+v", r, r.Message)
	}
	put(t, s.Retained(), retained(2, "a/b", "ours again"))
	if err := kv.Delete(testContext(t), "a.b"); err != nil {
		t.Fatal(err)
	}
	deleted := w.until("a/b", "")
	if !deleted.Foreign() || deleted.Revision <= r.Revision {
		t.Errorf("brought %+v", deleted)
	}
	kvPut(t, kv, "c", "1")
	w.until("c", "1")
	if err := kv.Purge(testContext(t), "c"); err != nil {
		t.Fatal(err)
	}
	w.until("c", "")
	kvPut(t, kv, "d", "") // an empty message removes, as it does in MQTT
	kvPut(t, kv, "d", "1")
	w.until("d", "1")
	last := uint64(0)
	for _, r := range w.all() {
		if r.Revision < last || !r.Foreign() || r.Message.Topic == "before" {
			t.Errorf("brought %+v %+v behind revision %d", r, r.Message, last)
		}
		last = r.Revision
	}
}

func TestWatchHonoursHeadersAndCountsWhatMakesNoSense(t *testing.T) {
	n, s := newStorage(t)
	nc := stranger(t, n)
	w := startWatch(t, s.Retained())
	for _, m := range []*nats.Msg{
		{Subject: "$KV.mqtt_retained.=2a", Data: []byte("x")}, // the one spelling is =2A
		{Subject: "$KV.mqtt_retained.a/b", Data: []byte("x")},
		{Subject: "$KV.mqtt_retained.=2B.x", Data: []byte("x")}, // a wildcard
		{Subject: "$KV.mqtt_retained.x=-00000000000000000000000000000000", Header: nats.Header{"Mqtt-Topic": {"other"}}},
		{Subject: "$KV.mqtt_retained.h", Data: []byte("payload"), Header: nats.Header{
			"Mqtt-Content-Type": {"text/plain"}, "Mqtt-Qos": {"7"}, "Mqtt-Message-Expiry": {"x"}, "Nats-TTL": {"90m"},
			"Mqtt-Log-Sequence": {"none"}, "Unit": {"mm"},
		}},
		{Subject: "$KV.mqtt_retained.e", Data: []byte("payload"), Header: nats.Header{"Mqtt-Message-Expiry": {"7"}, "Nats-TTL": {"60"}, "Mqtt-Qos": {"2"}}},
	} {
		if _, err := newJS(t, nc).PublishMsg(testContext(t), m); err != nil {
			t.Fatal(err)
		}
	}
	p := w.until("h", "payload").Message
	if p.QoS != 1 || p.Properties.ContentType != mqttcodec.Some("text/plain") || p.Properties.MessageExpirySeconds != mqttcodec.Some(uint32(5400)) ||
		fmt.Sprint(p.Properties.UserProperties) != "[{Unit mm}]" {
		t.Errorf("brought %+v", p)
	}
	if p := w.until("e", "payload").Message; p.QoS != 2 || p.Properties.MessageExpirySeconds != mqttcodec.Some(uint32(7)) {
		t.Errorf("brought %+v", p)
	}
	if got := s.Stats().InvalidRetained.Load(); got != 4 {
		t.Errorf("%d keys that are no topics were counted", got)
	}
	if got := s.Stats().InvalidHeaders.Load(); got != 2 {
		t.Errorf("%d headers that make no sense were counted", got)
	}
}

// What others write among much of our own is brought, in either order, and nothing of our own is.
func TestWatchBringsNothingOfOurOwn(t *testing.T) {
	n, s := newStorage(t)
	kv := retainedBucket(t, stranger(t, n))
	w := startWatch(t, s.Retained())
	const writes = 2000
	sink := make(jetstreamtest.Sink, writes)
	go func() {
		for i := range writes {
			s.Retained().Put(retained(uint64(i+1), fmt.Sprint("ours/", i), "x"), 0, sink, 0)
		}
	}()
	for i := range 50 {
		kvPut(t, kv, fmt.Sprint("theirs.", i), "x")
	}
	for range writes {
		sink.Must(t)
	}
	kvPut(t, kv, "theirs.last", "x")
	w.until("theirs/last", "x")
	topics := map[string]bool{}
	for _, r := range w.all() {
		topics[r.Message.Topic] = true
		if !r.Foreign() {
			t.Errorf("brought %s, which is ours", r.Message.Topic)
		}
	}
	if len(topics) != 51 {
		t.Errorf("%d topics of others were brought, want 51", len(topics))
	}
}

// A watch outlives its server, and finds what was written while it did not hear.
func TestWatchSurvivesARestart(t *testing.T) {
	n, s := newStorage(t)
	w := startWatch(t, s.Retained())
	for round := range 3 {
		kv := retainedBucket(t, stranger(t, n))
		kvPut(t, kv, "running", fmt.Sprint(round))
		w.until("running", fmt.Sprint(round))
		n.Stop()
		n.Start()
		kv = retainedBucket(t, stranger(t, n)) // it is there before our own connection is back
		kvPut(t, kv, "back", fmt.Sprint(round))
		w.until("back", fmt.Sprint(round))
	}
}

// What no hint told of is found by looking. Our own connection does not hear what it says, so there is none.
func TestWatchLooksForWhatItDidNotHear(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	c := testConfig()
	c.Heartbeat = 100 * time.Millisecond
	s := openStorage(t, n, c)
	w := startWatch(t, s.Retained())
	kvPut(t, retainedBucket(t, n.Conn), "a", "unheard")
	w.until("a", "unheard")
	put(t, s.Retained(), retained(1, "b", "ours"))
	js := newJS(t, n.Conn)
	if err := js.DeleteStream(testContext(t), "KV_mqtt_retained"); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.EnsureTopology(testContext(t), n.Conn, c); err != nil {
		t.Fatal(err)
	}
	kvPut(t, retainedBucket(t, n.Conn), "a", "in another bucket")
	w.until("a", "in another bucket")
}
