package sessions

import (
	"reflect"
	"slices"

	"dunlin/mqttcodec"
)

// failer is a test, of rapid or not.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkInvariants holds a session against what is true of it between any two inputs.
func checkInvariants(t failer, s *Session) {
	t.Helper()
	if s.state == stateFenced {
		return // done for; nothing of it counts
	}
	checkStates(t, s)
	checkOutbound(t, s)
	checkBacklog(t, s)
	checkInbound(t, s)
	checkDurability(t, s)
	checkSubscriptions(t, s)
	checkDocuments(t, s)
}

func checkStates(t failer, s *Session) {
	t.Helper()
	attached := s.state == stateConnecting || s.state == stateConnected
	switch {
	case attached != (s.connection != 0):
		t.Fatalf("state %d with connection %d", s.state, s.connection)
	case (s.state == stateConnected) != (s.mode != modeParked):
		t.Fatalf("state %d is fed in mode %d", s.state, s.mode)
	case s.state != stateConnected && len(s.backlog)+len(s.retained)+len(s.shared)+len(s.answers)+len(s.replays.all())+s.quotaUsed > 0:
		t.Fatalf("state %d holds what belongs to a connection", s.state)
	case s.state != stateConnecting && len(s.held) > 0:
		t.Fatalf("packets are held in state %d", s.state)
	case (s.state == stateAbsent || s.state == stateEnding) && (s.will != nil || len(s.inflight)+len(s.inbound)+s.subs.count() > 0):
		t.Fatalf("something is left of a session that is over")
	case slices.ContainsFunc(s.owed, func(o owedRetained) bool { return s.subs.find(o.filter) == nil }):
		t.Fatalf("retained messages are owed to a filter that is not subscribed")
	case s.state == stateEnding && !s.discardDue && !s.discarding:
		t.Fatalf("an ending session is not discarded")
	case s.fetch.pending && s.mode != modeCatchingUp:
		t.Fatalf("a fetch is awaited in mode %d", s.mode)
	case slices.ContainsFunc(s.replays.all(), func(r *replay) bool { return len(r.waiting) > replayChunk }):
		t.Fatalf("a replay has read more than it may")
	case s.leaving < 0:
		t.Fatalf("more Left than Leave")
	}
}

func checkOutbound(t failer, s *Session) {
	t.Helper()
	seen := map[uint16]bool{}
	counted, assigned, unreleased := 0, false, false
	last := uint64(0)
	for i := range s.inflight {
		o := &s.inflight[i]
		if o.packetID == 0 || seen[o.packetID] || !s.ids.inUse(o.packetID) { // [MQTT-2.2.1-3] [MQTT-2.2.1-4]
			t.Fatalf("packet identifier %d is 0, used twice or free", o.packetID)
		}
		seen[o.packetID] = true
		if o.counted {
			counted++
		}
		qos1 := o.state == outboundAssigned || o.state == awaitingPuback
		qos2 := o.state != awaitingPuback
		if o.qos == 1 && !qos1 || o.qos == 2 && !qos2 || o.qos == 0 {
			t.Fatalf("delivery %d at QoS %d is in state %d", o.packetID, o.qos, o.state)
		}
		if assigned && (o.state == awaitingPuback || o.state == awaitingPubrec) {
			t.Fatalf("delivery %d overtook one before it", o.packetID)
		}
		assigned = assigned || o.state == outboundAssigned
		if o.share != "" && o.qos != 1 { // [MQTT-4.8.2-3]
			t.Fatalf("delivery %d of a shared subscription at QoS %d", o.packetID, o.qos)
		}
		if o.state >= pubrecSeen && unreleased {
			t.Fatalf("delivery %d was released and stands behind one that was not", o.packetID)
		}
		unreleased = unreleased || o.state < pubrecSeen
		if !o.retained && !o.replayed && o.share == "" {
			if unreleased && o.entry.Sequence <= last || o.entry.Sequence > s.position().Sequence {
				t.Fatalf("delivery of %d after %d at position %d", o.entry.Sequence, last, s.position().Sequence)
			}
			if unreleased {
				last = o.entry.Sequence
			}
		}
		if o.journaled > max(s.journal.durable, s.journal.wanted) {
			t.Fatalf("delivery %d waits for version %d of the journal; %d is wanted", o.packetID, o.journaled, s.journal.wanted)
		}
	}
	if counted != s.quotaUsed || s.quotaUsed > s.receiveMaximum || s.receiveMaximum > s.cfg.SendWindow { // [MQTT-3.3.4-9]
		t.Fatalf("quota used %d, counted %d, of %d", s.quotaUsed, counted, s.receiveMaximum)
	}
	if s.ids.len() != len(s.inflight) {
		t.Fatalf("%d identifiers in use for %d deliveries", s.ids.len(), len(s.inflight))
	}
}

func checkBacklog(t failer, s *Session) {
	t.Helper()
	at, bytes := s.position().Sequence, 0
	for i := range s.backlog {
		d := &s.backlog[i]
		if d.before.Sequence < at || d.entry.Sequence <= d.before.Sequence {
			t.Fatalf("backlog entry %d is after %d, position %d", d.entry.Sequence, d.before.Sequence, at)
		}
		at = d.entry.Sequence
		bytes += d.size()
	}
	if at > s.looked.Sequence || bytes != s.backlogBytes {
		t.Fatalf("backlog up to %d of %d bytes, looked up to %d and %d bytes", at, bytes, s.looked.Sequence, s.backlogBytes)
	}
}

func checkInbound(t failer, s *Session) {
	t.Helper()
	for id, in := range s.inbound {
		if id == 0 || in.generation > s.generation {
			t.Fatalf("inbound QoS 2 identifier %d of generation %d, counted up to %d", id, in.generation, s.generation)
		}
		if in.journaled > max(s.journal.durable, s.journal.wanted) {
			t.Fatalf("inbound %d waits for version %d of the journal; %d is wanted", id, in.journaled, s.journal.wanted)
		}
	}
	if s.inboundUsed < 0 || s.version == mqttcodec.V5 && s.inboundUsed > int(s.cfg.ReceiveMaximum) {
		t.Fatalf("%d inbound messages are unacknowledged", s.inboundUsed)
	}
	last, asked := uint64(0), false
	for _, e := range s.pending {
		if e.token <= last || e.token > s.lastToken {
			t.Fatalf("pending token %d after %d, last is %d", e.token, last, s.lastToken)
		}
		last = e.token
		asked = asked || e.asked
		if !s.stalled && !e.asked && !e.done {
			t.Fatalf("message %d is neither stored nor on its way", e.token)
		}
	}
	if s.stalled && len(s.pending) == 0 {
		t.Fatalf("stalled by nothing")
	}
	if s.Settled() > s.lastToken {
		t.Fatalf("settled up to %d of %d", s.Settled(), s.lastToken)
	}
}

func checkDurability(t failer, s *Session) {
	t.Helper()
	for name, d := range map[string]*document{"record": &s.record, "journal": &s.journal} {
		if d.durable > d.sent || d.wanted > d.sent+1 || d.inFlight != (d.durable < d.sent) {
			t.Fatalf("%s: wanted %d, sent %d, durable %d, in flight %v", name, d.wanted, d.sent, d.durable, d.inFlight)
		}
	}
	for _, a := range s.answers {
		if a.record > max(s.record.durable, s.record.wanted) || a.journal > max(s.journal.durable, s.journal.wanted) {
			t.Fatalf("%T waits for a version that nobody writes", a.packet)
		}
	}
}

func checkSubscriptions(t failer, s *Session) {
	t.Helper()
	noLocal := 0
	filters := map[string]bool{}
	s.subs.all(func(sub *Subscription) {
		if filters[sub.Filter] {
			t.Fatalf("two subscriptions for %q", sub.Filter)
		}
		filters[sub.Filter] = true
		if sub.NoLocal {
			noLocal++
		}
	})
	if noLocal != s.subs.noLocal {
		t.Fatalf("%d subscriptions with No Local, counted %d", noLocal, s.subs.noLocal)
	}
}

// checkDocuments: what would be written now is read as it was written.
func checkDocuments(t failer, s *Session) {
	t.Helper()
	j, err := decodeJournal(s.appendJournal(nil))
	if err != nil {
		t.Fatalf("journal: %v", err)
	}
	want := journalOf(s)
	if !reflect.DeepEqual(j, want) {
		t.Fatalf("journal\n got %+v\nwant %+v", j, want)
	}
	if s.state == stateAbsent || s.state == stateEnding {
		return
	}
	r, err := DecodeRecord(s.encodeRecord())
	if err != nil {
		t.Fatalf("record: %v", err)
	}
	if r.Incarnation != s.incarnation || r.Nonce != s.nonce || len(r.Subscriptions) != s.subs.count() || (r.DetachedAt == nil) != (s.connection != 0) {
		t.Fatalf("record %+v", r)
	}
}

// journalOf is what the journal of a session says.
func journalOf(s *Session) *journalState {
	j := &journalState{
		incarnation: s.incarnation, boot: s.cfg.Boot, epoch: s.epoch, live: s.journalsLive(), position: stored(s.position()),
		nextPacketID: s.ids.nextID(), generation: s.generation,
	}
	for _, o := range s.inflight {
		j.outbound = append(j.outbound, outbound{
			packetID: o.packetID, qos: o.qos, state: o.state, retained: o.retained, retain: o.retain, sent: o.sent, share: o.share, topic: o.retainedTopic(), replayed: o.replayed,
			identifiers: o.identifiers, entry: Entry{Position: stored(o.entry.Position)},
		})
	}
	for _, o := range s.owed {
		if !o.passing {
			j.owed = append(j.owed, owedRetained{filter: o.filter, at: stored(o.at), after: o.after, read: o.after})
		}
	}
	for _, id := range s.inboundIDs() {
		in := s.inbound[id]
		j.inbound = append(j.inbound, inboundEntry{packetID: id, generation: in.generation, stored: in.stored})
	}
	return j
}

// stored is a position as it comes back from storage.
func stored(p Position) Position {
	if !p.Time.IsZero() {
		p.Time = p.Time.UTC()
	}
	return p
}

// checkFlushed holds a session against what is true of it after Flush only.
func checkFlushed(t failer, s *Session) {
	t.Helper()
	if s.state == stateFenced {
		return
	}
	for _, a := range s.answers {
		if a.record <= s.record.durable && a.journal <= s.journal.durable {
			t.Fatalf("%T waits for what is durable", a.packet)
		}
	}
	if s.record.due() && !s.discarding && !s.discardDue && s.firing == nil {
		t.Fatalf("a record write was not started")
	}
	sendable := func(o outbound) bool {
		return o.state == outboundAssigned && o.entry.Message != nil && o.journaled <= s.journal.durable
	}
	if s.state != stateConnected || s.congested || s.quotaUsed >= s.receiveMaximum || s.loading != 0 {
		return
	}
	if i := slices.IndexFunc(s.inflight, func(o outbound) bool { return o.state == outboundAssigned }); i >= 0 {
		if sendable(s.inflight[i]) {
			t.Fatalf("delivery %d could be sent", s.inflight[i].packetID)
		}
		return
	}
	if s.subscriptionWork.holds() || s.ids.len() == maxPacketID {
		return
	}
	if len(s.owed) > 0 && s.reached(s.owed[0].at) {
		if s.readingRetained == 0 {
			t.Fatalf("%d retained messages could be sent, others be read", len(s.retained))
		}
		return
	}
	if len(s.backlog) > 0 {
		t.Fatalf("%d messages could be sent", len(s.backlog))
	}
}
