package jetstreamtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dunlin/sessions"
)

// StoreContract tests what every sessions.Store promises. open makes an empty store.
func StoreContract(t *testing.T, open func(testing.TB) sessions.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, sessions.Store)
	}{
		{"AbsentSessionLoadsEmpty", testAbsent},
		{"SavedDocumentsAreLoaded", testSaved},
		{"StaleRevisionConflicts", testStale},
		{"DeletedSessionCanBeMadeAgain", testDeleted},
		{"DeletedAndAbsentAreTheSame", testDeletedUnknown},
		{"JournalLeftBehindIsReplaced", testLeftBehind},
		{"DeleteOfAnotherRevisionConflicts", testDeleteStale},
		{"AnyClientIDIsStored", testAnyClientID},
		{"EachVisitsRecordsOnly", testEach},
		{"CheckpointsAreKeptByBoot", testCheckpoints},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, open(t))
		})
	}
}

func load(t *testing.T, s sessions.Store, clientID string) sessions.Stored {
	t.Helper()
	stored, err := s.Load(t.Context(), clientID)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func testAbsent(t *testing.T, s sessions.Store) {
	stored := load(t, s, "nobody")
	if stored.ClientID != "nobody" || stored.Record != nil || stored.Journal != nil || stored.RecordRevision != 0 || stored.JournalRevision != 0 {
		t.Errorf("stored %+v", stored)
	}
}

func testSaved(t *testing.T, s sessions.Store) {
	sink := make(Sink, 2)
	s.SaveRecord("c", []byte("r1"), 0, sessions.AtOnce, sink, 1)
	record := sink.Must(t)
	s.SaveJournal("c", []byte("j1"), 0, sessions.AtOnce, sink, 2)
	journal := sink.Must(t)
	if record.Token != 1 || journal.Token != 2 {
		t.Errorf("tokens %d %d", record.Token, journal.Token)
	}
	stored := load(t, s, "c")
	if string(stored.Record) != "r1" || string(stored.Journal) != "j1" || stored.RecordRevision != record.Sequence || stored.JournalRevision != journal.Sequence {
		t.Errorf("stored %+v", stored)
	}
	s.SaveRecord("c", []byte("r2"), record.Sequence, sessions.Soon, sink, 3)
	record = sink.Must(t)
	stored = load(t, s, "c")
	if string(stored.Record) != "r2" || string(stored.Journal) != "j1" || stored.RecordRevision != record.Sequence {
		t.Errorf("stored %+v", stored)
	}
}

func testStale(t *testing.T, s sessions.Store) {
	sink := make(Sink, 4)
	s.SaveRecord("c", []byte("r1"), 0, sessions.AtOnce, sink, 1)
	first := sink.Must(t).Sequence
	s.SaveRecord("c", []byte("r2"), first, sessions.AtOnce, sink, 2)
	sink.Must(t)
	type save func(string, []byte, uint64, sessions.Urgency, sessions.Sink, uint64)
	for name, save := range map[string]save{"record": s.SaveRecord, "journal": s.SaveJournal} {
		for _, expect := range []uint64{first, first + 1000} {
			save("c", []byte("late"), expect, sessions.AtOnce, sink, 3)
			if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrConflict) || r.Token != 3 {
				t.Errorf("%s over revision %d: %+v", name, expect, r)
			}
		}
	}
	s.SaveJournal("c", []byte("j1"), 0, sessions.AtOnce, sink, 4)
	journal := sink.Must(t).Sequence
	s.SaveJournal("c", []byte("late"), 0, sessions.AtOnce, sink, 4)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrConflict) {
		t.Errorf("journal over nothing: %+v", r)
	}
	if stored := load(t, s, "c"); string(stored.Journal) != "j1" || stored.JournalRevision != journal {
		t.Errorf("stored %+v", stored)
	}
	s.SaveRecord("c", []byte("late"), 0, sessions.AtOnce, sink, 4)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrConflict) {
		t.Errorf("record over nothing: %+v", r)
	}
	if stored := load(t, s, "c"); string(stored.Record) != "r2" {
		t.Errorf("stored %+v", stored)
	}
}

func testDeleted(t *testing.T, s sessions.Store) {
	sink := make(Sink, 2)
	var record, journal uint64
	for round := range 3 {
		s.SaveRecord("c", fmt.Appendf(nil, "r%d", round), record, sessions.AtOnce, sink, 1)
		record = sink.Must(t).Sequence
		if round != 1 { // a session may never write a journal
			s.SaveJournal("c", []byte("j"), journal, sessions.AtOnce, sink, 2)
			sink.Must(t)
		}
		s.Delete("c", record, sink, 3)
		deleted := sink.Must(t)
		if deleted.Token != 3 {
			t.Errorf("token %d", deleted.Token)
		}
		stored := load(t, s, "c")
		if stored.Record != nil || stored.Journal != nil || stored.RecordRevision != deleted.Sequence || stored.JournalRevision != deleted.JournalSequence {
			t.Fatalf("round %d: stored %+v after %+v", round, stored, deleted)
		}
		record, journal = stored.RecordRevision, stored.JournalRevision
	}
}

// testDeletedUnknown: who knows that there is no session need not know that there was one.
func testDeletedUnknown(t *testing.T, s sessions.Store) {
	sink := make(Sink, 2)
	for round := range 3 {
		s.SaveRecord("c", fmt.Appendf(nil, "r%d", round), 0, sessions.AtOnce, sink, 1)
		record := sink.Must(t)
		s.SaveJournal("c", fmt.Appendf(nil, "j%d", round), 0, sessions.AtOnce, sink, 2)
		sink.Must(t)
		if stored := load(t, s, "c"); string(stored.Record) != fmt.Sprint("r", round) || string(stored.Journal) != fmt.Sprint("j", round) {
			t.Fatalf("round %d: stored %+v", round, stored)
		}
		s.Delete("c", record.Sequence, sink, 3)
		sink.Must(t)
	}
}

func testDeleteStale(t *testing.T, s sessions.Store) {
	sink := make(Sink, 2)
	s.SaveRecord("c", []byte("r1"), 0, sessions.AtOnce, sink, 1)
	first := sink.Must(t).Sequence
	s.SaveRecord("c", []byte("r2"), first, sessions.AtOnce, sink, 1)
	sink.Must(t)
	s.SaveJournal("c", []byte("j1"), 0, sessions.AtOnce, sink, 1)
	sink.Must(t)
	s.Delete("c", first, sink, 2)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrConflict) {
		t.Errorf("delete: %+v", r)
	}
	if stored := load(t, s, "c"); string(stored.Record) != "r2" || string(stored.Journal) != "j1" {
		t.Errorf("stored %+v", stored)
	}
}

// clientIDs are identifiers that a storage's names may trip over.
var clientIDs = []string{
	"a", "A", "a.b", "a/b", "a b", "*", ">", "=", "=2E", "ü", "漢字", "a\r\nNats-Rollup: all", " edge ", "\t", "%41", "\x7f",
	strings.Repeat("x", 200), strings.Repeat("x", 201), strings.Repeat("x", 202), strings.Repeat("é", 100), strings.Repeat("é", 101),
}

func testAnyClientID(t *testing.T, s sessions.Store) {
	sink := make(Sink, len(clientIDs))
	for i, id := range clientIDs {
		s.SaveRecord(id, []byte("record of "+id), 0, sessions.AtOnce, sink, uint64(i))
	}
	for range clientIDs {
		sink.Must(t)
	}
	for _, id := range clientIDs {
		if stored := load(t, s, id); string(stored.Record) != "record of "+id {
			t.Errorf("%q: stored %q", id, stored.Record)
		}
	}
	visited := make(map[string]string)
	if err := s.Each(t.Context(), func(stored sessions.Stored) { visited[stored.ClientID] = string(stored.Record) }); err != nil {
		t.Fatal(err)
	}
	for _, id := range clientIDs {
		if visited[id] != "record of "+id {
			t.Errorf("%q: visited %q", id, visited[id])
		}
	}
}

func testEach(t *testing.T, s sessions.Store) {
	const n = 1500
	sink := make(Sink, 2*n)
	revisions := make(map[string]uint64)
	for i := range n {
		s.SaveRecord(fmt.Sprint("client-", i), fmt.Appendf(nil, "%d", i), 0, sessions.AtOnce, sink, uint64(i))
		s.SaveJournal(fmt.Sprint("client-", i), []byte("journal"), 0, sessions.AtOnce, sink, n)
	}
	for range 2 * n {
		if r := sink.Must(t); r.Token < n {
			revisions[fmt.Sprint("client-", r.Token)] = r.Sequence
		}
	}
	for i := range 100 {
		s.Delete(fmt.Sprint("client-", i), revisions[fmt.Sprint("client-", i)], sink, 0)
		sink.Must(t)
	}
	visited := make(map[string]bool)
	err := s.Each(t.Context(), func(stored sessions.Stored) {
		if visited[stored.ClientID] || stored.Journal != nil || "client-"+string(stored.Record) != stored.ClientID || stored.RecordRevision != revisions[stored.ClientID] {
			t.Errorf("visited %+v", stored)
		}
		visited[stored.ClientID] = true
	})
	if err != nil || len(visited) != n-100 {
		t.Errorf("visited %d records, %v", len(visited), err)
	}
}

func testCheckpoints(t *testing.T, s sessions.Store) {
	ctx := t.Context()
	at := time.Unix(1700000000, 123456789).UTC()
	for i := range 3 {
		for _, boot := range []string{"boot.1", "boot 2"} {
			c := sessions.Checkpoint{Boot: boot, Time: at, Position: sessions.Position{Sequence: uint64(i), Time: at}}
			if err := s.SaveCheckpoint(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(boots ...string) {
		t.Helper()
		all, err := s.Checkpoints(ctx)
		if err != nil || len(all) != len(boots) {
			t.Fatalf("checkpoints %+v, %v", all, err)
		}
		for i, c := range all {
			if c.Boot != boots[i] || c.Position.Sequence != 2 || !c.Time.Equal(at) || !c.Position.Time.Equal(at) {
				t.Errorf("checkpoint %+v", c)
			}
		}
	}
	want("boot.1", "boot 2")
	for range 2 {
		if err := s.DeleteCheckpoint(ctx, "boot.1"); err != nil {
			t.Fatal(err)
		}
	}
	want("boot 2")
}

// A deletion that was cut short leaves a journal. It is nobody's, and in nobody's way; that of the session itself, or one
// whose session is unknown, is another owner's.
func testLeftBehind(t *testing.T, s sessions.Store) {
	journal := func(incarnation string) []byte {
		return append([]byte{1, 0, byte(len(incarnation))}, incarnation...)
	}
	record, err := json.Marshal(sessions.Record{Format: 2, ClientID: "c", Incarnation: "n2"})
	if err != nil {
		t.Fatal(err)
	}
	sink := make(Sink, 2)
	refused := func(incarnation string) {
		t.Helper()
		s.SaveJournal("c", journal(incarnation), 0, sessions.AtOnce, sink, 1)
		if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrConflict) || r.Token != 1 {
			t.Errorf("journal of %q: %+v", incarnation, r)
		}
	}
	s.SaveJournal("c", journal("n1"), 0, sessions.AtOnce, sink, 1)
	sink.Must(t)
	if stored := load(t, s, "c"); stored.Journal != nil || stored.JournalRevision != 0 {
		t.Errorf("stored %+v", stored)
	}
	refused("n2")
	s.SaveRecord("c", record, 0, sessions.AtOnce, sink, 1)
	sink.Must(t)
	refused("n3")
	s.SaveJournal("c", journal("n2"), 0, sessions.AtOnce, sink, 2)
	if r := sink.Must(t); r.Token != 2 {
		t.Errorf("result %+v", r)
	}
	if stored := load(t, s, "c"); !bytes.Equal(stored.Journal, journal("n2")) {
		t.Errorf("stored %+v", stored)
	}
	refused("n2")
}
