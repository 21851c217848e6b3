package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// TestSessionsMove is what a client may rely on that goes from one node to another, while all nodes are well.
func TestSessionsMove(t *testing.T) {
	t.Parallel()
	c := start(t)
	for name, test := range map[string]func(*testing.T, *harness.Cluster){
		"unfinished deliveries":            unfinishedDeliveriesMove, // [MQTT-4.4.0-1] [MQTT-4.3.3-5] [case 182]
		"unfinished publishes":             unfinishedPublishesMove,  // [MQTT-4.3.3-10] [MQTT-4.4.0-1] [case 182]
		"from node to node":                hopping,                  // [case 182]
		"taken over while connected":       takenOver,                // [MQTT-3.1.4-3] [3.1.1 MQTT-3.1.4-2] [case 182]
		"clean sessions are one":           cleanSessionsAreOne,      // [MQTT-3.1.4-3]
		"a clean start ends stored state":  cleanStartEndsStored,     // [MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-6]
		"a library's session moves":        libraryMoves,             // [case 182]
		"the later will counts":            willMoves,                // [MQTT-3.1.3-9] [MQTT-3.1.2-8]
		"a session that ends does so once": expiryMoves,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c.For(t))
		})
	}
}

// What was sent on one node and not acknowledged comes again on the next with DUP, under the same identifiers; exchanges at QoS 2
// go on where they were; then comes what was queued.
func unfinishedDeliveriesMove(t *testing.T, c *harness.Cluster) {
	for _, v := range harness.Versions {
		id := fmt.Sprint("unfinished-", v)
		publisher := c.Brokers[2].ConnectRaw(t, harness.CleanConnect(v, id+"-publisher"))
		r := c.Brokers[0].ConnectRaw(t, harness.PersistentConnect(v, id))
		r.Subscribe(harness.Filter(id+"/#", 2))
		publisher.PublishAll(harness.Messages(id+"/1", 1, "one-", 3))
		publisher.PublishAll(harness.Messages(id+"/2", 2, "two-", 2))
		ids := map[string]uint16{}
		for range 5 {
			p := harness.Expect[*mqttcodec.Publish](r)
			ids[string(p.Payload)] = p.PacketID
		}
		r.Send(&mqttcodec.Pubrec{PacketID: ids["two-0"]})
		harness.Expect[*mqttcodec.Pubrel](r)
		if err := r.DropNoticed(); err != nil {
			t.Fatal(err)
		}
		publisher.PublishAll(harness.Messages(id+"/1", 1, "queued-", 3))

		r = c.Brokers[1].Resume(t, v, id)
		for len(ids) > 0 {
			switch p := r.Read().(type) {
			case *mqttcodec.Publish:
				if ids[string(p.Payload)] != p.PacketID || !p.Duplicate || string(p.Payload) == "two-0" {
					t.Fatalf("%s came with identifier %d, DUP %v; it had %d", p.Payload, p.PacketID, p.Duplicate, ids[string(p.Payload)])
				}
				delete(ids, string(p.Payload))
				r.Answer(p)
			case *mqttcodec.Pubrel:
				if p.PacketID == ids["two-0"] {
					delete(ids, "two-0")
				}
				r.Answer(p)
			default:
				t.Fatalf("got %T %+v, want what is unfinished: %v", p, p, ids)
			}
		}
		publisher.Publish(mqttcodec.Publish{Topic: id + "/end", QoS: 1}) // the subscription has moved, too
		if got := payloads(r.ReceiveUntil(id + "/end")); !slices.Equal(got, harness.Numbered("queued-", 0, 3)) {
			t.Errorf("then came %q, want what was queued", got)
		}
	}
}

// A publish at QoS 2 that was begun on one node is completed on another, or sent there again, and published once.
func unfinishedPublishesMove(t *testing.T, c *harness.Cluster) {
	const rounds = 12
	watcher := c.Brokers[2].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "begun-watcher"))
	watcher.Subscribe(harness.Filter("begun/#", 2))
	for _, v := range harness.Versions {
		id := fmt.Sprint("begun-", v)
		r := c.Brokers[0].ConnectRaw(t, harness.PersistentConnect(v, id))
		for round := range rounds {
			p := &mqttcodec.Publish{Topic: "begun/" + id, QoS: 2, PacketID: uint16(100 + round), Payload: fmt.Append(nil, round)}
			r.Send(p)
			again := round%3 > 0
			if round%3 < 2 {
				harness.Expect[*mqttcodec.Pubrec](r)
			} // else it is not known whether it arrived
			if round%2 == 0 {
				r.Drop()
			}
			r = c.Brokers[(round+1)%3].Resume(t, v, id)
			if again {
				p.Duplicate = true
				r.Send(p)
				if a := harness.Expect[*mqttcodec.Pubrec](r); a.PacketID != p.PacketID || a.Reason.Failed() {
					t.Fatalf("round %d: PUBREC %+v", round, a)
				}
			}
			r.Send(&mqttcodec.Pubrel{PacketID: p.PacketID})
			if a := harness.Expect[*mqttcodec.Pubcomp](r); a.PacketID != p.PacketID || a.Reason != mqttcodec.Success {
				t.Fatalf("round %d: PUBCOMP %+v", round, a)
			}
		}
		r.Publish(mqttcodec.Publish{Topic: "begun/end", QoS: 2})
		if got := payloads(watcher.ReceiveUntil("begun/end")); !slices.Equal(got, harness.Numbered("", 0, rounds)) {
			t.Errorf("MQTT %s: published were %q, want each of %d once", harness.VersionName(v), got, rounds)
		}
	}
}

// A session that is on another node each time has each time what was published meanwhile, and no more.
func hopping(t *testing.T, c *harness.Cluster) {
	const rounds = 30
	publisher := c.Brokers[0].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "hopping-publisher"))
	r := c.Brokers[0].ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "hopping"))
	r.Subscribe(harness.Filter("hopping/#", 2))
	for round := range rounds {
		switch round % 3 {
		case 0:
			r.Disconnect()
		case 1:
			r.Drop()
		} // else the next connection takes it over
		topic := fmt.Sprint("hopping/", round)
		publisher.PublishAll([]mqttcodec.Publish{{Topic: topic + "/one", QoS: 1}, {Topic: topic + "/two", QoS: 2}})
		r = c.Brokers[(round*2+1)%3].Resume(t, mqttcodec.V5, "hopping")
		publisher.PublishAll([]mqttcodec.Publish{{Topic: topic + "/end", QoS: 1}, {Topic: topic + "/end2", QoS: 2}})
		var got []string
		for _, m := range r.ReceiveUntil(topic + "/end2") {
			if before := !strings.HasPrefix(m.Topic, topic+"/"); before && m.Duplicate && m.QoS == 1 {
				continue // the last acknowledgement had not arrived
			}
			got = append(got, m.Topic)
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, []string{topic + "/end", topic + "/one", topic + "/two"}) {
			t.Fatalf("round %d: got %q", round, got)
		}
	}
}

// A client that connects elsewhere while it is connected loses the old connection, with 0x8E in 5.0, and no message.
func takenOver(t *testing.T, c *harness.Cluster) {
	const rounds, each = 9, 40
	for _, v := range harness.Versions {
		id := fmt.Sprint("taken-", v)
		publisher := c.Brokers[2].ConnectRaw(t, harness.CleanConnect(v, id+"-publisher"))
		r := c.Brokers[0].ConnectRaw(t, harness.PersistentConnect(v, id))
		r.Subscribe(harness.Filter(id, 1))
		connection := listen(r)
		var connections []*listener
		for round := range rounds {
			publisher.PublishAll(harness.Messages(id, 1, fmt.Sprint(round, "-"), each))
			old := connection
			connection = listen(c.Brokers[(round+1)%3].Resume(t, v, id))
			reason := mqttcodec.SessionTakenOver
			if v != mqttcodec.V5 {
				reason = 0
			}
			old.await(t)
			if old.reason != reason {
				t.Errorf("round %d: the old connection ended with DISCONNECT %#x, want %#x", round, old.reason, reason)
			}
			connections = append(connections, old)
		}
		publisher.Publish(mqttcodec.Publish{Topic: id, QoS: 1, Payload: []byte("end")})
		got := map[string]bool{}
		var order []string
		note := func(m *mqttcodec.Publish) {
			if payload := string(m.Payload); !got[payload] {
				got[payload] = true
				order = append(order, payload)
			}
		}
		for _, old := range connections {
			for m := range old.messages {
				note(m)
			}
		}
		for !got["end"] {
			note(connection.next(t))
		}
		var want []string
		for round := range rounds {
			want = append(want, harness.Numbered(fmt.Sprint(round, "-"), 0, each)...)
		}
		if want = append(want, "end"); !slices.Equal(order, want) {
			t.Errorf("MQTT %s: %d of %d messages, in the order %.500q", harness.VersionName(v), len(order), len(want), order)
		}
	}
}

// A client identifier has one connection in the cluster, also when nothing of its session is stored.
func cleanSessionsAreOne(t *testing.T, c *harness.Cluster) {
	const rounds = 9
	old := listen(c.Brokers[0].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "one")))
	for round := range rounds {
		b := c.Brokers[(round+1)%3]
		connect := harness.CleanConnect(mqttcodec.V5, "one")
		if round%3 == 1 {
			connect = harness.PersistentConnect(mqttcodec.V5, "one")
		}
		r := b.ConnectRaw(t, connect)
		if r.Connack.SessionPresent {
			t.Errorf("round %d: session present 1", round)
		}
		old.await(t)
		if old.reason != mqttcodec.SessionTakenOver {
			t.Errorf("round %d: the old connection ended with DISCONNECT %#x, want %#x", round, old.reason, mqttcodec.SessionTakenOver)
		}
		r.Subscribe(harness.Filter("one/echo", 0))
		r.Send(&mqttcodec.Publish{Topic: "one/echo"})
		harness.Expect[*mqttcodec.Publish](r)
		old = listen(r)
	}
}

// A clean start on one node ends what is stored of another's session, connected or not.
func cleanStartEndsStored(t *testing.T, c *harness.Cluster) {
	for i, v := range []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5, mqttcodec.V311, mqttcodec.V5} {
		id := fmt.Sprint("stored-", i)
		publisher := c.Brokers[2].ConnectRaw(t, harness.CleanConnect(v, id+"-publisher"))
		r := c.Brokers[0].ConnectRaw(t, harness.PersistentConnect(v, id))
		r.Subscribe(harness.Filter(id, 1))
		connected := i < 2
		if !connected {
			r.Disconnect()
		}
		publisher.Publish(mqttcodec.Publish{Topic: id, QoS: 1, Payload: []byte("before")})
		clean := c.Brokers[1].ConnectRaw(t, harness.CleanConnect(v, id))
		if clean.Connack.SessionPresent {
			t.Errorf("%s: session present 1 after a clean start", id)
		}
		if connected {
			r.ExpectClosed()
		}
		publisher.Publish(mqttcodec.Publish{Topic: id, QoS: 1, Payload: []byte("after")})
		clean.Subscribe(harness.Filter(id+"/own", 1))
		clean.Publish(mqttcodec.Publish{Topic: id + "/own"})
		if got := clean.ReceiveUntil(id + "/own"); len(got) != 0 {
			t.Errorf("%s: the new session got %q", id, payloads(got))
		}
		clean.Disconnect()
		for n, b := range []int{0, 2} {
			if c.Brokers[b].ConnectRaw(t, harness.PersistentConnect(v, id)).Connack.SessionPresent != (n > 0) {
				t.Errorf("%s: session present %v on node %d after a clean start elsewhere", id, n == 0, b)
			}
		}
	}
}

// The session of a program that uses a library, with what the library remembers, moves too.
func libraryMoves(_ *testing.T, c *harness.Cluster) {
	for _, v := range harness.Versions {
		id := fmt.Sprint("library-", v)
		device := harness.NewDevice(v, id)
		client := device.Connect(c.Brokers[0], harness.Persistent)
		client.Subscribe(id+"/#", 2)
		client.Drop()
		publisher := harness.NewDevice(v, id+"-publisher").Connect(c.Brokers[2], harness.Persistent)
		publisher.Publish(id+"/1", 1, "one")
		publisher.Publish(id+"/2", 2, "two")
		client = device.Resume(c.Brokers[1])
		client.ExpectPayloads("one", "two")
		publisher.Publish(id+"/1", 1, "three")
		client.ExpectPayloads("three")
		client.Disconnect()
		publisher.Publish(id+"/2", 2, "four")
		device.Resume(c.Brokers[2]).ExpectPayloads("four")
	}
}

// The delayed will of a session that has moved before it is due is not published; what the client left with its last connection
// is, once.
func willMoves(t *testing.T, c *harness.Cluster) {
	watcher := c.Brokers[2].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "moving-watcher"))
	watcher.Subscribe(harness.Filter("moving/#", 1))
	for i, b := range c.Brokers {
		connect := harness.PersistentConnect(mqttcodec.V5, "moving")
		connect.Will = &mqttcodec.Will{Topic: "moving/will", Payload: fmt.Append(nil, i), QoS: 1, DelaySeconds: 4}
		b.ConnectRaw(t, connect).Drop()
	}
	if got := string(next(watcher).Payload); got != "2" {
		t.Errorf("got will %q, want that of the last connection", got)
	}
	c.Brokers[0].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "")).Publish(mqttcodec.Publish{Topic: "moving/end", QoS: 1})
	if got := watcher.ReceiveUntil("moving/end"); len(got) != 0 {
		t.Errorf("more wills: %q", payloads(got))
	}
}

// A session that has moved ends its time after its client has left the last node, not the first.
func expiryMoves(t *testing.T, c *harness.Cluster) {
	connect := harness.PersistentConnect(mqttcodec.V5, "leaving")
	connect.Properties.SessionExpirySeconds = mqttcodec.Some[uint32](3)
	c.Brokers[0].ConnectRaw(t, connect).Drop()
	r := c.Brokers[1].ConnectRaw(t, connect)
	if !r.Connack.SessionPresent {
		t.Fatal("session present 0 at once")
	}
	r.Subscribe(harness.Filter("leaving/echo", 1))
	js := c.Brokers[2].JetStream(t)
	if !r.Silent(4 * time.Second) { // the session outlives its time, as long as it has a client
		t.Error("the client got something, or was closed")
	}
	traces, err := harness.SessionTraces(harness.Context(t), js, "leaving")
	if err != nil || len(traces) == 0 {
		t.Errorf("of a session with a client there is %q (%v)", traces, err)
	}
	r.Disconnect()
	harness.Eventually(t, harness.Patience, "the session ends", func() error {
		traces, err := harness.SessionTraces(harness.Context(t), js, "leaving")
		if err == nil && len(traces) > 0 {
			err = fmt.Errorf("there is %q", traces)
		}
		return err
	})
}
