package sessions

import (
	"time"

	"dunlin/mqttcodec"
)

// Resting is a detached session with nothing unfinished, in little memory: what its documents say of it, so that they need
// not be read when its client comes back.
type Resting struct {
	incarnation, nonce, principal string
	epoch                         uint64
	version                       mqttcodec.Version
	expiry                        time.Duration
	detachedAt                    time.Time
	subscriptions                 []*Subscription
	looked                        Position
	nextPacketID                  uint16
	generation                    uint64
	journalStored                 bool
	record, journal               uint64 // the revisions
}

// maxResting is how many subscriptions a session may have that rests.
const maxResting = treeFrom

// Rest is the session at rest, nil when something of it is unfinished or it is a large one: those are read from storage. The
// session must be quiet; when it goes on after all, what was kept of it is void.
func (s *Session) Rest() *Resting {
	unfinished := len(s.inflight) + len(s.inbound) + len(s.owed) + len(s.unsettled)
	if s.state != stateDetached || s.mode != modeParked || s.foreign || s.will != nil || s.firing != nil ||
		!s.record.stored || unfinished > 0 || s.subs.count() > maxResting {
		return nil
	}
	r := &Resting{
		incarnation: s.incarnation, nonce: s.nonce, principal: s.identity.Principal, epoch: s.epoch, version: s.version,
		expiry: s.expiry, detachedAt: s.detachedAt.UTC().Round(0), subscriptions: make([]*Subscription, 0, s.subs.count()),
		looked: s.subs.since(), nextPacketID: 1, journalStored: s.journal.stored,
		record: s.record.revision, journal: s.journal.revision,
	}
	s.subs.all(func(sub *Subscription) { r.subscriptions = append(r.subscriptions, sub) })
	if s.journal.stored {
		r.looked, r.nextPacketID, r.generation = s.position(), s.ids.nextID(), s.generation
	}
	return r
}

// Session is the session that rested, as Restore makes it of its documents.
func (r *Resting) Session(cfg *Config, clientID string) *Session {
	s := New(cfg, clientID, Stored{RecordRevision: r.record, JournalRevision: r.journal})
	s.record.stored, s.journal.stored = true, r.journalStored
	s.incarnation, s.epoch, s.nonce, s.version = r.incarnation, r.epoch, r.nonce, r.version
	s.identity.Principal = r.principal
	if cfg.PermissionsOf != nil {
		s.identity.Permissions = cfg.PermissionsOf(r.principal, clientID)
	}
	s.expiry, s.detachedAt = r.expiry, r.detachedAt
	for _, sub := range r.subscriptions {
		s.subs.put(*sub)
	}
	s.becomeDetached()
	s.looked, s.generation = r.looked, r.generation
	s.ids.setNext(r.nextPacketID)
	return s
}

// Queue is what is queued while the session rests: the filters, and the position behind which it begins.
func (r *Resting) Queue(cfg *Config) (filters []string, after Position) {
	s := Session{cfg: cfg, looked: r.looked}
	for _, sub := range r.subscriptions {
		if !isShared(sub.Filter) && s.queuesFor(sub) {
			filters = append(filters, sub.Filter)
		}
	}
	return filters, r.looked
}
