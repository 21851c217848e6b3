package jetstream_test

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// TestJournalWithoutRecordIsNobodys: a kill between the two halves of a deletion leaves such a journal.
func TestJournalWithoutRecordIsNobodys(t *testing.T) {
	_, s := newStorage(t)
	ctx := testContext(t)
	sink := make(jetstreamtest.Sink, 2)
	s.Store().SaveJournal("c", []byte("left behind"), 0, sink, 1)
	sink.Must(t)
	if stored, err := s.Store().Load(ctx, "c"); err != nil || stored.Journal != nil || stored.JournalRevision != 0 {
		t.Fatalf("stored %+v, %v", stored, err)
	}
	s.Store().SaveRecord("c", []byte("r"), 0, sink, 2)
	if r := sink.Must(t); r.Token != 2 {
		t.Errorf("result %+v", r)
	}
	if stored, err := s.Store().Load(ctx, "c"); err != nil || string(stored.Record) != "r" || stored.Journal != nil {
		t.Fatalf("stored %+v, %v", stored, err)
	}
	s.Store().SaveJournal("c", []byte("j"), 0, sink, 3)
	sink.Must(t)
	s.Store().SaveJournal("c", []byte("of a late owner"), 0, sink, 4)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrConflict) || r.Token != 4 {
		t.Errorf("result %+v", r)
	}
}

func TestRecordsThatAreNotOursArePassedOver(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	js := newJS(t, n.Conn)
	kv, err := js.KeyValue(ctx, "mqtt_sessions")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(ctx, "stranger", "x"); err != nil {
		t.Fatal(err)
	}
	other := nats.NewMsg("$KV.mqtt_sessions.c")
	other.Header = nats.Header{"Dunlin-Client-Id": {"d"}}
	if _, err := js.PublishMsg(ctx, other); err != nil {
		t.Fatal(err)
	}
	if err := s.Store().Each(ctx, func(stored sessions.Stored) { t.Errorf("visited %+v", stored) }); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().InvalidRecords.Load(); got != 2 {
		t.Errorf("%d invalid records were counted", got)
	}
	for _, id := range []string{"stranger", "c"} {
		if stored, err := s.Store().Load(ctx, id); !errors.Is(err, sessions.ErrRejected) {
			t.Errorf("%s: stored %+v, %v", id, stored, err)
		}
	}
}

func TestKVClientsSeeDeletedSessions(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	sink := make(jetstreamtest.Sink, 1)
	s.Store().SaveRecord("c.1", []byte("r"), 0, sink, 1)
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
