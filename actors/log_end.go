package actors

import (
	"context"
	"sync"
	"time"
)

// logEnds finds out where the log ends, once for all who ask at the same time. Where other nodes write, too, only the log itself
// knows.
type logEnds struct {
	// mu guards the fields below it.
	mu sync.Mutex
	// waiting are those who have asked since the present question was put. Bounded by the sessions: each asks once at a time.
	waiting []func(sequence uint64)
	asking  bool
}

// endRetry is how long the question waits after storage has not answered it.
const endRetry = 100 * time.Millisecond

// logEnd calls f, which must not block, with the last sequence that the log had at some time after this call.
func (b *Broker) logEnd(f func(sequence uint64)) {
	b.ends.mu.Lock()
	defer b.ends.mu.Unlock()
	b.ends.waiting = append(b.ends.waiting, f)
	if !b.ends.asking {
		b.ends.asking = true
		b.runningTask(b.findLogEnd)
	}
}

func (b *Broker) findLogEnd(ctx context.Context) {
	for ctx.Err() == nil {
		waiting := b.ends.next()
		if waiting == nil {
			return
		}
		for ctx.Err() == nil {
			last, err := b.storage.Log.Last(ctx)
			if err == nil {
				for _, f := range waiting {
					f(last.Sequence)
				}
				break
			}
			select {
			case <-time.After(endRetry):
			case <-ctx.Done():
			}
		}
	}
}

func (e *logEnds) next() (waiting []func(uint64)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	waiting, e.waiting = e.waiting, nil
	e.asking = waiting != nil
	return waiting
}
