package actors

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"dunlin/sessions"
)

// recovered is what a start found out about what earlier boots left behind. Immutable after readStorage, but for ids.
type recovered struct {
	// checkpoints are the last words of earlier boots.
	checkpoints map[string]*sessions.Checkpoint
	// ids are the identities of messages above the checkpoints, by the incarnation of the session that stored them: what
	// the log knows and a session's documents may not. They are dropped when all those sessions are settled.
	ids atomic.Pointer[map[string][]string]
	// retained is the revision up to which the bucket of retained messages was read.
	retained uint64
	// started is when sessions count as left whose owner left no checkpoint.
	started time.Time
}

// left reports whether a boot had written a checkpoint, and no other since, when it was found dead at the start.
func (r *recovered) left(c sessions.Checkpoint) bool {
	known := r.checkpoints[c.Boot]
	return known != nil && known.Time.Equal(c.Time)
}

// found is what a start has to enter into the directory.
type found struct {
	// checkpoints are those of boots that had died before.
	checkpoints []sessions.Checkpoint
	sessions    []storedSession
}

type storedSession struct {
	clientID string
	leftAt   time.Time
	deadline time.Time
	// unsettled: its owner died with it.
	unsettled, queued bool
	// shares are its shared subscriptions.
	shares []string
}

// readStorage reads checkpoints, records and retained messages, and the end of the log that earlier boots may not have worked
// off: from the lowest checkpoint on.
func (b *Broker) readStorage(ctx context.Context) (found, error) {
	var f found
	var err error
	if f.checkpoints, err = b.storage.Store.Checkpoints(ctx); err != nil {
		return f, err
	}
	last, err := b.storage.Log.Last(ctx)
	if err != nil {
		return f, err
	}
	if b.storage.Nodes != nil {
		if f.checkpoints, err = b.meetNodes(ctx, f.checkpoints, last); err != nil {
			return f, err
		}
	}
	b.recovered.checkpoints, b.recovered.started = map[string]*sessions.Checkpoint{}, time.Now()
	b.recovered.ids.Store(&map[string][]string{})
	if b.delayed != nil {
		if err := b.delayed.read(ctx, b.identity); err != nil {
			return f, err
		}
	}
	from, replaced := last.Sequence, false
	for i := range f.checkpoints {
		c := &f.checkpoints[i]
		position, moved, err := b.storage.Log.Resolve(ctx, c.Position)
		if err != nil {
			return f, err
		}
		if moved {
			b.log.Error("the log is not the one it was: it was cut, restored or made anew; going on from the same time",
				"boot", c.Boot, "sequence_was", c.Position.Sequence, "sequence_is", position.Sequence)
			c.Position, replaced = position, true
		}
		if !b.cluster.alive(c.Boot) {
			b.recovered.checkpoints[c.Boot] = c
		}
		from = min(from, c.Position.Sequence)
	}
	retained, removed, err := b.readRetained(ctx, last, replaced)
	if err != nil {
		return f, err
	}
	b.router = newRouter(b.storage.Log, &b.stats, retained, b.retainer, last, b.cfg.RingBytes)
	b.router.queuesQoS0, b.router.leads = b.cfg.Sessions.QueueQoS0, b.cluster.leading.Load
	rescan := func(e sessions.Entry) { b.rescan(e, removed) }
	if err := b.storage.Log.Scan(ctx, from, last.Sequence, rescan); err != nil {
		return f, err
	}
	f.sessions, err = b.readSessions(ctx, func(owner string) bool { return !b.cluster.alive(owner) }, b.recoveryOf)
	f.checkpoints = slices.DeleteFunc(f.checkpoints, func(c sessions.Checkpoint) bool { return b.cluster.alive(c.Boot) })
	return f, err
}

// meetNodes makes this boot known by a first checkpoint, and then the nodes to each other: of two that start at the same time at
// least one finds the other. The checkpoint stays where the log was not worked off by earlier boots.
func (b *Broker) meetNodes(ctx context.Context, earlier []sessions.Checkpoint, last sessions.Position) ([]sessions.Checkpoint, error) {
	first := last
	for _, c := range earlier {
		if c.Position.Sequence < first.Sequence {
			first = c.Position
		}
	}
	if err := b.storage.Store.SaveCheckpoint(ctx, b.checkpoint(first)); err != nil {
		return nil, err
	}
	checkpoints, err := b.storage.Store.Checkpoints(ctx)
	checkpoints = slices.DeleteFunc(checkpoints, func(c sessions.Checkpoint) bool { return c.Boot == b.cfg.Sessions.Boot })
	b.cluster.meet(ctx, checkpoints)
	return checkpoints, err
}

// readRetained reads the bucket of retained messages into the index, and when others removed what is not in it any more. A
// sequence of another log means nothing.
func (b *Broker) readRetained(ctx context.Context, last sessions.Position, replaced bool) (index *retainedIndex, removed map[string]time.Time, err error) {
	index, removed = newRetainedIndex(b.cfg.MaxRetained), map[string]time.Time{}
	b.recovered.retained, err = b.storage.Retained.Each(ctx, func(w sessions.Retained) {
		if w.Foreign() && len(w.Message.Payload) == 0 {
			removed[w.Message.Topic] = w.Time
			return
		}
		if replaced || w.Sequence > last.Sequence {
			w.Sequence = 0
		}
		b.retainer.adopt(w, index)
	})
	return index, removed, err
}

// rescan looks at one entry that earlier boots may not have worked off.
func (b *Broker) rescan(e sessions.Entry, removed map[string]time.Time) {
	if e.Message == nil {
		return
	}
	b.identity(e.ID)
	if b.delayed != nil && e.ID != "" {
		b.delayed.found(e.ID)
	}
	if e.Message.Retain && !removed[e.Message.Topic].After(e.Time) && !b.router.overtaken(e) {
		b.router.retain(e)
	}
}

// identity notes that a message is stored under an identity, which a session may have given it.
func (b *Broker) identity(id string) {
	if incarnation := sessions.IncarnationOf(id); incarnation != "" {
		ids := *b.recovered.ids.Load()
		ids[incarnation] = append(ids[incarnation], id)
	}
}

// readSessions lists what is stored of sessions whose owner does not go on with them. A record that cannot be read is passed
// over: its client gets a new session.
func (b *Broker) readSessions(ctx context.Context, ends func(owner string) bool, recoveryOf func(*sessions.Record) sessions.Recovery) ([]storedSession, error) {
	var list []storedSession
	err := b.storage.Store.Each(ctx, func(stored sessions.Stored) {
		r, err := stored.DecodeRecord()
		if err != nil {
			b.stats.brokenRecords.Add(1)
			b.log.Error("session record passed over", "client", stored.ClientID, "err", err)
			list = append(list, storedSession{clientID: stored.ClientID}) // known, so that a CONNECT replaces it
			return
		}
		if !ends(r.Owner) {
			return
		}
		recovery := recoveryOf(r)
		ids := recovery.IDs
		left := sessions.LeftAt(r, recovery)
		s := storedSession{
			clientID: r.ClientID, leftAt: left,
			unsettled: !r.TellsWhenLeft(left) || len(ids) > 0 || len(r.Shares()) > 0, // it says which shared messages it holds
			shares:    r.Shares(),
			queued:    len(r.QueuedFilters(b.cfg.Sessions.QueueQoS0)) > 0,
			deadline:  r.ExpiresAt(left),
		}
		if will := r.WillAt(left); !will.IsZero() && (s.deadline.IsZero() || will.Before(s.deadline)) {
			s.deadline = will
		}
		list = append(list, s)
	})
	slices.SortFunc(list, func(a, b storedSession) int {
		return cmp.Or(a.leftAt.Compare(b.leftAt), cmp.Compare(a.clientID, b.clientID))
	})
	return list, err
}

// recoveryOf is what the start found out about a session.
func (b *Broker) recoveryOf(r *sessions.Record) sessions.Recovery {
	return sessions.Recovery{Checkpoints: b.recovered.checkpoints, IDs: (*b.recovered.ids.Load())[r.Incarnation], Now: b.recovered.started}
}

// enter makes the stored sessions known: their deadlines, and their queues, the most recent ones first. Sessions whose
// owner died are settled: what recovery knows about them becomes durable, so that the next start need not find it out.
func (b *Broker) enter(f found) {
	unsettled := b.enterSessions(f.sessions)
	b.task(func() {
		if b.settle(unsettled) {
			b.recovered.ids.Store(&map[string][]string{})
			close(b.settled)
		}
	})
}

// enterSessions makes stored sessions known, and returns those that are to be settled.
func (b *Broker) enterSessions(list []storedSession) (unsettled []string) {
	for _, s := range list {
		b.shares.restore(s.shares, s.clientID)
		deadline := s.deadline
		if s.unsettled {
			unsettled = append(unsettled, s.clientID)
			deadline = time.Time{}
		}
		b.directory.know(s.clientID, deadline, !s.unsettled)
		if s.queued && !s.unsettled {
			b.parking.park(s.clientID)
		}
	}
	return unsettled
}

// settleBoot settles the sessions of a boot that died while this one runs.
func (b *Broker) settleBoot(ctx context.Context, boot string) error {
	left := b.cluster.inherit(boot)
	if left == nil {
		return nil
	}
	if _, err := left.recovery(ctx, ""); err != nil {
		return err
	}
	list, err := b.readSessions(ctx, func(owner string) bool { return owner == boot }, left.known)
	if err != nil {
		return err
	}
	if !b.settle(b.enterSessions(list)) {
		return ctx.Err()
	}
	if b.presence.kept() {
		if err := b.amendPresence(ctx, false); err != nil {
			return err
		}
	}
	if err := b.storage.Store.DeleteCheckpoint(ctx, boot); err != nil {
		return err
	}
	b.cluster.forget(boot)
	return b.shares.removeOrphans(ctx)
}

// maxSettling is how many sessions are settled at a time.
const maxSettling = 256

// settle wakes sessions whose owner died and waits until each is durable and parked, or has a client again. It reports
// whether all are; the next start does what is left.
func (b *Broker) settle(clientIDs []string) bool {
	if len(clientIDs) == 0 {
		return true
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var open []string
	for len(clientIDs)+len(open) > 0 {
		open = slices.DeleteFunc(open, func(id string) bool { return b.directory.settled(id) })
		for len(open) < maxSettling && len(clientIDs) > 0 {
			b.directory.wake(clientIDs[0])
			open = append(open, clientIDs[0])
			clientIDs = clientIDs[1:]
		}
		select {
		case <-tick.C:
		case <-b.running.Done():
			return false
		}
		if b.directory.closed.Load() {
			return false
		}
	}
	b.log.Info("sessions of a run that ended settled")
	return true
}

// lead takes up what one node does for all: retained messages that the node before it has not written are above a sequence, and above
// a checkpoint that is stored.
func (b *Broker) lead(ctx context.Context, unwritten uint64) {
	b.log.Info("this node now writes retained messages, and settles the sessions of nodes that are gone")
	for ctx.Err() == nil && b.cluster.leading.Load() {
		err := b.rewriteRetained(ctx, unwritten)
		if err == nil {
			return
		}
		b.log.Warn("retained messages not looked through; trying again", "err", err)
		select {
		case <-time.After(retainAgain):
		case <-ctx.Done():
		}
	}
}

func (b *Broker) rewriteRetained(ctx context.Context, unwritten uint64) error {
	checkpoints, err := b.storage.Store.Checkpoints(ctx)
	if err != nil {
		return err
	}
	upTo := b.router.Head().Sequence
	from := min(upTo, unwritten)
	for _, c := range checkpoints {
		from = min(from, c.Position.Sequence)
	}
	return b.storage.Log.Scan(ctx, from, upTo, func(e sessions.Entry) {
		if e.Message != nil && e.Message.Retain {
			b.router.retainAgain(e)
		}
	})
}

// checkpointEvery is how often the node says that it is alive and how far its sessions' documents are.
const checkpointEvery = time.Second

// keepCheckpoint writes the checkpoint of this boot until the broker stops. Those of earlier boots go once their sessions
// are settled.
func (b *Broker) keepCheckpoint(earlier []sessions.Checkpoint) {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	settled := b.settled
	failures := 0
	for {
		select {
		case <-b.running.Done():
			return
		case <-tick.C:
			began := time.Now() // before: the process may be stopped at any line
			b.cluster.isolate(began)
			err := b.saveCheckpoint(b.running, false)
			if err == nil {
				b.cluster.checkpointTaken(began)
			}
			if err == nil || b.running.Err() != nil {
				failures = 0
				continue
			}
			if failures++; failures&(failures-1) == 0 { // 1, 2, 4, 8 …: storage may be away for long
				b.log.Warn("checkpoint not written", "attempt", failures, "err", err)
			}
		case <-settled:
			settled = nil
			for _, c := range earlier {
				if err := b.storage.Store.DeleteCheckpoint(b.running, c.Boot); err != nil && b.running.Err() == nil {
					b.log.Warn("checkpoint of an earlier run not deleted", "boot", c.Boot, "err", err)
				}
			}
		}
	}
}

// checkpoint is a sign of life of this boot.
func (b *Broker) checkpoint(at sessions.Position) sessions.Checkpoint {
	return sessions.Checkpoint{
		Boot: b.cfg.Sessions.Boot, Node: b.cfg.Node, Since: b.cluster.since, Time: time.Now().UTC(), Position: at,
		Clients: b.connections.len(), Draining: b.cluster.draining.Load(),
	}
}

func (b *Broker) saveCheckpoint(ctx context.Context, released bool) error {
	ctx, cancel := context.WithTimeout(ctx, min(5*time.Second, b.cfg.IsolationTimeout/2))
	defer cancel()
	c := b.checkpoint(b.router.complete())
	c.Released = released
	if b.delayed != nil {
		if upTo := b.delayed.cursor.complete(c.Position.Sequence); upTo < c.Position.Sequence {
			c.Position = sessions.Position{Sequence: upTo}
		}
	}
	return b.storage.Store.SaveCheckpoint(ctx, c)
}
