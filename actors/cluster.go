package actors

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/sessions"
)

const (
	// greetTimeout is how long another node may take to say that it is there.
	greetTimeout = time.Second
	// askTimeout is how long a node may take to let go of a session. Then it is taken away from it.
	askTimeout = 500 * time.Millisecond
	// lookEvery is how often a node looks whether the others are alive.
	lookEvery = time.Second
	// replacedAfter is how long a boot has given no sign of life when it is taken for dead because there is a later one of its node.
	replacedAfter = 3 * time.Second
	// lookAlone is how many times as long one waits that knows of no others: they greet it.
	lookAlone = 10
	// clockAhead is how far a stamp of another node may be ahead of the clock here. One that is more is not believed.
	clockAhead = 24 * time.Hour
	// maxPeers bounds the boots that are known. Overflow policy: those that come then are not, until others have gone: whoever greets and
	// writes no checkpoint has when it is taken for dead.
	maxPeers = 1024
)

// cluster is what a node knows of the other nodes on its storage. That a boot is alive it hears from its checkpoint. Nothing that
// is promised rests on that: who owns a session, and how far it is, is decided by the revisions of its documents.
type cluster struct {
	broker *Broker
	// nodes is nil where nobody else reaches the storage.
	nodes sessions.Nodes
	since time.Time
	// shared: there are other nodes, or were. What is stored may be changed by them from then on.
	shared atomic.Bool
	// stamp is the highest that was given or seen.
	stamp atomic.Int64
	// leading: this node does what one node has to do for all. It is the oldest. Should two think so of themselves for a while, or
	// none, then something is done twice, which has no effect, or late.
	leading atomic.Bool
	// draining: clients are sent away. drainAsked is closed when an operator wants that.
	draining   atomic.Bool
	drainAsked chan struct{}
	asking     sync.Once
	// isolated: it was noticed that storage has not answered for so long that others may have taken over what is here; see cutOff.
	isolated atomic.Bool
	// taken is when the last checkpoint was written that storage has taken, in nanoseconds since since.
	taken atomic.Int64

	// mu guards the fields below it, and the peers.
	mu    sync.Mutex
	peers map[string]*peerBoot
	// looked is when all checkpoints were last read.
	looked time.Time
}

// peerBoot is another boot: of another node, or an earlier one of this.
type peerBoot struct {
	checkpoint sessions.Checkpoint
	// changed is when its checkpoint was last seen to change.
	changed time.Time
	// dead: it is taken for dead. settling: what it has left behind is being settled by this node.
	dead, settling bool
	legacy         *legacy
}

func newCluster(b *Broker) *cluster {
	c := &cluster{broker: b, nodes: b.storage.Nodes, since: time.Now(), drainAsked: make(chan struct{}), peers: map[string]*peerBoot{}}
	c.leading.Store(true)
	return c
}

// alone reports whether all that is stored was written by this node, or by boots that are dead.
func (c *cluster) alone() bool { return !c.shared.Load() }

func (c *cluster) boot() string { return c.broker.cfg.Sessions.Boot }

// nextStamp is a stamp above all that were given or seen.
func (c *cluster) nextStamp() int64 {
	for {
		last := c.stamp.Load()
		if next := max(time.Now().UnixNano(), last+1); c.stamp.CompareAndSwap(last, next) {
			return next
		}
	}
}

// see takes note of a stamp of another node.
func (c *cluster) see(stamp int64) {
	if time.Until(time.Unix(0, stamp)) > clockAhead {
		return
	}
	for {
		last := c.stamp.Load()
		if stamp <= last || c.stamp.CompareAndSwap(last, stamp) {
			return
		}
	}
}

// alive reports whether another boot is taken to be alive.
func (c *cluster) alive(boot string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[boot]
	return p != nil && !p.dead
}

// company reports whether any other boot is taken to be alive.
func (c *cluster) company() bool {
	if c.alone() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		if !p.dead {
			return true
		}
	}
	return false
}

// ready reports whether any other boot lets clients in.
func (c *cluster) ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		if !p.dead && !p.checkpoint.Draining {
			return true
		}
	}
	return false
}

// elect finds out whether this node is the oldest, and reports whether it has just become so. mu is held.
func (c *cluster) elect() (now bool) {
	leads := c.oldest()
	return !c.leading.Swap(leads) && leads
}

func (c *cluster) oldest() bool {
	for boot, p := range c.peers {
		if p.dead {
			continue
		}
		if s := p.checkpoint.Since; s.Before(c.since) || s.Equal(c.since) && boot < c.boot() {
			return false
		}
	}
	return true
}

// meet makes this node known to all that may be alive, and them to it, before it reads what is stored. Boots of this node's name are
// dead unless they answer: two without a data directory may be on one host.
func (c *cluster) meet(ctx context.Context, checkpoints []sessions.Checkpoint) {
	if c.nodes == nil {
		return
	}
	var greeting sync.WaitGroup
	for _, p := range checkpoints {
		if p.Released {
			continue
		}
		if !c.sameNode(p) {
			c.enter(p)
		}
		greeting.Go(func() {
			if c.greet(ctx, p.Boot) {
				c.enter(p)
			}
		})
	}
	greeting.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.elect()
	for boot, p := range c.peers {
		c.broker.log.Info("another node shares the storage", "node", p.checkpoint.Node, "boot", boot)
	}
}

// sameNode reports whether a checkpoint is that of a boot of this node's name.
func (c *cluster) sameNode(p sessions.Checkpoint) bool {
	return p.Node != "" && p.Node == c.broker.cfg.Node
}

// enter takes note of a boot that may be alive.
func (c *cluster) enter(p sessions.Checkpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enterLocked(p)
}

func (c *cluster) enterLocked(p sessions.Checkpoint) {
	c.shared.Store(true)
	known := c.peers[p.Boot]
	if known != nil && !known.dead {
		return
	}
	if known == nil && len(c.peers) >= maxPeers {
		c.broker.log.Error("more nodes share the storage than can be", "known", maxPeers, "left_out", p.Boot, "node", p.Node)
		return
	}
	c.peers[p.Boot] = &peerBoot{checkpoint: p, changed: time.Now()}
}

func (c *cluster) greet(ctx context.Context, boot string) (answers bool) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	h, err := c.nodes.Greet(ctx, boot, c.hello())
	if err == nil {
		c.see(h.Stamp)
	}
	return err == nil
}

func (c *cluster) hello() sessions.Hello {
	return sessions.Hello{Boot: c.boot(), Node: c.broker.cfg.Node, Since: c.since, Stamp: c.stamp.Load()}
}

var _ sessions.Neighbour = (*cluster)(nil)

// Greeted implements sessions.Neighbour.
func (c *cluster) Greeted(h sessions.Hello) sessions.Hello {
	c.see(h.Stamp)
	if !c.alive(h.Boot) {
		c.broker.log.Info("another node has come", "node", h.Node, "boot", h.Boot)
	}
	c.enter(sessions.Checkpoint{Boot: h.Boot, Node: h.Node, Since: h.Since})
	return c.hello()
}

// Claimed implements sessions.Neighbour.
func (c *cluster) Claimed(claim sessions.Claim) {
	c.see(claim.Stamp)
	c.broker.directory.relinquish(claim, nil)
}

// Asked implements sessions.Neighbour.
func (c *cluster) Asked(claim sessions.Claim, answer func(sessions.Release)) {
	c.see(claim.Stamp)
	c.broker.directory.relinquish(claim, answer)
}

// DrainAsked implements sessions.Neighbour.
func (c *cluster) DrainAsked() { c.asking.Do(func() { close(c.drainAsked) }) }

// Rejoined implements sessions.Neighbour.
func (c *cluster) Rejoined() {
	if !c.alone() {
		c.broker.directory.announceAll()
	}
}

// announce tells the other nodes that a client has connected here.
func (c *cluster) announce(clientID string, stamp int64, principal string) {
	if c.company() {
		c.nodes.Announce(sessions.Claim{ClientID: clientID, Boot: c.boot(), Stamp: stamp, Principal: principal})
	}
}

// watch looks after the other nodes until the broker stops.
func (c *cluster) watch(ctx context.Context) {
	if c.nodes == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !c.alone() || n%lookAlone == 0 {
			c.look(ctx)
		}
	}
}

// look finds out who is alive, and settles what the dead have left behind.
func (c *cluster) look(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	checkpoints, err := c.broker.storage.Store.Checkpoints(limited)
	if err != nil {
		return // those who write have logged it
	}
	for _, boot := range c.judge(checkpoints, time.Now()) {
		c.broker.task(func() { c.settle(ctx, boot) })
	}
}

// judge takes note of the checkpoints of all, and returns the boots that this node is to settle now.
func (c *cluster) judge(checkpoints []sessions.Checkpoint, now time.Time) (toSettle []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) > 3*lookEvery { // we were away ourselves: who has been quiet meanwhile, we cannot tell
		for _, p := range c.peers {
			p.changed = now
		}
	}
	c.looked = now
	stored, newest := map[string]bool{}, map[string]time.Time{}
	for _, s := range checkpoints {
		stored[s.Boot] = true
		if s.Since.After(newest[s.Node]) {
			newest[s.Node] = s.Since
		}
		if s.Boot != c.boot() {
			c.hear(s, now)
		}
	}
	replaced := func(p *peerBoot) bool { // as it seems: its node has started again, which sees to what it has left
		return p.checkpoint.Node != "" && p.checkpoint.Since.Before(newest[p.checkpoint.Node])
	}
	for boot, p := range c.peers {
		silent := now.Sub(p.changed)
		gone := silent > c.broker.cfg.DeadAfter || p.checkpoint.Released || silent > replacedAfter && replaced(p)
		if gone && !p.dead {
			p.dead = true
			c.broker.log.Warn("another node is gone", "node", p.checkpoint.Node, "boot", boot, "released", p.checkpoint.Released, "last_heard", p.checkpoint.Time)
		}
	}
	if c.elect() {
		unwritten := c.unwritten()
		c.broker.runningTask(func(ctx context.Context) { c.broker.lead(ctx, unwritten) })
	}
	for boot, p := range c.peers {
		switch {
		case !p.dead || p.settling:
		case !stored[boot]:
			delete(c.peers, boot) // somebody has settled it
		case c.leading.Load() && (!replaced(p) || now.Sub(p.changed) > c.broker.cfg.DeadAfter):
			p.settling = true
			toSettle = append(toSettle, boot)
		}
	}
	return toSettle
}

// unwritten is the sequence above which retained messages may not be in their bucket, as far as the checkpoints of others tell: that
// of the node which has written them until now may be deleted by its next boot. mu is held.
func (c *cluster) unwritten() uint64 {
	above := uint64(math.MaxUint64)
	for _, p := range c.peers {
		if !p.checkpoint.Time.IsZero() { // else it was not read yet
			above = min(above, p.checkpoint.Position.Sequence)
		}
	}
	return above
}

// hear takes note of the checkpoint of another boot. mu is held.
func (c *cluster) hear(s sessions.Checkpoint, now time.Time) {
	p := c.peers[s.Boot]
	switch {
	case p == nil && c.broker.recovered.left(s):
	case p == nil:
		c.broker.log.Info("another node has come", "node", s.Node, "boot", s.Boot)
		c.enterLocked(s)
	case !p.checkpoint.Time.Equal(s.Time) || p.checkpoint.Draining != s.Draining:
		if p.dead && !p.settling && !s.Released {
			c.broker.log.Info("another node is back", "node", s.Node, "boot", s.Boot)
			p.dead = false
		}
		p.checkpoint, p.changed = s, now
		if !p.settling {
			p.legacy = nil // it has gone on
		}
	}
}

// settle takes over what a dead boot has left behind: sessions are settled as those of an earlier run are at a start, and then
// its checkpoint goes.
func (c *cluster) settle(ctx context.Context, boot string) {
	for attempt := 1; ctx.Err() == nil; attempt++ {
		err := c.broker.settleBoot(ctx, boot)
		if err == nil {
			break
		}
		c.broker.log.Warn("sessions of a node that is gone are not settled; trying again", "boot", boot, "attempt", attempt, "err", err)
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// forget takes note that nothing is left of a boot.
func (c *cluster) forget(boot string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, boot)
}

// boots are the others, and whether each is taken to be alive.
func (c *cluster) boots() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	boots := make(map[string]bool, len(c.peers))
	for boot, p := range c.peers {
		boots[boot] = !p.dead
	}
	return boots
}

// placeOfShare asks another boot what a share is there.
func (c *cluster) placeOfShare(ctx context.Context, boot, name string, removing bool) (sessions.SharePlace, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	return c.nodes.PlaceOfShare(ctx, boot, name, removing)
}

// PlaceOfShare implements sessions.Neighbour.
func (c *cluster) PlaceOfShare(name string, removing bool) sessions.SharePlace {
	return c.broker.shares.place(name, removing)
}

// checkpointTaken takes note that storage has taken a checkpoint that was written at a time.
func (c *cluster) checkpointTaken(at time.Time) { c.taken.Store(int64(at.Sub(c.since))) }

// silent is how long ago the last checkpoint was written that storage has taken.
func (c *cluster) silent(now time.Time) time.Duration {
	return now.Sub(c.since) - time.Duration(c.taken.Load())
}

// cutOff reports whether storage has not answered for so long that others may have taken over what is here. A process that was stopped
// is so when it goes on, whatever it does first.
func (c *cluster) cutOff(now time.Time) bool {
	return !c.alone() && c.silent(now) > c.broker.cfg.IsolationTimeout && c.company()
}

// isolate finds out whether the node is cut off. Then it lets go of its persistent sessions: others take them over, and it would not
// hear of that.
func (c *cluster) isolate(now time.Time) {
	isolated := c.cutOff(now)
	switch was := c.isolated.Swap(isolated); {
	case isolated && !was:
		c.broker.log.Error("this node is cut off from storage, but others may not be; its persistent clients are disconnected", "silent_for", c.silent(now))
		c.broker.resting.clear() // what rests may be another node's by now
		c.broker.directory.isolate()
	case was && !isolated:
		c.broker.log.Info("storage answers this node again; clients are let in")
		signal(c.broker.presence.lacking) // those who have stayed may have been set offline
	}
}

// mayBeOwner reports whether a boot may still go on with a session that it owns.
func (c *cluster) mayBeOwner(boot string) bool { return !c.alone() && boot != c.boot() }

// obtain has another node let go of a session for a client that has connected here. Its errors are errLater, errDenied, those of
// Nodes.Ask when there is no answer, and without such a client errElsewhere.
func (c *cluster) obtain(ctx context.Context, owner string, l loading) (r sessions.Release, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if l.stamp == 0 {
		if c.alive(owner) {
			return r, errElsewhere
		}
		if _, err := c.nodes.Greet(ctx, owner, c.hello()); err != nil {
			return r, err
		}
		return r, errElsewhere
	}
	r, err = c.nodes.Ask(ctx, owner, sessions.Claim{ClientID: l.clientID, Boot: c.boot(), Stamp: l.stamp, Principal: l.principal})
	switch {
	case errors.Is(err, sessions.ErrNotFound): // it has ended, as far as NATS knows
	case err != nil:
		c.broker.log.Info("the node that has a session does not answer; the session is taken from it", "client", l.clientID, "boot", owner, "err", err)
	case r.Later:
		err = errLater
	case r.Denied:
		err = errDenied
	}
	return r, err
}

// recovery adds what is to be known of a session that another boot had, and has not let go of as released did, if that is not
// empty. Its journal may be of yet another boot, whose end cut a claim short.
func (c *cluster) recovery(
	ctx context.Context, r *sessions.Record, journal []byte, released string, known sessions.Recovery,
) (sessions.Recovery, error) {
	if c.alone() {
		return known, nil
	}
	known.Checkpoints, known.IDs = maps.Clone(known.Checkpoints), slices.Clone(known.IDs)
	if released != "" { // it may have given the session up, so that its record tells nothing of the end of the connection
		known.Checkpoints[released] = &sessions.Checkpoint{Boot: released, Time: time.Now()}
	}
	boots := []string{r.Owner}
	if writer := sessions.WriterOf(journal, r.Incarnation); writer != r.Owner {
		boots = append(boots, writer)
	}
	for _, boot := range boots {
		if boot == c.boot() || boot == released {
			continue
		}
		left := c.inherit(boot)
		if left == nil {
			continue
		}
		more, err := left.recovery(ctx, r.Incarnation)
		if err != nil {
			return known, err
		}
		maps.Copy(known.Checkpoints, more.Checkpoints)
		known.IDs = append(known.IDs, more.IDs...)
	}
	return known, nil
}

// errElsewhere: the session belongs to a node that is alive, and nobody has connected to it here.
var errElsewhere = errors.New("the session is another node's")
