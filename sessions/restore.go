package sessions

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Recovery is what a node found out about the past of a session whose owner did not hand it over.
type Recovery struct {
	// Checkpoints are the last words of earlier boots. That of the record's owner tells when the session was left, and how far it
	// was, if the owner has written the journal too: else a claim was cut short, and the writer may have gone on without the session.
	Checkpoints map[string]*Checkpoint
	// IDs are the identities of the messages of this incarnation that recovery saw in the log (see IncarnationOf).
	IDs []string
	// Now is when the session counts as left if nothing tells otherwise.
	Now time.Time
}

// Restore is the session that storage holds. stored must have a record. A damaged journal is an error, but does not keep
// the session from being restored: it starts again behind its first SUBSCRIBE.
func Restore(cfg *Config, stored Stored, recovery Recovery) (*Session, error) {
	r, err := stored.DecodeRecord()
	if err != nil {
		return nil, err
	}
	s := New(cfg, r.ClientID, stored)
	s.record.stored = true
	s.incarnation, s.epoch, s.nonce, s.version = r.Incarnation, r.Epoch, r.Nonce, r.Protocol
	s.identity.Principal = r.Principal
	if cfg.PermissionsOf != nil {
		s.identity.Permissions = cfg.PermissionsOf(r.Principal, r.ClientID)
	}
	s.expiry = cfg.storedExpiry(r)
	s.will = r.Will
	s.detachedAt = LeftAt(r, recovery)
	s.foreign = r.Owner != cfg.Boot || !r.TellsWhenLeft(s.detachedAt) || len(recovery.IDs) > 0
	for _, sub := range r.Subscriptions {
		s.subs.put(sub)
	}
	s.becomeDetached()
	s.looked = s.subs.since() // if nothing was delivered yet
	if stored.Journal != nil {
		s.journal.stored = true
		err = s.restoreJournal(stored.Journal, r.Owner, recovery)
	}
	s.recoverIDs(recovery.IDs)
	return s, err
}

// Contest notes that another node may have the session by now, or be about to claim it: a client is let in when its own claim is
// durable, not before.
func (s *Session) Contest() { s.contested = true }

// LeftAt is when the connection of a stored session ended: as recorded, else the last sign of life of its owner. A client
// that left shortly before that, and left no will, may have been back without a word of it in the record (see recordHolds):
// it counts as left with its owner, so that its session does not end too early.
func LeftAt(r *Record, recovery Recovery) time.Time {
	c := recovery.Checkpoints[r.Owner]
	switch {
	case r.DetachedAt != nil && (c == nil || r.Will != nil || !mayHaveComeBack(*r.DetachedAt, c)):
		return *r.DetachedAt
	case c != nil:
		return c.Time
	}
	return recovery.Now
}

// mayHaveComeBack reports whether a client may have been there when its node was last alive, though its record says that it
// had left.
func mayHaveComeBack(left time.Time, c *Checkpoint) bool {
	return !c.Released && left.Before(c.Time) && c.Time.Sub(left) <= staleFor
}

// TellsWhenLeft reports whether the record itself says that the connection ended when recovery found that it did.
func (r *Record) TellsWhenLeft(left time.Time) bool {
	return r.DetachedAt != nil && r.DetachedAt.Equal(left)
}

func (s *Session) restoreJournal(b []byte, owner string, recovery Recovery) error {
	j, err := decodeJournal(b)
	if err != nil {
		s.foreign = true // to be written anew
		s.ids.skipAhead(identifierGap)
		return err
	}
	if j.incarnation != s.incarnation {
		return nil // of an earlier session under this client identifier
	}
	s.looked = j.position
	s.ids.setNext(j.nextPacketID)
	if j.live {
		s.foreign = true // it is not fed any more: no checkpoint may stand for its position from now on
		if c := recovery.Checkpoints[j.boot]; c != nil && j.boot == owner && c.Position.Sequence > s.looked.Sequence {
			s.looked = c.Position
		}
		// What was sent after the last write of the journal comes again under new identifiers. They start far from the
		// old ones, so that a late PUBACK frees nothing wrong.
		s.ids.skipAhead(identifierGap)
	}
	for _, o := range j.outbound {
		if o.state == awaitingPuback || o.state == awaitingPubrec {
			o.state = outboundAssigned
		}
		// It was written before it was sent, or behind that: it may have been sent. [MQTT-3.3.1-1]
		o.sent = true
		if s.ids.take(o.packetID) {
			s.inflight = slide(&s.inflightBase, s.inflight, o)
		}
	}
	for _, o := range j.owed {
		if s.subs.find(o.filter) != nil {
			s.owed = append(s.owed, o)
		}
	}
	s.generation = j.generation
	if len(j.inbound) > 0 {
		s.inbound = make(map[uint16]*inboundMessage, len(j.inbound))
	}
	for _, in := range j.inbound {
		s.inbound[in.packetID] = &inboundMessage{generation: in.generation, stored: in.stored}
	}
	return nil
}

// identifierGap is how far new packet identifiers keep from journaled ones after a crash.
const identifierGap = 1 << 14

// recoverIDs takes what the log knows and the documents do not: QoS 2 messages that were stored, and the will.
func (s *Session) recoverIDs(ids []string) {
	known := s.generation
	for _, id := range ids {
		rest, ok := strings.CutPrefix(id, s.incarnation+"/")
		if !ok {
			continue
		}
		if s.will != nil && id == willID(s.incarnation, s.nonce) {
			s.will = nil
			continue
		}
		packet, generation, _ := strings.Cut(rest, "/")
		pid, err1 := strconv.ParseUint(packet, 10, 16)
		gen, err2 := strconv.ParseUint(generation, 10, 64)
		if err1 != nil || err2 != nil || pid == 0 {
			continue
		}
		s.recoverInbound(uint16(pid), gen, known)
	}
	var unstored []uint64
	for id, in := range s.inbound {
		if !in.stored {
			delete(s.inbound, id) // it did not reach the log: the client sends it again
			unstored = append(unstored, in.generation)
		}
	}
	// They come again in their order, and get the generations that they had: one that is stored late after all is known by it.
	for _, generation := range slices.Backward(slices.Sorted(slices.Values(unstored))) {
		if generation == s.generation {
			s.generation--
		}
	}
}

// recoverInbound takes a QoS 2 message that the log holds. The journal knows all up to a generation; of those what it
// does not list is completed.
func (s *Session) recoverInbound(id uint16, generation, known uint64) {
	in := s.inbound[id]
	switch {
	case in != nil && in.generation == generation:
		in.stored = true
	case generation > known:
		if s.inbound == nil {
			s.inbound = map[uint16]*inboundMessage{}
		}
		if in == nil || in.generation < generation {
			s.inbound[id] = &inboundMessage{generation: generation, stored: true}
		}
		s.generation = max(s.generation, generation)
	}
}

// Position is where the session is in the log.
func (s *Session) Position() Position { return s.position() }

// Reposition moves a detached session in the log, because the log is not the one it was: positions of messages that
// are to come again stay as they are and are checked when they are loaded.
func (s *Session) Reposition(p Position) {
	s.looked = p
	for _, sub := range s.subs.list {
		if sub.Since.Sequence > p.Sequence {
			sub.Since = p
		}
		if sub.FormerUntil.Sequence > p.Sequence {
			sub.FormerUntil = p
		}
	}
	for i := range s.owed {
		s.owed[i].at = p // what has become retained since comes as any message does
	}
}

// QueuedFilters are the filters whose messages are queued while the client is away.
func (s *Session) QueuedFilters() []string {
	var filters []string
	for _, sub := range s.subs.list {
		if s.queuesFor(sub) {
			filters = append(filters, sub.Filter)
		}
	}
	return filters
}

// Filters are the filters of the session that are not shared.
func (s *Session) Filters() []string { return s.subs.filters() }

// Shares are the filters of the session's shared subscriptions.
func (s *Session) Shares() []string { return s.subs.shares() }

// Held visits the unfinished deliveries that came by a shared subscription, also by one that has ended meanwhile.
func (s *Session) Held(visit func(share string, sequence uint64)) {
	for i := range s.inflight {
		if o := &s.inflight[i]; o.share != "" {
			visit(o.share, o.entry.Sequence)
		}
	}
}

// Waits reports whether an entry of the log has to wait in the queue of this session until its client takes it.
func (s *Session) Waits(e Entry) bool {
	if e.Message == nil {
		return false
	}
	d, ok := s.match(e)
	return ok && !s.notQueued(&d)
}

// Waiting is Waits as the session is now, for another goroutine.
func (s *Session) Waiting() func(Entry) bool {
	frozen := &Session{cfg: s.cfg, clientID: s.clientID}
	frozen.onlineSince = s.onlineSince
	for _, sub := range s.subs.list {
		frozen.subs.put(*sub)
	}
	return frozen.Waits
}

// Deadline is when a detached session next has something to do, the zero time when never: its will, or its end.
func (s *Session) Deadline() time.Time {
	if s.state != stateDetached {
		return time.Time{}
	}
	var at []time.Time
	if s.will != nil {
		at = append(at, s.willDue())
	}
	if s.expiry != Never {
		at = append(at, s.detachedAt.Add(s.expiry))
	}
	if len(at) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(at, time.Time.Compare)
}
