package actors

import (
	"slices"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// What a node that was killed has left behind is settled by another, once: the will of a client that was there, and the end of a
// session whose time is over.
func TestAnotherNodeSettlesADeadOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b, c := nodes.start("a"), nodes.start("b"), nodes.start("c")
		watcher := a.connected("watcher")
		watcher.subscribe(1, "will/#")
		c.connected("with will", withWill("will/now", 0))
		c.connected("short", sessionExpiry(10))
		c.kill()
		elapse(40 * time.Second)
		watcher.takeAll("will/now")
		elapse(5 * time.Minute)
		if watcher.waiting() > 0 {
			t.Errorf("got %+v, too", watcher.next())
		}
		if nodes.storage.Record("short") != nil {
			t.Error("a session whose time is over is still stored")
		}
		if nodes.storage.Record("with will") == nil {
			t.Error("a session whose time is not over is gone")
		}
		if _, present := b.resumed("with will"); !present {
			t.Error("a session whose time is not over was not resumed")
		}
	})
}

// A node that had a session before, and settles that of another, keeps to what the other has left behind.
func TestSessionThatMovedIsSettledByWhoHadIt(t *testing.T) {
	for name, leaves := range map[string]bool{"its client was there": false, "its client had left": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				nodes := newTestCluster(t)
				a, b := nodes.start("a"), nodes.start("b")
				watcher := a.connected("watcher")
				watcher.subscribe(1, "will/#")
				a.connected("c").disconnect()
				elapse(time.Second)
				c := b.connected("c", withWill("will/late", 60))
				if leaves {
					c.close()
					elapse(time.Second)
				}
				b.kill()
				elapse(5 * time.Minute)
				if watcher.waiting() == 0 {
					t.Fatal("the will was not published")
				}
				watcher.takeAll("will/late")
				elapse(2 * time.Hour)
				if nodes.storage.Record("c") != nil {
					t.Error("the session has not ended")
				}
				if watcher.waiting() > 0 {
					t.Errorf("got %+v, too", watcher.next())
				}
			})
		})
	}
}

// A start deletes the checkpoints of boots that had died before, when their sessions are settled, and not those of nodes that die
// meanwhile.
func TestStartKeepsCheckpointOfNodeThatDiesMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		b.connected("of b")
		a.connected("of a")
		b.kill()
		refuse := func(clientIDs ...string) {
			nodes.storage.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
				if o.Kind == sessionstest.SaveRecord && slices.Contains(clientIDs, o.ClientID) {
					return sessionstest.Outcome{Err: sessions.ErrUnavailable}
				}
				return sessionstest.Outcome{}
			})
		}
		refuse("of a", "of b")
		nodes.start("b again", func(c *Config) { c.Node = "node of b" })
		a.kill()
		elapse(time.Minute)
		refuse("of a")
		eventually(t, "the sessions of b are settled", func() bool { return !slices.Contains(boots(t, nodes.storage), "b") })
		if !slices.Contains(boots(t, nodes.storage), "a") {
			t.Error("the checkpoint of a is gone, though its session is not settled")
		}
		refuse()
		eventually(t, "the sessions of a are settled", func() bool { return !slices.Contains(boots(t, nodes.storage), "a") })
	})
}

// The next leader writes to their bucket the retained messages that the one before it had not written, also when that has started
// again by then, so that its checkpoint is gone.
func TestNextLeaderWritesRetainedMessages(t *testing.T) {
	for name, again := range map[string]bool{"the leader stays away": false, "the leader starts again": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				nodes := newTestCluster(t)
				a := nodes.start("a")
				elapse(time.Second) // it is the oldest
				b := nodes.start("b")
				elapse(3 * time.Second)
				nodes.storage.Fail(sessions.ErrUnavailable, sessionstest.PutRetained)
				publisher := b.connected("publisher")
				publisher.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Retain: true, Topic: "t", Payload: []byte("x")})
				expect[*mqttcodec.Puback](publisher)
				elapse(3 * time.Second)
				a.kill()
				nodes.storage.Fail(nil)
				if again {
					nodes.start("a again", func(c *Config) { c.Node = "node of a" })
				}
				eventually(t, "the message is in the bucket", func() bool { _, ok := nodes.storage.RetainedMessage("t"); return ok })
			})
		})
	}
}

// Two nodes of one name, as without a data directory on one host, are two nodes while both answer.
func TestTwoNodesOfOneName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		name := func(c *Config) { c.Node = "host" }
		a := nodes.start("a", name)
		watcher := a.connected("watcher")
		watcher.subscribe(1, "will/#")
		here := a.connected("c", withWill("x", 0))
		elapse(time.Second)
		b := nodes.start("b", name)
		elapse(time.Minute)
		if watcher.waiting() > 0 || here.hasEnded() {
			t.Fatal("the client of a node that is alive was taken for gone")
		}
		plain := a.connected("plain", clean)
		b.connected("plain", clean)
		plain.wantTakenOver()
		b.connected("c")
		here.wantTakenOver()
		watcher.takeAll("x")
		b.kill()
		elapse(time.Second)
		nodes.start("b again", name)
		eventually(t, "what the killed one has left is settled", func() bool { return !slices.Contains(boots(t, nodes.storage), "b") })
		elapse(time.Minute)
		if got := slices.Sorted(slices.Values(boots(t, nodes.storage))); !slices.Equal(got, []string{"a", "b again"}) {
			t.Errorf("checkpoints of %v", got)
		}
	})
}
