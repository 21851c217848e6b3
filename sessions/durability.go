package sessions

// document is the write order of one of the session's two durable documents: one write in flight, what changes
// meanwhile goes with the next. A version is the count of writes; version sent+1 is the one that collects now.
//
// Invariant: durable <= sent, and wanted <= sent+1.
type document struct {
	// revision is that of the last durable write, the expectation of the next.
	revision              uint64
	wanted, sent, durable uint64
	inFlight              bool
	// urgency is that of the next write.
	urgency Urgency
	// stored: storage holds the document, not a deletion marker.
	stored bool
}

// want makes sure that the state as it is now gets written, and returns the version that will hold it.
func (d *document) want() uint64 {
	d.wanted, d.urgency = d.sent+1, AtOnce
	return d.wanted
}

// wantSoon is want for what nothing waits for.
func (d *document) wantSoon() uint64 {
	if d.wanted > d.sent {
		return d.wanted
	}
	d.wanted, d.urgency = d.sent+1, Soon
	return d.wanted
}

// due reports whether a write has to start now.
func (d *document) due() bool { return !d.inFlight && d.wanted > d.sent }

// begin starts the write that is due and returns its version.
func (d *document) begin() uint64 {
	d.sent++
	d.inFlight = true
	return d.sent
}

// end takes the success of the write in flight.
func (d *document) end(revision uint64, stored bool) {
	d.inFlight = false
	d.durable = d.sent
	d.revision, d.stored = revision, stored
}

// forgo gives up what was to be written: the session does not last any more. Nothing is in flight.
func (d *document) forgo() {
	d.sent = max(d.sent, d.wanted)
	d.durable, d.wanted = d.sent, d.sent
}

// quiet reports whether everything wanted is durable.
func (d *document) quiet() bool { return !d.inFlight && d.wanted <= d.sent }

// journalNow makes sure that the journal as it is now gets written, and returns the version that will hold it. What
// ends with its connection is not journaled: nothing of it could be resumed.
func (s *Session) journalNow() uint64 {
	if s.expiry == 0 {
		return s.journal.durable
	}
	return s.journal.want()
}

// journalSoon notes that the journal is behind by something that nothing waits for.
func (s *Session) journalSoon() { s.journalLazy = s.expiry > 0 }

// deferred is an effect that waits for a document to be durable, whatever becomes of the connection.
type deferred struct {
	inRecord bool
	version  uint64
	effect   Effect
}

// releaseDeferred carries out what waited for a document that has become durable.
func (s *Session) releaseDeferred(dst []Effect) []Effect {
	rest := s.deferred[:0]
	for _, d := range s.deferred {
		durable := s.journal.durable
		if d.inRecord {
			durable = s.record.durable
		}
		if d.version > durable {
			rest = append(rest, d)
			continue
		}
		dst = append(dst, d.effect)
	}
	clear(s.deferred[len(rest):])
	s.deferred = rest
	return dst
}

// settling is a message stored under an ID, whose fact is not durable in a document yet: until then the log is the
// only witness, and recovery has to find it there.
type settling struct {
	token    uint64
	inRecord bool // else in the journal
	version  uint64
}

// settle notes that the fact of the Persist with this token will be durable with the wanted version of a document.
func (s *Session) settle(token uint64, inRecord bool, version uint64) {
	s.unsettled = append(s.unsettled, settling{token, inRecord, version})
}

// advanceSettled moves on past the facts that have become durable.
func (s *Session) advanceSettled() {
	for len(s.unsettled) > 0 {
		u := s.unsettled[0]
		durable := s.journal.durable
		if u.inRecord {
			durable = s.record.durable
		}
		if u.version > durable {
			return
		}
		s.unsettled = s.unsettled[1:]
	}
	s.unsettled = nil
}

// Settled is the token up to which every Persist with an ID is known to the session's durable documents. What is
// above it could only be told from the log after a crash, so the driver keeps the node's checkpoint below it.
func (s *Session) Settled() uint64 {
	settled := s.lastToken
	if len(s.pending) > 0 {
		settled = s.pending[0].token - 1
	}
	if len(s.unsettled) > 0 {
		settled = min(settled, s.unsettled[0].token-1)
	}
	return settled
}

// flushWrites starts the writes that are due.
func (s *Session) flushWrites(dst []Effect) []Effect {
	if s.state == stateFenced {
		return dst
	}
	if s.discardDue && !s.record.inFlight && !s.journal.inFlight && len(s.pending) == 0 {
		s.discardDue, s.journalLazy = false, false
		s.journal.forgo()
		if !s.record.stored { // only when ending: a CONNECT does not ask for it
			s.record.forgo()
			s.unsettled = nil
			s.becomeAbsent()
			return s.releaseDeferred(dst)
		}
		s.discarding = true
		s.record.wanted = s.record.sent + 1
		return append(dst, Discard{Token: s.record.begin(), Expect: s.record.revision})
	}
	if s.discarding || s.discardDue {
		return dst
	}
	if s.unmarked && s.journal.due() {
		s.record.want() // first: recovery asks the record whether there is a journal that is behind
	}
	if s.record.due() && s.firing == nil { // the stored one has the will until the log has it
		v := s.record.begin()
		if s.unmarked {
			s.unmarked, s.claim = false, v
		}
		dst = append(dst, SaveRecord{Token: v, Expect: s.record.revision, Data: s.encodeRecord(), Urgency: s.record.urgency})
	}
	// Before the claim is durable the journal may still be somebody else's.
	if s.journal.due() && s.record.durable >= s.claim {
		v := s.journal.begin()
		s.journalLazy = false
		position := s.position()
		dst = append(dst, SaveJournal{
			Token: v, Expect: s.journal.revision, Data: s.appendJournal(nil), Urgency: s.journal.urgency,
			Position: position, Live: s.journalsLive(),
		})
	}
	if s.journalLazy && !s.turnRequested && s.journal.wanted <= s.journal.sent { // else it is written anyway
		s.turnRequested = true
		dst = append(dst, RequestJournalTurn{})
	}
	return dst
}
