package jetstream_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// What somebody else wrote under a client's key is handed out for the session to find out that it is none, and replaced; what
// is under no client's key is passed over. [case 186]
func TestRecordsThatAreNotOursArePassedOver(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	js := newJS(t, n.Conn)
	write := func(key string, header nats.Header) {
		t.Helper()
		m := &nats.Msg{Subject: "$KV.mqtt_sessions." + key, Header: header, Data: []byte("x")}
		if _, err := js.PublishMsg(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	write("stranger", nil)
	write("c=2E1", nats.Header{"Dunlin-Client-Id": {"d"}})
	write("no=zz", nil)
	write("a.b", nats.Header{"Dunlin-Client-Id": {"%"}})
	var visited []string
	if err := s.Store().Each(ctx, func(stored sessions.Stored) {
		visited = append(visited, stored.ClientID)
		if _, err := stored.DecodeRecord(); err == nil {
			t.Errorf("it is a record: %s", stored.Record)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"stranger", "c.1"}; !slices.Equal(visited, want) {
		t.Errorf("visited %q, want %q", visited, want)
	}
	if got := s.Stats().InvalidRecords.Load(); got != 2 {
		t.Errorf("%d invalid records were counted", got)
	}
	for _, id := range visited {
		stored, err := s.Store().Load(ctx, id)
		if err != nil || string(stored.Record) != "x" {
			t.Fatalf("%s: stored %+v, %v", id, stored, err)
		}
		sink := make(jetstreamtest.Sink, 1)
		s.Store().SaveRecord(id, []byte("mine"), stored.RecordRevision, sessions.AtOnce, sink, 1)
		sink.Must(t)
	}
}

// Two client identifiers whose keys meet are never taken for one another. [case 184]
func TestRecordOfAnotherClientIsRefused(t *testing.T) {
	n, s := newStorage(t)
	long, other := strings.Repeat("x", 300), strings.Repeat("x", 301)
	m := &nats.Msg{Subject: "$KV.mqtt_sessions." + jetstream.EncodeToken(long), Header: nats.Header{"Dunlin-Client-Id": {other}}, Data: []byte("x")}
	if _, err := newJS(t, n.Conn).PublishMsg(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	if stored, err := s.Store().Load(testContext(t), long); !errors.Is(err, sessions.ErrRejected) {
		t.Errorf("stored %+v, %v", stored, err)
	}
}

func TestKVClientsSeeDeletedSessions(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	sink := make(jetstreamtest.Sink, 1)
	s.Store().SaveRecord("c.1", []byte("r"), 0, sessions.AtOnce, sink, 1)
	record := sink.Must(t)
	kv, err := newJS(t, n.Conn).KeyValue(ctx, "mqtt_sessions")
	if err != nil {
		t.Fatal(err)
	}
	if entry, err := kv.Get(ctx, "c=2E1"); err != nil || string(entry.Value()) != "r" || entry.Revision() != record.Sequence {
		t.Errorf("get: %v, %v", entry, err)
	}
	s.Store().Delete("c.1", record.Sequence, sink, 2)
	sink.Must(t)
	if _, err := kv.Get(ctx, "c=2E1"); !errors.Is(err, natsjs.ErrKeyNotFound) {
		t.Errorf("get of what was deleted: %v", err)
	}
}

func TestStorageThatIsAwayIsNotAbsence(t *testing.T) {
	n, s := newStorage(t)
	n.Stop()
	eventually(t, "the loss is noticed", func() bool { return !n.Conn.IsConnected() })
	if stored, err := s.Store().Load(context.Background(), "c"); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("stored %+v, %v", stored, err)
	}
	if _, _, err := s.Log().Resolve(context.Background(), sessions.Position{Sequence: 1}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("resolve: %v", err)
	}
	if err := s.Store().SaveCheckpoint(context.Background(), sessions.Checkpoint{Boot: "b"}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("checkpoint: %v", err)
	}
	sink := make(jetstreamtest.Sink, 1)
	s.Store().Delete("c", 1, sink, 1)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrUnavailable) || r.Token != 1 {
		t.Errorf("delete: %+v", r)
	}
}
