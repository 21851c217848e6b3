package sessionstest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"dunlin/sessions"
)

// Store implements sessions.Store.
type Store struct{ s *Storage }

var _ sessions.Store = (*Store)(nil)

// markerFlag is set in the revision of a deletion marker, of which a write may expect that it has ended.
const markerFlag = 1 << 63

// storeState is what the store holds, under the storage's mu.
type storeState struct {
	records, journals documents
	// checkpoints are in the order in which they were last written.
	checkpoints []sessions.Checkpoint
}

func newStoreState() storeState {
	return storeState{
		records:  documents{docs: map[string]document{}},
		journals: documents{docs: map[string]document{}},
	}
}

func (s *storeState) clone() storeState {
	return storeState{
		records:     documents{s.records.last, maps.Clone(s.records.docs)},
		journals:    documents{s.journals.last, maps.Clone(s.journals.docs)},
		checkpoints: slices.Clone(s.checkpoints),
	}
}

func (s *storeState) expireMarkers() {
	for _, d := range []documents{s.records, s.journals} {
		maps.DeleteFunc(d.docs, func(_ string, doc document) bool { return doc.marker() })
	}
}

// documents are the documents of one kind. Revisions count writes of all of them.
type documents struct {
	last uint64
	docs map[string]document
}

// document is one document; nil data is a deletion marker.
type document struct {
	data     []byte
	revision uint64
}

// absent reports whether a revision is that of nothing.
func absent(revision uint64) bool { return revision == 0 || revision&markerFlag != 0 }

func (d document) marker() bool { return d.data == nil && d.revision > 0 }

// seen is the document's revision as a reader gets it.
func (d document) seen() uint64 {
	if d.marker() {
		return d.revision | markerFlag
	}
	return d.revision
}

// put replaces the document with the revision expect; nil data leaves a deletion marker. Nothing and a marker are the same.
func (d *documents) put(clientID string, data []byte, expect uint64) sessions.Result {
	have := d.docs[clientID].seen()
	if have != expect && !(absent(have) && absent(expect)) {
		return sessions.Result{Err: fmt.Errorf("%w: revision is %d, not %d", sessions.ErrConflict, have, expect)}
	}
	d.last++
	d.docs[clientID] = document{data: data, revision: d.last}
	return sessions.Result{Sequence: d.docs[clientID].seen()}
}

// Load implements sessions.Store.
func (s *Store) Load(ctx context.Context, clientID string) (sessions.Stored, error) {
	if ctx.Err() != nil {
		return sessions.Stored{}, fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
	}
	if err := s.s.read(Operation{Kind: Read, ClientID: clientID}); err != nil {
		return sessions.Stored{}, err
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	record, journal := s.s.store.records.docs[clientID], s.s.store.journals.docs[clientID]
	if record.data == nil && journal.data != nil { // its session's deletion was cut short; see SaveJournal
		journal = document{}
	}
	return sessions.Stored{
		ClientID: clientID,
		Record:   record.data, RecordRevision: record.seen(),
		Journal: journal.data, JournalRevision: journal.seen(),
	}, nil
}

// SaveRecord implements sessions.Store.
func (s *Store) SaveRecord(clientID string, record []byte, expect uint64, _ sessions.Urgency, to sessions.Sink, token uint64) {
	record = append([]byte{}, record...)
	s.s.submit(write{
		Operation: Operation{Kind: SaveRecord, ClientID: clientID}, to: to, token: token,
		apply: func() sessions.Result { return s.s.store.records.put(clientID, record, expect) },
	})
}

// SaveJournal implements sessions.Store. The journal that a session before has left behind counts as none.
func (s *Store) SaveJournal(clientID string, journal []byte, expect uint64, _ sessions.Urgency, to sessions.Sink, token uint64) {
	journal = append([]byte{}, journal...)
	s.s.submit(write{
		Operation: Operation{Kind: SaveJournal, ClientID: clientID}, to: to, token: token,
		apply: func() sessions.Result {
			there, record := s.s.store.journals.docs[clientID], s.s.store.records.docs[clientID]
			if absent(expect) && there.data != nil && sessions.LeftBehind(there.data, record.data, journal) {
				expect = there.revision
			}
			return s.s.store.journals.put(clientID, journal, expect)
		},
	})
}

// Delete implements sessions.Store.
func (s *Store) Delete(clientID string, expect uint64, to sessions.Sink, token uint64) {
	s.s.submit(write{
		Operation: Operation{Kind: Delete, ClientID: clientID}, to: to, token: token,
		apply: func() sessions.Result {
			r := s.s.store.records.put(clientID, nil, expect)
			journal := s.s.store.journals.docs[clientID]
			if r.Err == nil && journal.data != nil {
				r.JournalSequence = s.s.store.journals.put(clientID, nil, journal.revision).Sequence
			} else {
				r.JournalSequence = journal.seen()
			}
			return r
		},
	})
}

// Each implements sessions.Store.
func (s *Store) Each(_ context.Context, visit func(sessions.Stored)) error {
	if err := s.s.read(Operation{Kind: Read}); err != nil {
		return err
	}
	s.s.mu.Lock()
	var all []sessions.Stored
	for clientID, d := range s.s.store.records.docs {
		if !d.marker() {
			all = append(all, sessions.Stored{ClientID: clientID, Record: d.data, RecordRevision: d.revision})
		}
	}
	s.s.mu.Unlock()
	slices.SortFunc(all, func(a, b sessions.Stored) int { return int(a.RecordRevision) - int(b.RecordRevision) })
	for _, stored := range all {
		visit(stored)
	}
	return nil
}

// SaveCheckpoint implements sessions.Store.
func (s *Store) SaveCheckpoint(ctx context.Context, c sessions.Checkpoint) error {
	o := Operation{Kind: SaveCheckpoint}
	if err := s.s.read(o); err != nil {
		return err
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if s.s.dead {
		return fmt.Errorf("%w: crashed", sessions.ErrUnavailable)
	}
	s.s.store.dropCheckpoint(c.Boot)
	s.s.store.checkpoints = append(s.s.store.checkpoints, c)
	return ctx.Err()
}

// Checkpoints implements sessions.Store.
func (s *Store) Checkpoints(context.Context) ([]sessions.Checkpoint, error) {
	if err := s.s.read(Operation{Kind: Read}); err != nil {
		return nil, err
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	return slices.Clone(s.s.store.checkpoints), nil
}

// DeleteCheckpoint implements sessions.Store.
func (s *Store) DeleteCheckpoint(_ context.Context, boot string) error {
	if err := s.s.read(Operation{Kind: SaveCheckpoint}); err != nil {
		return err
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	s.s.store.dropCheckpoint(boot)
	return nil
}

func (s *storeState) dropCheckpoint(boot string) {
	s.checkpoints = slices.DeleteFunc(s.checkpoints, func(c sessions.Checkpoint) bool { return c.Boot == boot })
}
