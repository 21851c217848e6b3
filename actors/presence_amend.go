package actors

import (
	"context"
	"time"

	"dunlin/sessions"
)

// Why a client is offline of which that was not written when it left.
const (
	reasonServerDied = "server_died" // its node was killed
	reasonUnknown    = "unknown"     // there was no room for it
)

// keepPresence makes good what was not written: what a boot that died has left, at start, and what there was no room for.
func (b *Broker) keepPresence() {
	ctx := b.running
	all := false // of this boot some were left out
	for {
		if err := b.amendPresence(ctx, all); err != nil {
			if ctx.Err() != nil {
				return
			}
			b.log.Warn("presence of clients not looked through; trying again", "err", err)
			select {
			case <-time.After(presenceRetry):
				continue
			case <-ctx.Done():
				return
			}
		}
		if b.presence.awaitLack(ctx) != nil {
			return
		}
		all = true
	}
}

// amendPresence goes through the bucket and sets offline who is not online any more, and then, if all is set, has those who are
// here written again. It waits for room before each.
func (b *Broker) amendPresence(ctx context.Context, all bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	err := b.storage.Presence.Each(ctx, func(p sessions.Presence, revision uint64) {
		if failed != nil || p.State != sessions.Online || b.isOnline(&p) {
			return
		}
		if failed = b.presence.awaitRoom(ctx); failed != nil {
			cancel()
			return
		}
		p.State, p.Since, p.Reason = sessions.Offline, b.lastSeen(p.Boot), reasonServerDied
		if p.Boot == b.presence.boot {
			p.Reason = reasonUnknown
		}
		b.presence.amend(p, revision)
	})
	if failed != nil {
		return failed
	}
	if err != nil || !all {
		return err
	}
	return b.directory.showPresence(func() error { return b.presence.awaitRoom(ctx) })
}

// isOnline reports whether a client is online as was written by some boot.
func (b *Broker) isOnline(p *sessions.Presence) bool {
	return p.Boot == b.presence.boot && b.directory.online(p.ClientID) || b.cluster.alive(p.Boot)
}

// lastSeen is when a boot was last known to be alive.
func (b *Broker) lastSeen(boot string) time.Time {
	if c := b.recovered.checkpoints[boot]; c != nil {
		return c.Time.UTC()
	}
	if left := b.cluster.inherit(boot); left != nil {
		return left.lastSeen().UTC()
	}
	return time.Now().UTC()
}
