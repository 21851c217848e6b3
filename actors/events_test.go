package actors

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// told is what was told of a client since the last time, each event as its kind and what matters of it.
func (b *testBroker) told(clientID string) []string {
	b.t.Helper()
	synctest.Wait()
	var list []string
	for _, e := range b.storage.Events().Take() {
		if e.ClientID != clientID {
			continue
		}
		if e.Version != sessions.EventVersion || e.Node != "node" || e.Boot != b.cfg.Sessions.Boot || e.Time.IsZero() || e.Time.Location() != time.UTC {
			b.t.Errorf("the event %+v does not say where or when", e)
		}
		list = append(list, showEvent(e))
	}
	return list
}

func showEvent(e sessions.Event) string {
	text := string(e.Kind)
	add := func(format string, a ...any) { text += fmt.Sprintf(" "+format, a...) }
	if e.Reason != "" {
		add("%s", e.Reason)
	}
	if end := e.EventEnd; end != nil {
		if end.ReasonCode != nil {
			add("0x%02x", *end.ReasonCode)
		}
		add("by %s", end.By)
		if end.WillDue {
			add("will due")
		}
		if end.NewRemote != "" {
			add("for %s", end.NewRemote)
		}
	}
	if e.EventDrops != nil {
		add("%d", e.Count)
	}
	return text
}

func namedNode(cfg *Config) { cfg.Node = "node" }

func wantTold(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

const created, resumed, connected, takenOver = "session.created", "session.resumed", "client.connected", "session.taken_over session_taken_over 0x8e by server for pipe"

// Of every client that was let in it is told once that it came, and once, and why, that it is gone.
func TestEventsOfAConnection(t *testing.T) {
	will := func(p *mqttcodec.Connect) { p.Will = &mqttcodec.Will{Topic: "will"} }
	for name, c := range map[string]struct {
		change []func(*mqttcodec.Connect)
		end    func(b *testBroker, c *testClient)
		want   string
	}{
		"DISCONNECT": {
			[]func(*mqttcodec.Connect){will},
			func(_ *testBroker, c *testClient) { c.disconnect() },
			"normal_disconnection 0x00 by client",
		},
		"DISCONNECT with will": {
			[]func(*mqttcodec.Connect){will},
			func(_ *testBroker, c *testClient) {
				c.send(&mqttcodec.Disconnect{Reason: mqttcodec.DisconnectWithWill})
			},
			"disconnect_with_will_message 0x04 by client will due",
		},
		"lost": {
			[]func(*mqttcodec.Connect){will},
			func(_ *testBroker, c *testClient) { c.close() },
			"connection_lost by network will due",
		},
		"keep alive": {
			[]func(*mqttcodec.Connect){func(p *mqttcodec.Connect) { p.KeepAliveSeconds = 10 }},
			func(*testBroker, *testClient) { elapse(16 * time.Second) },
			"keep_alive_timeout 0x8d by server",
		},
		"fault": {
			nil,
			func(_ *testBroker, c *testClient) { c.send(connectPacket(mqttcodec.V5, "c")) },
			"protocol_error 0x82 by server",
		},
		"does not read": {
			nil,
			func(_ *testBroker, c *testClient) {
				c.pause()
				c.send(&mqttcodec.Pingreq{}, &mqttcodec.Pingreq{})
				elapse(time.Second)
				c.send(&mqttcodec.Pingreq{}, &mqttcodec.Pingreq{})
				elapse(time.Minute)
			},
			"client_does_not_read by server",
		},
		"no bytes of MQTT": {
			nil,
			func(_ *testBroker, c *testClient) { c.write([]byte{0xF0, 0x80, 0x80, 0x80, 0x80}) },
			"malformed_packet 0x81 by server",
		},
		"panic": {
			nil,
			func(_ *testBroker, c *testClient) {
				c.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "boom"})
				c.wantEnd()
			},
			"unspecified_error 0x80 by server",
		},
		"storage": {
			nil,
			func(b *testBroker, c *testClient) {
				b.storage.Fail(sessions.ErrUnavailable, sessionstest.SaveRecord)
				c.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "a"}}})
				expect[*mqttcodec.Disconnect](c)
			},
			"server_busy 0x89 by server",
		},
		"shutdown": {
			nil,
			func(b *testBroker, _ *testClient) { b.shutdown() },
			"server_shutting_down 0x8b by server",
		},
	} {
		for _, ends := range []bool{false, true} {
			if ends && name == "storage" {
				continue // there is nothing to write
			}
			t.Run(fmt.Sprintf("%s, session ends %v", name, ends), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					b := startOnPipes(t, sessionstest.New(), "boot", explosive, namedNode)
					change := c.change
					if ends {
						change = append(slices.Clone(change), clean)
					}
					client := b.connected("c", change...)
					wantTold(t, b.told("c"), created, connected)
					c.end(b, client)
					wantTold(t, b.told("c"), "client.disconnected "+c.want)
					elapse(time.Minute)
					wantTold(t, b.told("c"))
				})
			})
		}
	}
}

// Who takes a client identifier over is told of behind the end of the connection that had it.
func TestEventsOfATakeover(t *testing.T) {
	gone := "client.disconnected session_taken_over 0x8e by server for pipe"
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode)
		b.connected("c")
		b.connected("c")
		wantTold(t, b.told("c"), created, connected, takenOver, gone, resumed, connected)
		b.connected("c", func(p *mqttcodec.Connect) { p.CleanStart = true })
		wantTold(t, b.told("c"), takenOver, gone, created, connected)
		b.connected("c", clean)
		b.connected("c", clean)
		wantTold(t, b.told("c"), takenOver, gone, created, connected, takenOver, gone, created, connected)
	})
}

// A client that is not let in is not told of, nor is the one that it did not replace.
func TestNoEventsOfClientsThatAreNotLetIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		who := &passwords{known: map[string]string{"ann": "1", "bob": "2"}}
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode, authenticatedBy(who))
		b.connected("c", as("ann", "1"))
		wantTold(t, b.told("c"), created, connected)
		for _, other := range []func(*mqttcodec.Connect){as("ann", "wrong"), as("bob", "2")} {
			c := b.client(mqttcodec.V5)
			c.send(connectPacket(mqttcodec.V5, "c", other))
			if ack := expect[*mqttcodec.Connack](c); !ack.Reason.Failed() {
				t.Fatal("a client that may not have the session was let in")
			}
			wantTold(t, b.told("c"))
		}
		b.storage.Fail(sessions.ErrUnavailable, sessionstest.SaveRecord)
		c := b.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "other", as("ann", "1")))
		expect[*mqttcodec.Connack](c)
		wantTold(t, b.told("other"))
	})
}

// An event says on which terms the client is there, also when it has left before it was answered.
func TestEventsTellTheTerms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		who := &passwords{known: map[string]string{"ann": "1"}}
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode, authenticatedBy(who), func(cfg *Config) {
			cfg.Sessions.MaxKeepAlive, cfg.Sessions.MaxExpiry = time.Minute, 2*time.Hour
		})
		c := b.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, `c"\`, as("ann", "1"), sessionExpiry(neverExpires), func(p *mqttcodec.Connect) {
			p.KeepAliveSeconds, p.Will = 600, &mqttcodec.Will{Topic: "will"}
		}), &mqttcodec.Disconnect{SessionExpirySeconds: mqttcodec.Some(uint32(1))})
		expect[*mqttcodec.Connack](c)
		c.wantEnd()
		elapse(2 * time.Second)
		synctest.Wait()
		common := `"node":"node","boot":"boot","client_id":"c\"\\","principal":"ann"`
		terms := `"protocol":"5.0","listener":"mqtt","remote":"pipe","clean_start":false,"session_present":false,` +
			`"keep_alive_seconds":60,"session_expiry_seconds":7200,"will":true}`
		want := []string{
			`{"version":1,"type":"session.created",` + common + `,` + terms,
			`{"version":1,"type":"client.connected",` + common + `,` + terms,
			`{"version":1,"type":"client.disconnected",` + common + `,"reason":"normal_disconnection",` +
				`"protocol":"5.0","listener":"mqtt","remote":"pipe","by":"client","reason_code":0,"will_due":false}`,
			`{"version":1,"type":"session.expired",` + common + `}`,
		}
		var got []string
		for _, e := range b.storage.Events().Take() {
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			at, err := json.Marshal(e.Time)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Replace(string(text), `"time":`+string(at)+`,`, "", 1))
		}
		wantTold(t, got, want...)
	})
}

// A session expires when its time is over, whoever finds out; one that ends otherwise does not.
func TestEventOfExpiry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot-1", namedNode)
		b.connected("c", sessionExpiry(60)).disconnect()
		b.connected("clean", clean).disconnect()
		b.connected("later", sessionExpiry(90)).disconnect()
		b.connected("crashed", sessionExpiry(90))
		b.connected("without", clean, func(p *mqttcodec.Connect) { p.Will = &mqttcodec.Will{Topic: "will"} })
		b.told("c")
		elapse(59 * time.Second)
		wantTold(t, b.told("c"))
		elapse(2 * time.Second)
		wantTold(t, b.told("c"), "session.expired")
		b.connected("c", sessionExpiry(60)).disconnect()
		wantTold(t, b.told("c"), created, connected, "client.disconnected normal_disconnection 0x00 by client")

		storage = b.crash()
		elapse(100 * time.Second)
		b = startOnPipes(t, storage, "boot-2", namedNode)
		elapse(10 * time.Second)
		synctest.Wait()
		var expired []string
		for _, e := range storage.Events().Take() {
			expired = append(expired, e.ClientID+" "+string(e.Kind))
		}
		slices.Sort(expired)
		wantTold(t, expired, "c session.expired", "crashed session.expired", "later session.expired")
		b.connected("later", clean).disconnect()
		wantTold(t, b.told("later"), created, connected, "client.disconnected normal_disconnection 0x00 by client")
	})
}

// Whatever clients do, what is told of each of them is told in the order in which it was.
func TestEventsOfAClientComeInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode, func(cfg *Config) { cfg.ConnectRate = 0 })
		const clients, rounds = 8, 40
		done := make(chan struct{}, clients)
		for i := range clients {
			go func() {
				defer func() { done <- struct{}{} }()
				change := func(p *mqttcodec.Connect) { p.CleanStart = i%2 == 0 }
				for round := range rounds {
					c := b.client(mqttcodec.V5)
					c.send(connectPacket(mqttcodec.V5, "c", change, sessionExpiry(uint32(i%3))))
					switch (i + round) % 3 {
					case 0:
						c.next()
						c.close()
					case 1:
						c.close() // perhaps before it is let in
					default:
						c.next()
					}
				}
			}()
		}
		for range clients {
			<-done
		}
		b.shutdown()
		synctest.Wait()
		there, session, n := false, false, 0
		for _, e := range b.storage.Events().Take() {
			ok := true
			switch e.Kind {
			case sessions.EventCreated, sessions.EventResumed:
				ok, session = !there && !session, true
			case sessions.EventConnected:
				ok, session, there = !there && session, false, true
				n++
			case sessions.EventTakenOver:
				ok = there
			case sessions.EventDisconnected:
				ok, there = there, false
			case sessions.EventExpired, sessions.EventDropped:
				ok = !there
			}
			if !ok {
				t.Fatalf("%s comes out of order", showEvent(e))
			}
		}
		if there || n < rounds {
			t.Errorf("%d connections were told of, one is still there: %v", n, there)
		}
	})
}

// Nothing is made of what nobody listens to.
func TestEventsThatNobodyWantsAreNotMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode)
		b.storage.Events().Unwant(sessions.EventConnected, sessions.EventCreated)
		b.connected("c").disconnect()
		wantTold(t, b.told("c"), "client.disconnected normal_disconnection 0x00 by client")
	})
}

// Events that wait for too long are lost, those that come last, and counted; nobody else waits.
func TestEventsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode)
		release := b.storage.Events().Hold()
		const n = maxEvents + 100
		for range n {
			b.events.tell(&sessions.Event{Kind: sessions.EventExpired, ClientID: "x"})
		}
		b.connected("c").disconnect()
		release()
		if got := len(b.told("x")); got < maxEvents || got > maxEvents+1 { // one is being published
			t.Errorf("%d events came, want %d", got, maxEvents)
		}
		if lost := b.Stats().EventsLost(); lost < 99 || lost > n-maxEvents+3 {
			t.Errorf("%d events are counted as lost", lost)
		}
		b.connected("c")
		wantTold(t, b.told("c"), resumed, connected)
		b.storage.Events().Down(true)
		lost := b.Stats().EventsLost()
		b.connected("c")
		wantTold(t, b.told("c"))
		if now := b.Stats().EventsLost(); now != lost+4 {
			t.Errorf("%d events are counted as lost while they cannot be published, want 4", now-lost)
		}
		b.storage.Events().Down(false)
	})
}

// Drops are told once a second for each client and reason, however many there are, and all of them are counted in an event.
func TestDropsAreToldTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode)
		told := func() map[string]uint64 {
			synctest.Wait()
			all := map[string]uint64{}
			for _, e := range b.storage.Events().Take() {
				key := e.ClientID + "/" + e.Reason
				if e.Kind != sessions.EventDropped || all[key] > 0 {
					t.Errorf("told again within a second: %s of %q", showEvent(e), e.ClientID)
				}
				all[key] += e.Count
			}
			return all
		}
		for range 1000 {
			b.stats.Dropped("c", sessions.DropSlowConsumer, 3)
			b.stats.Dropped("c", sessions.DropExpired, 1)
			b.stats.Dropped("d", sessions.DropExpired, 1)
			b.stats.Dropped("", dropRetainedFull, 1)
		}
		if got := told(); len(got) > 0 {
			t.Errorf("told at once: %v", got)
		}
		elapse(dropsEvery)
		if got := fmt.Sprint(told()); got != "map[/retained_full:1000 c/expired:1000 c/slow_consumer:3000 d/expired:1000]" {
			t.Errorf("told %s", got)
		}
		elapse(10 * dropsEvery)
		if got := told(); len(got) > 0 {
			t.Errorf("told without a drop: %v", got)
		}
		for i := range 2 * maxDropKinds {
			b.stats.Dropped(fmt.Sprint("client ", i), sessions.DropExpired, 2)
		}
		elapse(dropsEvery)
		if got := told(); len(got) != maxDropKinds+1 || got["/expired"] != 2*maxDropKinds {
			t.Errorf("of %d clients %d events are told, %d drops of others", 2*maxDropKinds, len(got), got["/expired"])
		}
		b.stats.Dropped("c", sessions.DropExpired, 7)
		b.shutdown()
		if got := told(); got["c/expired"] != 7 {
			t.Errorf("told at the end: %v", got)
		}
	})
}

// A message that a session drops is told with the client that it was for.
func TestDropOfASessionIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", namedNode)
		c := b.connected("small", func(p *mqttcodec.Connect) { p.Properties.MaximumPacketSize = 100 })
		c.subscribe(1, "a")
		b.told("small")
		b.connected("other").publish1("a", strings.Repeat("x", 200), strings.Repeat("y", 200))
		elapse(dropsEvery)
		wantTold(t, b.told("small"), "message.dropped packet_too_large 2")
	})
}
