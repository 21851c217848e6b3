package sessionstest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"dunlin/sessions"
)

// PresenceStore implements sessions.PresenceStore. Nothing in it ends itself.
type PresenceStore struct{ s *Storage }

var _ sessions.PresenceStore = (*PresenceStore)(nil)

// presenceState is what is stored of presence.
type presenceState struct {
	clients  map[string]storedPresence
	revision uint64
	// putting counts unanswered writes by client, overlaps those that broke the rule.
	putting  map[string]int
	overlaps int
	// history are the states that were stored, in order.
	history []sessions.Presence
}

type storedPresence struct {
	sessions.Presence
	revision uint64
}

func newPresenceState() presenceState {
	return presenceState{clients: map[string]storedPresence{}, putting: map[string]int{}}
}

// Put implements sessions.PresenceStore.
func (r *PresenceStore) Put(p sessions.Presence, expect uint64, to sessions.Sink, token uint64) {
	st := &r.s.presence
	r.s.mu.Lock()
	if st.putting[p.ClientID] > 0 {
		st.overlaps++
	}
	st.putting[p.ClientID]++
	r.s.mu.Unlock()
	r.s.submit(write{
		Operation: Operation{Kind: PutPresence, ClientID: p.ClientID}, to: to, token: token,
		apply: func() sessions.Result {
			if has := st.clients[p.ClientID].revision; expect > 0 && has != expect {
				return sessions.Result{Err: fmt.Errorf("%w: presence of %q has revision %d", sessions.ErrConflict, p.ClientID, has)}
			}
			st.revision++
			st.clients[p.ClientID] = storedPresence{p, st.revision}
			st.history = append(st.history, p)
			return sessions.Result{Sequence: st.revision}
		},
	})
}

// Each implements sessions.PresenceStore.
func (r *PresenceStore) Each(ctx context.Context, visit func(sessions.Presence, uint64)) error {
	if err := r.s.read(Operation{Kind: ReadPresence}); err != nil {
		return err
	}
	r.s.mu.Lock()
	all := maps.Clone(r.s.presence.clients)
	r.s.mu.Unlock()
	for _, clientID := range slices.Sorted(maps.Keys(all)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		visit(all[clientID].Presence, all[clientID].revision)
	}
	return nil
}

// Presences is what is stored of each client.
func (s *Storage) Presences() map[string]sessions.Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]sessions.Presence{}
	for clientID, p := range s.presence.clients {
		all[clientID] = p.Presence
	}
	return all
}

// PresenceHistory is what was stored of a client, in order.
func (s *Storage) PresenceHistory(clientID string) []sessions.Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.presence.history), func(p sessions.Presence) bool { return p.ClientID != clientID })
}
