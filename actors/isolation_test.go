package actors

import (
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// A node that is cut off from storage lets go of its persistent clients, and lets nobody in, until storage answers again. Others have
// settled meanwhile what it had.
func TestIsolatedNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "will/#")
		persistent, passing := a.connected("persistent", withWill("x", 0)), a.connected("passing", clean)
		elapse(time.Second)
		nodes.cutOff(a, true)
		elapse(12 * time.Second)
		if bye := expect[*mqttcodec.Disconnect](persistent); bye.Reason != mqttcodec.UseAnotherServer {
			t.Errorf("got %+v", bye)
		}
		persistent.wantEnd()
		if passing.hasEnded() {
			t.Error("a client without a session that could be elsewhere has no connection any more")
		}
		c := a.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "c"))
		if ack := expect[*mqttcodec.Connack](c); ack.Reason != mqttcodec.ServerUnavailable {
			t.Errorf("got %+v", ack)
		}
		elapse(time.Minute)
		watcher.takeAll("x")
		nodes.cutOff(a, false)
		elapse(3 * time.Second)
		if _, present := a.resumed("persistent"); !present {
			t.Error("the session is gone")
		}
		elapse(time.Minute)
		if watcher.waiting() > 0 {
			t.Errorf("got %+v, too", watcher.next())
		}
	})
}

// A will that a node cannot store, since it is cut off, is published by the node that settles what it had, and not once more when
// storage answers again: by then nothing may tell that it was.
func TestWillOfIsolatedNodeIsPublishedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "will/#")
		c := a.connected("c", withWill("x", 0))
		elapse(time.Second)
		nodes.cutOff(a, true)
		c.close()
		elapse(5 * time.Minute)
		watcher.takeAll("x")
		nodes.cutOff(a, false)
		elapse(5 * time.Minute)
		if watcher.waiting() > 0 {
			t.Errorf("got %+v, too", watcher.next())
		}
	})
}

// A node that was stopped for a while may have lost what it had. It does not take the time to find that out by itself before it acts:
// the will of a client that has gone meanwhile is for others to publish.
func TestNodeThatWasStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "will/#")
		c, stays := a.connected("c", withWill("x", 0)), a.connected("stays")
		elapse(time.Second)
		a.stop()
		defer a.goOn()
		nodes.neighbours.Deafen("a", true)
		elapse(5 * time.Minute)
		watcher.takeAll("x")
		c.close()
		refused := a.client(mqttcodec.V5)
		refused.send(connectPacket(mqttcodec.V5, "other"))
		if ack := expect[*mqttcodec.Connack](refused); ack.Reason != mqttcodec.ServerUnavailable {
			t.Errorf("got %+v", ack)
		}
		stays.send(&mqttcodec.Pingreq{})
		if bye := expect[*mqttcodec.Disconnect](stays); bye.Reason != mqttcodec.UseAnotherServer {
			t.Errorf("got %+v", bye)
		}
		elapse(time.Second)
		a.goOn()
		nodes.neighbours.Deafen("a", false)
		elapse(5 * time.Second)
		a.connected("stays")
		elapse(5 * time.Minute)
		if watcher.waiting() > 0 {
			t.Errorf("got %+v, too", watcher.next())
		}
	})
}

// While storage cannot be read a session that was given up is looked at less and less often, and nothing piles up meanwhile.
func TestSessionsThatCannotBeReadDoNotPileUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a := nodes.start("a")
		nodes.start("b")
		c := a.connected("c")
		c.subscribe(1, "t")
		elapse(time.Second)
		nodes.cutOff(a, true)
		elapse(time.Hour)
		a.router.mu.Lock()
		members := len(a.router.members)
		a.router.mu.Unlock()
		if members > 2 {
			t.Errorf("%d members of one session", members)
		}
		if n := a.logged.count("session could not be read"); n > 20 {
			t.Errorf("logged %d times in an hour", n)
		}
		nodes.cutOff(a, false)
		elapse(maxReadAgain)
		if !a.directory.intact() {
			t.Error("the session was not looked at")
		}
	})
}

// Presence tells where a client is, whatever a node that was cut off still had to write: who has gone elsewhere is online there, and who
// has stayed is online again though others have taken its node for dead.
func TestPresenceAfterIsolation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		a.connected("stays", clean)
		a.connected("moves")
		elapse(time.Second)
		nodes.cutOff(a, true)
		elapse(12 * time.Second)
		b.connected("moves")
		elapse(time.Minute)
		if p := nodes.storage.Presences()["stays"]; p.State != sessions.Offline || p.Reason != reasonServerDied {
			t.Errorf("presence is %+v", p)
		}
		nodes.cutOff(a, false)
		elapse(5 * time.Second)
		if p := nodes.storage.Presences()["moves"]; p.State != sessions.Online || p.Boot != "b" {
			t.Errorf("presence is %+v", p)
		}
		if p := nodes.storage.Presences()["stays"]; p.State != sessions.Online || p.Boot != "a" {
			t.Errorf("presence is %+v", p)
		}
	})
}

// A client whose session was given up, and that does not come back, is offline.
func TestPresenceOfSessionThatWasGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a := nodes.start("a")
		nodes.start("b")
		c := a.connected("c")
		elapse(time.Second)
		failFor(nodes.storage, "c")
		c.send(&mqttcodec.Subscribe{PacketID: 2, Requests: []mqttcodec.SubscriptionRequest{{Filter: "u"}}})
		elapse(time.Second)
		nodes.storage.Intercept(nil)
		elapse(5 * time.Second)
		if p := nodes.storage.Presences()["c"]; p.State != sessions.Offline {
			t.Errorf("presence is %+v", p)
		}
	})
}
