package actors

import (
	"fmt"
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// sessionRef is the address of one session actor: its mailbox. What is posted after the actor stopped is dropped.
type sessionRef struct{ mailbox *mailbox }

func (r *sessionRef) post(message any) { r.mailbox.PostUserMessage(message) }

// directory finds the session of a client identifier: its actor while it has one, and the fact that storage holds it. A
// takeover is one message to one actor, whatever the number of connections that want the same session.
type directory struct {
	broker *Broker
	seed   maphash.Seed
	shards [64]directoryShard
	serial atomic.Uint64
	// live counts session actors.
	live atomic.Int64
	// closed: the node goes down, and no CONNECT is taken any more.
	closed atomic.Bool
}

type directoryShard struct {
	// mu guards entries and what they point to. Spawning and posting happen under it, so that no message is posted to an
	// actor that has been let go.
	mu      sync.Mutex
	entries map[string]*directoryEntry
	// props are those of all its session actors: the runtime asks for the actor, which is next, while it spawns it.
	props *actor.Props
	next  *sessionActor
}

// directoryEntry is what is known of one client identifier. An entry without actor is a stored session. There may be very
// many.
type directoryEntry struct {
	ref *sessionRef
	// posted counts the attaches and wakes posted to the actor: it may go only when it has handled them all.
	posted uint64
	// failure is what actors have left behind that gave the session up, nil when none has.
	failure *failure
	// deadline is when the stored session has something to do; armed is the earliest timer on the wheel. Both in
	// nanoseconds of Unix time, 0 for none.
	deadline, armed int64
	stored          bool
	// settled: what was found out about the session's past is in its documents, or there was nothing. Not while an actor has not
	// got as far as to let a client in, or to let go of the session.
	settled bool
	// online: its client is online, as far as presence is kept.
	online bool
}

// failure is what is known of a session that actors gave up. The zero value: none has.
type failure struct {
	// scanFrom, if not 0, is where a log scan has to look for messages that the session's documents may not know.
	scanFrom uint64
	// ghosts are the router's members of those actors: they hold the checkpoint where those left it, until the session's
	// documents are written anew.
	ghosts []*member
	// tries is how many actors gave it up, one after another.
	tries int
}

// readAgain is when the session is looked at again: soon, and not so soon when that has failed, since storage is away then.
func (f *failure) readAgain() time.Duration {
	return min(time.Second<<min(f.tries-1, 10), maxReadAgain)
}

const maxReadAgain = 30 * time.Second

func newDirectory(b *Broker) *directory {
	d := &directory{broker: b, seed: maphash.MakeSeed()}
	for i := range d.shards {
		s := &d.shards[i]
		s.entries = map[string]*directoryEntry{}
		s.props = actor.PropsFromProducer(func() actor.Actor { return s.next },
			actor.WithMailbox(func() actor.Mailbox { return s.next.ref.mailbox }), actor.WithDispatcher(b.workers))
	}
	return d
}

func (d *directory) shard(clientID string) *directoryShard {
	return &d.shards[maphash.String(d.seed, clientID)%uint64(len(d.shards))]
}

// connect hands a CONNECT to the session actor of its client identifier, which is spawned if there is none. When the node
// goes down it refuses it instead, and returns false.
func (d *directory) connect(c *connection, m *attach) bool {
	s := d.shard(m.packet.ClientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case d.closed.Load() || d.broker.cluster.isolated.Load() || d.broker.cluster.cutOff(time.Now()):
		c.refuse(mqttcodec.ServerUnavailable) // CONNACK has no 0x8B
		return false
	case d.broker.cluster.draining.Load():
		ack := &mqttcodec.Connack{Reason: mqttcodec.UseAnotherServer}
		ack.Properties.ServerReference = d.broker.cfg.ServerReference
		c.refuseWith(ack)
		return false
	}
	if m.stamp == 0 {
		m.stamp = d.broker.cluster.nextStamp()
	}
	ref := d.actorOf(s, m.packet.ClientID, m)
	ref.post(m)
	c.session.Store(ref) // what is read from now on comes behind it
	return true
}

// actorOf returns the actor to post one message to: m, or a wake when that is nil. The shard is locked.
func (d *directory) actorOf(s *directoryShard, clientID string, m *attach) *sessionRef {
	e := s.entries[clientID]
	if e == nil {
		e = &directoryEntry{}
		s.entries[clientID] = e
	}
	if e.ref == nil {
		e.ref = d.spawn(s, clientID, e, m)
		e.posted, e.settled = 0, false
		d.live.Add(1)
	}
	e.posted++
	return e.ref
}

// spawn makes a session actor. Its name is never used again, so that a message to an old one cannot reach a new one. The
// shard is locked.
func (d *directory) spawn(s *directoryShard, clientID string, e *directoryEntry, m *attach) *sessionRef {
	var f failure
	if e.failure != nil {
		f = *e.failure
		e.failure.ghosts = nil
	}
	a := newSessionActor(d.broker, clientID, e.stored, f.scanFrom, f.ghosts)
	a.entered = m
	s.next = a
	if _, err := d.broker.root.SpawnNamed(s.props, "session/"+strconv.FormatUint(d.serial.Add(1), 10)+"/"+clientID); err != nil {
		panic(fmt.Sprintf("spawn session actor: %v", err)) // Invariant: the serial makes the name unique.
	}
	s.next = nil
	return a.ref
}

// release lets an actor go that has handled `handled` attaches and wakes. It refuses when more were posted. A session
// that storage holds stays known, until its deadline.
func (d *directory) release(clientID string, ref *sessionRef, handled uint64, stored bool, deadline time.Time) bool {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[clientID]
	if e == nil || e.ref != ref {
		return true
	}
	if e.posted != handled {
		return false
	}
	d.forget(s, clientID, e)
	e.failure, e.settled = nil, true
	if stored {
		e.stored = true
		s.entries[clientID] = e
		d.arm(clientID, e, deadline)
	}
	return true
}

func (d *directory) forget(s *directoryShard, clientID string, e *directoryEntry) {
	e.ref, e.stored, e.online = nil, false, false
	delete(s.entries, clientID)
	d.live.Add(-1)
}

// failed lets go of an actor whose session can only be told from storage again, and has it looked at soon: its will and
// its expiry must not wait for a client. Messages stored above scanFrom may be unknown to the session's documents.
func (d *directory) failed(clientID string, ref *sessionRef, scanFrom uint64, ghosts []*member) {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[clientID]
	if e == nil || e.ref != ref {
		return
	}
	d.forget(s, clientID, e)
	f := &failure{scanFrom: scanFrom, ghosts: ghosts, tries: 1}
	if e.failure != nil {
		f.tries += e.failure.tries
	}
	e.stored, e.failure = true, f
	s.entries[clientID] = e
	d.arm(clientID, e, time.Now().Add(f.readAgain()))
}

// know enters a session that a boot which died has left in storage. What was known of it here is of an earlier time, when this
// node had it; an actor that is there sees to it.
func (d *directory) know(clientID string, deadline time.Time, settled bool) {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[clientID]
	if e == nil {
		e = &directoryEntry{}
		s.entries[clientID] = e
	}
	if e.ref != nil {
		return
	}
	d.broker.resting.take(clientID)
	e.stored, e.settled = true, settled
	d.arm(clientID, e, deadline)
}

// intact reports whether no session is given up, whose documents may not tell what its actor knew.
func (d *directory) intact() bool {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if e.failure != nil {
				s.mu.Unlock()
				return false
			}
		}
		s.mu.Unlock()
	}
	return true
}

// wake has a stored session look after itself.
func (d *directory) wake(clientID string) {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[clientID]; e != nil && e.ref == nil && !d.closed.Load() {
		d.actorOf(s, clientID, nil).post(&wake{})
	}
}

// settled reports whether what was found out about a session's past is in its documents, or the session is gone.
func (d *directory) settled(clientID string) bool {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[clientID]
	return e == nil || e.settled
}

// claimed notes that a session has a client again, so that its documents were written by this boot.
func (d *directory) claimed(clientID string) {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[clientID]; e != nil {
		e.settled = true
		if e.failure != nil {
			e.failure.tries = 0
		}
	}
}

// setOnline notes whether the client of a session actor is online.
func (d *directory) setOnline(clientID string, online bool) {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[clientID]; e != nil {
		e.online = online
	}
}

// online reports whether a client is online.
func (d *directory) online(clientID string) bool {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[clientID]
	return e != nil && e.online
}

// showPresence has all who are online written again, some at a time, each time that room returns without an error.
func (d *directory) showPresence(room func() error) error {
	for i := range d.shards {
		if err := room(); err != nil {
			return err
		}
		s := &d.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if e.online {
				e.ref.post(&showPresence{})
			}
		}
		s.mu.Unlock()
	}
	return nil
}

// parked reports whether a session is stored and has no actor.
func (d *directory) parked(clientID string) bool {
	s := d.shard(clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[clientID]
	return e != nil && e.ref == nil
}

// shutDown tells every session actor that the node goes down. No actor is spawned for a client afterwards.
func (d *directory) shutDown() {
	d.closed.Store(true)
	d.postAll(sessions.Shutdown{})
}

// isolate has all sessions that outlive their connections let go of them.
func (d *directory) isolate() { d.postAll(&isolated{}) }

// postAll sends a message to every session actor.
func (d *directory) postAll(message any) {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if e.ref != nil {
				e.ref.post(message)
			}
		}
		s.mu.Unlock()
	}
}

// arm sets the deadline of a stored session. Timers are not cancelled: one that comes early is armed again, so that a
// client that comes and goes leaves one behind, not many. The shard is locked.
func (d *directory) arm(clientID string, e *directoryEntry, deadline time.Time) {
	e.deadline = 0
	if deadline.IsZero() {
		return
	}
	e.deadline = deadline.UnixNano()
	d.rearm(clientID, e)
}

// rearm puts a timer for the deadline on the wheel, if there is none that comes before. The shard is locked.
func (d *directory) rearm(clientID string, e *directoryEntry) {
	if e.armed != 0 && e.deadline >= e.armed {
		return
	}
	e.armed = min(e.deadline, time.Now().Add(deadlineStep).UnixNano())
	d.broker.wheel.Schedule(time.Unix(0, e.armed), &deadlineTimer{d, clientID}, 0, 0)
}

// deadlineStep is the longest time that the timer of a stored session stays on the wheel: sessions that end before leave
// theirs there.
const deadlineStep = time.Hour

// deadlineTimer is the timer of a stored session.
type deadlineTimer struct {
	directory *directory
	clientID  string
}

func (t *deadlineTimer) timerFired(uint8, uint32) {
	s := t.directory.shard(t.clientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[t.clientID]
	if e == nil || t.directory.closed.Load() {
		return
	}
	e.armed = 0
	if e.ref != nil || e.deadline == 0 {
		return // it sees to its deadlines itself
	}
	if time.Now().UnixNano() < e.deadline {
		t.directory.rearm(t.clientID, e)
		return
	}
	t.directory.actorOf(s, t.clientID, nil).post(&wake{})
}
