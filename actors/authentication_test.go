package actors

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

func alicesPassword() *passwords {
	return &passwords{known: map[string]string{"alice": "a", "bob": "b"}}
}

// connack connects a client of a version and returns the answer; behind a refusal the connection must end.
func (b *testBroker) connack(version mqttcodec.Version, clientID string, change ...func(*mqttcodec.Connect)) (*testClient, *mqttcodec.Connack) {
	b.t.Helper()
	c := b.client(version)
	c.send(connectPacket(version, clientID, change...))
	ack := expect[*mqttcodec.Connack](c)
	if ack.Reason.Failed() {
		if ack.SessionPresent {
			b.t.Fatal("a CONNACK that refuses has session present") // [MQTT-3.2.2-6]
		}
		c.wantEnd() // [MQTT-3.2.2-7]
	}
	return c, ack
}

// Who does not prove who it is gets an answer in the terms of its version, and is closed. [case 34] [MQTT-3.1.4-2] [MQTT-3.2.2-7]
func TestBadCredentialsAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		provider := alicesPassword()
		provider.answers = map[string]error{
			"barred":   &sessions.Refusal{Reason: mqttcodec.NotAuthorized},
			"banned":   &sessions.Refusal{Reason: mqttcodec.Banned},
			"moved":    &sessions.Refusal{Reason: mqttcodec.ServerMoved, ServerReference: "other:1883"},
			"lost":     &sessions.Refusal{Reason: mqttcodec.NotAuthorized, ServerReference: "other:1883"},
			"nonsense": &sessions.Refusal{},
			"away":     errors.New("no route to the directory of users"),
		}
		b := startOnPipes(t, sessionstest.New(), "boot", authenticatedBy(provider))
		for _, c := range []struct {
			principal, password string
			v5, v3              mqttcodec.ReasonCode
			reference           string
		}{
			{"alice", "wrong", mqttcodec.BadUserNameOrPassword, mqttcodec.BadUserNameOrPassword, ""},
			{"nobody", "a", mqttcodec.BadUserNameOrPassword, mqttcodec.BadUserNameOrPassword, ""},
			{"barred", "", mqttcodec.NotAuthorized, mqttcodec.NotAuthorized, ""},
			{"banned", "", mqttcodec.Banned, mqttcodec.NotAuthorized, ""},
			{"moved", "", mqttcodec.ServerMoved, mqttcodec.ServerUnavailable, "other:1883"}, // [case 33]
			{"lost", "", mqttcodec.NotAuthorized, mqttcodec.NotAuthorized, ""},
			{"nonsense", "", mqttcodec.NotAuthorized, mqttcodec.NotAuthorized, ""},
			{"away", "", mqttcodec.ServerUnavailable, mqttcodec.ServerUnavailable, ""},
		} {
			if _, ack := b.connack(mqttcodec.V5, "c", as(c.principal, c.password)); ack.Reason != c.v5 || ack.Properties.ServerReference != c.reference {
				t.Errorf("%s, 5.0: %+v", c.principal, ack)
			}
			for _, v := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311} {
				if _, ack := b.connack(v, "c", as(c.principal, c.password)); ack.Reason != c.v3 {
					t.Errorf("%s, version %d: %+v", c.principal, v, ack)
				}
			}
		}
		for _, v := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
			if _, ack := b.connack(v, "c", as("alice", "a")); ack.Reason != mqttcodec.Success {
				t.Errorf("version %d: alice gets %+v", v, ack)
			}
		}
	})
}

// What an authenticator is asked is what CONNECT said: a password that is absent is nil, and 5.0 allows one without a user
// name. [case 11] [MQTT-3.1.2-16] [MQTT-3.1.2-18]
func TestAuthenticatorIsToldWhatConnectSays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		provider := alicesPassword()
		b := startOnPipes(t, sessionstest.New(), "boot", authenticatedBy(provider))
		b.connack(mqttcodec.V5, "c", func(p *mqttcodec.Connect) { p.Username = mqttcodec.Some("") })
		b.connack(mqttcodec.V5, "c", func(p *mqttcodec.Connect) { p.Password = []byte("a") })
		b.connack(mqttcodec.V311, "d", as("alice", "a"))
		b.connack(mqttcodec.V5, "")
		asked := provider.asked
		if c := asked[0]; c.ClientID != "c" || !c.Username.Present || c.Password != nil || c.Version != mqttcodec.V5 {
			t.Errorf("empty user name: %+v", c)
		}
		if c := asked[1]; c.Username.Present || string(c.Password) != "a" {
			t.Errorf("password alone: %+v", c)
		}
		if c := asked[2]; c.Username.Value != "alice" || string(c.Password) != "a" || c.Version != mqttcodec.V311 || c.Listener != "mqtt" || c.RemoteAddress != "pipe" {
			t.Errorf("both: %+v", c)
		}
		if c := asked[3]; !strings.HasPrefix(c.ClientID, "dunlin-") || c.Username.Present || c.Password != nil {
			t.Errorf("nothing: %+v", c)
		}
	})
}

// A client that fails does not exist for anybody else: the session of its client identifier and its connection go on, its
// will is not published, what it pipelined is not executed. [case 34] [MQTT-3.1.4-6] [MQTT-3.2.2-7]
func TestWhoFailsDisturbsNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", authenticatedBy(alicesPassword()))
		watcher := b.connected("watcher", as("bob", "b"), clean)
		watcher.subscribe(1, "#")
		alice := b.connected("c", as("alice", "a"))
		alice.subscribe(1, "hers")
		record := string(storage.Record("c"))
		for _, version := range []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5} {
			c := b.client(version)
			c.send(
				connectPacket(version, "c", as("alice", "wrong"), func(p *mqttcodec.Connect) {
					p.CleanStart, p.Will = true, &mqttcodec.Will{Topic: "will", QoS: 1, Payload: []byte("gone")}
				}),
				&mqttcodec.Publish{Topic: "pipelined", QoS: 1, PacketID: 1},
				&mqttcodec.Publish{Topic: "pipelined"},
				&mqttcodec.Disconnect{},
			)
			if ack := expect[*mqttcodec.Connack](c); ack.Reason != mqttcodec.BadUserNameOrPassword {
				t.Fatalf("got %+v", ack)
			}
			c.wantEnd()
		}
		elapse(time.Minute)
		alice.send(&mqttcodec.Pingreq{})
		expect[*mqttcodec.Pingresp](alice)
		if now := string(storage.Record("c")); now != record {
			t.Errorf("the record was %s and is %s", record, now)
		}
		alice.echo("hers", "1")
		if p := watcher.take1(); p.Topic != "hers" {
			t.Errorf("a message came on %q", p.Topic)
		}
	})
}

// Packets behind a CONNECT wait until it is known who sent it, and are then taken, after CONNACK. [MQTT-3.2.0-1]
func TestPacketsWaitForAuthentication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		provider := alicesPassword()
		provider.gate = make(chan struct{})
		b := startOnPipes(t, sessionstest.New(), "boot", authenticatedBy(provider))
		c := b.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "c", as("alice", "a")), &mqttcodec.Pingreq{})
		synctest.Wait()
		if n := c.waiting(); n > 0 {
			t.Fatalf("%d packets came before the client was known", n)
		}
		close(provider.gate)
		expect[*mqttcodec.Connack](c)
		expect[*mqttcodec.Pingresp](c)
	})
}

// An authenticator that does not answer costs its clients their connect timeout, and nobody else anything; so many are
// asked at a time and no more.
func TestAuthenticationIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		provider := alicesPassword()
		provider.gate = make(chan struct{})
		b := startOnPipes(t, sessionstest.New(), "boot", authenticatedBy(provider))
		const n = maxAuthentications + 10
		var clients []*testClient
		for i := range n {
			c := b.client(mqttcodec.V5)
			c.send(connectPacket(mqttcodec.V5, fmt.Sprint("c", i), as("alice", "a")))
			clients = append(clients, c)
		}
		synctest.Wait()
		if provider.calls() != maxAuthentications || provider.atMost != maxAuthentications {
			t.Fatalf("%d calls, %d at a time", provider.calls(), provider.atMost)
		}
		provider.gate <- struct{}{} // one is answered, and one that waited has its turn
		synctest.Wait()
		if provider.calls() != maxAuthentications+1 {
			t.Fatalf("%d calls", provider.calls())
		}
		elapse(b.cfg.ConnectTimeout + time.Second)
		synctest.Wait()
		in := 0
		for _, c := range clients {
			if !c.hasEnded() {
				in++
			}
		}
		if in != 1 || provider.inside != 0 {
			t.Fatalf("%d clients are connected, %d are still asked for", in, provider.inside)
		}
		close(provider.gate)
		b.connected("late", as("alice", "a"))
	})
}

// Anonymous clients have a session as others do. (3.1.2.8)
func TestWithoutAuthenticatorUserNamesMeanNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		b.connected("c", as("alice", "a")).disconnect()
		if _, present := b.resumed("c"); !present {
			t.Fatal("the session of an anonymous client was not there for another")
		}
	})
}

// A client identifier belongs to the principal whose session has it: to another the CONNECT is refused, and neither the
// session nor its connection notices; not even when the broker was down in between. [case 183]
func TestSessionBelongsToItsPrincipal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", authenticatedBy(alicesPassword()))
		alice := b.connected("c", as("alice", "a"))
		alice.subscribe(1, "hers")
		refused := func() {
			t.Helper()
			for _, v := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
				if _, ack := b.connack(v, "c", as("bob", "b"), clean); ack.Reason != mqttcodec.NotAuthorized {
					t.Errorf("version %d: bob gets %+v", v, ack)
				}
			}
		}
		refused()
		alice.echo("hers", "1")
		elapse(time.Second) // it is journaled that she has it
		b = startOnPipes(t, b.crash(), "boot 2", authenticatedBy(alicesPassword()))
		refused()
		b.connected("publisher", as("bob", "b")).publish1("hers", "2")
		alice, present := b.resumed("c", as("alice", "a"))
		if !present {
			t.Fatal("her session is gone")
		}
		alice.takeAll("2")
		alice.send(&mqttcodec.Disconnect{SessionExpirySeconds: mqttcodec.Some(uint32(0))})
		alice.wantEnd()
		b.connected("c", as("bob", "b")) // it is free
	})
}
