package actors

import (
	"sync"
	"sync/atomic"
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

	// session is nil until storage was read.
	session  *sessions.Session
	scanFrom uint64
	// stored: storage holds the session. borrowed: it is another node's until a client is let in here.
	stored, borrowed bool
	// gone: the actor has let go of everything and only hands on what still comes, until the poison behind it.
	gone, poisoned bool
	// isolated: it has let go of the client, since the node is cut off from storage.
	isolated bool
	// close: the connection ends behind packets. congested: it holds more than it should.
	close, congested bool
	// behind is as what it is counted among those that are behind.
	behind distance
	// now is when the present message came to its turn.
	now time.Time
	// early are the messages that came before the session was loaded.
	early []any
	// handled counts attaches and wakes, for the directory.
	handled uint64

	// stamp is that of the last client that was let in.
	stamp int64
	// entered is the CONNECT that is being answered, first that for which the session is read, nil when there is none.
	entered *attach
	// handover is the latest claim of another node that was not turned down, nil when there is none: those before it are too late.
	// again is nil unless a CONNECT is to be taken again.
	handover *relinquish
	again    *connectAgain

	// ghosts are the members of actors before this one that gave the session up.
	ghosts []*member

	connection *connection
	succession succession
	// next is the connection that a CONNECT being handled came on; it takes the place of connection with the first effect
	// that is for it.
	next   *connection
	member *member
	// presence is what was written of the client when it came, nil while it is offline, or presence is not kept.
	presence *shownPresence
	// queue is the durable queue while the session catches up from it, open behind queueAt. queueUse counts its uses: what
	// comes from an earlier one is not for this one.
	queue    sessions.Queue
	queueAt  uint64
	queueUse uint64
	// waiting is how many messages waited in it at the last fetch, 0 when that is not known.
	waiting uint64
	// laggard is the session in the shared read of the log, nil while it does not take part.
	laggard *laggard
	// portion is what it was last handed while it was a little behind; used again.
	portion []sessions.Entry
	// walk is where the session reads retained messages that a SUBSCRIBE still has to bring, nil for nowhere.
	walk *retainedWalk

	// replays are the replays that it has, by their filters, in the shared read of the log.
	replays map[string]*laggard

	// queued is how many entries waited, at most, when those in the ring were last counted, up to queuedHead.
	queued, queuedHead uint64

	// effects are those of the last step, nil when a batch is over.
	effects *[]sessions.Effect
	// soon are inputs to be taken before any further message: answers that were given under the router's lock, behind which
	// live entries may be in the mailbox already.
	soon []sessions.Input
	// packets, publishes of them PUBLISH, wait for flush.
	packets   []mqttcodec.Packet
	publishes int
	bytes     int64
	routes    []*sessions.Message
	sharing
	// credits are the shares of inbound bounds that the session's pending messages hold, in order.
	credits []credit
	// holds are the messages stored under an ID that the session's documents may not know yet, in order.
	holds      []hold
	journaling []journaling
	unflushed  int
	timers     timerSlots
	alarm      *alarm

	results resultQueue
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

// timerSlots are the timers of the session. Firings of an older generation are ignored.
type timerSlots struct {
	// at is when, since the wheel's origin; 0 for never.
	at          [sessions.TimerReplay + 1]time.Duration
	generations [sessions.TimerReplay + 1]uint32
}

// alarm is what the timer wheel knows of a session actor. The actor takes itself out of it when it goes, so that timers
// which are still far away do not keep it in memory.
type alarm struct{ ref atomic.Pointer[sessionRef] }

// timerFired implements timerTarget.
func (a *alarm) timerFired(kind uint8, generation uint32) {
	if ref := a.ref.Load(); ref != nil {
		ref.post(&timer{sessions.Timer(kind), generation})
	}
}

// resultQueue gathers the results of writes and wakes the actor once for many.
type resultQueue struct {
	// mu guards persisted and inputs.
	mu sync.Mutex
	// persisted are the results of messages, nil when there are none. Messages go into another stream than what the other
	// results are of, so neither waits for the other.
	persisted *[]sessions.Result
	inputs    []sessions.Input
}

// resultLists are for the results of messages: sessions that have none keep none.
var resultLists = sync.Pool{New: func() any { return new([]sessions.Result) }}

func recycleResults(list *[]sessions.Result) {
	clear(*list)
	*list = (*list)[:0]
	resultLists.Put(list)
}

func newSessionActor(b *Broker, clientID string, stored bool, scanFrom uint64, ghosts []*member) *sessionActor {
	a := &sessionActor{
		broker: b, clientID: clientID, stored: stored, scanFrom: scanFrom, ghosts: ghosts,
		ref: &sessionRef{mailbox: &mailbox{}},
	}
	a.member = &member{clientID: clientID, post: a.ref.post}
	a.alarm = &alarm{}
	a.alarm.ref.Store(a.ref)
	return a
}

// Receive implements actor.Actor.
func (a *sessionActor) Receive(ctx actor.Context) {
	a.now = time.Now()
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
		if a.unflushed++; a.unflushed >= flushEvery || a.bytes >= int64(a.broker.cfg.OutboundBytes)/2 {
			a.flush() // not later, or congestion would be noticed when much more is on its way
		}
	}
	if a.gone && !a.poisoned {
		a.poisoned = true
		ctx.Poison(ctx.Self()) // behind what is queued, so that a CONNECT in the queue is handed on
	}
}

// handle takes one message.
func (a *sessionActor) handle(message any) {
	if a.broker.cluster.cutOff(a.now) {
		a.isolate()
	}
	switch m := message.(type) {
	case *loaded:
		a.onLoaded(m)
		return
	case *relinquish:
		if !a.gone && (a.session == nil || !a.session.Fenced()) {
			a.onRelinquish(m)
			return
		}
	}
	switch {
	case a.gone:
		a.handOn(message)
		return
	case a.session == nil:
		a.early = append(a.early, message) // bounded: by connections that wait for CONNACK, and their inbound bounds
		return
	case a.session.Fenced(): // in this batch: what comes is for the next actor
		a.flush()
		a.handOn(message)
		return
	}
	switch m := message.(type) {
	case *attach:
		a.onAttach(m)
	case *wake:
		a.handled++
		a.step(sessions.Awake{})
	case *heardOut:
		a.onHeardOut(m)
	case *inbound:
		a.onInbound(m)
	case *resultsReady:
		persisted, inputs := a.results.take()
		if persisted != nil {
			a.step(sessions.Persisted{Results: *persisted})
			recycleResults(persisted)
		}
		for _, in := range inputs {
			a.onResult(in)
			a.step(in)
		}
	case *queueFetched:
		a.onQueueFetched(m)
	case *caughtUp:
		a.onCaughtUp(m)
	case *replaysFound:
		a.onReplaysFound(m)
	case *sharesJoined:
		a.onSharesJoined(m)
	case *liveEffective:
		a.subscribeStored(m.effect, m.shareErrs)
	case *logEndKnown:
		a.subscribeBehind(m.effect, m.shareErrs, m.sequence)
	case *retrySubscribe:
		a.subscribeAfter(m.effect, m.shareErrs, 0, nil)
	case *timer:
		a.onTimer(m)
	case *announce:
		a.announce()
	case *isolated:
		a.isolate()
	case *showPresence:
		if a.presence != nil {
			state := a.presence.Presence
			state.Reason = ""
			a.broker.presence.put(state, a.presence)
		}
	case *decongested:
		if m.connection == a.connection {
			a.congested = false
			a.step(sessions.Congestion{Congested: false})
		}
	case sessions.Delivered:
		a.member.release(len(m.Entries), entryBytes(m.Entries))
		a.step(m)
	case sessions.Routed:
		a.member.release(len(m.Messages), messageListBytes(m.Messages))
		a.step(m)
	case sessions.Answered:
		a.member.release(1, m.Message.Memory())
		a.step(m)
	case sessions.SharedDelivered:
		a.sharedTaken += len(m.Entries)
		a.step(m)
	case sessions.SharedRouted:
		a.member.release(len(m.Messages), messageListBytes(m.Messages))
		a.step(m)
	case sessions.Input:
		a.step(m)
	}
	a.takeSoon()
	a.releaseCredits()
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

// step advances the session and carries out the effects. The batch ends with flush.
func (a *sessionActor) step(in sessions.Input) {
	a.performAll(a.session.Step(a.now, in, a.noEffects()))
}

// effectLists are for the effects of a step: sessions that are silent keep none.
var effectLists = sync.Pool{New: func() any { return new([]sessions.Effect) }}

// noEffects is an empty list for the effects of the next step.
func (a *sessionActor) noEffects() []sessions.Effect {
	if a.effects == nil {
		a.effects = effectLists.Get().(*[]sessions.Effect)
	}
	return (*a.effects)[:0]
}

// recycleEffects gives back the list that noEffects took.
func (a *sessionActor) recycleEffects() {
	if a.effects != nil {
		effectLists.Put(a.effects)
		a.effects = nil
	}
}

func (a *sessionActor) performAll(effects []sessions.Effect) {
	*a.effects = effects
	for i, e := range effects {
		a.perform(e)
		effects[i] = nil
	}
}

// flush ends a batch: writes start, packets go to the connection, and an actor with nothing left to do lets go.
func (a *sessionActor) flush() {
	a.unflushed = 0
	if a.session == nil || a.gone {
		return
	}
	a.succeed()
	a.routeAll()
	for again := true; again; again = a.takeSoon() {
		a.performAll(a.session.Flush(a.now, a.noEffects()))
	}
	a.releaseCredits()
	a.flushPackets()
	a.flushShares()
	a.updateHold()
	a.recycleEffects()
	if a.session.Connection() == 0 {
		a.goOffline()
	}
	switch {
	case a.session.Fenced():
		a.broker.log.Warn("session given up: a durable write failed; it is read from storage again", "client", a.clientID)
		a.abandon()
	case a.session.Absent() && a.session.Quiet():
		a.release(false)
	case a.session.Connection() == 0 && a.session.Quiet():
		a.release(!a.borrowed || a.stored)
	}
}

// routeAll hands the gathered QoS 0 messages to whoever is subscribed.
func (a *sessionActor) routeAll() {
	if len(a.routes) > 0 {
		a.broker.router.route(a.routes)
		a.broker.live.publish(a.routes, a.session.Identity())
		a.routes = nil
	}
}

// take empties the queue. persisted is for recycleResults.
func (q *resultQueue) take() (persisted *[]sessions.Result, inputs []sessions.Input) {
	q.mu.Lock()
	defer q.mu.Unlock()
	persisted, inputs = q.persisted, q.inputs
	q.persisted, q.inputs = nil, nil
	return persisted, inputs
}

// put adds a result and wakes the actor if it is the first.
func (q *resultQueue) put(ref *sessionRef, in sessions.Input) {
	q.mu.Lock()
	first := q.empty()
	q.inputs = append(q.inputs, in)
	q.mu.Unlock()
	if first {
		ref.post(&resultsReady{})
	}
}

// putPersisted is put for the result of a message.
func (q *resultQueue) putPersisted(ref *sessionRef, r sessions.Result) {
	q.mu.Lock()
	first := q.empty()
	if q.persisted == nil {
		q.persisted = resultLists.Get().(*[]sessions.Result)
	}
	*q.persisted = append(*q.persisted, r)
	q.mu.Unlock()
	if first {
		ref.post(&resultsReady{})
	}
}

// empty reports whether nobody was woken for what is there. mu is held.
func (q *resultQueue) empty() bool { return q.persisted == nil && len(q.inputs) == 0 }
