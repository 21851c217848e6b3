package actors

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func (w *workers) now() (running, waiting, idle int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running, len(w.waiting) - w.first, len(w.idle)
}

// One after the other is run by one goroutine; of many at a time the first run, and the others in their order.
func TestWorkersTakeActorsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkers()
		var ran atomic.Int64
		for range 100 {
			w.Schedule(func() { ran.Add(1) })
			synctest.Wait()
		}
		if running, waiting, idle := w.now(); running != 0 || waiting != 0 || idle != 1 || ran.Load() != 100 {
			t.Errorf("%d of 100 ran; %d run, %d wait, %d workers are idle", ran.Load(), running, waiting, idle)
		}
		w.limit = 1
		var order []int
		for i := range 1000 {
			w.Schedule(func() { order = append(order, i) })
		}
		synctest.Wait()
		for i, n := range order {
			if n != i {
				t.Fatalf("the %d. was %d", i, n)
			}
		}
		if len(order) != 1000 {
			t.Errorf("%d of 1000 ran", len(order))
		}
		w.close()
	})
}

// Who says that it is blocked makes room at once, who does not after a while; idle workers are bounded, and none is left in
// the end.
func TestBlockedWorkersMakeRoom(t *testing.T) {
	for _, says := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkers()
			many := 10 * w.limit
			var gate sync.WaitGroup
			gate.Add(1)
			var ran atomic.Int64
			for range many {
				w.Schedule(func() {
					if says {
						w.block()
						defer w.unblock()
					}
					gate.Wait()
				})
			}
			w.Schedule(func() { ran.Add(1) })
			synctest.Wait()
			if !says {
				if ran.Load() != 0 {
					t.Errorf("more than %d run", w.limit)
				}
				elapse(20 * stuckAfter)
			}
			if ran.Load() != 1 {
				t.Error("the last has not run")
			}
			gate.Done()
			synctest.Wait()
			if running, waiting, idle := w.now(); running != 0 || waiting != 0 || idle != w.limit {
				t.Errorf("%d run, %d wait, %d are idle", running, waiting, idle)
			}
			w.close()
			w.Schedule(func() { ran.Add(1) })
			synctest.Wait()
			if _, _, idle := w.now(); idle != 0 || ran.Load() != 2 {
				t.Errorf("%d workers are idle behind the end", idle)
			}
		})
	}
}
