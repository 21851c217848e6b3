package jetstream_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// results is a sink that a test reads from.
type results chan sessions.Result

func (r results) Stored(result sessions.Result) { r <- result }

// next waits for one result.
func (r results) next(t testing.TB) sessions.Result {
	t.Helper()
	select {
	case result := <-r:
		return result
	case <-time.After(20 * time.Second):
		t.Fatal("no result")
		return sessions.Result{}
	}
}

// must waits for one result that is no error.
func (r results) must(t testing.TB) sessions.Result {
	t.Helper()
	result := r.next(t)
	if result.Err != nil {
		t.Fatalf("result: %v", result.Err)
	}
	return result
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func testConfig() jetstream.Config {
	c := jetstream.DefaultConfig()
	c.MaxBytes = 1 << 30
	c.Heartbeat = 200 * time.Millisecond
	c.Logger = slog.New(slog.DiscardHandler)
	return c
}

// openStorage opens storage on a server and ends it with the test.
func openStorage(t testing.TB, n *jetstreamtest.NATS, c jetstream.Config) *jetstream.Storage {
	t.Helper()
	s, err := jetstream.Open(testContext(t), n.Conn, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newStorage(t testing.TB) (*jetstreamtest.NATS, *jetstream.Storage) {
	t.Helper()
	n := jetstreamtest.StartNATS(t)
	return n, openStorage(t, n, testConfig())
}

// message is a QoS 1 message.
func message(topic, payload string) *sessions.Message {
	return &sessions.Message{Topic: topic, Payload: []byte(payload), QoS: 1}
}

// appendAll appends messages one after another and returns the sequence of the last.
func appendAll(t testing.TB, log sessions.Log, messages ...*sessions.Message) uint64 {
	t.Helper()
	sink := make(results, len(messages))
	for i, m := range messages {
		log.Append(m, "", sink, uint64(i))
	}
	var last uint64
	for range messages {
		last = max(last, sink.must(t).Sequence)
	}
	return last
}

func TestSmoke(t *testing.T) {
	_, s := newStorage(t)
	ctx, cancel := context.WithCancel(testContext(t))
	const n = 5000
	got := make(chan struct{})
	var entries []sessions.Entry
	done := make(chan error)
	go func() {
		done <- s.Log().Tail(ctx, 0, func(batch []sessions.Entry) {
			if entries = append(entries, batch...); len(entries) == n {
				close(got)
			}
		})
	}()
	sink := make(results, n)
	for i := range n {
		m := message("a/b", fmt.Sprint(i))
		if i%2 == 0 {
			m.Properties.UserProperties = []mqttcodec.UserProperty{{Key: "k", Value: "v"}}
		}
		s.Log().Append(m, "", sink, uint64(i))
	}
	for i := range n {
		if r := sink.must(t); r.Token != uint64(i) || r.Sequence != uint64(i+1) {
			t.Fatalf("result %d: %+v", i, r)
		}
	}
	<-got
	for i, e := range entries {
		if e.Sequence != uint64(i+1) || string(e.Message.Payload) != fmt.Sprint(i) || e.Message.Topic != "a/b" {
			t.Fatalf("entry %d: %+v", i, e)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ctx = testContext(t)
	q, err := s.Queues().Open(ctx, "client/1", []string{"a/#", "+/b"}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := q.Pending(ctx); err != nil || p != n-100 {
		t.Fatalf("pending %d %v", p, err)
	}
	seen := 0
	for {
		es, err := q.Fetch(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			seen++
			if e.Sequence != uint64(100+seen) {
				t.Fatalf("%d: %+v", seen, e.Position)
			}
		}
	}
	if seen != n-100 {
		t.Fatal(seen)
	}
	if err := s.Queues().Remove(ctx, "client/1"); err != nil {
		t.Fatal(err)
	}
	s.Store().SaveRecord("c", []byte("record"), 0, sink, 1)
	s.Store().SaveJournal("c", []byte("journal"), 0, sink, 1)
	sink.must(t)
	sink.must(t)
	st, err := s.Store().Load(ctx, "c")
	if err != nil || string(st.Record) != "record" || string(st.Journal) != "journal" {
		t.Fatal(st, err)
	}
	s.Store().SaveRecord("c", []byte("x"), 0, sink, 1)
	if r := sink.next(t); r.Err == nil {
		t.Fatal(r)
	}
	s.Store().Delete("c", st.RecordRevision, sink, 9)
	if r := sink.must(t); r.Token != 9 {
		t.Fatal(r)
	}
}
