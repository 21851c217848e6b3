package actors

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// shareReads keeps next to nothing of the log in memory, and reads it for all sessions together.
func shareReads(cfg *Config) {
	cfg.RingBytes = 2 * entryOverhead
	cfg.SharedReadFrom = 0
}

// away makes a session with subscriptions at QoS 1 whose client has gone.
func (b *testBroker) away(clientID string, filters ...string) {
	b.t.Helper()
	c := b.connected(clientID)
	c.subscribe(1, filters...)
	c.disconnect()
	eventually(b.t, "the session is let go", func() bool { return b.directory.parked(clientID) })
}

// countReads counts the windows that are read of the log.
func countReads(s *sessionstest.Storage) (reads *int) {
	reads = new(int)
	s.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
		if o.Kind == sessionstest.ReadLog {
			*reads++
		}
		return sessionstest.Outcome{}
	})
	return reads
}

// sourcesOf notes from where a session reads, "log" or "queue"; the reading of its documents counts as one of the queue.
func sourcesOf(s *sessionstest.Storage, clientID string) *[]string {
	sources := new([]string)
	s.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
		switch {
		case o.Kind == sessionstest.ReadLog:
			*sources = append(*sources, "log")
		case o.Kind == sessionstest.Read && o.ClientID == clientID:
			*sources = append(*sources, "queue")
		}
		return sessionstest.Outcome{}
	})
	return sources
}

// Sessions that come back together are all served by one read of the log, and then are live. No durable queue is used.
func TestManySessionsCatchUpByOneRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", shareReads, func(cfg *Config) { cfg.MaxParkedQueues = 0 })
		const members, each = 40, 20
		var clients []string
		for i := range members {
			clients = append(clients, fmt.Sprint("c", i))
			b.away(clients[i], fmt.Sprint("own/", i), "all/#")
		}
		other := b.connected("other", clean)
		var want [members][]string
		for n := range each {
			for i := range members {
				payload := fmt.Sprint(i, ".", n)
				other.publish1(fmt.Sprint("own/", i), payload)
				want[i] = append(want[i], payload)
			}
			other.publish1("all/a", fmt.Sprint("all ", n))
			for i := range members {
				want[i] = append(want[i], fmt.Sprint("all ", n))
			}
		}
		reads := countReads(storage)
		var back []*testClient
		for _, id := range clients {
			back = append(back, b.connected(id, receiveMaximum(4)))
		}
		for i, c := range back {
			c.takeAll(want[i]...)
		}
		synctest.Wait()
		if *reads > 8 {
			t.Errorf("%d windows were read for %d messages", *reads, each*(members+1))
		}
		if names := storage.QueueNames(); len(names) > 0 {
			t.Errorf("durable queues of %v were opened", names)
		}
		other.publish1("all/a", "live")
		for _, c := range back {
			c.takeAll("live")
		}
		synctest.Wait()
		if n := b.catchUp.behind.Load(); n != 0 {
			t.Errorf("%d sessions count as behind", n)
		}
	})
}

// A session that ends with its connection has no durable queue, and does not lose what it was too slow for.
func TestSessionWithoutExpiryCatchesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", func(cfg *Config) {
			cfg.RingBytes = 2 * entryOverhead
			cfg.SharedReadFrom = -1
			cfg.Sessions.BacklogMessages = 4
		})
		c, other := b.connected("c", clean, receiveMaximum(2)), b.connected("other", clean)
		c.subscribe(1, "a")
		want := numbered("m", 50)
		other.publish1("a", want...)
		c.takeAll(want...)
		if names := b.storage.QueueNames(); len(names) > 0 {
			t.Errorf("durable queues of %v were opened", names)
		}
		other.publish1("a", "live")
		c.takeAll("live")
		if dropped := b.Stats().Drops(); len(dropped) > 0 {
			t.Errorf("dropped: %v", dropped)
		}
	})
}

// While the log cannot be read nothing is skipped: it is read when it can be again.
func TestSharedReadIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", shareReads)
		b.away("c", "a")
		other := b.connected("other", clean)
		want := numbered("m", 100)
		other.publish1("a", want...)
		storage.Fail(sessions.ErrUnavailable, sessionstest.ReadLog)
		c := b.connected("c", receiveMaximum(3))
		elapse(time.Minute)
		if got := c.received(); len(got) > 0 {
			t.Fatalf("got %+v of a log that cannot be read", got[0])
		}
		storage.Fail(nil)
		c.takeAll(want...)
		if n := b.logged.count("log could not be read"); n == 0 || n > 12 {
			t.Errorf("the failure was logged %d times", n)
		}
	})
}

// A subscription made while the log is being read for the session gets what comes behind it, and an ended one nothing more.
func TestSubscriptionsChangeDuringSharedRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", shareReads)
		b.away("c", "a", "gone")
		other := b.connected("other", clean)
		other.publish1("a", numbered("a", 10)...)
		other.publish1("new", "too early")
		other.publish1("gone", "not wanted any more")
		synctest.Wait() // all that is behind what is kept of the log
		storage.Latency(func(o sessionstest.Operation) time.Duration {
			if o.Kind == sessionstest.ReadLog {
				return 5 * time.Second
			}
			return 0
		})
		c := b.connected("c")
		elapse(time.Second) // the read is under way
		c.subscribe(1, "new")
		c.send(&mqttcodec.Unsubscribe{PacketID: 1, Filters: []string{"gone"}})
		expect[*mqttcodec.Unsuback](c)
		other.publish1("new", numbered("n", 10)...)
		other.publish1("a", "last")
		c.takeAll(append(append(numbered("a", 10), numbered("n", 10)...), "last")...)
	})
}

// A client that goes while the log is being read for it, and comes back, gets everything once, in order.
func TestConnectionEndsDuringSharedRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", shareReads)
		b.away("c", "a")
		other := b.connected("other", clean)
		want := numbered("m", 300)
		other.publish1("a", want...)
		storage.Latency(func(o sessionstest.Operation) time.Duration {
			if o.Kind == sessionstest.ReadLog {
				return 5 * time.Second // longer than all that
			}
			return 0
		})
		for range 3 {
			c := b.connected("c")
			elapse(time.Second)
			c.disconnect()
		}
		first := b.connected("c")
		c := b.connected("c", receiveMaximum(5)) // takes the session over
		if p := expect[*mqttcodec.Disconnect](first); p.Reason != mqttcodec.SessionTakenOver {
			t.Fatalf("the first connection ends with %#x", p.Reason)
		}
		c.takeAll(want...)
		synctest.Wait()
		if got := c.received(); len(got) > 0 {
			t.Fatalf("got %+v beside", got[0])
		}
	})
}

// The limit of a queue holds when the log is read for many: the oldest messages, or the newest ones, are dropped and counted.
func TestSharedReadBoundsQueues(t *testing.T) {
	for _, overflow := range []sessions.Overflow{sessions.DropOldest, sessions.DropNewest} {
		bubble(t, func(t *testing.T) {
			b := startOnPipes(t, sessionstest.New(), "boot", shareReads, func(cfg *Config) {
				cfg.Sessions.MaxQueuedMessages = 20
				cfg.Sessions.Overflow = overflow
			})
			b.away("long", "a")
			b.away("short", "b")
			other := b.connected("other", clean)
			want := numbered("m", 400)
			other.publish1("a", want...)
			other.publish1("b", "one")
			eventually(t, "the log is handed out", func() bool { return b.router.Head().Sequence == 401 })
			long, short := b.connected("long", receiveMaximum(3)), b.connected("short")
			short.takeAll("one")
			if overflow == sessions.DropOldest {
				long.takeAll(want[380:]...)
			} else {
				long.takeAll(want[:20]...)
			}
			other.publish1("a", "live")
			long.takeAll("live")
			if n := b.Stats().Drops()[sessions.DropQueueFull]; n != 380 {
				t.Errorf("%s: %d dropped", overflow, n)
			}
		})
	}
}

// What was taken out of the log before a session came back is passed over.
func TestSharedReadOfATrimmedLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", shareReads)
		b.away("c", "a")
		other := b.connected("other", clean)
		want := numbered("m", 100)
		other.publish1("a", want...)
		storage.Trim(51)
		b.connected("c").takeAll(want[50:]...)
	})
}

// A session changes from its durable queue to the shared read, when that is cheaper, without gap and without repeat.
func TestSessionChangesItsSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", func(cfg *Config) {
			cfg.RingBytes = 2 * entryOverhead
			cfg.SharedReadFrom = 20_000 // 5 messages are worth a queue of one's own, or 8 for each that is known to wait
			cfg.Sessions.BacklogMessages = 2
		})
		b.away("c", "a")
		other := b.connected("other", clean)
		want := numbered("m", 100)
		for _, m := range want {
			other.publish1("a", m)
			other.publish1("b", "never", "never")
		}
		sources := sourcesOf(storage, "c")
		b.connected("c", receiveMaximum(4)).takeAll(want...)
		synctest.Wait()
		if first := slices.Index(*sources, "log"); first < 2 || first > 3 { // open, one fetch, and its documents if they are read
			t.Fatalf("it read from %v", *sources)
		}
	})
}

// Who was to read its durable queue when few were behind reads with the others when its turn comes and there are many.
func TestPolicyIsAskedAgainWhenAQueuesTurnComes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", func(cfg *Config) {
			cfg.RingBytes = 2 * entryOverhead
			cfg.SharedReadFrom = 5000 // 20 messages are worth a queue of one's own
			cfg.MaxParkedQueues = 0
		})
		b.away("c", "a")
		for i := range 10 {
			b.away(fmt.Sprint("c", i), "a")
		}
		other := b.connected("other", clean)
		want := numbered("m", 100)
		other.publish1("a", want...)
		eventually(t, "the log is handed out", func() bool { return b.router.Head().Sequence == uint64(len(want)) })
		for range maxQueueReads {
			b.queueSlots <- struct{}{}
		}
		sources := sourcesOf(storage, "c")
		c := b.connected("c")
		elapse(time.Minute)
		if got := c.received(); len(got) > 0 {
			t.Fatalf("got %+v before its turn", got[0])
		}
		var others []*testClient
		for i := range 10 {
			others = append(others, b.connected(fmt.Sprint("c", i)))
		}
		synctest.Wait()
		if n := b.catchUp.behind.Load(); n != 11 {
			t.Fatalf("%d sessions count as behind", n)
		}
		for range maxQueueReads {
			<-b.queueSlots
		}
		for _, c := range append(others, c) {
			c.takeAll(want...)
		}
		synctest.Wait()
		if queue := slices.DeleteFunc(*sources, func(s string) bool { return s == "log" }); len(queue) > 1 { // its documents, if they are read
			t.Errorf("it read %v", queue)
		}
		others[0].close() // one that is behind no more
		synctest.Wait()
		if n := b.catchUp.behind.Load(); n != 0 {
			t.Errorf("%d sessions count as behind", n)
		}
	})
}
