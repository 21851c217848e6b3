package actors

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"dunlin/sessions"
)

// mortal is the storage of one node of several: when the node is killed nothing that it still writes is stored, or answered. While it
// is cut off nothing is stored, or read, and that is the answer. While it is stopped it cannot even see that: a checkpoint that it
// writes, and a delayed message that it reads, is answered when it goes on.
type mortal struct {
	dead, cut atomic.Bool
	stopped   atomic.Pointer[chan struct{}]
}

// cutOff keeps a node from storage and from the other nodes, or ends that.
func (c *testCluster) cutOff(b *testBroker, cut bool) {
	b.mortal.cut.Store(cut)
	c.neighbours.Deafen(b.cfg.Sessions.Boot, cut)
}

// stop stops what a node does by itself; goOn ends that.
func (b *testBroker) stop() {
	stopped := make(chan struct{})
	b.mortal.stopped.Store(&stopped)
}

func (b *testBroker) goOn() {
	if stopped := b.mortal.stopped.Swap(nil); stopped != nil {
		close(*stopped)
	}
}

// write carries out a write, if the node lives and is not cut off.
func (m *mortal) write(to sessions.Sink, token uint64, write func()) {
	switch {
	case m.dead.Load():
	case m.cut.Load():
		go to.Stored(sessions.Result{Token: token, Err: m.err()})
	default:
		write()
	}
}

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

// wait waits until the node goes on, if it is stopped.
func (m *mortal) wait() {
	if stopped := m.stopped.Load(); stopped != nil {
		<-*stopped
	}
}

func (m *mortal) err() error {
	if m.dead.Load() || m.cut.Load() {
		return fmt.Errorf("%w: the node is dead, or cut off", sessions.ErrUnavailable)
	}
	return nil
}

type mortalStore struct {
	sessions.Store
	m *mortal
}

func (s *mortalStore) SaveRecord(clientID string, record []byte, expect uint64, urgency sessions.Urgency, to sessions.Sink, token uint64) {
	s.m.write(to, token, func() { s.Store.SaveRecord(clientID, record, expect, urgency, to, token) })
}

func (s *mortalStore) SaveJournal(clientID string, journal []byte, expect uint64, urgency sessions.Urgency, to sessions.Sink, token uint64) {
	s.m.write(to, token, func() { s.Store.SaveJournal(clientID, journal, expect, urgency, to, token) })
}

func (s *mortalStore) Delete(clientID string, expect uint64, to sessions.Sink, token uint64) {
	s.m.write(to, token, func() { s.Store.Delete(clientID, expect, to, token) })
}

func (s *mortalStore) Load(ctx context.Context, clientID string) (sessions.Stored, error) {
	if err := s.m.err(); err != nil {
		return sessions.Stored{}, err
	}
	return s.Store.Load(ctx, clientID)
}

func (s *mortalStore) Checkpoints(ctx context.Context) ([]sessions.Checkpoint, error) {
	if err := s.m.err(); err != nil {
		return nil, err
	}
	return s.Store.Checkpoints(ctx)
}

func (s *mortalStore) SaveCheckpoint(ctx context.Context, c sessions.Checkpoint) error {
	s.m.wait()
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
	l.m.write(to, token, func() { l.Log.Append(m, id, to, token) })
}

type mortalRetained struct {
	sessions.RetainedStore
	m *mortal
}

func (r *mortalRetained) Put(e sessions.Entry, expect uint64, to sessions.Sink, token uint64) {
	r.m.write(to, token, func() { r.RetainedStore.Put(e, expect, to, token) })
}

type mortalDelayed struct {
	sessions.Delayed
	m *mortal
}

func (d *mortalDelayed) Put(m *sessions.Message, delay time.Duration, id string, to sessions.Sink, token uint64) {
	d.m.write(to, token, func() { d.Delayed.Put(m, delay, id, to, token) })
}

func (d *mortalDelayed) Load(ctx context.Context, sequences []uint64) (map[uint64]sessions.DelayedMessage, error) {
	found, err := d.Delayed.Load(ctx, sequences)
	d.m.wait()
	return found, err
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
	p.m.write(to, token, func() { p.PresenceStore.Put(s, expect, to, token) })
}
