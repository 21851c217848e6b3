package actors

import (
	"context"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// perform carries out one effect of the session. It is the only place where effects meet I/O, and it never blocks.
func (a *sessionActor) perform(effect sessions.Effect) {
	switch e := effect.(type) {
	case sessions.Send:
		a.send(e)
	case sessions.Refuse:
		a.refuse(e)
	case sessions.ConnectAgain:
		a.onConnectAgain(e)
	case sessions.Authenticate:
		a.authenticate(e)
	case sessions.Close:
		a.closeConnection(e)
	case sessions.Persist:
		a.persist(e)
	case sessions.Route:
		a.routes = append(a.routes, e.Message)
	case sessions.Answer:
		a.routeAll() // what the client sent before goes before
		a.broker.live.answer(e.Token, e.Message)
	case sessions.Ask:
		a.routeAll()
		a.broker.live.request(e.ID, e.Message, a.member)
	case sessions.SaveRecord:
		a.stored = true
		a.broker.storage.Store.SaveRecord(a.clientID, e.Data, e.Expect, e.Urgency, recordSink{a}, e.Token)
	case sessions.SaveJournal:
		a.journaling = append(a.journaling, journaling{e.Token, e.Position.Sequence, e.Live})
		a.broker.storage.Store.SaveJournal(a.clientID, e.Data, e.Expect, e.Urgency, journalSink{a}, e.Token)
	case sessions.RequestJournalTurn:
		a.broker.turns.request(a.ref)
	case sessions.Discard:
		a.broker.storage.Store.Delete(a.clientID, e.Expect, discardSink{a}, e.Token)
	case sessions.Subscribe:
		a.routeAll() // what the client sent at QoS 0 before is not for its new filters
		if len(e.Shares) > 0 {
			a.joinShares(e)
		} else {
			a.subscribe(e, nil)
		}
	case sessions.ReadRetained:
		a.readRetained(e)
	case sessions.Attach:
		a.broker.router.attach(a.member, e.Filters)
		a.broker.shares.attach(a.member, e.Shares)
	case sessions.Unsubscribe:
		a.routeAll() // what the client sent at QoS 0 before is still for those that end
		a.broker.router.unsubscribe(a.member, e.Filters)
		a.broker.shares.detach(a.member, e.Shares)
		a.giveQueueBack() // its filters are not the session's any more
	case sessions.LeaveShares:
		for _, name := range e.Shares {
			a.broker.shares.leave(name, a.clientID)
		}
	case sessions.ShareRoom:
		a.shareRoom(e)
	case sessions.Settle:
		a.settles = append(a.settles, e)
	case sessions.GiveBack:
		a.flushSettles() // before: a message is not settled by who does not have it any more
		a.broker.shares.giveBack(e.Share, e.Entries, a.member, e.Why)
	case sessions.FindReplays:
		a.findReplays(e)
	case sessions.ReadReplay:
		a.readReplay(e)
	case sessions.EndReplay:
		a.endReplay(e.Filter)
	case sessions.Join:
		at := a.broker.router.join(a.member, e.Durable)
		a.soon = append(a.soon, sessions.Fetched{Token: e.Token, UpTo: at, Live: true})
		a.dropQueue()
	case sessions.Fetch:
		a.fetch(e)
	case sessions.Leave:
		at := a.broker.router.leave(a.member)
		if a.session.Connection() == 0 {
			a.broker.router.detach(a.member)
			a.walk = nil
			a.broker.shares.detachAll(a.member)
			a.queuedHead = 0
		}
		a.giveQueueBack()
		a.setBehind(notBehind)
		a.ref.post(sessions.Left{Position: at}) // behind what was handed over before
	case sessions.Load:
		a.loadMessages(e)
	case sessions.SetTimer:
		a.setTimer(e)
	case sessions.Drop:
		a.broker.stats.Dropped(a.clientID, e.Reason, e.Count)
	case sessions.Expired:
		a.tellExpired(e.Principal)
	}
}

func (a *sessionActor) send(e sessions.Send) {
	a.switchTo(e.Connection)
	if a.connection == nil || a.connection.id != e.Connection {
		return
	}
	size := int64(64)
	switch p := e.Packet.(type) {
	case *mqttcodec.Publish:
		size += int64(len(p.Topic) + len(p.Payload) + p.Properties.Memory())
		a.publishes++
	case *mqttcodec.SharedPublish:
		size = int64(p.Len())
		a.publishes++
	case *mqttcodec.Connack:
		a.connection.answer()
		a.entered = nil
		if !p.Reason.Failed() {
			a.broker.directory.claimed(a.clientID)
			a.tellConnected(p.SessionPresent)
		}
		a.broker.log.Debug("client connected", "client", a.clientID, "connection", e.Connection, "session_present", p.SessionPresent)
	}
	a.packets = append(a.packets, e.Packet)
	a.bytes += size
}

// refuse turns away the connection that a CONNECT being handled came on. The one that the session has stays.
func (a *sessionActor) refuse(e sessions.Refuse) {
	if a.next == nil || a.next.id != e.Connection {
		return
	}
	a.broker.log.Info("client refused", "client", a.clientID, "connection", e.Connection, "reason", e.Reason, "err", e.Err)
	a.next.refuse(e.Reason)
	a.next = nil
}

func (a *sessionActor) closeConnection(e sessions.Close) {
	a.switchTo(e.Connection)
	if a.connection == nil || a.connection.id != e.Connection {
		return
	}
	if e.Err != nil {
		a.broker.log.Info("connection closed", "client", a.clientID, "connection", e.Connection, "reason", e.Reason, "err", e.Err)
	} else {
		a.broker.log.Debug("connection closed", "client", a.clientID, "connection", e.Connection, "reason", e.Reason)
	}
	a.tellEnded(e)
	if a.session.Connection() == 0 { // before the client sees the end: what is published then is for the other members
		a.broker.shares.detachAll(a.member)
	}
	a.close = true
	a.flushPackets()
}

// persist hands a message to the log. One with an ID holds the checkpoint back until the session's documents know it.
func (a *sessionActor) persist(e sessions.Persist) {
	a.routeAll() // so that it does not overtake what the client sent at QoS 0 before
	if e.ID != "" {
		a.holds = append(a.holds, hold{e.Token, a.broker.storage.Log.LastAppended()})
		a.updateHold()
	}
	if e.Delay > 0 {
		a.broker.storage.Delayed.Put(e.Message, e.Delay, e.ID, publishSink{a}, e.Token)
		return
	}
	a.broker.storage.Log.Append(e.Message, e.ID, publishSink{a}, e.Token)
}

// updateHold tells the checkpoint how far the log may be the only witness of what the session took.
func (a *sessionActor) updateHold() {
	if len(a.holds) == 0 {
		return
	}
	settled := a.session.Settled()
	for len(a.holds) > 0 && a.holds[0].token <= settled {
		a.holds = a.holds[1:]
	}
	if len(a.holds) == 0 {
		a.holds = nil
		a.member.hold.Store(0)
		return
	}
	a.member.hold.Store(a.holds[0].above + 1)
}

// onResult notes for the checkpoint what the session's journal says now.
func (a *sessionActor) onResult(in sessions.Input) {
	if d, ok := in.(sessions.Discarded); ok && d.Result.Err == nil {
		a.member.active.Store(false)
		return
	}
	saved, ok := in.(sessions.JournalSaved)
	if !ok || len(a.journaling) == 0 {
		return
	}
	j := a.journaling[0] // one write is in flight at a time
	a.journaling = a.journaling[1:]
	if saved.Result.Err != nil {
		return
	}
	a.layGhosts()
	switch {
	case j.live:
		a.member.journaled.Store(j.position)
	case a.member.handed.Load() == unfed:
		a.member.active.Store(false)
	default: // it is fed again meanwhile, and will journal that
	}
}

// subscribe makes filters effective, on the live plane first: what others publish behind SUBACK comes, too.
func (a *sessionActor) subscribe(e sessions.Subscribe, shareErrs []error) {
	if a.broker.live.want(e.Filters, e.Shares, func() { a.ref.post(&liveEffective{e, shareErrs}) }) {
		a.subscribeStored(e, shareErrs)
	}
}

// subscribeStored makes filters effective as soon as everything stored before, by any node, was handed out.
func (a *sessionActor) subscribeStored(e sessions.Subscribe, shareErrs []error) {
	if a.broker.cluster.alone() {
		a.subscribeBehind(e, shareErrs, 0)
		return
	}
	a.broker.logEnd(func(sequence uint64) { a.ref.post(&logEndKnown{e, shareErrs, sequence}) })
}

func (a *sessionActor) subscribeBehind(e sessions.Subscribe, shareErrs []error, sequence uint64) {
	a.subscribeAfter(e, shareErrs, sequence, func() { a.ref.post(&retrySubscribe{e, shareErrs}) })
}

func (a *sessionActor) subscribeAfter(e sessions.Subscribe, shareErrs []error, sequence uint64, reached func()) {
	in, done := a.broker.router.subscribe(a.member, e, sequence, time.Now(), reached)
	if done {
		in.ShareErrs = shareErrs
		a.giveQueueBack() // its filters are not the session's any more
		a.soon = append(a.soon, in)
	}
}

// loadMessages reads the messages of unfinished deliveries, on a goroutine of its own.
func (a *sessionActor) loadMessages(e sessions.Load) {
	a.broker.work(func(ctx context.Context) {
		entries, err := a.broker.storage.Log.Load(ctx, e.Sequences)
		if err == nil && len(entries) < len(e.Sequences)+len(e.Foreign) {
			entries = a.broker.router.appendRetained(entries, e.Retained, e.Foreign)
		}
		a.ref.post(sessions.Loaded{Token: e.Token, Entries: entries, Err: err})
	})
}

// readRetained reads on in the retained messages of a filter, or begins to.
func (a *sessionActor) readRetained(e sessions.ReadRetained) {
	if w := a.walk; w == nil || w.filter != e.Filter || w.upTo != e.After {
		a.walk = a.broker.router.walkRetained(e.Filter, e.After)
	}
	if !a.broker.router.readRetained(a.member, e, a.walk, time.Now()) {
		a.walk = nil
	}
}

// timerStep is the longest time that a timer stays on the wheel, from where those of actors that have gone are not taken.
const timerStep = time.Minute

// setTimer arms a timer.
func (a *sessionActor) setTimer(e sessions.SetTimer) {
	t := &a.timers
	t.generations[e.Timer]++
	t.at[e.Timer] = 0
	if !e.At.IsZero() {
		t.at[e.Timer] = max(e.At.Sub(a.broker.wheel.origin), 1)
	}
	a.schedule(e.Timer)
}

func (a *sessionActor) schedule(kind sessions.Timer) {
	if a.timers.at[kind] == 0 {
		return
	}
	at := a.broker.wheel.origin.Add(a.timers.at[kind])
	if step := time.Now().Add(timerStep); at.After(step) {
		at = step
	}
	a.broker.wheel.Schedule(at, a.alarm, uint8(kind), a.timers.generations[kind])
}

func (a *sessionActor) onTimer(m *timer) {
	if at := a.timers.at[m.kind]; at == 0 || a.timers.generations[m.kind] != m.generation {
		return
	} else if time.Since(a.broker.wheel.origin) < at {
		a.schedule(m.kind)
		return
	}
	in := sessions.TimerFired{Timer: m.kind}
	if a.connection != nil {
		in.Withheld = a.connection.inflow.withheld()
	}
	a.step(in)
}

// The sinks take the results of the session's writes.
type (
	publishSink struct{ a *sessionActor }
	recordSink  struct{ a *sessionActor }
	journalSink struct{ a *sessionActor }
	discardSink struct{ a *sessionActor }
)

// Stored implements sessions.Sink.
func (s publishSink) Stored(r sessions.Result) {
	s.a.results.putPersisted(s.a.ref, r)
}

// Stored implements sessions.Sink.
func (s recordSink) Stored(r sessions.Result) {
	s.a.results.put(s.a.ref, sessions.RecordSaved{Result: r})
}

// Stored implements sessions.Sink.
func (s journalSink) Stored(r sessions.Result) {
	s.a.results.put(s.a.ref, sessions.JournalSaved{Result: r})
}

// Stored implements sessions.Sink.
func (s discardSink) Stored(r sessions.Result) {
	s.a.results.put(s.a.ref, sessions.Discarded{Result: r})
}
