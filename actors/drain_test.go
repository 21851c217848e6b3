package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// A node that drains sends its clients to others, where their sessions are, and lets nobody in. What it leaves is settled at once.
func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a", func(c *Config) { c.ServerReference = "elsewhere" }), nodes.start("b")
		if !a.Company() || !b.Company() {
			t.Fatal("the nodes do not know each other")
		}
		publisher, watcher := b.connected("publisher"), b.connected("watcher")
		watcher.subscribe(1, "will/#")
		c, will := a.connected("c"), a.connected("with will", withWill("x", 0))
		c.subscribe(1, "t")
		late := a.client(mqttcodec.V5) // connected, and has not said anything
		if err := nodes.neighbours.Drain(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		<-a.DrainAsked()
		go a.Drain(t.Context())
		for _, client := range []*testClient{c, will} {
			if bye := expect[*mqttcodec.Disconnect](client); bye.Reason != mqttcodec.UseAnotherServer || bye.ServerReference != "elsewhere" {
				t.Errorf("got %+v", bye)
			}
			client.wantEnd()
		}
		late.send(connectPacket(mqttcodec.V5, "late"))
		if ack := expect[*mqttcodec.Connack](late); ack.Reason != mqttcodec.UseAnotherServer || ack.Properties.ServerReference != "elsewhere" {
			t.Errorf("got %+v", ack)
		}
		publisher.publish1("t", "1")
		there, present := b.resumed("c")
		if !present {
			t.Error("the session is gone")
		}
		there.takeAll("1")
		eventually(t, "the node that drains is not taken for one that lets clients in", func() bool { return !b.Company() })
		a.shutdown()
		watcher.takeAll("x") // nobody came back for it
	})
}

// A client that is being let in while the node begins to drain is sent away like the others.
func TestDrainMeetsConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a := nodes.start("a")
		nodes.start("b")
		nodes.storage.Hold(sessionstest.SaveRecord)
		c := a.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "c"))
		synctest.Wait()
		drained := make(chan struct{})
		go func() {
			a.Drain(context.Background())
			close(drained)
		}()
		elapse(time.Second)
		nodes.storage.Release(sessionstest.SaveRecord)
		if ack := expect[*mqttcodec.Connack](c); ack.Reason != mqttcodec.UseAnotherServer {
			t.Errorf("got %+v", ack)
		}
		c.wantEnd()
		select {
		case <-drained:
		case <-time.After(a.cfg.DrainTimeout / 2):
			t.Error("drain waits for nobody")
		}
	})
}
