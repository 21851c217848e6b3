package actors

import (
	"context"
	"net"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// load takes up the session where it rests, or reads it on a goroutine of its own, if storage holds it.
func (a *sessionActor) load() {
	if !a.stored {
		a.session = sessions.New(&a.broker.cfg.Sessions, a.clientID, sessions.Stored{})
		return
	}
	if r := a.broker.resting.take(a.clientID); r != nil {
		a.onLoaded(&loaded{session: r.Session(&a.broker.cfg.Sessions, a.clientID)})
		return
	}
	failed := len(a.ghosts) > 0
	a.broker.work(func(ctx context.Context) {
		s, err := a.broker.loadSession(ctx, a.clientID, a.scanFrom, failed)
		a.ref.post(&loaded{s, err})
	})
}

func (a *sessionActor) onLoaded(m *loaded) {
	if m.err != nil {
		a.broker.log.Error("session could not be read", "client", a.clientID, "err", m.err)
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
	a.broker.shares.reconcile(a.clientID, m.session)
	early := a.early
	a.early = nil
	for _, e := range early {
		a.handle(e)
	}
}

// release lets the actor go, unless somebody wants it meanwhile.
func (a *sessionActor) release(stored bool) {
	deadline := a.session.Deadline()
	queued := stored && len(a.session.QueuedFilters()) > 0
	if stored { // before another actor may look for it
		a.broker.resting.put(a.clientID, a.session.Rest())
	}
	if !a.broker.directory.release(a.clientID, a.ref, a.handled, stored, deadline) {
		a.broker.resting.take(a.clientID)
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
	if c := a.connection; c != nil {
		a.tellEnded(sessions.Close{Connection: c.id, Reason: mqttcodec.UnspecifiedError})
		defer c.abort() // last: a client that comes back at once finds the next actor
	}
	a.goOffline()
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
	for _, m := range a.succession.waiting {
		a.handOn(m)
	}
	a.early, a.succession = nil, succession{}
}

// letGo leaves everything that knows the actor.
func (a *sessionActor) letGo() {
	a.gone = true
	a.alarm.ref.Store(nil)
	a.broker.shares.detachAll(a.member)
	a.endReplays()
	a.giveQueueBack()
	a.setBehind(notBehind)
	a.releaseCredits()
}

// layGhosts forgets the members of earlier actors: the documents are up to date.
func (a *sessionActor) layGhosts() {
	for _, g := range a.ghosts {
		a.broker.router.remove(g)
	}
	a.ghosts = nil
}

// handOn passes on what came too late for this actor: a CONNECT to the next one. Packets of a connection that was handed
// on may belong behind others that the next one has: that connection ends, and the next actor hears of it.
func (a *sessionActor) handOn(message any) {
	switch m := message.(type) {
	case *attach:
		a.broker.directory.connect(m.connection, m)
	case *inbound:
		if next := m.connection.session.Load(); next != a.ref {
			m.connection.abort()
			next.post(&inbound{connection: m.connection, err: net.ErrClosed})
		}
	case sessions.SharedDelivered:
		a.broker.shares.giveBack(m.Share, m.Entries, a.member, "")
	}
}
