package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// collectAtMost is how often, about, the garbage collector may run while there is headroom to give it.
	collectAtMost = 50 * time.Millisecond
	// collectSeldom is how far apart its runs are when headroom is taken back.
	collectSeldom = time.Second
	// headroomStep and headroomMax bound the memory that a small heap may grow by between two runs.
	headroomStep = 8 << 20
	headroomMax  = 64 << 20
	// usualPercent is how much a heap grows between two runs without headroom: GOGC's default.
	usualPercent = 100
)

// collector gives the garbage collector of Go headroom while much is allocated and little kept. By default it runs whenever
// the heap has doubled, which for a small heap under load is a hundred times a second, and takes a quarter of the CPU time.
type collector struct {
	headroom uint64
	percent  int
	last     time.Time
}

// tuneCollector does so until the process ends, unless the environment says how (GOGC).
func tuneCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	c := &collector{percent: usualPercent, last: time.Now()}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	afterCollection(func() {
		metrics.Read(sample)
		if before := c.percent; c.collected(time.Now(), sample[0].Value.Uint64()) != before {
			debug.SetGCPercent(c.percent)
		}
	})
}

// afterCollection calls f after each run of the garbage collector, on the goroutine of cleanups: f must be short.
func afterCollection(f func()) {
	type sentinel struct{ _ [16]byte }
	var arm func(int)
	arm = func(int) {
		f()
		runtime.AddCleanup(new(sentinel), arm, 0)
	}
	runtime.AddCleanup(new(sentinel), arm, 0)
}

// collected takes note of a run that left live bytes, and returns by how many percent the heap may grow until the next one.
func (c *collector) collected(now time.Time, live uint64) int {
	switch since := now.Sub(c.last); {
	case since < collectAtMost:
		c.headroom = min(max(2*c.headroom, headroomStep), headroomMax)
	case since > collectSeldom:
		c.headroom /= 2
	}
	c.last = now
	percent := usualPercent
	if live = max(live, 1); c.headroom > live {
		percent = int(c.headroom * 100 / live)
	}
	// A change stops the world for a moment, so small ones are not made.
	if percent == usualPercent || percent < c.percent*4/5 || percent > c.percent*5/4 {
		c.percent = percent
	}
	return c.percent
}
