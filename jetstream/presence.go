package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// PresenceStore keeps the presence of each client in a KV bucket, under its client identifier. Safe for concurrent use.
type PresenceStore struct {
	config    *Config
	publisher writer
	reader    streamReader
	stats     *Stats
}

var _ sessions.PresenceStore = (*PresenceStore)(nil)

func (s *PresenceStore) subjectPrefix() string { return "$KV." + s.config.Names.PresenceBucket + "." }

func (s *PresenceStore) subject(clientID string) string {
	return s.subjectPrefix() + EncodeToken(clientID)
}

// Put implements sessions.PresenceStore. What is said of a client that is offline ends itself.
func (s *PresenceStore) Put(p sessions.Presence, expect uint64, to sessions.Sink, token uint64) {
	data, err := json.Marshal(&p)
	if err != nil {
		panic(fmt.Sprintf("presence does not encode: %v", err)) // Invariant: it holds nothing that JSON cannot.
	}
	w := write{
		stream: bucketStream(s.config.Names.PresenceBucket), subject: s.subject(p.ClientID), data: data,
		to: to, token: token,
	}
	if p.State == sessions.Offline {
		w.header = nats.Header{headerTTL: {ttl(s.offlineTTL(&p))}}
	}
	if expect > 0 {
		w = w.expecting(expect)
	}
	s.publisher.publish(w)
}

// offlineTTL is how long it is told that a client is offline. Of one whose identifier was made up for its connection nobody asks
// for long, and there may be many.
func (s *PresenceStore) offlineTTL(p *sessions.Presence) time.Duration {
	if p.AssignedID {
		return min(s.config.Presence.OfflineTTL, s.config.TombstoneTTL)
	}
	return s.config.Presence.OfflineTTL
}

// Each implements sessions.PresenceStore.
func (s *PresenceStore) Each(ctx context.Context, visit func(sessions.Presence, uint64)) error {
	return s.reader.scan(ctx, s.subjectPrefix()+">", 1, everything, func(m storedMessage) error {
		if m.deleted() {
			return nil
		}
		var p sessions.Presence
		if err := json.Unmarshal(m.data, &p); err != nil || p.Version != sessions.PresenceVersion || s.subject(p.ClientID) != m.subject {
			if n := s.stats.InvalidPresence.Add(1); telling(n, 1) {
				s.config.Logger.Warn("what is said of a client's presence is not ours or damaged; it is passed over",
					"subject", m.subject, "so_far", n)
			}
			return nil
		}
		visit(p, m.sequence)
		return nil
	})
}
