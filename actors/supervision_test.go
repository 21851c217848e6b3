package actors

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// explosive makes the session actor panic that is asked to publish to the topic "boom".
func explosive(cfg *Config) {
	cfg.Sessions.TopicFits = func(topic string, _ bool) bool {
		if topic == "boom" {
			explode()
		}
		return true
	}
}

func TestPanicInASessionEndsItsConnectionAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", explosive)
		victim, other := b.connected("victim"), b.connected("other")
		victim.subscribe(1, "a")
		other.subscribe(1, "b")
		victim.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "boom"})
		victim.wantEnd()
		if n := b.Stats().ActorFailures(); n != 1 {
			t.Errorf("%d failures are counted", n)
		}
		if b.logged.count("actor failed") != 1 || b.logged.count("explode") == 0 {
			t.Errorf("the log does not show the failure and where it was:\n%s", b.logged)
		}
		other.publish1("b", "still here")
		other.takeAll("still here")
		other.publish1("a", "for the victim")

		victim, present := b.resumed("victim")
		if !present {
			t.Fatal("the session went with its actor")
		}
		victim.takeAll("for the victim")
	})
}

// A client whose session failed comes back at once, or (when a write of the failed one is still under way) is told to try again.
func TestClientOfAFailedSessionNeedNotWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", explosive)
		failures := 0
		for range 100 {
			c := b.client(mqttcodec.V5)
			c.send(connectPacket(mqttcodec.V5, "victim"))
			if _, ok := c.next().(*mqttcodec.Connack); ok {
				c.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "boom"})
				c.wantEnd()
				failures++
			}
		}
		if n := b.stats.connectTimeouts.Load(); n > 0 || failures < 50 {
			t.Errorf("of 100 CONNECTs %d were taken and %d never answered", failures, n)
		}
	})
}

// A will and an expiry do not wait for the client of a session that failed.
func TestWillIsSentThoughTheSessionFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", explosive)
		watcher := b.connected("watcher")
		watcher.subscribe(1, "will")
		victim := b.connected("victim", func(p *mqttcodec.Connect) {
			p.Will = &mqttcodec.Will{Topic: "will", Payload: []byte("gone"), QoS: 1}
		})
		victim.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "boom"})
		victim.wantEnd()
		watcher.takeAll("gone")
		elapse(10 * time.Second)
		synctest.Wait()
		if n := watcher.waiting(); n > 0 {
			t.Fatalf("the will came %d times more", n)
		}
	})
}

// brittleSocket panics when it is written to after a word.
type brittleSocket struct {
	net.Conn
	broken chan struct{}
}

func (s brittleSocket) Write(b []byte) (int, error) {
	select {
	case <-s.broken:
		explode()
	default:
	}
	return s.Conn.Write(b)
}

func TestPanicInAConnectionDetachesItsSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		ours, theirs := net.Pipe()
		broken := make(chan struct{})
		b.admit()
		b.serve(brittleSocket{theirs, broken}, listenerMQTT)
		victim := newTestClient(t, ours, mqttcodec.V5)
		victim.send(connectPacket(mqttcodec.V5, "victim"))
		expect[*mqttcodec.Connack](victim)
		victim.subscribe(1, "a")
		close(broken)
		victim.send(&mqttcodec.Pingreq{})
		victim.wantEnd()
		if n := b.Stats().ActorFailures(); n == 0 {
			t.Error("the failure is not counted")
		}
		eventually(t, "the session is let go", func() bool { return b.directory.parked("victim") })
		eventually(t, "the connection is gone", func() bool { return b.Stats().Connections() == 0 })
	})
}

// However many connections want one session, one gets it at a time, and one has it in the end. [MQTT-3.1.4-3] [case 37]
func TestFiftyConnectionsTakeOverOneSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		b.connected("one").subscribe(1, "a")
		const n = 50
		clients := make([]*testClient, n)
		for i := range clients {
			clients[i] = b.client(mqttcodec.V5)
			go clients[i].send(connectPacket(mqttcodec.V5, "one"))
		}
		synctest.Wait()
		elapse(time.Second)
		synctest.Wait()
		var owner *testClient
		for i, c := range clients {
			if !c.hasEnded() {
				if owner != nil {
					t.Fatal("two connections have the session")
				}
				owner = c
				if ack := expect[*mqttcodec.Connack](c); !ack.SessionPresent {
					t.Fatal("the session was lost on the way")
				}
				continue
			}
			for _, p := range c.received() {
				switch p := p.(type) {
				case *mqttcodec.Connack:
				case *mqttcodec.Disconnect:
					if p.Reason != mqttcodec.SessionTakenOver {
						t.Fatalf("client %d: DISCONNECT has reason %#x", i, p.Reason)
					}
				default:
					t.Fatalf("client %d got %#v", i, p)
				}
			}
		}
		if owner == nil {
			t.Fatal("no connection has the session")
		}
		if live, open := b.directory.live.Load(), b.Stats().Connections(); live != 1 || open != 1 {
			t.Fatalf("%d session actors and %d connections are left", live, open)
		}
		b.connected("publisher", clean).publish1("a", "for the last")
		owner.takeAll("for the last")
	})
}

// Connections that come and go fast leave nothing behind.
func TestFlappingClientsLeaveNothingBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		for round := range 20 {
			for i := range 5 {
				c := b.client(mqttcodec.V5)
				c.send(connectPacket(mqttcodec.V5, fmt.Sprint("client ", i)))
				if (round+i)%3 == 0 {
					expect[*mqttcodec.Connack](c)
				}
				c.close()
			}
		}
		eventually(t, "all is let go", func() bool {
			return b.directory.live.Load() == 0 && b.Stats().Connections() == 0
		})
		b.router.mu.Lock()
		defer b.router.mu.Unlock()
		if len(b.router.members) != 0 {
			t.Fatalf("the router knows %d sessions", len(b.router.members))
		}
		for i := range 5 {
			if _, n := wheelTimers(b.wheel, fmt.Sprint("client ", i)); n > 1 {
				t.Fatalf("client %d has %d timers on the wheel", i, n)
			}
		}
	})
}

// wheelTimers counts the deadline timers on the wheel, all and those of one client identifier.
func wheelTimers(w *timerWheel, clientID string) (all, ofClient int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, bucket := range w.buckets {
		for _, e := range bucket {
			if t, ok := e.target.(*deadlineTimer); ok {
				all++
				if t.clientID == clientID {
					ofClient++
				}
			}
		}
	}
	return all, ofClient
}
