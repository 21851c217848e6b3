package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// shares are the shared subscriptions of the node's sessions. (4.8.2) A share, known by its filter as subscribed, is there
// while a session subscribes to it, connected or not; with the last one go its queue and what was in it.
type shares struct {
	queues sessions.SharedQueues
	stats  *Stats
	// live has the node take its turn in what others publish. Set before the first client is let in.
	live *live
	log  *slog.Logger
	// max bounds the shares that clients make.
	max int
	// slots bound the queues that are made, looked through or removed at a time.
	slots chan struct{}
	// task runs a goroutine of a share until the broker stops.
	task func(func(ctx context.Context))
	// cluster knows of other nodes, which may have members.
	cluster *cluster
	// settled is closed when it is known which messages the sessions of before hold.
	settled <-chan struct{}

	// mu guards the fields below it. It is taken before the mu of a share.
	mu   sync.RWMutex
	open map[string]*share
	// tree finds the shares of a topic, for QoS 0.
	tree sessions.FilterTree[*share]
	// removing are the shares whose queue another node may be removing, and until when. It has asked whether anybody here has them.
	removing map[string]time.Time
	// of are the shares that a client identifier subscribes to.
	of map[string]map[string]struct{}
}

// maxShareCalls bounds the queues of shares that are made, looked through or removed at a time: storage takes them one by
// one, and the answer to the last of many would come too late.
const maxShareCalls = 16

func newShares(b *Broker) *shares {
	s := &shares{
		queues: b.storage.Shared, stats: &b.stats, log: b.log, max: b.cfg.MaxShares, cluster: b.cluster, settled: b.settled,
		slots: make(chan struct{}, maxShareCalls),
		open:  map[string]*share{}, of: map[string]map[string]struct{}{},
		removing: map[string]time.Time{},
	}
	s.task = func(f func(context.Context)) { b.task(func() { f(b.running) }) }
	return s
}

// call makes a call of storage when its turn has come.
func (s *shares) call(ctx context.Context, f func() error) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errTooManyShares: shares.max_groups.
var errTooManyShares = fmt.Errorf("%w: as many shared subscriptions as there may be", sessions.ErrRejected)

// join makes a client one of the subscribers of a share. joined is called once every message stored from then on is in the
// share's queue, or with the reason why it is not; it must not block.
func (s *shares) join(name, clientID string, joined func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[name] == nil && len(s.open) >= s.max {
		joined(errTooManyShares)
		return
	}
	s.enter(name, clientID).whenOpen(joined)
}

// enter puts a client among the subscribers of a share, which is made if need be. mu is held.
func (s *shares) enter(name, clientID string) *share {
	sh := s.open[name]
	if sh == nil {
		sh = newShare(s, name)
		s.open[name] = sh
		s.tree.Add(sh.filter, sh)
		s.task(sh.run)
	}
	sh.subscribe(clientID)
	if s.of[clientID] == nil {
		s.of[clientID] = map[string]struct{}{}
	}
	s.of[clientID][name] = struct{}{}
	return sh
}

// leave ends that. With its last subscriber the share ends.
func (s *shares) leave(name, clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(name, clientID)
}

func (s *shares) leaveLocked(name, clientID string) {
	delete(s.of[clientID], name)
	if len(s.of[clientID]) == 0 {
		delete(s.of, clientID)
	}
	if sh := s.open[name]; sh != nil {
		sh.unsubscribe(clientID)
	}
}

// reconcile takes what a session that was read from storage says: what it subscribes to, and which messages it holds. What
// it was handed and does not know any more goes to others.
func (s *shares) reconcile(clientID string, session *sessions.Session) {
	held := map[string]map[uint64]struct{}{}
	session.Held(func(name string, sequence uint64) {
		if held[name] == nil {
			held[name] = map[uint64]struct{}{}
		}
		held[name][sequence] = struct{}{}
	})
	names := session.Shares()
	s.restore(names, clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.of[clientID] {
		if !slices.Contains(names, name) {
			s.leaveLocked(name, clientID)
		}
	}
	for name, sh := range s.open {
		sh.reconcile(clientID, held[name])
	}
}

// restore makes a client whose session is stored one of the subscribers of shares, more than max if fewer are allowed now:
// what waits for them was promised.
func (s *shares) restore(names []string, clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.enter(name, clientID)
	}
}

// find returns a share, nil when there is none.
func (s *shares) find(name string) *share {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.open[name]
}

// attach lets a connected session be handed messages of shares.
func (s *shares) attach(m *member, names []string) {
	for _, name := range names {
		if sh := s.find(name); sh != nil && !slices.Contains(m.shares, sh) {
			m.shares = append(m.shares, sh)
			sh.attach(m)
		}
	}
}

// detach ends that, for these shares.
func (s *shares) detach(m *member, names []string) {
	m.shares = slices.DeleteFunc(m.shares, func(sh *share) bool {
		if !slices.Contains(names, sh.name) {
			return false
		}
		sh.detach(m)
		return true
	})
}

// detachAll ends it for all.
func (s *shares) detachAll(m *member) {
	for _, sh := range m.shares {
		sh.detach(m)
	}
	m.shares = nil
}

// settle ends messages: their members have them.
func (s *shares) settle(name string, sequences []uint64) {
	if sh := s.find(name); sh != nil {
		sh.settle(sequences)
	}
}

// giveBack takes messages back from a member. With a reason why they are not for it.
func (s *shares) giveBack(name string, entries []sessions.Entry, m *member, why sessions.DropReason) {
	sh := s.find(name)
	if sh == nil {
		return // it has ended, with all that it held
	}
	sh.giveBack(entries, m, why)
}

// route hands each QoS 0 message to one member of every share that it matches.
func (s *shares) route(messages []*sessions.Message) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.open) == 0 {
		return
	}
	var matches []*share
	for _, msg := range messages {
		matches, _ = s.tree.MatchAppend(msg.Topic, matches[:0])
		for _, sh := range matches {
			sh.route(msg)
		}
	}
}

// handOver leaves what a client holds to another node, and reports whether it subscribes to anything. It is a subscriber here, too,
// until it is known that it is one there: forget.
func (s *shares) handOver(clientID string) (subscribes bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name := range s.of[clientID] {
		if sh := s.open[name]; sh != nil {
			sh.handOver(clientID)
		}
	}
	return len(s.of[clientID]) > 0
}

// forget leaves what a client subscribes to to the node that has it now.
func (s *shares) forget(clientID string) {
	s.handOver(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.of[clientID] {
		s.leaveLocked(name, clientID)
	}
}

// elsewhere reports whether other nodes may have subscribers of a share. Those that have none are not to open its queue for a while.
func (s *shares) elsewhere(ctx context.Context, name string) bool {
	if s.cluster.alone() {
		return false
	}
	for boot, alive := range s.cluster.boots() {
		if !alive { // its sessions are not settled yet
			return true
		}
		if place, err := s.cluster.placeOfShare(ctx, boot, name, true); err != nil || place != sessions.ShareAbsent {
			return true
		}
	}
	return false
}

// others reports whether other nodes may have taken messages of a share, and whether one of those that come before or after this node
// is having what died come again. What the members of dead nodes held comes again in any case, when it is not renewed.
func (s *shares) others(ctx context.Context, name string) (served, before, after bool) {
	if s.cluster.alone() {
		return false, false, false
	}
	for boot, alive := range s.cluster.boots() {
		if !alive {
			continue
		}
		place, err := s.cluster.placeOfShare(ctx, boot, name, false)
		switch {
		case errors.Is(err, sessions.ErrNotFound): // it is not there, or cut off: the same
		case err != nil, place == sessions.ShareServed:
			served = true
		case place == sessions.ShareReclaiming && boot < s.cluster.boot():
			before = true
		case place == sessions.ShareReclaiming:
			after = true
		}
	}
	return served, before, after
}

const (
	// removeWithin is how long it may take a node to remove the queue of a share when others have said that they have no subscriber.
	removeWithin = 2 * time.Second
	// maxRemoving bounds what is remembered of that. Overflow policy: all of it is forgotten.
	maxRemoving = 4096
)

// place is what a share is here. If nothing, and with removing, another node may be about to remove its queue.
func (s *shares) place(name string, removing bool) sessions.SharePlace {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.open[name]; sh != nil {
		if place := sh.place(); place != sessions.ShareAbsent {
			return place
		}
	}
	if !removing {
		return sessions.ShareAbsent
	}
	if len(s.removing) >= maxRemoving {
		clear(s.removing)
	}
	s.removing[name] = time.Now().Add(removeWithin)
	return sessions.ShareAbsent
}

// awaitRemoved waits while another node may be removing the queue of a share.
func (s *shares) awaitRemoved(ctx context.Context, name string) {
	s.mu.Lock()
	until, ok := s.removing[name]
	delete(s.removing, name)
	s.mu.Unlock()
	if !ok || time.Until(until) <= 0 {
		return
	}
	select {
	case <-time.After(time.Until(until)):
	case <-ctx.Done():
	}
}

// removeOrphans deletes the queues that no session subscribes to: their last members went with a node that died. Called
// before any client is let in, when all stored sessions are entered, and when those of another node are.
func (s *shares) removeOrphans(ctx context.Context) error {
	var orphans []string
	err := s.queues.Each(ctx, func(name string) {
		if s.find(name) == nil {
			orphans = append(orphans, name)
		}
	})
	for _, name := range orphans {
		if s.place(name, !s.cluster.alone()) == sessions.ShareAbsent {
			err = errors.Join(err, s.remove(ctx, name))
		}
	}
	return err
}

// remove deletes the queue of a share that has no subscriber here, unless other nodes may have some.
func (s *shares) remove(ctx context.Context, name string) error {
	return s.call(ctx, func() error {
		if s.elsewhere(ctx, name) {
			return nil
		}
		return s.queues.Remove(ctx, name)
	})
}

// sharedFilter is the topic filter of a share.
func sharedFilter(name string) string {
	_, filter, _ := mqttcodec.SharedFilter(name)
	return filter
}
