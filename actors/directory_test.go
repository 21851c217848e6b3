package actors

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// A CONNECT that meets an actor which is about to go is answered all the same, by that one or by the next.
func TestConnectIsAnsweredThoughTheActorRetires(t *testing.T) {
	for seed := range uint64(5) {
		bubble(t, func(t *testing.T) {
			random := newChance(seed)
			storage := sessionstest.New()
			storage.Latency(func(sessionstest.Operation) time.Duration { return random.upTo(3 * time.Millisecond) })
			b := startOnPipes(t, storage, "boot")
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					for range 40 {
						c := b.client(mqttcodec.V5)
						change := func(p *mqttcodec.Connect) {
							if random.below(3) == 0 {
								clean(p)
							}
						}
						c.send(connectPacket(mqttcodec.V5, fmt.Sprint("client ", random.below(3)), change))
						if p := c.next(); p == nil {
							// somebody else took the session before CONNACK
						} else if ack, ok := p.(*mqttcodec.Connack); !ok || ack.Reason != mqttcodec.Success {
							t.Errorf("got %#v", p)
						}
						elapse(random.upTo(8 * time.Millisecond))
						c.close()
					}
				})
			}
			wg.Wait()
			if n := b.stats.connectTimeouts.Load(); n > 0 {
				t.Errorf("%d CONNECTs were never answered", n)
			}
			eventually(t, "all is let go", func() bool { return b.directory.live.Load() == 0 })
			if n := b.logged.count("session given up"); n > 0 {
				t.Errorf("%d sessions were given up", n)
			}
		})
	}
}

// A stored session that has something to do much later wakes then, however far that is.
func TestStoredSessionWakesAtItsDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		c := b.connected("c", func(p *mqttcodec.Connect) { p.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(3 * 3600)) })
		c.close()
		elapse(3*time.Hour - time.Minute)
		if storage.Record("c") == nil {
			t.Fatal("the session ended early")
		}
		elapse(2 * time.Minute)
		if storage.Record("c") != nil {
			t.Fatal("the session did not end")
		}
		if n := b.directory.live.Load(); n != 0 {
			t.Fatalf("%d session actors are left", n)
		}
		s := b.directory.shard("c")
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.entries) != 0 {
			t.Fatal("the directory still knows the client identifier")
		}
	})
}
