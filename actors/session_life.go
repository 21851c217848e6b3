package actors

import (
	"context"
	"errors"
	"net"
	"slices"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// load takes up the session where it rests, or reads it on a goroutine of its own, if storage holds it.
func (a *sessionActor) load() {
	if !a.stored && a.broker.cluster.alone() {
		a.session = sessions.New(&a.broker.cfg.Sessions, a.clientID, sessions.Stored{})
		return
	}
	if r := a.broker.resting.take(a.clientID); r != nil {
		a.onLoaded(&loaded{session: r.Session(&a.broker.cfg.Sessions, a.clientID)})
		return
	}
	a.read()
}

// read reads the session from storage, for the client that has connected if there is one.
func (a *sessionActor) read() {
	l := loading{clientID: a.clientID, scanFrom: a.scanFrom, failed: len(a.ghosts) > 0}
	client := a.entered
	if client != nil {
		l.stamp, l.principal = client.stamp, client.identity.Principal
	}
	a.entered = nil
	a.broker.work(func(ctx context.Context) {
		s, borrowed, err := a.broker.loadSession(ctx, l)
		a.ref.post(&loaded{s, borrowed, client, err})
	})
}

func (a *sessionActor) onLoaded(m *loaded) {
	switch {
	case errors.Is(m.err, errElsewhere), errors.Is(m.err, errLater), errors.Is(m.err, errDenied):
		a.refuseEarly(m.err, func(early *attach) bool { return early == m.client })
		if a.entered = a.earliest(); a.entered != nil {
			a.read()
			return
		}
		a.forgo()
		return
	case m.err != nil:
		a.refuseEarly(m.err, everyone)
		if n := a.broker.stats.unreadSessions.Add(1); n&(n-1) == 0 { // 1, 2, 4, 8 …: there may be many, and each is tried again
			a.broker.log.Error("session could not be read; trying again", "client", a.clientID, "so_far", n, "err", m.err)
		}
		a.abandon()
		return
	}
	a.session, a.borrowed = m.session, m.borrowed
	a.broker.shares.reconcile(a.clientID, m.session)
	early := a.early
	a.early = nil
	for _, e := range early {
		a.handle(e)
	}
}

// earliest is the first CONNECT that waits for the session to be read, nil when there is none.
func (a *sessionActor) earliest() *attach {
	for _, m := range a.early {
		if m, ok := m.(*attach); ok {
			return m
		}
	}
	return nil
}

// refuseEarly turns away those of the clients that wait for the session to be read who cannot have it.
func (a *sessionActor) refuseEarly(why error, whom func(*attach) bool) {
	reason := mqttcodec.ServerUnavailable
	switch {
	case errors.Is(why, errLater):
		reason = mqttcodec.ServerBusy
	case errors.Is(why, errDenied):
		reason = mqttcodec.NotAuthorized
	}
	a.early = slices.DeleteFunc(a.early, func(e any) bool {
		m, ok := e.(*attach)
		if !ok || !whom(m) {
			return false
		}
		a.handled++
		a.broker.log.Info("client refused", "client", a.clientID, "connection", m.connection.id, "reason", reason, "err", why)
		m.connection.refuse(reason)
		return true
	})
}

func everyone(*attach) bool { return true }

// giveUpEarly forgets what waits for a session that is not to be had.
func (a *sessionActor) giveUpEarly() {
	for _, m := range a.early {
		if _, ok := m.(*wake); ok {
			a.handled++
		}
	}
	a.early = nil
}

// forgo lets the actor go of a session that is another node's.
func (a *sessionActor) forgo() {
	a.giveUpEarly()
	a.session = sessions.New(&a.broker.cfg.Sessions, a.clientID, sessions.Stored{})
	a.stored, a.borrowed = false, true
	a.layGhosts()
	a.broker.shares.forget(a.clientID)
}

// release lets the actor go, unless somebody wants it meanwhile.
func (a *sessionActor) release(stored bool) {
	deadline := a.session.Deadline()
	queued := stored && len(a.session.QueuedFilters()) > 0
	switch { // before another actor may look for it
	case stored && a.handover == nil:
		a.broker.resting.put(a.clientID, a.session.Rest())
	case stored && a.broker.shares.handOver(a.clientID):
		if at := a.now.Add(lookForOwner); deadline.IsZero() || at.Before(deadline) {
			deadline = at
		}
	}
	if !a.broker.directory.release(a.clientID, a.ref, a.handled, stored, deadline) {
		a.broker.resting.take(a.clientID)
		return
	}
	a.broker.router.remove(a.member)
	a.layGhosts()
	a.letGo()
	a.handOver(sessions.Release{})
	switch {
	case queued && a.handover == nil:
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
	ghosts := a.ghosts
	if a.session == nil { // it was not read, so that the checkpoint has nothing to wait for
		a.broker.router.remove(a.member)
	} else {
		a.broker.router.haunt(a.member)
		ghosts = append(ghosts, a.member)
	}
	a.letGo()
	a.broker.directory.failed(a.clientID, a.ref, scanFrom, ghosts)
	a.handOver(sessions.Release{ScanFrom: scanFrom})
	a.connectAgain()
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
	case *relinquish:
		a.broker.directory.relinquish(m.claim, m.answer)
	case *inbound:
		if next := m.connection.session.Load(); next != a.ref {
			m.connection.abort()
			next.post(&inbound{connection: m.connection, err: net.ErrClosed})
		}
	case sessions.SharedDelivered:
		a.broker.shares.giveBack(m.Share, m.Entries, a.member, "")
	}
}
