package actors

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// flushEvery bounds how many messages a busy session handles before it flushes.
const flushEvery = 128

// sessionActor runs the session of one client identifier: it feeds what happens to the pure machine and carries out what
// that asks for. It never blocks its mailbox: a slow answer comes back as a message. It exists while there is a connection
// or something is not durable yet, and goes when both are over.
type sessionActor struct {
	broker   *Broker
	clientID string
	ref      *sessionRef
	log      *slog.Logger

	// session is nil until storage was read.
	session  *sessions.Session
	stored   bool
	scanFrom uint64
	// early are the messages that came before the session was loaded.
	early []any
	// handled counts attaches and wakes, for the directory.
	handled uint64
	// gone: the actor has let go of everything and only hands on what still comes, until the poison behind it.
	gone, poisoned bool

	// ghosts are the members of actors before this one that gave the session up.
	ghosts []*member

	connection *connection
	// next is the connection that a CONNECT being handled came on; it takes the place of connection with the first effect
	// that is for it.
	next   *connection
	member *member
	// queue is the durable queue while the session catches up from it, open behind queueAt. queueUse counts its uses: what
	// comes from an earlier one is not for this one.
	queue    sessions.Queue
	queueAt  uint64
	queueUse uint64

	// queued is how many entries waited, at most, when those in the ring were last counted, up to queuedHead.
	queued, queuedHead uint64

	effects []sessions.Effect
	// soon are inputs to be taken before any further message: answers that were given under the router's lock, behind which
	// live entries may be in the mailbox already.
	soon []sessions.Input
	// packets, publishes of them PUBLISH, wait for flush.
	packets   []mqttcodec.Packet
	publishes int
	bytes     int64
	close     bool
	routes    []*sessions.Message
	// credits are the shares of inbound bounds that the session's pending messages hold, in order.
	credits []credit
	// holds are the messages stored under an ID that the session's documents may not know yet, in order.
	holds      []hold
	journaling []journaling
	unflushed  int
	congested  bool
	timers     [8]timerSlot

	results resultQueue
}

// credit is what a message that is not stored yet takes of its connection's inbound bound.
type credit struct {
	connection *connection
	bytes      int
}

// hold is a message with an ID on its way into the log. Its sequence will be above a known one.
type hold struct {
	token, above uint64
}

// journaling is a journal on its way.
type journaling struct {
	token    uint64
	position uint64
	live     bool
}

// timerSlot is one timer of the session. Firings of an older generation are ignored.
type timerSlot struct {
	at         time.Time
	generation uint32
}

// resultQueue gathers the results of writes and wakes the actor once for many.
type resultQueue struct {
	// mu guards inputs.
	mu     sync.Mutex
	inputs []sessions.Input
}

func newSessionActor(b *Broker, clientID string, stored bool, scanFrom uint64, ghosts []*member) *sessionActor {
	a := &sessionActor{
		broker: b, clientID: clientID, stored: stored, scanFrom: scanFrom, ghosts: ghosts,
		ref: &sessionRef{mailbox: &mailbox{}},
		log: b.log.With("client", clientID),
	}
	a.member = &member{post: a.ref.post}
	return a
}

// Receive implements actor.Actor.
func (a *sessionActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.broker.router.add(a.member)
		a.load()
	case *actor.Stopping:
		defer recoverStopping(ctx.Self(), a.broker.onFailure)
		if !a.gone { // it panicked
			a.abandon()
		}
	case *actor.Stopped, *actor.Restarting:
	case *Idle:
		a.flush()
	default:
		a.handle(m)
		if a.unflushed++; a.unflushed >= flushEvery {
			a.flush()
		}
	}
	if a.gone && !a.poisoned {
		a.poisoned = true
		ctx.Poison(ctx.Self()) // behind what is queued, so that a CONNECT in the queue is handed on
	}
}

// handle takes one message.
func (a *sessionActor) handle(message any) {
	if m, ok := message.(*loaded); ok {
		a.onLoaded(m)
		return
	}
	switch {
	case a.gone:
		a.handOn(message)
		return
	case a.session == nil:
		a.early = append(a.early, message) // bounded: by connections that wait for CONNACK, and their inbound bounds
		return
	}
	switch m := message.(type) {
	case *attach:
		a.onAttach(m)
	case *wake:
		a.handled++
		a.step(sessions.Awake{})
	case *inbound:
		a.onInbound(m)
	case *resultsReady:
		for _, in := range a.results.take() {
			a.onResult(in)
			a.step(in)
		}
	case *queueFetched:
		a.onQueueFetched(m)
	case *retrySubscribe:
		a.subscribe(m.effect)
	case *timer:
		a.onTimer(m)
	case *decongested:
		if m.connection == a.connection {
			a.congested = false
			a.step(sessions.Congestion{Congested: false})
		}
	case sessions.Input:
		a.member.took(m)
		a.step(m)
	}
	a.takeSoon()
	a.releaseCredits()
}

// handOn passes on what came too late for this actor: a CONNECT to the next one. Packets of a connection that was handed
// on may belong behind others that the next one has: that connection ends, and the next actor hears of it.
func (a *sessionActor) handOn(message any) {
	switch m := message.(type) {
	case *attach:
		a.broker.directory.connect(m.connection, m)
	case *inbound:
		m.connection.abort()
		if next := m.connection.session.Load(); next != a.ref {
			next.post(&inbound{connection: m.connection, err: net.ErrClosed})
		}
	}
}

// takeSoon takes the inputs that must not wait behind the mailbox, and reports whether there were any.
func (a *sessionActor) takeSoon() (any bool) {
	for len(a.soon) > 0 {
		in := a.soon[0]
		a.soon = a.soon[1:]
		a.step(in)
		any = true
	}
	a.soon = nil
	return any
}

func (a *sessionActor) onAttach(m *attach) {
	a.handled++
	if m.connection.closing.Load() {
		return
	}
	a.next = m.connection
	a.step(sessions.Connect{
		Connection: m.connection.id, Packet: m.packet, Assigned: m.assigned,
		Nonce: a.broker.nonce(), Head: a.broker.router.Head().Sequence,
	})
	a.switchTo(m.connection.id)
}

// switchTo puts the next connection into its place. The old one has got what the session still had to say to it.
func (a *sessionActor) switchTo(id sessions.ConnectionID) {
	if a.next == nil || a.next.id != id {
		return
	}
	a.connection, a.next = a.next, nil
	a.packets, a.publishes, a.bytes, a.close, a.congested = nil, 0, 0, false, false
}

func (a *sessionActor) onInbound(m *inbound) {
	for i, p := range m.packets {
		pending := a.session.Pending()
		a.step(sessions.PacketReceived{Connection: m.connection.id, Packet: p})
		share := m.bytes / len(m.packets)
		if i == 0 {
			share += m.bytes % len(m.packets)
		}
		if a.session.Pending() > pending { // it keeps its share of the bound until it is stored
			a.credits = append(a.credits, credit{m.connection, share})
		} else {
			m.connection.inflow.release(1, share)
		}
	}
	if m.err != nil {
		a.step(sessions.ConnectionLost{Connection: m.connection.id, Err: m.err})
	}
}

// releaseCredits gives back the shares of messages that are stored, or given up.
func (a *sessionActor) releaseCredits() {
	pending := 0
	if a.session != nil && !a.gone {
		pending = a.session.Pending()
	}
	for len(a.credits) > pending {
		c := a.credits[0]
		a.credits = a.credits[1:]
		c.connection.inflow.release(1, c.bytes)
	}
}

// step advances the session and carries out the effects. The batch ends with flush.
func (a *sessionActor) step(in sessions.Input) {
	a.effects = a.session.Step(time.Now(), in, a.effects[:0])
	a.performAll()
}

func (a *sessionActor) performAll() {
	for i, e := range a.effects {
		a.perform(e)
		a.effects[i] = nil
	}
}

// flush ends a batch: writes start, packets go to the connection, and an actor with nothing left to do lets go.
func (a *sessionActor) flush() {
	a.unflushed = 0
	if a.session == nil || a.gone {
		return
	}
	if len(a.routes) > 0 {
		a.broker.router.route(a.routes)
		a.routes = nil
	}
	for again := true; again; again = a.takeSoon() {
		a.effects = a.session.Flush(time.Now(), a.effects[:0])
		a.performAll()
	}
	a.releaseCredits()
	a.flushPackets()
	a.updateHold()
	switch {
	case a.session.Fenced():
		a.log.Warn("session given up: a durable write failed; it is read from storage again")
		a.abandon()
	case a.session.Absent() && a.session.Quiet():
		a.release(false)
	case a.session.Connection() == 0 && a.session.Quiet():
		a.release(true)
	}
}

// flushPackets hands what was sent to the connection.
func (a *sessionActor) flushPackets() {
	if a.connection == nil || len(a.packets) == 0 && !a.close {
		return
	}
	congested := a.connection.send(a.packets, a.publishes, a.bytes, a.close)
	a.broker.stats.packetsSent.Add(uint64(len(a.packets)))
	a.packets, a.publishes, a.bytes = nil, 0, 0
	if a.close {
		a.connection, a.close = nil, false
		return
	}
	if congested && !a.congested {
		a.congested = true
		a.step(sessions.Congestion{Congested: true})
	}
}

// release lets the actor go, unless somebody wants it meanwhile.
func (a *sessionActor) release(stored bool) {
	deadline := a.session.Deadline()
	queued := stored && len(a.session.QueuedFilters()) > 0
	if !a.broker.directory.release(a.clientID, a.ref, a.handled, stored, deadline) {
		return
	}
	a.broker.router.remove(a.member)
	a.layGhosts()
	a.letGo()
	switch {
	case queued:
		a.broker.parking.park(a.clientID)
	case a.stored:
		a.broker.parking.drop(a.clientID)
	}
}

// abandon gives the session up: what it is can only be told from storage.
func (a *sessionActor) abandon() {
	if a.connection != nil {
		a.flushPackets()
		if a.connection != nil {
			a.connection.abort()
		}
	}
	scanFrom := a.member.hold.Load()
	if a.scanFrom > 0 && (scanFrom == 0 || a.scanFrom < scanFrom) {
		scanFrom = a.scanFrom
	}
	a.broker.router.haunt(a.member)
	a.letGo()
	a.broker.directory.failed(a.clientID, a.ref, scanFrom, append(a.ghosts, a.member))
	for _, m := range a.early {
		a.handOn(m)
	}
	a.early = nil
}

// letGo leaves everything that knows the actor.
func (a *sessionActor) letGo() {
	a.gone = true
	a.giveQueueBack()
	a.releaseCredits()
}

// layGhosts forgets the members of earlier actors: the documents are up to date.
func (a *sessionActor) layGhosts() {
	for _, g := range a.ghosts {
		a.broker.router.remove(g)
	}
	a.ghosts = nil
}

// load reads the session, if storage holds it, on a goroutine of its own.
func (a *sessionActor) load() {
	if !a.stored {
		a.session = sessions.New(&a.broker.cfg.Sessions, a.clientID, sessions.Stored{})
		return
	}
	a.broker.work(func(ctx context.Context) {
		s, err := a.broker.loadSession(ctx, a.clientID, a.scanFrom)
		a.ref.post(&loaded{s, err})
	})
}

func (a *sessionActor) onLoaded(m *loaded) {
	if m.err != nil {
		a.log.Error("session could not be read", "err", m.err)
		for _, e := range a.early {
			if e, ok := e.(*attach); ok {
				e.connection.refuse(mqttcodec.ServerUnavailable)
			}
		}
		a.early = nil
		a.abandon()
		return
	}
	a.session = m.session
	early := a.early
	a.early = nil
	for _, e := range early {
		a.handle(e)
	}
}

// take empties the queue.
func (q *resultQueue) take() []sessions.Input {
	q.mu.Lock()
	defer q.mu.Unlock()
	inputs := q.inputs
	q.inputs = nil
	return inputs
}

// put adds a result and wakes the actor if it is the first.
func (q *resultQueue) put(ref *sessionRef, in sessions.Input) {
	q.mu.Lock()
	first := len(q.inputs) == 0
	q.inputs = append(q.inputs, in)
	q.mu.Unlock()
	if first {
		ref.post(&resultsReady{})
	}
}
