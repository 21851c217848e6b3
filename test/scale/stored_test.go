package scale

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Sessions that are away cost memory and make the start longer. They do not make messages of others dearer.
func TestOfflineSessions(t *testing.T) {
	b := harness.Start(t)
	var empty int64 // after a start, without sessions
	out := newTable("offline sessions", "made per s", "load µs/message", "p99 ms", "idle ms/s", "RSS MiB", "start after SIGTERM", "RSS MiB then", "KiB each", "start after kill -9")
	have := 0
	id := func(i int) string { return fmt.Sprintf("session-%06d", i) }
	for _, n := range steps([]int{0, 300}, []int{0, 10_000, 100_000}) {
		begin := time.Now()
		end, err := inParallel(have, n, creationLimit, func(i int) error {
			c, err := connect(b.MQTT, harness.PersistentConnect(mqttcodec.V311, id(i)), fmt.Sprintf("away/%d", i))
			if err != nil {
				return err
			}
			return c.leave()
		})
		if err != nil {
			t.Fatal(err)
		}
		perSecond := float64(end-have) / time.Since(begin).Seconds()
		have = end
		settle()
		memory, idle := rss(t, b), idleCPU(t, b)
		r := load(t, b)
		afterTerm := restart(b, harness.Term)
		settle()
		then := rss(t, b)
		afterKill := restart(b, harness.Kill9)
		if have == 0 {
			empty = then
		}
		out.row(have, perSecond, r.CPUus, r.P99, idle.Seconds()*1000, mib(memory), afterTerm, mib(then), each(empty, then, have), afterKill)
		if have > 0 {
			b.Resume(t, mqttcodec.V311, id(have/2)).Disconnect()
		}
	}
	out.print(t)
}

// Retained messages that nobody asks for cost memory and make the start longer.
func TestRetainedTopics(t *testing.T) {
	b := harness.Start(t)
	var empty int64 // after a start, without retained messages
	out := newTable("retained topics", "stored µs each", "load µs/message", "retrieval µs each", "RSS MiB", "start after SIGTERM", "RSS MiB then", "KiB each", "start after kill -9")
	have := 0
	for _, n := range steps([]int{0, 500}, []int{0, 20_000, 100_000}) {
		before := cpu(t, b)
		if err := publish(b.MQTT, have, n, func(i int) *mqttcodec.Publish {
			return &mqttcodec.Publish{Topic: fmt.Sprintf("kept/%d/%d", i%100, i), Retain: true, Payload: make([]byte, 64)}
		}); err != nil {
			t.Fatal(err)
		}
		stored := perEach(cpu(t, b)-before, n-have)
		have = n
		settle()
		memory := rss(t, b)
		r := load(t, b)
		retrieval := retrieve(t, b, have)
		afterTerm := restart(b, harness.Term)
		settle()
		then := rss(t, b)
		afterKill := restart(b, harness.Kill9)
		if have == 0 {
			empty = then
		}
		out.row(have, stored, r.CPUus, retrieval, mib(memory), afterTerm, mib(then), each(empty, then, have), afterKill)
		retrieve(t, b, have)
	}
	out.print(t)
}

// retrieve subscribes to n retained messages, which must all come, and says what each took.
func retrieve(t *testing.T, b *harness.Broker, n int) any {
	t.Helper()
	r := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "retrieving"))
	defer r.Disconnect()
	before := cpu(t, b)
	topics := map[string]bool{}
	for _, m := range r.Subscribe(harness.Filter("kept/#", 0)) {
		topics[m.Topic] = true
	}
	for len(topics) < n {
		topics[harness.Expect[*mqttcodec.Publish](r).Topic] = true
	}
	return perEach(cpu(t, b)-before, n)
}

// perEach is a time in microseconds for each of n things; nothing for none.
func perEach(d time.Duration, n int) any {
	if n == 0 {
		return "-"
	}
	return float64(d.Microseconds()) / float64(n)
}

// A log that has become long does not make publishing dearer; the start may be longer, since it looks for what a crash
// has left.
func TestLongLog(t *testing.T) {
	b := harness.Start(t)
	out := newTable("messages of 64 bytes", "publish µs each", "per s", "RSS MiB", "disk MiB", "start after SIGTERM", "RSS MiB then", "start after kill -9", "RSS MiB then")
	have := 0
	large := []int{100_000, 1_000_000, 10_000_000}
	if testing.Short() {
		large = large[:2]
	}
	for _, n := range steps([]int{5000}, large) {
		before, begin := cpu(t, b), time.Now()
		if err := publish(b.MQTT, have, n, func(i int) *mqttcodec.Publish {
			return &mqttcodec.Publish{Topic: fmt.Sprintf("stream/%d", i%1000), Payload: fmt.Appendf(nil, "%064d", i)}
		}); err != nil {
			t.Fatal(err)
		}
		used, took := cpu(t, b)-before, time.Since(begin)
		perMessage, perSecond := perEach(used, n-have), float64(n-have)/took.Seconds()
		have = n
		settle()
		memory := rss(t, b)
		afterTerm := restart(b, harness.Term)
		settle()
		thenTerm := rss(t, b)
		afterKill := restart(b, harness.Kill9)
		settle()
		out.row(have, perMessage, perSecond, mib(memory), mib(diskUse(t, b.DataDir)), afterTerm, mib(thenTerm), afterKill, mib(rss(t, b)))
	}
	load(t, b)
	out.print(t)
}

// diskUse is the size of the files below a directory, in bytes.
func diskUse(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return size
}
