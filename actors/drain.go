package actors

import (
	"context"
	"time"

	"dunlin/sessions"
)

// drainTick is how often clients are sent away while the node drains.
const drainTick = 20 * time.Millisecond

// Company reports whether there is another node that clients can go to.
func (b *Broker) Company() bool { return b.cluster.ready() }

// DrainAsked is closed when an operator wants the node to drain.
func (b *Broker) DrainAsked() <-chan struct{} { return b.cluster.drainAsked }

// Drain hands the clients over to other nodes: it stops accepting, sends those away who are here, evenly over most of
// Config.DrainTimeout (5.0: 0x9C, with Config.ServerReference), and waits until their sessions are in storage. It returns when
// nobody is left, when that time is over, or when ctx ends. Shutdown has to follow.
func (b *Broker) Drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.DrainTimeout)
	defer cancel()
	b.cluster.draining.Store(true)
	b.closeListeners()
	leaving := b.directory.connected()
	b.log.Info("draining: clients go to other nodes", "clients", len(leaving), "within", b.cfg.DrainTimeout)
	steps := max(1, int(b.cfg.DrainTimeout*3/4/drainTick))
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	goodbye := sessions.Shutdown{Another: true, ServerReference: b.cfg.ServerReference}
	for share := max(minDrained, (len(leaving)+steps-1)/steps); len(leaving) > 0; {
		n := min(share, len(leaving))
		for _, ref := range leaving[:n] {
			ref.post(goodbye)
		}
		leaving = leaving[n:]
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.log.Warn("drain ended before all clients were sent away", "left", len(leaving))
			return
		}
	}
	for b.connections.len() > 0 || b.directory.live.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.log.Warn("drain ended before all sessions were in storage", "connections", b.connections.len(), "sessions", b.directory.live.Load())
			return
		}
	}
	b.log.Info("drained")
}

// minDrained is how many clients are sent away in a drainTick even if there is more time: 500 a second.
const minDrained = 10

// connected are the session actors that there are now. Those that come later find the node closed.
func (d *directory) connected() (list []*sessionRef) {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if e.ref != nil {
				list = append(list, e.ref)
			}
		}
		s.mu.Unlock()
	}
	return list
}
