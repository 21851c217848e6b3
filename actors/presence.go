package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dunlin/sessions"
)

const (
	// maxPresence bounds the clients whose presence waits to be written. Overflow policy: that of others is left out, and made
	// good for when there is room, by a look through the bucket and at who is here.
	maxPresence = 1 << 16
	// maxPresenceWrites bounds the writes under way: what sessions have to write waits behind no more than those.
	maxPresenceWrites = 256
	// presenceRetry is how long nothing is written when storage did not take a write.
	presenceRetry = time.Second
)

// presence writes into its bucket who is online, behind what it tells of: of each client the newest state, with one write in
// flight. Safe for concurrent use.
type presence struct {
	// store is nil when presence is not kept.
	store      sessions.PresenceStore
	node, boot string
	stats      *Stats
	log        *slog.Logger
	// lacking has a token when some were left out that nobody has seen to, room when there may be room for who waits for it.
	lacking, room chan struct{}

	// mu guards the fields below it.
	mu      sync.Mutex
	clients map[string]*presenceWrite
	byToken map[uint64]presenceToken
	token   uint64
	// queue are the clients that wait for a write, in order.
	queue  []string
	paused bool
	// pauses counts those since storage last took a write.
	pauses int
}

// presenceWrite is what is to be written, or is being written, of one client.
type presenceWrite struct {
	state sessions.Presence
	// expect, if not 0, is the revision that alone is to be replaced; shown, if not nil, knows that for a client that is offline.
	expect uint64
	shown  *shownPresence
	// writing: a write is in flight. waits: the state is newer than what it writes.
	writing, waits bool
}

// presenceToken says what a write in flight is of.
type presenceToken struct {
	clientID string
	shown    *shownPresence
}

// shownPresence is what was written of a client when it came.
type shownPresence struct {
	sessions.Presence
	// revision is that of the last write, 0 while none was answered. That the client has gone replaces it and nothing else: the client
	// may have come to another node meanwhile, or this one was taken for dead. Guarded by presence.mu.
	revision uint64
}

func newPresence(store sessions.PresenceStore, cfg *Config, stats *Stats, log *slog.Logger) *presence {
	return &presence{
		store: store, node: cfg.Node, boot: cfg.Sessions.Boot, stats: stats, log: log,
		lacking: make(chan struct{}, 1), room: make(chan struct{}, 1),
		clients: map[string]*presenceWrite{}, byToken: map[uint64]presenceToken{},
	}
}

// kept reports whether presence is kept at all.
func (p *presence) kept() bool { return p.store != nil }

// put writes the state of a client that came as shown. It does not wait.
func (p *presence) put(state sessions.Presence, shown *shownPresence) {
	state.Version, state.Node, state.Boot = sessions.PresenceVersion, p.node, p.boot
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[state.ClientID] == nil && len(p.clients) >= maxPresence {
		p.stats.presenceLeftOut.Add(1)
		signal(p.lacking)
		return
	}
	p.enter(state, 0, shown)
}

// amend replaces what is stored of a client, if it still has a revision and nothing newer is on its way.
func (p *presence) amend(state sessions.Presence, revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[state.ClientID] == nil {
		p.enter(state, revision, nil)
	}
}

// enter has a state written. mu is held.
func (p *presence) enter(state sessions.Presence, expect uint64, shown *shownPresence) {
	w := p.clients[state.ClientID]
	if w == nil {
		w = &presenceWrite{}
		p.clients[state.ClientID] = w
	}
	w.state, w.expect, w.shown = state, expect, shown
	if !w.waits {
		w.waits = true
		if !w.writing {
			p.queue = append(p.queue, state.ClientID)
		}
	}
	p.write()
}

// write starts the writes for which there is room. mu is held: the store answers from its own goroutines, later.
func (p *presence) write() {
	for len(p.queue) > 0 && len(p.byToken) < maxPresenceWrites && !p.paused {
		clientID := p.queue[0]
		p.queue = p.queue[1:]
		w := p.clients[clientID]
		w.writing, w.waits = true, false
		p.token++
		p.byToken[p.token] = presenceToken{clientID, w.shown}
		if w.shown != nil && w.state.State == sessions.Offline {
			w.expect = w.shown.revision
		}
		p.store.Put(w.state, w.expect, p, p.token)
	}
}

// Stored implements sessions.Sink.
func (p *presence) Stored(r sessions.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clientID, shown := p.byToken[r.Token].clientID, p.byToken[r.Token].shown
	delete(p.byToken, r.Token)
	w := p.clients[clientID]
	w.writing = false
	switch {
	case r.Err == nil:
		p.pauses = 0
		if shown != nil {
			shown.revision = r.Sequence
		}
	case errors.Is(r.Err, sessions.ErrConflict): // who has written meanwhile knew better
	case errors.Is(r.Err, sessions.ErrRejected):
		p.log.Error("presence of a client refused by its bucket", "client", clientID, "err", r.Err)
		p.stats.presenceLeftOut.Add(1)
	default:
		w.waits = true
		p.pause(r.Err)
	}
	if w.waits {
		p.queue = append(p.queue, clientID)
	} else if delete(p.clients, clientID); len(p.clients) < maxPresenceWrites {
		signal(p.room)
	}
	p.write()
}

// pause stops writing for a while. mu is held.
func (p *presence) pause(err error) {
	if p.paused {
		return
	}
	p.paused = true
	if p.pauses++; p.pauses&(p.pauses-1) == 0 { // 1, 2, 4, 8 …: storage may be away for long
		p.log.Warn("presence of clients not written; trying again", "attempt", p.pauses, "clients", len(p.clients), "err", err)
	}
	time.AfterFunc(presenceRetry, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.paused = false
		p.write()
	})
}

// pending is how many clients' presence is not written.
func (p *presence) pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.clients)
}

// awaitRoom waits until little is to be written.
func (p *presence) awaitRoom(ctx context.Context) error {
	for p.pending() >= maxPresenceWrites {
		select {
		case <-p.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// awaitLack waits until some were left out and there is room for them.
func (p *presence) awaitLack(ctx context.Context) error {
	select {
	case <-p.lacking:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := p.awaitRoom(ctx); err != nil {
		return err
	}
	select {
	case <-p.lacking: // more were meanwhile
	default:
	}
	return nil
}

// awaitWritten waits until everything is written.
func (p *presence) awaitWritten(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.pending() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("presence of %d clients not written: %w", p.pending(), ctx.Err())
		}
	}
	return nil
}

// signal puts a token into a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
