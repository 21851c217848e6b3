package actors

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// withMethod makes a CONNECT one with an authentication method.
func withMethod(method, data string) func(*mqttcodec.Connect) {
	return func(p *mqttcodec.Connect) {
		p.Properties.AuthenticationMethod = mqttcodec.Some(method)
		if data != "" {
			p.Properties.AuthenticationData = []byte(data)
		}
	}
}

func auth(reason mqttcodec.ReasonCode, method, data string) *mqttcodec.Auth {
	return &mqttcodec.Auth{Reason: reason, AuthenticationMethod: mqttcodec.Some(method), AuthenticationData: []byte(data)}
}

func riddles(r *riddle) func(*Config) {
	return func(c *Config) { c.Methods = map[string]sessions.Method{"riddle": r} }
}

// expectAuth waits for an AUTH of the method riddle.
func (c *testClient) expectAuth(reason mqttcodec.ReasonCode, data string) {
	c.t.Helper()
	p := expect[*mqttcodec.Auth](c)
	if p.Reason != reason || p.AuthenticationMethod != mqttcodec.Some("riddle") || string(p.AuthenticationData) != data { // [MQTT-4.12.0-5]
		c.t.Fatalf("got %+v, want reason %#x and data %q", p, reason, data)
	}
}

// riddled connects a client by the method riddle, of two rounds.
func (b *testBroker) riddled(clientID, principal string, change ...func(*mqttcodec.Connect)) *testClient {
	b.t.Helper()
	c := b.client(mqttcodec.V5)
	c.send(connectPacket(mqttcodec.V5, clientID, append(change, withMethod("riddle", principal))...))
	for range 2 {
		c.expectAuth(mqttcodec.ContinueAuthentication, "what is it?")
		c.send(auth(mqttcodec.ContinueAuthentication, "riddle", "time"))
	}
	ack := expect[*mqttcodec.Connack](c)
	if ack.Reason != mqttcodec.Success || ack.Properties.AuthenticationMethod != mqttcodec.Some("riddle") || string(ack.Properties.AuthenticationData) != "welcome" {
		b.t.Fatalf("got %+v", ack)
	}
	return c
}

// AUTH goes back and forth as often as the method needs it, then CONNACK names the method and has its last word; the session
// is that of who the client has proved to be. [case 175] [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5]
func TestMethodAuthenticatesInSteps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", riddles(&riddle{answer: "time", rounds: 2}))
		c := b.riddled("c", "alice")
		c.subscribe(1, "a")
		c.echo("a", "1")
		other := b.client(mqttcodec.V5)
		other.send(connectPacket(mqttcodec.V5, "c", withMethod("riddle", "bob")))
		for range 2 {
			other.expectAuth(mqttcodec.ContinueAuthentication, "what is it?")
			other.send(auth(mqttcodec.ContinueAuthentication, "riddle", "time"))
		}
		if ack := expect[*mqttcodec.Connack](other); ack.Reason != mqttcodec.NotAuthorized {
			t.Fatalf("got %+v", ack)
		}
		other.wantEnd()
	})
}

// A client that gave no method gets no AUTH, and no method in CONNACK, though there are methods. [case 177] [MQTT-4.12.0-6]
func TestWithoutMethodNoAuth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", riddles(&riddle{answer: "time", rounds: 1}), authenticatedBy(alicesPassword()))
		_, ack := b.connack(mqttcodec.V5, "c", as("alice", "a"))
		if p := ack.Properties; ack.Reason != mqttcodec.Success || p.AuthenticationMethod.Present || p.AuthenticationData != nil {
			t.Fatalf("got %+v", ack)
		}
	})
}

// Whatever goes wrong before CONNACK is told in CONNACK, and nobody else notices. [case 21] [case 34] [case 174] [case 175]
func TestFaultsWhileAuthenticating(t *testing.T) {
	send := func(p mqttcodec.Packet) func(*testClient) { return func(c *testClient) { c.send(p) } }
	nothing := func(*testClient) {}
	for _, c := range []struct {
		name    string
		method  string
		send    func(*testClient)
		want    mqttcodec.ReasonCode
		connack bool
	}{
		{"unknown method", "unknown", nothing, mqttcodec.BadAuthenticationMethod, true}, // [MQTT-4.12.0-1]
		{"empty method", "", nothing, mqttcodec.BadAuthenticationMethod, true},
		{"wrong answer", "riddle", send(auth(0x18, "riddle", "space")), mqttcodec.BadUserNameOrPassword, true}, // [MQTT-4.12.0-4]
		{"method that broke", "riddle", send(auth(0x18, "riddle", "broken")), mqttcodec.ServerUnavailable, true},
		{"sent elsewhere", "riddle", send(auth(0x18, "riddle", "elsewhere")), mqttcodec.UseAnotherServer, true},               // [case 33]
		{"other method", "riddle", send(auth(0x18, "other", "time")), mqttcodec.ProtocolErrorReason, true},                    // [MQTT-4.12.0-5]
		{"again before CONNACK", "riddle", send(auth(0x19, "riddle", "time")), mqttcodec.ProtocolErrorReason, true},           // [MQTT-4.12.0-3]
		{"PUBLISH", "riddle", send(&mqttcodec.Publish{Topic: "a", QoS: 1, PacketID: 1}), mqttcodec.ProtocolErrorReason, true}, // [MQTT-3.1.2-30]
		{"PINGREQ", "riddle", send(&mqttcodec.Pingreq{}), mqttcodec.ProtocolErrorReason, true},
		{"second CONNECT", "riddle", send(connectPacket(mqttcodec.V5, "c")), mqttcodec.ProtocolErrorReason, true},
		{"malformed AUTH", "riddle", func(c *testClient) { c.write([]byte{0xF0, 0x02, 0x18, 0x09}) }, mqttcodec.MalformedPacket, true},
		{"AUTH with flags", "riddle", func(c *testClient) { c.write([]byte{0xF1, 0x00}) }, mqttcodec.MalformedPacket, true}, // [MQTT-3.15.1-1]
		{"AUTH of a server", "riddle", func(c *testClient) { c.write([]byte{0xF0, 0x00}) }, mqttcodec.ProtocolErrorReason, true},
		{"DISCONNECT", "riddle", send(&mqttcodec.Disconnect{}), 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := sessionstest.New()
				b := startOnPipes(t, storage, "boot", riddles(&riddle{answer: "time", rounds: 1}))
				there := b.connected("c")
				record := string(storage.Record("c"))
				client := b.client(mqttcodec.V5)
				client.send(connectPacket(mqttcodec.V5, "c", clean, withMethod(c.method, "alice"), func(p *mqttcodec.Connect) {
					p.Will = &mqttcodec.Will{Topic: "will"}
				}))
				if c.method == "riddle" {
					client.expectAuth(mqttcodec.ContinueAuthentication, "what is it?")
				}
				c.send(client)
				if c.connack {
					if ack := expect[*mqttcodec.Connack](client); ack.Reason != c.want {
						t.Fatalf("got %+v", ack)
					}
				}
				client.wantEnd()
				there.send(&mqttcodec.Pingreq{})
				expect[*mqttcodec.Pingresp](there)
				if now := string(storage.Record("c")); now != record {
					t.Errorf("the record was %s and is %s", record, now)
				}
			})
		})
	}
}

// AUTH of a client that gave no method, and AUTH before CONNECT, end the connection. [case 174] [MQTT-4.12.0-7] [MQTT-3.1.0-1]
func TestAuthWithoutMethodIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", riddles(&riddle{answer: "time"}))
		for _, reason := range []mqttcodec.ReasonCode{mqttcodec.ContinueAuthentication, mqttcodec.ReAuthenticate} {
			c := b.connected("c", clean)
			c.send(auth(reason, "riddle", "alice"))
			if p := expect[*mqttcodec.Disconnect](c); p.Reason != mqttcodec.ProtocolErrorReason {
				t.Fatalf("got %+v", p)
			}
			c.wantEnd()
		}
		c := b.client(mqttcodec.V5)
		c.send(auth(mqttcodec.ContinueAuthentication, "riddle", "alice"))
		c.wantEnd()
		old := b.client(mqttcodec.V311)
		old.send(connectPacket(mqttcodec.V311, "old", clean))
		expect[*mqttcodec.Connack](old)
		old.write([]byte{0xF0, 0x00})
		old.wantEnd()
	})
}

// The connect timeout is for the whole exchange: neither a client that says nothing nor a method that does can make it longer.
func TestExchangeIsBoundedByTheConnectTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := &riddle{answer: "time", rounds: 1}
		b := startOnPipes(t, sessionstest.New(), "boot", riddles(r))
		start := time.Now()
		silent := b.client(mqttcodec.V5)
		silent.send(connectPacket(mqttcodec.V5, "c", withMethod("riddle", "alice")))
		silent.expectAuth(mqttcodec.ContinueAuthentication, "what is it?")
		elapse(b.cfg.ConnectTimeout / 2)
		r.gate = make(chan struct{})
		slow := b.client(mqttcodec.V5)
		slow.send(connectPacket(mqttcodec.V5, "d", withMethod("riddle", "alice")))
		silent.wantEnd()
		if took := time.Since(start); took < b.cfg.ConnectTimeout || took > b.cfg.ConnectTimeout+time.Second {
			t.Fatalf("the silent client was given up after %v", took)
		}
		slow.next()
		if took := time.Since(start); took < b.cfg.ConnectTimeout*3/2 || took > b.cfg.ConnectTimeout*3/2+time.Second {
			t.Fatalf("the slow method was given up after %v", took)
		}
	})
}

// While a client authenticates again, traffic goes on as before in both directions; when it has, the new permissions count.
// [case 176] [MQTT-4.12.1-1]
func TestTrafficGoesOnWhileAuthenticatingAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := &riddle{answer: "time", rounds: 2}
		b := startOnPipes(t, sessionstest.New(), "boot", riddles(r))
		c := b.riddled("c", "alice")
		c.subscribe(1, "a", "b")
		r.gate, r.permissions = make(chan struct{}), map[string]sessions.Permissions{"alice": denied{publish: []string{"a"}, receive: []string{"b"}}}
		c.send(auth(mqttcodec.ReAuthenticate, "riddle", "alice"))
		for range 2 {
			synctest.Wait()
			c.echo("a", "as before")
			r.gate <- struct{}{}
			c.expectAuth(mqttcodec.ContinueAuthentication, "what is it?")
			c.send(auth(mqttcodec.ContinueAuthentication, "riddle", "time"))
		}
		r.gate <- struct{}{}
		c.expectAuth(mqttcodec.Success, "welcome")
		c.send(&mqttcodec.Publish{QoS: 1, PacketID: 9, Topic: "a", Payload: []byte("denied")})
		if ack := expect[*mqttcodec.Puback](c); ack.Reason != mqttcodec.NotAuthorized {
			t.Fatalf("got %+v", ack)
		}
		c.publish1("b", "unread", "unread")
		eventually(t, "one message may not be sent, and two not read", func() bool {
			drops := b.Stats().Drops()
			return drops[sessions.DropMayNotSend] == 1 && drops[sessions.DropMayNotRead] == 2
		})
	})
}

// echo publishes a message that the client is subscribed to itself, and waits for it and for its PUBACK.
func (c *testClient) echo(topic, payload string) {
	c.t.Helper()
	c.send(&mqttcodec.Publish{QoS: 1, PacketID: 9, Topic: topic, Payload: []byte(payload)})
	for range 2 {
		switch p := c.next().(type) {
		case *mqttcodec.Puback:
		case *mqttcodec.Publish:
			if string(p.Payload) != payload {
				c.t.Fatalf("got message %q", p.Payload)
			}
			c.send(&mqttcodec.Puback{PacketID: p.PacketID})
		default:
			c.t.Fatalf("got %#v", p)
		}
	}
}

// Who fails to authenticate again has to go, and leaves its will; the session stays. [case 176] [MQTT-4.12.1-2]
func TestFailureToAuthenticateAgainEndsTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		packets   []mqttcodec.Packet
		want      mqttcodec.ReasonCode
		reference string
	}{
		"wrong answer":          {[]mqttcodec.Packet{auth(0x19, "riddle", "alice"), auth(0x18, "riddle", "space")}, mqttcodec.NotAuthorized, ""},
		"method that broke":     {[]mqttcodec.Packet{auth(0x19, "riddle", "alice"), auth(0x18, "riddle", "broken")}, mqttcodec.ServerBusy, ""},
		"sent elsewhere":        {[]mqttcodec.Packet{auth(0x19, "riddle", "alice"), auth(0x18, "riddle", "elsewhere")}, mqttcodec.UseAnotherServer, "other:1883"}, // [case 33]
		"other method":          {[]mqttcodec.Packet{auth(0x19, "other", "alice")}, mqttcodec.ProtocolErrorReason, ""},
		"other principal":       {[]mqttcodec.Packet{auth(0x19, "riddle", "bob"), auth(0x18, "riddle", "time"), auth(0x18, "riddle", "time")}, mqttcodec.NotAuthorized, ""},
		"nothing to go on with": {[]mqttcodec.Packet{auth(0x18, "riddle", "time")}, mqttcodec.ProtocolErrorReason, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot", riddles(&riddle{answer: "time", rounds: 2}))
				watcher := b.connected("watcher")
				watcher.subscribe(1, "will")
				client := b.riddled("c", "alice", func(p *mqttcodec.Connect) { p.Will = &mqttcodec.Will{Topic: "will", QoS: 1, Payload: []byte("bye")} })
				for i, p := range c.packets {
					client.send(p)
					if i < len(c.packets)-1 {
						client.expectAuth(mqttcodec.ContinueAuthentication, "what is it?")
					}
				}
				if p := expect[*mqttcodec.Disconnect](client); p.Reason != c.want || p.ServerReference != c.reference {
					t.Fatalf("got %+v", p)
				}
				client.wantEnd()
				watcher.takeAll("bye")
				b.riddled("c", "alice")
			})
		})
	}
}

// What has to be said before CONNACK must fit too: an AUTH or CONNACK that does not is not sent. [case 28] [MQTT-3.1.2-24]
func TestAuthFitsTheClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", riddles(&riddle{answer: "time", rounds: 1}))
		c := b.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "c", withMethod("riddle", "alice"), func(p *mqttcodec.Connect) { p.Properties.MaximumPacketSize = 20 }))
		if ack := expect[*mqttcodec.Connack](c); ack.Reason != mqttcodec.PacketTooLarge {
			t.Fatalf("got %+v", ack)
		}
		c.wantEnd()
		c = b.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "c", withMethod("unknown", "alice"), func(p *mqttcodec.Connect) { p.Properties.MaximumPacketSize = 4 }))
		c.wantEnd()
		moved := alicesPassword()
		moved.answers = map[string]error{"moved": &sessions.Refusal{Reason: mqttcodec.ServerMoved, ServerReference: strings.Repeat("x", 100)}}
		b = startOnPipes(t, sessionstest.New(), "boot", authenticatedBy(moved))
		_, ack := b.connack(mqttcodec.V5, "c", as("moved", ""), func(p *mqttcodec.Connect) { p.Properties.MaximumPacketSize = 100 })
		if ack.Reason != mqttcodec.ServerMoved || ack.Properties.ServerReference != "" {
			t.Fatalf("got %+v", ack)
		}
	})
}
