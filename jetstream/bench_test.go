//go:build unix

package jetstream_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// countingSink counts results and says when there are enough.
type countingSink struct {
	left atomic.Int64
	done chan struct{}
	err  atomic.Pointer[error]
}

func newCountingSink(n int) *countingSink {
	s := &countingSink{done: make(chan struct{})}
	s.left.Store(int64(n))
	return s
}

func (s *countingSink) Stored(r sessions.Result) {
	if r.Err != nil {
		s.err.Store(&r.Err)
	}
	if s.left.Add(-1) == 0 {
		close(s.done)
	}
}

func (s *countingSink) wait(b *testing.B) {
	<-s.done
	if err := s.err.Load(); err != nil {
		b.Fatal(*err)
	}
}

// cpuMicros is the CPU time this process has used.
func cpuMicros(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec)*1e6 + float64(u.Utime.Usec+u.Stime.Usec)
}

// measure runs f and reports its CPU time per operation: the steady figure on a busy machine.
func measure(b *testing.B, f func()) {
	before := cpuMicros(b)
	b.ResetTimer()
	f()
	b.StopTimer()
	b.ReportMetric((cpuMicros(b)-before)/float64(b.N), "cpu-us/op")
}

func benchmarkMessage(properties bool) []*sessions.Message {
	messages := make([]*sessions.Message, 1000)
	for i := range messages {
		messages[i] = &sessions.Message{Topic: fmt.Sprint("bench/", i, "/value"), Payload: make([]byte, 256), QoS: 1}
		if properties {
			messages[i].Properties.ContentType = mqttcodec.Some("text/plain")
			messages[i].Properties.UserProperties = []mqttcodec.UserProperty{{Key: "k", Value: "v"}}
		}
	}
	return messages
}

func benchmarkAppend(b *testing.B, tail, properties bool) {
	_, s := newStorage(b)
	messages := benchmarkMessage(properties)
	var seen atomic.Int64
	all := make(chan struct{})
	if tail {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			_ = s.Log().Tail(ctx, 0, func(batch []sessions.Entry) {
				if seen.Add(int64(len(batch))) == int64(b.N) {
					close(all)
				}
			})
		}()
	}
	b.ReportAllocs()
	sink := newCountingSink(b.N)
	measure(b, func() {
		for i := range b.N {
			s.Log().Append(messages[i%len(messages)], "", sink, uint64(i))
		}
		sink.wait(b)
		if tail {
			<-all
		}
	})
}

func BenchmarkAppend(b *testing.B)               { benchmarkAppend(b, false, false) }
func BenchmarkAppendProperties(b *testing.B)     { benchmarkAppend(b, false, true) }
func BenchmarkAppendTail(b *testing.B)           { benchmarkAppend(b, true, false) }
func BenchmarkAppendTailProperties(b *testing.B) { benchmarkAppend(b, true, true) }

func BenchmarkTailBacklog(b *testing.B) {
	_, s := newStorage(b)
	sink := newCountingSink(b.N)
	messages := benchmarkMessage(false)
	for i := range b.N {
		s.Log().Append(messages[i%len(messages)], "", sink, 0)
	}
	sink.wait(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := 0
	b.ReportAllocs()
	measure(b, func() {
		_ = s.Log().Tail(ctx, 0, func(batch []sessions.Entry) {
			if seen += len(batch); seen == b.N {
				cancel()
			}
		})
	})
}

func BenchmarkScan(b *testing.B) {
	_, s := newStorage(b)
	sink := newCountingSink(b.N)
	messages := benchmarkMessage(false)
	for i := range b.N {
		s.Log().Append(messages[i%len(messages)], "", sink, 0)
	}
	sink.wait(b)
	seen := 0
	measure(b, func() {
		if err := s.Log().Scan(context.Background(), 0, uint64(b.N), func(sessions.Entry) { seen++ }); err != nil || seen != b.N {
			b.Fatal(seen, err)
		}
	})
}

func BenchmarkSaveJournal(b *testing.B) {
	for _, size := range []int{200, 1600, 16000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, s := newStorage(b)
			const clients = 500
			journal := make([]byte, size)
			revisions := make([]uint64, clients)
			sink := make(jetstreamtest.Sink, clients)
			measure(b, func() {
				for done := 0; done < b.N; done += clients {
					for c := range clients {
						s.Store().SaveJournal(fmt.Sprint("client-", c), journal, revisions[c], sessions.AtOnce, sink, uint64(c))
					}
					for range clients {
						r := sink.Must(b)
						revisions[r.Token] = r.Sequence
					}
				}
			})
		})
	}
}

// BenchmarkFetch drains a queue of a log with 10,000 messages under 1,000 topics.
func BenchmarkFetch(b *testing.B) {
	for name, c := range map[string]struct {
		matching int
		filters  []string
	}{
		"OneTopicOf1000":  {10, []string{"bench/7/value"}},
		"TwoTopicsOf1000": {20, []string{"bench/7/value", "bench/600/value"}},
		"OneWildcard":     {10_000, []string{"bench/+/value"}},
		"Tree":            {10_000, []string{"bench/#"}},
		"Everything":      {10_000, []string{"#"}},
	} {
		b.Run(name, func(b *testing.B) { benchmarkFetch(b, c.matching, c.filters) })
	}
}

func benchmarkFetch(b *testing.B, matching int, filters []string) {
	_, s := newStorage(b)
	messages := benchmarkMessage(false)
	const stored = 10_000
	sink := newCountingSink(stored)
	for i := range stored {
		s.Log().Append(messages[i%len(messages)], "", sink, 0)
	}
	sink.wait(b)
	ctx := context.Background()
	b.ReportAllocs()
	measure(b, func() {
		var q sessions.Queue
		for left, queued := b.N, 0; left > 0; {
			if queued <= 0 {
				q, queued = openQueue(ctx, b, s.Queues(), "c", 0, filters...), matching
			}
			entries, err := q.Fetch(ctx, 64)
			if err != nil || len(entries) == 0 {
				b.Fatal(err, left)
			}
			left -= len(entries)
			queued -= len(entries)
		}
	})
}

func BenchmarkOpenQueue(b *testing.B) {
	_, s := newStorage(b)
	sink := newCountingSink(100_000)
	messages := benchmarkMessage(false)
	for i := range 100_000 {
		s.Log().Append(messages[i%len(messages)], "", sink, 0)
	}
	sink.wait(b)
	ctx := context.Background()
	measure(b, func() {
		for i := range b.N {
			openQueue(ctx, b, s.Queues(), fmt.Sprint("c", i), 99_000, fmt.Sprintf("bench/%d/#", i%1000))
		}
	})
}

// BenchmarkTake takes and settles what comes into a shared queue, in batches: from the end of the log, as members that keep
// up do, and from a log of 20,000 messages under 1,000 topics that lie behind.
func BenchmarkTake(b *testing.B) {
	for name, c := range map[string]struct{ batch, topics, behind int }{
		"1":              {1, 1000, 1},
		"32":             {32, 1000, 32},
		"256":            {256, 1000, 256},
		"BehindOneTopic": {256, 1, 20_000},
		"BehindTree":     {256, 1000, 20_000},
	} {
		b.Run(name, func(b *testing.B) { benchmarkTake(b, c.batch, c.topics, c.behind) })
	}
}

func benchmarkTake(b *testing.B, batch, topics, behind int) {
	_, s := newStorage(b)
	q := jetstreamtest.OpenShared(b, s.Shared(), "$share/group/bench/#")
	messages := benchmarkMessage(false)[:topics]
	sequences := make([]uint64, 0, batch)
	take := func(n int) {
		for n > 0 {
			entries, err := q.Take(context.Background(), min(batch, n), 4<<20)
			if err != nil || len(entries) == 0 {
				b.Fatal(err, n)
			}
			sequences = sequences[:0]
			for _, e := range entries {
				sequences = append(sequences, e.Sequence)
			}
			q.Settle(sequences...)
			n -= len(entries)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var cpu float64
	for done := 0; done < b.N; {
		n := min(behind, b.N-done)
		sink := newCountingSink(n)
		b.StopTimer()
		for i := range n {
			s.Log().Append(messages[(done+i)%topics], "", sink, 0)
		}
		sink.wait(b)
		before := cpuMicros(b)
		b.StartTimer()
		take(n)
		cpu += cpuMicros(b) - before
		done += n
	}
	b.StopTimer()
	b.ReportMetric(cpu/float64(b.N), "cpu-us/op")
}

func BenchmarkReader(b *testing.B) {
	_, s := newStorage(b)
	sink := newCountingSink(b.N)
	messages := benchmarkMessage(false)
	for i := range b.N {
		s.Log().Append(messages[i%len(messages)], "", sink, 0)
	}
	sink.wait(b)
	b.ReportAllocs()
	measure(b, func() {
		r := s.Log().Reader(0)
		defer r.Close()
		for seen := 0; seen < b.N; {
			entries, err := r.Next(context.Background(), 1024)
			if err != nil || len(entries) == 0 {
				b.Fatal(seen, err)
			}
			seen += len(entries)
		}
	})
}
