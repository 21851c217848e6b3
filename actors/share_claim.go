package actors

import (
	"context"
	"time"

	"dunlin/sessions"
)

// reclaim has what died with its holders come again, once it is known what stored sessions hold, unless another node has taken
// messages: those are not to be told from others. Of nodes that open the queue together one does it, and the others take nothing
// before it has.
func (s *share) reclaim(ctx context.Context, queue sessions.SharedQueue) error {
	if served, _, _ := s.shares.others(ctx, s.name); served {
		return nil
	}
	select {
	case <-s.shares.settled:
	case <-ctx.Done():
		return nil
	}
	if !s.claim(ctx) {
		return nil
	}
	return s.shares.call(ctx, func() error {
		return queue.Reclaim(ctx, func(sequence uint64) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.held.has(sequence)
		})
	})
}

// claimEvery is how often a share asks whether another node is done with what died.
const claimEvery = 100 * time.Millisecond

// claim reports whether this node is to have what died come again. Each says that it is before it asks the others, so no two find
// that nobody else is; of two that see each other the one that comes later takes its word back.
func (s *share) claim(ctx context.Context) bool {
	for ctx.Err() == nil && !s.isOver() {
		served, before, after := s.shares.others(ctx, s.name)
		claimed := s.place() == sessions.ShareReclaiming
		switch {
		case served:
			return false
		case before || after && !claimed:
			s.enter(sessions.ShareOpening)
			s.sleep(ctx, claimEvery)
		case !claimed:
			s.enter(sessions.ShareReclaiming)
		case after:
			s.sleep(ctx, claimEvery)
		default:
			return true
		}
	}
	return false
}

// enter changes the stage, which others are told when they ask.
func (s *share) enter(stage sessions.SharePlace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stage = stage
}

// place is what the share is for other nodes.
func (s *share) place() sessions.SharePlace {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return sessions.ShareAbsent
	}
	return s.stage
}
