package actors

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dunlin/sessions"
)

// legacy is what a boot has left behind that does not answer: its checkpoint, and the identities of the messages above it, by
// the incarnation of the session that stored them. It is read once for all its sessions.
type legacy struct {
	broker *Broker
	boot   string

	// turn has a token of the one who reads, or looks at the fields below it.
	turn chan struct{}
	// checkpoint has no time until it was read, if the boot has just come.
	checkpoint sessions.Checkpoint
	// read is when the last reading began that came to its end, upTo the sequence up to which the log was read, 0 when nothing was.
	read time.Time
	upTo uint64
	ids  map[string][]string
}

func newLegacy(b *Broker, c sessions.Checkpoint) *legacy {
	return &legacy{broker: b, boot: c.Boot, checkpoint: c, turn: make(chan struct{}, 1), ids: map[string][]string{}}
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
		p.legacy = newLegacy(c.broker, p.checkpoint)
	}
	return p.legacy
}

// recovery is what there is to know of a session of the boot, up to now. Those who wait for their turn share one reading: all
// clients of a boot may come at once.
func (l *legacy) recovery(ctx context.Context, incarnation string) (r sessions.Recovery, err error) {
	asked := time.Now()
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return r, fmt.Errorf("%w: read what boot %s has left behind: %w", sessions.ErrUnavailable, l.boot, ctx.Err())
	}
	if l.read.After(asked) {
		return l.knownInTurn(incarnation), nil
	}
	began := time.Now()
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
	l.upTo, l.read = max(from, last.Sequence), began
	return l.knownInTurn(incarnation), nil
}

// readCheckpoint reads what the boot has written before it came. It is the caller's turn.
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
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.checkpoint.Time
}

// known is what recovery has found out about a session up to now.
func (l *legacy) known(r *sessions.Record) sessions.Recovery {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.knownInTurn(r.Incarnation)
}

func (l *legacy) knownInTurn(incarnation string) sessions.Recovery {
	c := l.checkpoint
	return sessions.Recovery{Checkpoints: map[string]*sessions.Checkpoint{c.Boot: &c}, IDs: l.ids[incarnation], Now: c.Time}
}
