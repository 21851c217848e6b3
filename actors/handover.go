package actors

import (
	"slices"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// A client identifier has one connection, on whatever node. The node on which a client connects tells all others, which end the
// connection that they have; if one of them has the session, it is asked for it, and answers when all that it knows of the session
// is in the documents. Of several claims at the same time the latest counts.

// relinquish: another node has a claim to a session. answer is nil when nobody waits for one.
type relinquish struct {
	claim  sessions.Claim
	answer func(sessions.Release)
}

func (m *relinquish) reply(r sessions.Release) {
	if m.answer != nil {
		m.answer(r)
	}
}

// lookForOwner is how long after it has let go of a session a node looks whether another has it, which takes longer than a claim. Only
// if it subscribes to something shared: the queue of that has to stay until the session is a subscriber elsewhere.
const lookForOwner = 5 * time.Second

// relinquish has a session go to another node, if there is one here.
func (d *directory) relinquish(claim sessions.Claim, answer func(sessions.Release)) {
	m := &relinquish{claim, answer}
	s := d.shard(claim.ClientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[claim.ClientID]
	if e != nil && e.ref != nil {
		e.ref.post(m)
		return
	}
	if e != nil { // its documents are as they were left; its deadline may bring us back to it, if nobody takes it after all
		d.broker.resting.take(claim.ClientID)
		d.broker.parking.drop(claim.ClientID)
		if at := time.Now().Add(lookForOwner); d.broker.shares.handOver(claim.ClientID) && (e.deadline == 0 || at.UnixNano() < e.deadline) {
			d.arm(claim.ClientID, e, at)
		}
	}
	m.reply(sessions.Release{ScanFrom: e.scanFrom()})
}

// scanFrom is from where on the log may hold messages that the session's documents do not know, 0 if it does not.
func (e *directoryEntry) scanFrom() uint64 {
	if e == nil || e.failure == nil {
		return 0
	}
	return e.failure.scanFrom
}

// announceAll has all session actors announce the clients that they have.
func (d *directory) announceAll() { d.postAll(&announce{}) }

// isolated: storage does not answer, and other nodes may take the session over. directory → session.
type isolated struct{}

// isolate lets go of the client, if there is a stored session, which may be another node's by now. What is unfinished of one without a client is
// for storage to tell: it might be finished elsewhere, and once more here.
func (a *sessionActor) isolate() {
	switch {
	case a.isolated || a.gone || a.session == nil || a.session.Fenced() || !a.session.Recorded():
	case a.session.Connection() == 0:
		a.abandon()
	default:
		a.isolated = true
		a.step(sessions.Shutdown{Another: true})
	}
}

// announce: other nodes may not know that the session has a client. directory → session.
type announce struct{}

// announce tells other nodes that the client is here.
func (a *sessionActor) announce() {
	if a.connection != nil && a.stamp != 0 {
		a.broker.cluster.announce(a.clientID, a.stamp, a.session.Principal())
	}
}

// claimOf is the claim of a client that has connected here.
func (a *sessionActor) claimOf(stamp int64) sessions.Claim {
	return sessions.Claim{ClientID: a.clientID, Boot: a.broker.cfg.Sessions.Boot, Stamp: stamp}
}

// ownClaim is that of the latest client that has connected here.
func (a *sessionActor) ownClaim() sessions.Claim {
	own := a.claimOf(a.stamp)
	for _, m := range a.early {
		if m, ok := m.(*attach); ok {
			own.Stamp = max(own.Stamp, m.stamp)
		}
	}
	for _, m := range a.succession.waiting {
		own.Stamp = max(own.Stamp, m.stamp)
	}
	return own
}

// onRelinquish takes the claim of another node.
func (a *sessionActor) onRelinquish(m *relinquish) {
	switch {
	case a.ownClaim().After(m.claim):
		m.reply(sessions.Release{Later: true})
		if a.claimOf(a.stamp).After(m.claim) {
			a.announce() // it was not heard; a client that is still to be let in is announced then
		}
		return
	case a.session != nil && a.session.BelongsToAnother(a.now, m.claim.Principal):
		m.reply(sessions.Release{Denied: true})
		return
	}
	switch h := a.handover; {
	case h == nil:
		a.handover = m
	case h.claim.After(m.claim):
		m.reply(sessions.Release{Later: true})
		return
	case m.claim.After(h.claim):
		h.reply(sessions.Release{Later: true})
		a.handover = m
	case m.answer != nil:
		h.answer = m.answer // it was announced before
	}
	a.early = slices.DeleteFunc(a.early, func(e any) bool {
		earlier, ok := e.(*attach)
		if ok {
			a.refuseEarlier(earlier)
		}
		return ok
	})
	for _, earlier := range a.succession.waiting {
		a.refuseEarlier(earlier)
	}
	a.succession = succession{}
	if a.session == nil {
		a.handOver(sessions.Release{ScanFrom: a.scanFrom}) // nothing of it was touched
		return
	}
	a.step(sessions.Relinquish{})
}

// refuseEarlier turns a client away that has connected before another one did elsewhere.
func (a *sessionActor) refuseEarlier(m *attach) {
	a.handled++
	a.broker.log.Info("client refused", "client", a.clientID, "connection", m.connection.id, "err", errLater)
	m.connection.refuse(mqttcodec.ServerBusy)
}

// late reports whether a client has connected elsewhere after a CONNECT here, which is then refused. If not, the session stays.
func (a *sessionActor) late(m *attach) bool {
	h := a.handover
	if h == nil {
		return false
	}
	if h.claim.After(a.claimOf(m.stamp)) {
		a.refuseEarlier(m)
		return true
	}
	a.handOver(sessions.Release{Later: true})
	a.handover = nil
	return false
}

// handOver answers who waits for the session.
func (a *sessionActor) handOver(r sessions.Release) {
	if a.handover == nil {
		return
	}
	a.handover.reply(r)
	a.handover.answer = nil
}

// connectAgain has a CONNECT taken anew, by a session that is read from storage again.
type connectAgain struct {
	attach *attach
	held   []mqttcodec.Packet
	lost   *sessions.ConnectionLost
}

// maxConnectAgain is how often that is tried for one CONNECT: each time another node was faster.
const maxConnectAgain = 5

// onConnectAgain lets go of the connection of a CONNECT that is to be taken again when this actor has let go of the session.
func (a *sessionActor) onConnectAgain(e sessions.ConnectAgain) {
	if a.connection == nil || a.connection.id != e.Connection || a.entered == nil {
		return
	}
	a.again = &connectAgain{a.entered, e.Held, e.Lost}
	a.connection, a.entered = nil, nil
	a.dropPackets()
}

// connectAgain hands a CONNECT to the next actor, with what came behind it.
func (a *sessionActor) connectAgain() {
	again := a.again
	if a.again = nil; again == nil {
		return
	}
	c := again.attach.connection
	if again.attach.tries++; again.attach.tries > maxConnectAgain {
		a.broker.log.Warn("client refused: its session is taken from node to node", "client", a.clientID, "connection", c.id)
		c.refuse(mqttcodec.ServerBusy)
		return
	}
	in := &inbound{connection: c, packets: again.held}
	if again.lost != nil {
		in.err = again.lost.Err
	}
	c.inflow.add(len(again.held), 0)
	again.attach.behind = []*inbound{in}
	a.broker.directory.connect(c, again.attach)
}
