package jetstream

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"dunlin/sessions"
)

// availability tells, once for each change, whether writes are answered. Safe for concurrent use.
type availability struct {
	away   atomic.Bool
	logger *slog.Logger
}

// observe learns from the outcomes of writes, in their order.
func (a *availability) observe(done []settled) {
	for i := range done {
		switch err := done[i].result.Err; {
		case err == nil:
			if a.away.Load() && a.away.CompareAndSwap(true, false) {
				a.logger.Info("NATS takes writes again: what waited is being stored and acknowledged")
			}
		case errors.Is(err, sessions.ErrUnavailable) && !errors.Is(err, errClosed):
			if !a.away.Load() && a.away.CompareAndSwap(false, true) {
				a.logger.Error("NATS takes no writes: nothing is acknowledged and clients at QoS 1 and 2 wait until it does", "cause", err)
			}
		}
	}
}
