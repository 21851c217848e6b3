package main

import (
	"runtime"
	"testing"
	"time"
)

func TestCollectorHasHeadroomWhileItIsBusy(t *testing.T) {
	const mib = 1 << 20
	c := &collector{percent: usualPercent, last: time.Unix(0, 0)}
	now := time.Unix(0, 0)
	run := func(after time.Duration, live uint64, times int) int {
		for range times {
			now = now.Add(after)
			c.collected(now, live)
		}
		return c.percent
	}
	if p := run(500*time.Millisecond, 10*mib, 10); p != usualPercent {
		t.Errorf("a heap that is collected twice a second grows by %d %%", p)
	}
	if p := run(10*time.Millisecond, 10*mib, 10); p != 640 {
		t.Errorf("a busy heap of 10 MiB grows by %d %%, not by 64 MiB", p)
	}
	if p := run(100*time.Millisecond, 10*mib, 10); p != 640 {
		t.Errorf("then by %d %%", p)
	}
	if p := run(10*time.Millisecond, 500*mib, 10); p != usualPercent {
		t.Errorf("a busy heap of 500 MiB grows by %d %%", p)
	}
	if p := run(10*time.Second, 10*mib, 10); p != usualPercent {
		t.Errorf("a heap that is busy no more grows by %d %%", p)
	}
}

// The cleanup is armed again after each run of the collector.
func TestAfterCollectionIsCalledEachTime(t *testing.T) {
	called := make(chan struct{}, 100)
	afterCollection(func() { called <- struct{}{} })
	for i := range 3 {
		deadline := time.After(20 * time.Second)
		for done := false; !done; {
			runtime.GC()
			select {
			case <-called:
				done = true
			case <-deadline:
				t.Fatalf("not called for the %d. time", i+1)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}
