package actors

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// park1 connects a client, subscribes and leaves.
func (b *testBroker) park1(clientID string) {
	b.t.Helper()
	c := b.connected(clientID)
	c.subscribe(1, "a")
	c.disconnect()
	eventually(b.t, "the session is let go", func() bool { return b.directory.parked(clientID) })
}

func queueNames(s *sessionstest.Storage) []string {
	names := s.QueueNames()
	slices.Sort(names)
	return names
}

func TestTheMostRecentOfflineSessionsHaveQueues(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", func(cfg *Config) { cfg.MaxParkedQueues = 3 })
		for i := range 8 {
			b.park1(fmt.Sprint("c", i))
		}
		elapse(2 * time.Second)
		if got := queueNames(storage); !slices.Equal(got, []string{"c5", "c6", "c7"}) {
			t.Fatalf("queues of %v", got)
		}
		if n := b.stats.parkedQueues.Load(); n != 3 {
			t.Fatalf("%d queues are counted", n)
		}
		b.connected("c6")
		elapse(time.Second)
		if got := queueNames(storage); !slices.Equal(got, []string{"c5", "c7"}) {
			t.Fatalf("queues of %v after c6 has come back", got)
		}
	})
}

func TestQueuesAreMadeAtABoundedRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", func(cfg *Config) { cfg.ParkRate = 5 })
		for i := range 30 {
			b.park1(fmt.Sprint("c", i))
		}
		start := time.Now().Add(b.cfg.ParkAfter)
		eventually(t, "all queues are made", func() bool { return len(storage.QueueNames()) == 30 })
		if took := time.Since(start); took < 4*time.Second || took > 6*time.Second {
			t.Fatalf("30 queues at 5 a second took %v", took)
		}
	})
}

func TestSessionWithoutSubscriptionsHasNoQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		b.connected("none").disconnect()
		c := b.connected("zero")
		c.subscribe(0, "a")
		c.disconnect()
		elapse(2 * time.Second)
		if got := queueNames(storage); len(got) > 0 {
			t.Fatalf("queues of %v", got)
		}
	})
}

// Who is back within a moment has no queue made, however often.
func TestSessionThatIsBackSoonIsNotParked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		b.park1("other")
		for range 3 {
			b.park1("c")
			elapse(900 * time.Millisecond)
			if slices.Contains(storage.QueueNames(), "c") {
				t.Fatal("the queue was made at once")
			}
		}
		elapse(200 * time.Millisecond)
		if got := queueNames(storage); !slices.Equal(got, []string{"c", "other"}) {
			t.Fatalf("queues of %v", got)
		}
	})
}

// However sessions come and go: in the end those that are away have their queues, up to the maximum, and nobody else.
func TestQueuesFollowSessionsThatComeAndGo(t *testing.T) {
	for seed := range uint64(10) {
		bubble(t, func(t *testing.T) {
			random := newChance(seed)
			storage := sessionstest.New()
			storage.Latency(func(sessionstest.Operation) time.Duration { return random.upTo(5 * time.Millisecond) })
			most := 1 + random.below(6)
			b := startOnPipes(t, storage, "boot", func(cfg *Config) {
				cfg.MaxParkedQueues, cfg.ParkRate = most, 200
				cfg.RingBytes = 4 * entryOverhead
			})
			publisher := b.connected("publisher", clean)
			online := map[string]*testClient{}
			for range 80 {
				id := fmt.Sprint("c", random.below(8))
				if c := online[id]; c != nil {
					c.close()
					delete(online, id)
				} else {
					c := b.connected(id)
					c.subscribeInBackground("a")
					online[id] = c
				}
				if random.below(3) == 0 {
					publisher.publish1("a", "x", "y", "z")
				}
				elapse(random.upTo(40 * time.Millisecond))
			}
			for len(online) > 2 {
				for id, c := range online {
					c.close()
					delete(online, id)
					break
				}
			}
			elapse(10 * time.Second)
			names := storage.QueueNames()
			for _, id := range names {
				if online[id] != nil {
					t.Errorf("seed %d: %s is online and has a queue", seed, id)
				}
			}
			if len(names) > most {
				t.Errorf("seed %d: %d queues, at most %d", seed, len(names), most)
			}
			b.parking.mu.Lock()
			defer b.parking.mu.Unlock()
			if p := b.parking; len(p.places) != p.made.Len() || p.fresh.Len()+p.queued.Len() > 0 || p.made.Len() != len(names) {
				t.Errorf("seed %d: %d places, %d made, %d queued, %d queues", seed, len(p.places), p.made.Len(), p.queued.Len(), len(names))
			}
		})
	}
}

// What is to be removed is not forgotten over what is to be made.
func TestRemovalIsNotCrowdedOut(t *testing.T) {
	b := &Broker{cfg: DefaultConfig("boot")}
	b.cfg.MaxParkedQueues, b.cfg.ParkAfter = 1, 0
	p := newParking(b)
	p.move("gone", p.place("gone"), p.made)
	p.drop("gone")
	p.park("one")
	p.park("two")
	removed := map[string]bool{}
	for {
		clientID, remove, ok := p.next()
		if !ok {
			break
		}
		removed[clientID] = remove
		p.finish(clientID)
	}
	if !removed["gone"] || removed["two"] || len(p.places) != 1 || p.made.Len() != 1 {
		t.Fatalf("worked off (true: removed) %v; %d places, %d queues", removed, len(p.places), p.made.Len())
	}
}

// A session that left before it had done with its queue has it removed when it is not parked again after all.
func TestQueueOfASessionThatWaitsIsNotForgotten(t *testing.T) {
	for claim, end := range map[string]func(*parking){
		"it ends":              func(p *parking) { p.drop("c") },
		"others left after it": func(p *parking) { p.park("d") },
	} {
		b := &Broker{cfg: DefaultConfig("boot")}
		b.cfg.MaxParkedQueues = 1
		p := newParking(b)
		p.move("c", p.place("c"), p.made)
		p.park("c")
		end(p)
		if clientID, remove, ok := p.next(); clientID != "c" || !remove || !ok {
			t.Errorf("%s: next is %q, to be removed: %v, %v", claim, clientID, remove, ok)
		}
	}
}

// subscribeInBackground subscribes at QoS 1 and takes what comes, at any time, without looking at it.
func (c *testClient) subscribeInBackground(filter string) {
	c.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{
		{Filter: filter, Options: mqttcodec.SubscriptionOptions{QoS: 1}},
	}})
	go func() {
		for !c.hasEnded() {
			for _, p := range c.received() {
				if p, ok := p.(*mqttcodec.Publish); ok && p.QoS == 1 {
					_, _ = c.socket.Write(c.encode(&mqttcodec.Puback{PacketID: p.PacketID}))
				}
			}
			elapse(5 * time.Millisecond)
		}
	}()
}
