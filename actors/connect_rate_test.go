package actors

import (
	"fmt"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// A client that connects again and again is refused after a while, in the terms of its version, and may come back when it
// slows down. Its session, and the connection that it has, are as they were; others do not notice. [case 185]
func TestFlappingClientIsHeldBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		c := b.connected("c")
		c.subscribe(1, "a")
		for range b.cfg.ConnectRate*connectBurst - 1 {
			c.close()
			var present bool
			if c, present = b.resumed("c"); !present {
				t.Fatal("the session is gone")
			}
		}
		publisher := b.connected("publisher")
		for _, refusal := range []struct {
			version mqttcodec.Version
			reason  mqttcodec.ReasonCode
		}{
			{mqttcodec.V5, mqttcodec.ConnectionRateExceeded}, {mqttcodec.V311, mqttcodec.ServerUnavailable}, {mqttcodec.V31, mqttcodec.ServerUnavailable},
		} {
			if _, ack := b.connack(refusal.version, "c", clean); ack.Reason != refusal.reason {
				t.Errorf("version %d: got %+v", refusal.version, ack)
			}
		}
		publisher.publish1("a", "1")
		c.takeAll("1") // on the last connection that was let in
		c.close()
		b.connected("other").close()
		publisher.publish1("a", "2")

		elapse(time.Second)
		for range b.cfg.ConnectRate - 1 {
			b.connected("c").close()
		}
		c, present := b.resumed("c")
		if !present {
			t.Fatal("the session is gone")
		}
		c.takeAll("2")
		if _, ack := b.connack(mqttcodec.V5, "c"); ack.Reason != mqttcodec.ConnectionRateExceeded {
			t.Errorf("got %+v", ack)
		}
		if n := b.stats.throttled.Load(); n != 4 {
			t.Errorf("%d refusals are counted", n)
		}
		if n := b.logged.count("client connects too often"); n != 1 {
			t.Errorf("the log says it %d times", n)
		}
	})
}

// Clients without a client identifier are new each time: there is nothing to protect.
func TestClientsWithoutIdentifierAreNotHeldBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", func(c *Config) { c.ConnectRate = 1 })
		for range 2 * connectBurst {
			b.connected("", clean).close()
		}
	})
}

func TestConnectRateIsOfOneIdentifierFromOneAddress(t *testing.T) {
	r := newConnectRates(20)
	now := time.Now()
	for range 20 * connectBurst {
		if ok, _ := r.allow("c", "10.0.0.1:1000", now); !ok {
			t.Fatal("refused too early")
		}
	}
	for _, c := range []struct {
		clientID, address string
		want              bool
	}{
		{"c", "10.0.0.1:1001", false}, {"c", "10.0.0.2:1000", true}, {"d", "10.0.0.1:1000", true}, {"c", "[::1]:1000", true}, {"c1", "0.0.0.1:1000", true},
	} {
		if ok, _ := r.allow(c.clientID, c.address, now); ok != c.want {
			t.Errorf("%s from %s: %v", c.clientID, c.address, ok)
		}
	}
}

// At the rate itself nobody is ever refused, above it everybody is held to it, and one who has been quiet may connect as if new.
func TestConnectRateHoldsForLong(t *testing.T) {
	const perSecond = 20
	at, over := newConnectRates(perSecond), newConnectRates(perSecond)
	now := time.Now()
	taken := 0
	for range 100 * perSecond {
		now = now.Add(time.Second / perSecond)
		if ok, _ := at.allow("c", "", now); !ok {
			t.Fatal("refused at the rate that is allowed")
		}
		for range 5 {
			if ok, _ := over.allow("c", "", now); ok {
				taken++
			}
		}
	}
	if most := (100 + connectBurst) * perSecond; taken > most || taken < most-perSecond {
		t.Fatalf("%d were taken, not about %d", taken, most)
	}
	now = now.Add(connectBurst * time.Second)
	for range perSecond * connectBurst {
		if ok, _ := over.allow("c", "", now); !ok {
			t.Fatal("refused after a long pause")
		}
	}
}

// However many clients connect, what is remembered of them is bounded.
func TestConnectRatesAreBounded(t *testing.T) {
	r := newConnectRates(20)
	now := time.Now()
	for i := range 5 * maxConnectRates {
		if ok, _ := r.allow(fmt.Sprint(i), "", now); !ok {
			t.Fatal("refused though new")
		}
		if len(r.recent)+len(r.older) > 2*maxConnectRates {
			t.Fatalf("%d and %d are remembered", len(r.recent), len(r.older))
		}
	}
	for i := range 3 {
		r.allow("c", "", now.Add(time.Duration(i)*connectBurst*time.Second))
	}
	if n := len(r.recent) + len(r.older); n != 1 {
		t.Fatalf("%d are remembered after a long time", n)
	}
}
