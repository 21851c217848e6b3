package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"dunlin/sessions"
)

// loading says which session is to be read from storage, and what for.
type loading struct {
	clientID string
	// stamp is that of the client which has connected, 0 when none has. principal is who it is.
	stamp     int64
	principal string
	// scanFrom, if not 0, is where the log may hold messages that the session's documents do not know.
	scanFrom uint64
	// failed: an actor here has given the session up, perhaps while the client was connected.
	failed bool
}

// Why a client is not let in, though the session of its client identifier was found.
var (
	errLater  = errors.New("a client has connected later to another node")
	errDenied = errors.New("the session belongs to another principal")
)

// loadSession reads a session from storage, for a client that has connected also from under the node that has it. A record that
// cannot be read counts as none: the client gets a new session, and it is logged. borrowed: it is another node's until its
// documents are written.
func (b *Broker) loadSession(ctx context.Context, l loading) (s *sessions.Session, borrowed bool, err error) {
	asked := ""
	for {
		stored, err := b.storage.Store.Load(ctx, l.clientID)
		if err != nil {
			return nil, false, err
		}
		if stored.Record == nil {
			return sessions.New(&b.cfg.Sessions, l.clientID, stored), false, nil
		}
		r, err := stored.DecodeRecord()
		if err != nil {
			b.stats.brokenRecords.Add(1)
			b.log.Error("session record cannot be read; the client gets a new session", "client", l.clientID, "err", err)
			return sessions.New(&b.cfg.Sessions, l.clientID, sessions.Stored{
				ClientID: l.clientID, RecordRevision: stored.RecordRevision, JournalRevision: stored.JournalRevision,
			}), false, nil
		}
		if b.cluster.mayBeOwner(r.Owner) && r.Owner != asked {
			release, err := b.cluster.obtain(ctx, r.Owner, l)
			switch {
			case err != nil && !errors.Is(err, sessions.ErrNotFound) && !errors.Is(err, sessions.ErrUnavailable):
				return nil, false, err
			case err == nil:
				asked, l.scanFrom = r.Owner, release.ScanFrom
				continue
			}
		}
		recovery, err := b.cluster.recovery(ctx, r, stored.Journal, asked, b.recoveryOf(r))
		if err != nil {
			return nil, false, err
		}
		s, err = b.restoreSession(ctx, l, stored, r, recovery)
		return s, asked != "" || b.cluster.alive(r.Owner), err
	}
}

// restoreSession makes a session of its documents.
func (b *Broker) restoreSession(
	ctx context.Context, l loading, stored sessions.Stored, r *sessions.Record, recovery sessions.Recovery,
) (*sessions.Session, error) {
	own := b.cfg.Sessions.Boot
	if l.scanFrom > 0 {
		more, err := b.scanIDs(ctx, l.scanFrom-1, r.Incarnation)
		if err != nil {
			return nil, err
		}
		recovery.IDs = append(slices.Clone(recovery.IDs), more...)
	}
	recovery.Now = time.Now()
	if l.failed {
		recovery.Checkpoints = maps.Clone(recovery.Checkpoints)
		recovery.Checkpoints[own] = &sessions.Checkpoint{Boot: own, Time: time.Now()}
	}
	s, err := sessions.Restore(&b.cfg.Sessions, stored, recovery)
	switch {
	case s == nil:
		return nil, fmt.Errorf("restore session %q: %w", l.clientID, err)
	case err != nil:
		b.stats.brokenRecords.Add(1)
		b.log.Error("session journal cannot be read; messages may be delivered again", "client", l.clientID, "err", err)
		err = nil
	}
	if r.Owner != own {
		err = b.reposition(ctx, s)
	}
	return s, err
}

// scanIDs finds the identities of an incarnation among the delayed messages and in the log.
func (b *Broker) scanIDs(ctx context.Context, after uint64, incarnation string) (ids []string, err error) {
	note := func(id string) {
		if sessions.IncarnationOf(id) == incarnation {
			ids = append(ids, id)
		}
	}
	if b.delayed != nil { // first: from there they go into the log
		if err := b.storage.Delayed.Each(ctx, func(e sessions.DelayedEntry) { note(e.ID) }); err != nil {
			return nil, err
		}
	}
	last, err := b.storage.Log.Last(ctx)
	if err != nil {
		return nil, err
	}
	err = b.storage.Log.Scan(ctx, after, last.Sequence, func(e sessions.Entry) { note(e.ID) })
	return ids, err
}

// reposition checks that a session's position still means what it meant to the boot that wrote it.
func (b *Broker) reposition(ctx context.Context, s *sessions.Session) error {
	at := s.Position()
	position, moved, err := b.storage.Log.Resolve(ctx, at)
	if err != nil {
		return err
	}
	if moved {
		b.stats.positionsMoved.Add(1)
		b.log.Warn("position of a session found anew: the log is not the one it was", "client", s.ClientID(),
			"sequence_was", at.Sequence, "sequence_is", position.Sequence)
		s.Reposition(position)
	}
	return nil
}
