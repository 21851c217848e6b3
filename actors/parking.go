package actors

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"dunlin/sessions"
)

// parking makes the durable queues of sessions that went offline: in the background, when they have been offline for a
// moment, at a bounded rate, the most recent ones first, and no more than a maximum, past which the queue parked first
// goes. Without its queue a session loses nothing; plain NATS does not see what waits for it, that is all.
type parking struct {
	broker *Broker
	log    *slog.Logger
	limit  *rate.Limiter
	max    int
	after  time.Duration

	// mu guards the fields below it.
	mu sync.Mutex
	// fresh are client identifiers that went offline just now, queued those to be parked, the most recent one last. made are
	// those with a queue, the oldest first. doomed are those whose queue is to be removed.
	fresh, queued, made, doomed *list.List
	places                      map[string]*place
	// busy is the client identifier that the goroutine is working on. settled is signalled when it is done.
	busy    string
	settled sync.Cond
	closed  bool
	wakeUp  chan struct{}
	done    chan struct{}
}

// place is where a client identifier stands in parking.
type place struct {
	in      *list.List
	element *list.Element
	// due is when one that is fresh is to be parked.
	due time.Time
	// made: there may be a queue, also of one that is to be parked anew.
	made bool
	// taken: a session is using the queue. drop: the queue is to be removed.
	taken, drop bool
}

func newParking(b *Broker) *parking {
	p := &parking{
		broker: b, log: b.log, limit: rate.NewLimiter(rate.Limit(b.cfg.ParkRate), b.cfg.ParkRate), max: b.cfg.MaxParkedQueues,
		after: b.cfg.ParkAfter, fresh: list.New(), queued: list.New(), made: list.New(), doomed: list.New(), places: map[string]*place{},
		wakeUp: make(chan struct{}, 1), done: make(chan struct{}),
	}
	p.settled.L = &p.mu
	return p
}

// place returns the place of a client identifier, made if need be. mu is held.
func (p *parking) place(clientID string) *place {
	pl := p.places[clientID]
	if pl == nil {
		pl = &place{}
		p.places[clientID] = pl
	}
	return pl
}

// move puts a place into a list, or into none. mu is held.
func (p *parking) move(clientID string, pl *place, to *list.List) {
	if pl.in != nil {
		pl.in.Remove(pl.element)
	}
	pl.in, pl.element = to, nil
	pl.made = pl.made || to == p.made
	if to != nil {
		pl.element = to.PushBack(clientID)
	} else if !pl.taken && !pl.drop {
		delete(p.places, clientID)
	}
	p.broker.stats.parkedQueues.Store(int64(p.made.Len()))
}

func (p *parking) wake() {
	select {
	case p.wakeUp <- struct{}{}:
	default:
	}
}

// park has a queue made for a stored session.
func (p *parking) park(clientID string) {
	if p.max == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	pl := p.place(clientID)
	pl.drop, pl.due = false, time.Now().Add(p.after)
	p.move(clientID, pl, p.fresh)
	for p.queued.Len()+p.fresh.Len() > p.max { // those would be the first to go anyway
		from := p.queued
		if from.Len() == 0 {
			from = p.fresh
		}
		clientID := from.Front().Value.(string)
		p.forget(clientID, p.places[clientID])
	}
	if p.fresh.Len() == 1 {
		p.wake() // it does not know when to look
	}
}

// forget gives up one that waits. mu is held.
func (p *parking) forget(clientID string, pl *place) {
	if !pl.made {
		p.move(clientID, pl, nil)
		return
	}
	pl.drop = true
	p.move(clientID, pl, p.doomed)
	p.wake()
}

// close ends the making of queues.
func (p *parking) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.settled.Broadcast()
	for _, waiting := range []*list.List{p.fresh, p.queued} {
		for waiting.Len() > 0 {
			clientID := waiting.Front().Value.(string)
			p.move(clientID, p.places[clientID], nil)
		}
	}
}

// take reserves the queue for a reader. It waits for the goroutine, or another reader, to be through with it.
func (p *parking) take(clientID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && (p.busy == clientID || p.places[clientID] != nil && p.places[clientID].taken) {
		p.settled.Wait()
	}
	pl := p.place(clientID)
	pl.taken, pl.drop = true, false
	p.move(clientID, pl, nil)
}

// release gives a queue back that was taken. It goes on being there until it is dropped or parked again.
func (p *parking) release(clientID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.places[clientID]
	if pl == nil || !pl.taken {
		return
	}
	pl.taken = false
	p.settled.Broadcast()
	switch {
	case pl.drop:
		p.move(clientID, pl, p.doomed)
	case pl.in == nil:
		p.move(clientID, pl, p.made)
	}
	p.wake()
}

// drop has the queue of a session removed, if there is one.
func (p *parking) drop(clientID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := p.places[clientID]
	if pl == nil {
		return
	}
	if pl.taken {
		pl.drop = true // by release
		return
	}
	if (pl.in == p.fresh || pl.in == p.queued) && p.busy != clientID {
		p.forget(clientID, pl)
		return
	}
	pl.drop = true
	p.move(clientID, pl, p.doomed)
	p.wake()
}

// run works until ctx ends.
func (p *parking) run(ctx context.Context) {
	defer close(p.done)
	for {
		clientID, remove, ok := p.next()
		if !ok {
			if !p.sleep(ctx) {
				return
			}
			continue
		}
		p.work(ctx, clientID, remove)
		p.finish(clientID)
		if ctx.Err() != nil {
			return
		}
	}
}

// sleep waits until there may be something to do, and reports whether there may: not when ctx ends.
func (p *parking) sleep(ctx context.Context) bool {
	p.mu.Lock()
	var due <-chan time.Time
	if e := p.fresh.Front(); e != nil {
		due = time.After(time.Until(p.places[e.Value.(string)].due))
	}
	p.mu.Unlock()
	select {
	case <-p.wakeUp:
	case <-due:
	case <-ctx.Done():
		return false
	}
	return true
}

// ripen queues those that have been offline for long enough. mu is held.
func (p *parking) ripen(now time.Time) {
	for e := p.fresh.Front(); e != nil; e = p.fresh.Front() {
		clientID := e.Value.(string)
		pl := p.places[clientID]
		if pl.due.After(now) {
			return
		}
		p.move(clientID, pl, p.queued)
	}
}

// work makes or removes one queue.
func (p *parking) work(ctx context.Context, clientID string, remove bool) {
	if !remove && p.limit.Wait(ctx) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	if remove {
		p.remove(ctx, clientID)
	} else {
		p.make(ctx, clientID)
	}
}

// next picks what to do: a queue to remove, the oldest one when there are too many, else the session parked last.
func (p *parking) next() (clientID string, remove, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ripen(time.Now())
	from, to := p.queued, p.made
	switch {
	case p.doomed.Len() > 0:
		from, to, remove = p.doomed, nil, true
	case p.made.Len() > p.max:
		from, to, remove = p.made, nil, true
	}
	e := from.Front()
	if !remove {
		e = from.Back()
	}
	if e == nil {
		return "", false, false
	}
	clientID = e.Value.(string)
	pl := p.places[clientID]
	pl.drop = remove
	p.move(clientID, pl, to)
	pl.made = !remove
	p.busy = clientID
	return clientID, remove, true
}

func (p *parking) finish(clientID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = ""
	if pl := p.places[clientID]; pl != nil && pl.drop && pl.in == nil {
		pl.drop = false
		if !pl.taken {
			delete(p.places, clientID)
		}
	}
	p.settled.Broadcast()
}

// make makes the queue of a session that is still offline, from what storage holds of it.
func (p *parking) make(ctx context.Context, clientID string) {
	if !p.broker.directory.parked(clientID) {
		return
	}
	filters, after, err := p.queue(ctx, clientID)
	if err == nil && len(filters) > 0 {
		_, err = p.broker.storage.Queues.Open(ctx, clientID, filters, after.Sequence)
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn("queue of an offline session not made: plain NATS does not see it", "client", clientID, "err", err)
	}
}

// queue is what is queued for a session: no filters for nothing.
func (p *parking) queue(ctx context.Context, clientID string) (filters []string, after sessions.Position, err error) {
	if filters, after, ok := p.broker.resting.queue(clientID, &p.broker.cfg.Sessions); ok {
		return filters, after, nil
	}
	s, _, err := p.broker.loadSession(ctx, loading{clientID: clientID})
	if errors.Is(err, errElsewhere) {
		return nil, sessions.Position{}, nil
	}
	if err != nil || s.Absent() {
		return nil, sessions.Position{}, err
	}
	return s.QueuedFilters(), s.Position(), nil
}

func (p *parking) remove(ctx context.Context, clientID string) {
	if err := p.broker.storage.Queues.Remove(ctx, clientID); err != nil && ctx.Err() == nil {
		p.log.Warn("queue of a session not removed", "client", clientID, "err", err)
	}
}
