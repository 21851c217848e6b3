package actors

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"dunlin/sessions"
)

// mortal is the storage of one node of several: when the node is killed nothing that it still writes is stored, or answered.
type mortal struct{ dead atomic.Bool }

// kill ends the broker as kill -9 would, while other nodes go on with the storage.
func (b *testBroker) kill() {
	b.t.Helper()
	b.ended = true
	b.mortal.dead.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.Shutdown(ctx) // it can store nothing any more
}

// of makes the parts of storage those of a node that can be killed.
func (m *mortal) of(parts Storage) Storage {
	parts.Store, parts.Log = &mortalStore{parts.Store, m}, &mortalLog{parts.Log, m}
	parts.Retained, parts.Delayed, parts.Shared = &mortalRetained{parts.Retained, m}, &mortalDelayed{parts.Delayed, m}, &mortalShared{parts.Shared, m}
	if parts.Presence != nil {
		parts.Presence = &mortalPresence{parts.Presence, m}
	}
	return parts
}

func (m *mortal) err() error {
	if m.dead.Load() {
		return fmt.Errorf("%w: the node is dead", sessions.ErrUnavailable)
	}
	return nil
}

type mortalStore struct {
	sessions.Store
	m *mortal
}

func (s *mortalStore) SaveRecord(clientID string, record []byte, expect uint64, to sessions.Sink, token uint64) {
	if !s.m.dead.Load() {
		s.Store.SaveRecord(clientID, record, expect, to, token)
	}
}

func (s *mortalStore) SaveJournal(clientID string, journal []byte, expect uint64, to sessions.Sink, token uint64) {
	if !s.m.dead.Load() {
		s.Store.SaveJournal(clientID, journal, expect, to, token)
	}
}

func (s *mortalStore) Delete(clientID string, expect uint64, to sessions.Sink, token uint64) {
	if !s.m.dead.Load() {
		s.Store.Delete(clientID, expect, to, token)
	}
}

func (s *mortalStore) SaveCheckpoint(ctx context.Context, c sessions.Checkpoint) error {
	if err := s.m.err(); err != nil {
		return err
	}
	return s.Store.SaveCheckpoint(ctx, c)
}

func (s *mortalStore) DeleteCheckpoint(ctx context.Context, boot string) error {
	if err := s.m.err(); err != nil {
		return err
	}
	return s.Store.DeleteCheckpoint(ctx, boot)
}

type mortalLog struct {
	sessions.Log
	m *mortal
}

func (l *mortalLog) Append(m *sessions.Message, id string, to sessions.Sink, token uint64) {
	if !l.m.dead.Load() {
		l.Log.Append(m, id, to, token)
	}
}

type mortalRetained struct {
	sessions.RetainedStore
	m *mortal
}

func (r *mortalRetained) Put(e sessions.Entry, expect uint64, to sessions.Sink, token uint64) {
	if !r.m.dead.Load() {
		r.RetainedStore.Put(e, expect, to, token)
	}
}

type mortalDelayed struct {
	sessions.Delayed
	m *mortal
}

func (d *mortalDelayed) Put(m *sessions.Message, delay time.Duration, id string, to sessions.Sink, token uint64) {
	if !d.m.dead.Load() {
		d.Delayed.Put(m, delay, id, to, token)
	}
}

func (d *mortalDelayed) Remove(ctx context.Context, sequences []uint64) ([]uint64, error) {
	if err := d.m.err(); err != nil {
		return nil, err
	}
	return d.Delayed.Remove(ctx, sequences)
}

type mortalShared struct {
	sessions.SharedQueues
	m *mortal
}

func (q *mortalShared) Remove(ctx context.Context, share string) error {
	if err := q.m.err(); err != nil {
		return err
	}
	return q.SharedQueues.Remove(ctx, share)
}

type mortalPresence struct {
	sessions.PresenceStore
	m *mortal
}

func (p *mortalPresence) Put(s sessions.Presence, expect uint64, to sessions.Sink, token uint64) {
	if !p.m.dead.Load() {
		p.PresenceStore.Put(s, expect, to, token)
	}
}
