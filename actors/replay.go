package actors

import (
	"context"
	"fmt"

	"dunlin/sessions"
)

// A replay takes part in the shared read of the log, as a session that catches up and never has: at the end of the log it
// waits there for what comes.

// findReplays finds out on a goroutine of its own where replays begin, if there may be so many.
func (a *sessionActor) findReplays(e sessions.FindReplays) {
	found := make([]sessions.ReplayFound, len(e.Starts))
	for i, start := range e.Starts {
		if !a.beginReplay(start) {
			found[i].Err = fmt.Errorf("%w: more replays than this node may have", sessions.ErrRejected)
		}
	}
	a.broker.work(func(ctx context.Context) {
		for i, start := range e.Starts {
			if found[i].Err == nil {
				found[i].After, found[i].Err = a.broker.findReplay(ctx, start)
			}
		}
		a.ref.post(&replaysFound{e, found})
	})
}

// onReplaysFound hands over where replays begin.
func (a *sessionActor) onReplaysFound(m *replaysFound) {
	for i, found := range m.found {
		if found.Err != nil {
			a.endReplay(m.effect.Starts[i].Filter)
		}
	}
	a.step(sessions.ReplaysFound{Token: m.effect.Token, Found: m.found})
}

// findReplay is the position behind which a replay begins.
func (b *Broker) findReplay(ctx context.Context, start sessions.ReplayStart) (sessions.Position, error) {
	switch {
	case start.Sequence > 0:
		last, err := b.storage.Log.Last(ctx)
		if err == nil && start.Sequence > last.Sequence+1 {
			err = fmt.Errorf("%w: the log ends with message %d", sessions.ErrNotFound, last.Sequence)
		}
		return sessions.Position{Sequence: start.Sequence - 1}, err
	case !start.Time.IsZero():
		return b.storage.Log.Before(ctx, start.Time)
	}
	first, err := b.storage.Log.First(ctx)
	return sessions.Position{Sequence: max(first, 1) - 1}, err
}

// beginReplay takes a place among the replays of the node. It returns false when there is none.
func (a *sessionActor) beginReplay(start sessions.ReplayStart) bool {
	a.endReplay(start.Filter) // begun in the same SUBSCRIBE
	if a.broker.replays.Add(1) > int64(a.broker.cfg.MaxReplays) {
		a.broker.replays.Add(-1)
		return false
	}
	if a.replays == nil {
		a.replays = map[string]*laggard{}
	}
	a.replays[start.Filter] = &laggard{filters: []string{start.Topics}, follows: true, answer: func(m *caughtUp) {
		a.ref.post(sessions.ReplayRead{Token: m.fetched.Token, Filter: start.Filter, Entries: m.fetched.Entries, UpTo: m.fetched.UpTo})
	}}
	return true
}

// readReplay has the log read on for a replay.
func (a *sessionActor) readReplay(e sessions.ReadReplay) {
	a.broker.catchUp.fetch(a.replays[e.Filter], sessions.Fetch{Token: e.Token, After: e.After, Max: e.Max}, nil)
}

// endReplay lets go of a replay, if there is one.
func (a *sessionActor) endReplay(filter string) {
	l := a.replays[filter]
	if l == nil {
		return
	}
	delete(a.replays, filter)
	a.broker.catchUp.forget(l)
	a.broker.replays.Add(-1)
}

// endReplays lets go of all.
func (a *sessionActor) endReplays() {
	for filter := range a.replays {
		a.endReplay(filter)
	}
}
