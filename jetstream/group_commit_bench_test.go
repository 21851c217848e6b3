//go:build unix

package jetstream

import (
	"fmt"
	"syscall"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// BenchmarkCommit commits groups of some sizes one after another, with an fsync for each write and as an atomic batch:
// minBatch is where the batch begins to cost less.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 2, 4, 6, 8, 16, 64, 640, 1000} {
		b.Run(fmt.Sprint(n, "/plain"), func(b *testing.B) { benchmarkCommit(b, n, false) })
		b.Run(fmt.Sprint(n, "/batch"), func(b *testing.B) { benchmarkCommit(b, n, true) })
	}
}

func benchmarkCommit(b *testing.B, n int, batch bool) {
	_, nc := startServerWith(b, func(c *EmbeddedConfig) { c.Durability = Fsync })
	js, err := natsjs.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err = js.CreateStream(b.Context(), natsjs.StreamConfig{
		Name: "S", Subjects: []string{"s"}, Storage: natsjs.FileStorage, AllowAtomicPublish: true,
	}); err != nil {
		b.Fatal(err)
	}
	c := DefaultConfig()
	g, err := newGroupCommit(nc, &c, new(Stats), func([]settled) {}, false)
	if err != nil {
		b.Fatal(err)
	}
	defer g.close()
	results := make(resultChan, n)
	writes := make([]write, n)
	for i := range writes {
		writes[i] = write{stream: "S", subject: "s", data: make([]byte, 256), to: results}
	}
	before := cpuMicros(b)
	for i := 0; b.Loop(); i++ {
		g.mu.Lock()
		sent := &group{commits: g, lane: &lane{limit: 1}, writes: writes, unanswered: n}
		if batch {
			sent.sendBatch(fmt.Sprint("b", i))
		} else {
			sent.sendPlain()
		}
		g.mu.Unlock()
		for range n {
			if r := <-results; r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	b.ReportMetric((cpuMicros(b)-before)/float64(b.N), "cpu-us/group")
}

// cpuMicros is the CPU time this process has used.
func cpuMicros(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec)*1e6 + float64(u.Utime.Usec+u.Stime.Usec)
}
