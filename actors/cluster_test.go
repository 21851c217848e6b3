package actors

import (
	"testing"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// testCluster is nodes on one storage.
type testCluster struct {
	t          *testing.T
	storage    *sessionstest.Storage
	neighbours *sessionstest.Neighbours
	plane      *sessionstest.LivePlane
}

func newTestCluster(t *testing.T) *testCluster {
	t.Helper()
	return &testCluster{t, sessionstest.New(), sessionstest.NewNeighbours(), sessionstest.NewLivePlane()}
}

// start starts a node.
func (c *testCluster) start(boot string, change ...func(*Config)) *testBroker {
	c.t.Helper()
	parts := brokerStorage(c.storage)
	parts.Nodes, parts.Live = c.neighbours, c.plane.Node()
	listener := newPipeListener()
	change = append([]func(*Config){func(cfg *Config) { cfg.Node = "node of " + boot }}, change...)
	return startWith(c.t, c.storage, parts, boot, listeners{mqtt: listener}, listener.dial, change)
}

// wantTakenOver waits until the client is told that it has connected elsewhere, and its connection ends.
func (c *testClient) wantTakenOver() {
	c.t.Helper()
	if p := expect[*mqttcodec.Disconnect](c); p.Reason != mqttcodec.SessionTakenOver {
		c.t.Fatalf("got %+v", p)
	}
	c.wantEnd()
}

// A session goes where its client connects, with all that it has; what the client had elsewhere ends with 0x8E.
func TestSessionMovesToAnotherNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		publisher := a.connected("publisher")
		here := a.connected("c")
		here.subscribe(1, "t")
		publisher.publish1("t", "1")
		here.takeAll("1")
		there, present := b.resumed("c")
		if !present {
			t.Fatal("the session is gone")
		}
		here.wantTakenOver()
		publisher.publish1("t", "2")
		there.takeAll("2")
		there.close()
		publisher.publish1("t", "3")
		back, present := a.resumed("c")
		if !present {
			t.Fatal("the session is gone")
		}
		back.takeAll("3")
	})
}

// A client without a stored session, too, has one connection.
func TestCleanSessionHasOneConnectionInTheCluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		here := a.connected("c", clean)
		there := b.connected("c", clean)
		here.wantTakenOver()
		there.subscribe(1, "t")
		a.connected("publisher").publish1("t", "1")
		there.takeAll("1")
	})
}
