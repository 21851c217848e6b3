package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// failFor makes the writes of a client's record fail.
func failFor(storage *sessionstest.Storage, clientID string) {
	storage.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
		if o.Kind == sessionstest.SaveRecord && o.ClientID == clientID {
			return sessionstest.Outcome{Err: sessions.ErrUnavailable}
		}
		return sessionstest.Outcome{}
	})
}

// A session that its node has given up, since storage did not take what it had to write, was not left long ago: its client finds it
// on another node.
func TestSessionThatWasGivenUpMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		elapse(2 * time.Hour) // longer than sessions last
		c := a.connected("c")
		c.subscribe(1, "t")
		failFor(nodes.storage, "c")
		c.send(&mqttcodec.Subscribe{PacketID: 2, Requests: []mqttcodec.SubscriptionRequest{{Filter: "u"}}})
		synctest.Wait()
		nodes.storage.Intercept(nil)
		there, present := b.resumed("c")
		if !present {
			t.Fatal("the session is gone")
		}
		a.connected("publisher").publish1("t", "1")
		there.takeAll("1")
	})
}

// What a node that does not answer has last said counts, not what it had when a session was taken from it before.
func TestSessionsAreTakenFromTheSameNodeAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		nodes.neighbours.Deafen("a", true)
		a.connected("first")
		if _, present := b.resumed("first"); !present {
			t.Fatal("the first session is gone")
		}
		elapse(2 * time.Hour) // longer than sessions last
		a.connected("second")
		if _, present := b.resumed("second"); !present {
			t.Fatal("the second session is gone")
		}
	})
}

// Of a node that has just come not even a checkpoint was read.
func TestSessionIsTakenFromNodeThatHasJustCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		b := nodes.start("b")
		elapse(10*time.Second + 500*time.Millisecond) // b has just looked
		a := nodes.start("a")
		a.connected("c")
		nodes.neighbours.Deafen("a", true)
		if _, present := b.resumed("c"); !present {
			t.Fatal("the session is gone")
		}
	})
}

// A CONNECT that is taken again, since another node was faster, keeps what came behind it.
func TestConnectThatIsTakenAgainKeepsWhatCameBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		nodes.storage.Hold(sessionstest.SaveRecord)
		here, there := a.client(mqttcodec.V5), b.client(mqttcodec.V5)
		here.send(connectPacket(mqttcodec.V5, "c"))
		synctest.Wait()
		there.send(connectPacket(mqttcodec.V5, "c"), &mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "t"})
		there.send(&mqttcodec.Publish{QoS: 1, PacketID: 2, Topic: "t"})
		synctest.Wait()
		nodes.storage.Release(sessionstest.SaveRecord)
		if ack := expect[*mqttcodec.Connack](there); ack.Reason != mqttcodec.Success {
			t.Fatalf("got %+v", ack)
		}
		for id := range uint16(2) {
			if ack := expect[*mqttcodec.Puback](there); ack.PacketID != id+1 {
				t.Fatalf("got %+v", ack)
			}
		}
		here.wantEnd()
	})
}

// A CONNECT that came too late is refused, and not another on the same node that came later.
func TestLatestOfSeveralOnOneNodeStays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		a.connected("c")
		nodes.storage.Latency(func(o sessionstest.Operation) time.Duration {
			if o.Kind == sessionstest.Read {
				return 100 * time.Millisecond
			}
			return 0
		})
		first, second, third := b.client(mqttcodec.V5), a.client(mqttcodec.V5), b.client(mqttcodec.V5)
		first.send(connectPacket(mqttcodec.V5, "c"))
		elapse(5 * time.Millisecond)
		second.send(connectPacket(mqttcodec.V5, "c"))
		elapse(5 * time.Millisecond)
		third.send(connectPacket(mqttcodec.V5, "c"))
		if ack := expect[*mqttcodec.Connack](first); ack.Reason != mqttcodec.ServerBusy {
			t.Errorf("the first one got %+v", ack)
		}
		if ack := expect[*mqttcodec.Connack](third); ack.Reason != mqttcodec.Success || !ack.SessionPresent {
			t.Errorf("the last one got %+v", ack)
		}
	})
}

// A node whose clock is behind, and that did not hear of a client of another, is told so by a CONNECT that is refused: the next one is
// later.
func TestClockThatIsBehindIsToldSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		a.cluster.see(time.Now().Add(time.Hour).UnixNano()) // as if its clock were ahead
		nodes.neighbours.Deafen("b", true)
		here := a.connected("c")
		nodes.neighbours.Deafen("b", false)
		first := b.client(mqttcodec.V5)
		first.send(connectPacket(mqttcodec.V5, "c"))
		if ack := expect[*mqttcodec.Connack](first); ack.Reason != mqttcodec.ServerBusy {
			t.Fatalf("got %+v", ack)
		}
		b.connected("c")
		here.wantTakenOver()
	})
}
