package actors

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
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
	parts.Nodes, parts.Live, parts.Presence = c.neighbours, c.plane.Node(), c.storage.Presence()
	m := &mortal{}
	listener := newPipeListener()
	change = append([]func(*Config){func(cfg *Config) { cfg.Node = "node of " + boot }}, change...)
	b := startWith(c.t, c.storage, m.of(parts), boot, listeners{mqtt: listener}, listener.dial, change)
	b.mortal = m
	return b
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

// A node that does not answer loses the session to another, and finds that out with its next write.
func TestSessionIsTakenFromNodeThatDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		here := a.connected("c")
		here.subscribe(1, "t")
		nodes.neighbours.Deafen("a", true)
		there, present := b.resumed("c")
		if !present {
			t.Fatal("the session is gone")
		}
		here.send(&mqttcodec.Subscribe{PacketID: 2, Requests: []mqttcodec.SubscriptionRequest{{Filter: "u"}}})
		here.wantTakenOver()
		a.connected("publisher").publish1("t", "1")
		there.takeAll("1")
	})
}

// A node from which a session was taken without its hearing of it does not let the client back into what it remembers.
func TestSessionThatWasTakenUnheardIsReadAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		here := a.connected("c")
		here.subscribe(1, "t")
		here.close()
		nodes.neighbours.Deafen("a", true)
		there, _ := b.resumed("c")
		there.subscribe(1, "u")
		there.close()
		elapse(time.Second)
		back, present := a.resumed("c")
		if !present {
			t.Fatal("the session is gone")
		}
		a.connected("publisher").publish1("u", "1")
		back.takeAll("1")
	})
}

// The will of a client that is on another node is not published, though the node that it has left was told of neither.
func TestWillOfSessionThatWasTakenUnheard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "will/#")
		a.connected("c", withWill("x", 30)).close()
		elapse(time.Second)
		nodes.neighbours.Deafen("a", true)
		b.resumed("c")
		nodes.neighbours.Deafen("a", false)
		elapse(time.Minute)
		if watcher.waiting() > 0 {
			t.Errorf("got %+v", watcher.next())
		}
	})
}

// Of clients that connect to all nodes at the same time with one client identifier, one stays.
func TestRivalsOnAllNodes(t *testing.T) {
	for name, change := range map[string][]func(*mqttcodec.Connect){"persistent": nil, "clean": {clean}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				nodes := newTestCluster(t)
				brokers := []*testBroker{nodes.start("a"), nodes.start("b"), nodes.start("c")}
				for round := range 20 {
					var rivals []*testClient
					for i := range 6 {
						c := brokers[(round+i)%3].client(mqttcodec.V5)
						c.send(connectPacket(mqttcodec.V5, "c", change...))
						rivals = append(rivals, c)
						if i%2 == 1 {
							elapse(time.Duration(round) * 100 * time.Microsecond)
						}
					}
					elapse(5 * time.Second)
					var left []*testClient
					for _, c := range rivals {
						if !c.hasEnded() {
							left = append(left, c)
						}
					}
					if len(left) != 1 {
						t.Fatalf("round %d: %d connections are left", round, len(left))
					}
					c := left[0]
					if ack := expect[*mqttcodec.Connack](c); ack.Reason != mqttcodec.Success {
						t.Fatalf("round %d: the one that is left has CONNACK %+v", round, ack)
					}
					c.subscribe(1, "t")
					brokers[round%3].connected("publisher").publish1("t", "1")
					c.takeAll("1")
					elapse(time.Second) // its PUBACK is taken before the next ones come
				}
			})
		})
	}
}

// The members of a shared subscription may be on several nodes: each message goes to one of them, and the queue goes with the last.
func TestSharedSubscriptionSpansNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		here, there := a.connected("here", clean), b.connected("there", clean)
		const share = "$share/s/t"
		here.subscribe(1, share)
		there.subscribe(1, share)
		publisher := a.connected("publisher")
		for range 20 {
			publisher.publish1("t", "x")
		}
		taken := 0
		eventually(t, "all messages are taken", func() bool {
			for _, c := range []*testClient{here, there} {
				for c.waiting() > 0 {
					c.take1()
					taken++
				}
			}
			return taken >= 20
		})
		here.disconnect()
		elapse(time.Second)
		publisher.publish1("t", "y")
		there.takeAll("y")
		there.disconnect()
		eventually(t, "the queue is gone", func() bool { return len(nodes.storage.SharedNames()) == 0 })
		if taken != 20 {
			t.Errorf("%d messages were delivered of 20", taken)
		}
	})
}

// A member takes its place in a shared subscription, and what it holds, along to another node.
func TestMemberOfSharedSubscriptionMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		c := a.connected("c")
		c.subscribe(1, "$share/s/t")
		publisher := a.connected("publisher")
		publisher.publish1("t", "1")
		if p := expect[*mqttcodec.Publish](c); string(p.Payload) != "1" { // not acknowledged
			t.Fatalf("got %+v", p)
		}
		c, _ = b.resumed("c")
		c.takeAll("1")
		publisher.publish1("t", "2")
		c.takeAll("2")
		elapse(time.Minute)
		if n := len(nodes.storage.SharedTaken("$share/s/t")); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
		if c.waiting() > 0 {
			t.Errorf("got %+v once more", c.next())
		}
	})
}

// What a node has taken of a shared subscription when its last member has just gone is for those of other nodes.
func TestSharedMessagesGoToOtherNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a, b := nodes.start("a"), nodes.start("b")
		const share = "$share/s/t"
		here := a.connected("here")
		here.subscribe(1, share)
		here.disconnect()
		a.connected("publisher").publish1("t", "1", "2", "3")
		sh := a.shares.find(share)
		if err := sh.take(t.Context(), sh.queue, 3); err != nil {
			t.Fatal(err)
		}
		there := b.connected("there", clean)
		there.subscribe(1, share)
		there.takeAll("1", "2", "3")
	})
}

// What was on its way to members when their node was lost comes at once, and once, on nodes that open its queue together: one of them
// has it come again before any takes something.
func TestNodesThatStartTogetherLeaveNoSharedMessageToEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		gone := nodes.start("gone")
		const share, n = "$share/s/t", 12
		gone.connected("member", clean).subscribe(1, share)
		gone.connected("publisher").publish1("t", numbered("m", n)...) // nobody acknowledges any
		elapse(time.Second)
		gone.kill()
		nodes.storage.Latency(func(o sessionstest.Operation) time.Duration {
			if o.Kind == sessionstest.OpenShared || o.Kind == sessionstest.Reclaim {
				return time.Second
			}
			return 0
		})
		var members []*testClient
		for _, boot := range []string{"a", "b", "c"} {
			members = append(members, nodes.start(boot).connected("member of "+boot, clean))
		}
		for _, m := range members {
			m.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{
				{Filter: share, Options: mqttcodec.SubscriptionOptions{QoS: 1}},
			}})
		}
		elapse(5 * time.Second)
		var got []string
		for _, m := range members {
			expect[*mqttcodec.Suback](m)
			for m.waiting() > 0 {
				got = append(got, string(m.take1().Payload))
			}
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(numbered("m", n))); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A session that was let go of for another node, where its client was not let in after all, is still a subscriber of what it shares:
// the queue stays when the last one of another node goes.
func TestSharedSubscriptionOfSessionThatWasNotTaken(t *testing.T) {
	for name, connected := range map[string]bool{"its client was here": true, "its client was away": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				nodes := newTestCluster(t)
				a, b := nodes.start("a"), nodes.start("b")
				const share = "$share/s/t"
				here, there := a.connected("here"), b.connected("there", clean)
				here.subscribe(1, share)
				there.subscribe(1, share)
				if !connected {
					here.close()
					elapse(time.Second)
				}
				release, err := nodes.neighbours.Ask(t.Context(), "a", sessions.Claim{ClientID: "here", Boot: "b", Stamp: time.Now().UnixNano() + 1})
				if err != nil || release.Later {
					t.Fatal(release, err)
				}
				there.disconnect()
				elapse(20 * time.Second)
				a.connected("publisher").publish1("t", "1")
				elapse(20 * time.Second)
				if here, present := b.resumed("here"); present {
					here.takeAll("1")
				} else {
					t.Error("the session is gone")
				}
			})
		})
	}
}

// However many say that they are nodes, those that are known are bounded, and forgotten when they turn out to be none.
func TestNodesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newTestCluster(t).start("a")
		for i := range 2 * maxPeers {
			a.cluster.Greeted(sessions.Hello{Boot: fmt.Sprint("nobody ", i), Since: time.Now()})
		}
		if n := len(a.cluster.boots()); n != maxPeers {
			t.Errorf("%d are known", n)
		}
		elapse(a.cfg.DeadAfter + 5*time.Second)
		if n := len(a.cluster.boots()); n != 0 {
			t.Errorf("%d are still known", n)
		}
	})
}
