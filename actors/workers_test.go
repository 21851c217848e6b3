package actors

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func (w *workers) idleNow() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

// One after the other is run by one goroutine; of many at a time some are kept, and none is left in the end.
func TestWorkersAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w workers
		var ran atomic.Int64
		for range 100 {
			w.Schedule(func() { ran.Add(1) })
			synctest.Wait()
		}
		if n := w.idleNow(); n != 1 || ran.Load() != 100 {
			t.Errorf("%d of 100 ran, %d workers are idle, want 1", ran.Load(), n)
		}
		var gate sync.WaitGroup
		gate.Add(1)
		for range 10 * maxIdleWorkers {
			w.Schedule(func() { gate.Wait(); ran.Add(1) })
		}
		synctest.Wait() // they run side by side
		gate.Done()
		synctest.Wait()
		if n := w.idleNow(); n != maxIdleWorkers || ran.Load() != 100+10*maxIdleWorkers {
			t.Errorf("%d ran, %d workers are idle", ran.Load(), n)
		}
		gate.Add(1)
		w.Schedule(gate.Wait)
		w.close()
		gate.Done()
		w.Schedule(func() { ran.Store(0) })
		synctest.Wait()
		if n := w.idleNow(); n != 0 || ran.Load() != 0 {
			t.Errorf("%d workers are idle behind the end, and %d", n, ran.Load())
		}
	})
}
