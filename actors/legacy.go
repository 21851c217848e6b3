package actors

import (
	"context"
	"slices"
	"sync"
	"time"

	"dunlin/sessions"
)

// legacy is what a boot has left behind that does not answer: its checkpoint, and the identities of the messages above it, by
// the incarnation of the session that stored them. It is read once for all its sessions.
type legacy struct {
	broker *Broker

	// mu guards the fields below it; who holds it reads.
	mu sync.Mutex
	// checkpoint has no time until it was read, if the boot has just come.
	checkpoint sessions.Checkpoint
	// upTo is the sequence up to which the log was read, 0 when nothing was.
	upTo uint64
	ids  map[string][]string
}

// inherit is what a boot has left behind, nil when that is in the documents of its sessions.
func (c *cluster) inherit(boot string) *legacy {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[boot]
	if p == nil {
		return nil
	}
	if p.legacy == nil {
		p.legacy = &legacy{broker: c.broker, checkpoint: p.checkpoint, ids: map[string][]string{}}
	}
	return p.legacy
}

// recovery is what there is to know of a session of the boot, up to now.
func (l *legacy) recovery(ctx context.Context, incarnation string) (r sessions.Recovery, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.checkpoint.Time.IsZero() {
		if err := l.readCheckpoint(ctx); err != nil {
			return r, err
		}
	}
	note := func(id string) {
		if of := sessions.IncarnationOf(id); of != "" {
			l.ids[of] = append(l.ids[of], id)
		}
	}
	if l.upTo == 0 && l.broker.delayed != nil { // first: from there they go into the log
		if err := l.broker.storage.Delayed.Each(ctx, func(e sessions.DelayedEntry) { note(e.ID) }); err != nil {
			return r, err
		}
	}
	last, err := l.broker.storage.Log.Last(ctx)
	if err != nil {
		return r, err
	}
	from := max(l.upTo, l.checkpoint.Position.Sequence)
	if last.Sequence > from {
		if err := l.broker.storage.Log.Scan(ctx, from, last.Sequence, func(e sessions.Entry) { note(e.ID) }); err != nil {
			return r, err
		}
	}
	l.upTo = max(from, last.Sequence)
	return l.knownLocked(incarnation), nil
}

// readCheckpoint reads what the boot has written before it came. mu is held.
func (l *legacy) readCheckpoint(ctx context.Context) error {
	checkpoints, err := l.broker.storage.Store.Checkpoints(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(checkpoints, func(c sessions.Checkpoint) bool { return c.Boot == l.checkpoint.Boot })
	if i < 0 { // it was settled meanwhile: the documents tell all
		l.checkpoint.Time, l.checkpoint.Position = time.Now(), l.broker.router.Head()
		return nil
	}
	l.checkpoint = checkpoints[i]
	return nil
}

// lastSeen is when the boot was last known to be alive.
func (l *legacy) lastSeen() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.checkpoint.Time
}

// known is what recovery has found out about a session up to now.
func (l *legacy) known(r *sessions.Record) sessions.Recovery {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.knownLocked(r.Incarnation)
}

func (l *legacy) knownLocked(incarnation string) sessions.Recovery {
	return sessions.Recovery{
		Checkpoints: map[string]*sessions.Checkpoint{l.checkpoint.Boot: &l.checkpoint}, IDs: l.ids[incarnation], Now: l.checkpoint.Time,
	}
}
