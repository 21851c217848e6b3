package jetstream

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"dunlin/sessions"
)

// availability tells, once for each change, whether the writes of one writer are answered. Safe for concurrent use.
type availability struct {
	// since is when the first write was not answered after one that was, in nanoseconds of the Unix epoch; 0 while all are.
	since atomic.Int64
	away  atomic.Bool
	// of is what is written.
	of     string
	logger *slog.Logger
}

// awayAfter is how long no write must be answered: a stream that changes its leader is away for a moment.
const awayAfter = 500 * time.Millisecond

// observe learns from the outcomes of writes, in their order.
func (a *availability) observe(done []settled) {
	for i := range done {
		switch err := done[i].result.Err; {
		case err == nil:
			if a.since.Load() != 0 {
				a.back()
			}
		case errors.Is(err, sessions.ErrUnavailable) && !errors.Is(err, errClosed):
			a.failed(err)
		}
	}
}

func (a *availability) failed(err error) {
	now := time.Now()
	since := a.since.Load()
	if since == 0 {
		a.since.CompareAndSwap(0, now.UnixNano())
		return
	}
	if now.Sub(time.Unix(0, since)) >= awayAfter && !a.away.Load() && a.away.CompareAndSwap(false, true) {
		a.logger.Error("NATS takes no writes: nothing is acknowledged and clients at QoS 1 and 2 wait until it does", "of", a.of, "cause", err)
	}
}

func (a *availability) back() {
	a.since.Store(0)
	if a.away.CompareAndSwap(true, false) {
		a.logger.Info("NATS takes writes again: what waited is being stored and acknowledged", "of", a.of)
	}
}
