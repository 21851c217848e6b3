package integration

import (
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// shortExpiry is the server maximum of these tests. They wait it out, with expiryMargin for what the broker's own
// record of time may lag behind.
const (
	shortExpiry  = 2 * time.Second
	expiryMargin = 2 * time.Second
)

// forever is the session expiry interval that never ends. (3.1.2.11.2)
const forever = 0xFFFFFFFF

// connectForever connects a session that asks for as long as there is.
func connectForever(t *testing.T, b *harness.Broker, v mqttcodec.Version, id string) *harness.Raw {
	t.Helper()
	c := harness.PersistentConnect(v, id)
	if v == mqttcodec.V5 {
		c.Properties.SessionExpirySeconds = mqttcodec.Some[uint32](forever)
	}
	return b.ConnectRaw(t, c)
}

// The server's maximum caps what the client asks for, and CONNACK says so. (3.2.2.3.2) [case 31] [case 43]
func TestS10ServerMaximumCapsTheExpiry(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name      string
		options   []harness.Option
		asked     uint32
		effective uint32
	}{
		{"default maximum of seven days", nil, forever, 7 * 24 * 3600},
		{"configured maximum", []harness.Option{harness.Set("sessions.max_expiry", "90s")}, 91, 90},
		{"below the maximum", []harness.Option{harness.Set("sessions.max_expiry", "90s")}, 89, 89},
		{"no maximum", []harness.Option{harness.Set("sessions.max_expiry", "never")}, forever, forever},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := harness.Start(t, c.options...)
			connect := harness.PersistentConnect(mqttcodec.V5, "s10")
			connect.Properties.SessionExpirySeconds = mqttcodec.Some(c.asked)
			connack := b.ConnectRaw(t, connect).Connack
			if got := connack.Properties.SessionExpirySeconds.Or(c.asked); got != c.effective {
				t.Errorf("CONNACK says %d s, want %d", got, c.effective)
			}
		})
	}
}

// An expired session is gone, from JetStream too, while the broker runs. [MQTT-4.1.0-2] [MQTT-3.1.2-23] [case 42]
func TestS10ExpiredSessionLeavesNothing(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t, harness.WithNATS(), harness.Set("sessions.max_expiry", shortExpiry))
		c := connectForever(t, b, v, "s10")
		c.Subscribe(harness.Filter("s10/#", 2))
		publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
		publisher.PublishAll(harness.Messages("s10/a", 1, "sent", 3))
		receiveUnanswered(c, 3)
		c.Disconnect()
		publisher.PublishAll(harness.Messages("s10/a", 1, "queued", 3))
		eventuallyNoTrace(t, b.JetStream(t), "s10", shortExpiry+expiryMargin+3*time.Second)
		if connectForever(t, b, v, "s10").Connack.SessionPresent {
			t.Error("session present is 1 for an expired session")
		}
	})
}

// The expiry runs on while the broker is down, however it went down and whether or not the client was connected.
// [MQTT-3.1.2-23] [case 42] [case 43]
func TestS10ExpiryCountsThroughDowntime(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS(), harness.Set("sessions.max_expiry", shortExpiry))
		away := connectForever(t, b, v, "away")
		away.Subscribe(harness.Filter("s10/#", 1))
		away.Disconnect()
		here := connectForever(t, b, v, "here")
		here.Subscribe(harness.Filter("s10/#", 1))
		b.Down(how, here)
		harness.Wait(shortExpiry + expiryMargin)
		b.Up()
		for _, id := range []string{"away", "here"} {
			if connectForever(t, b, v, id).Connack.SessionPresent {
				t.Errorf("session present is 1 for %q, which expired while the broker was down", id)
			}
		}
	})
}

// What expired while the broker was down is removed without anybody asking for it. [MQTT-4.1.0-2] [case 43]
func TestS10ExpiredInDowntimeLeavesNothing(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS(), harness.Set("sessions.max_expiry", shortExpiry))
		c := connectForever(t, b, mqttcodec.V5, "s10")
		c.Subscribe(harness.Filter("s10/#", 2))
		publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		publisher.PublishAll(harness.Messages("s10/a", 2, "sent", 3))
		receiveUnanswered(c, 3)
		b.Down(how, c, publisher)
		harness.Wait(shortExpiry + expiryMargin)
		b.Up()
		eventuallyNoTrace(t, b.JetStream(t), "s10", 10*time.Second)
	})
}

// A restart does not end a session early, nor a connection a session that is older than its expiry. [MQTT-4.1.0-1]
// [MQTT-3.1.2-23] [case 48] [3.1.1 MQTT-4.1.0-2]
func TestS10LivingSessionIsNotExpired(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t, harness.Set("sessions.max_expiry", shortExpiry))
		c := connectForever(t, b, v, "s10")
		c.Subscribe(harness.Filter("s10", 1))
		harness.Wait(shortExpiry + expiryMargin)
		publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
		publisher.Publish(mqttcodec.Publish{Topic: "s10", QoS: 1, Payload: []byte("alive")})
		c.Answer(harness.Expect[*mqttcodec.Publish](c))
		b.Restart(harness.Kill9, c, publisher)
		if !connectForever(t, b, v, "s10").Connack.SessionPresent {
			t.Error("session present is 0: the expiry counted from before the connection ended")
		}
	})
}

// DISCONNECT may change the expiry, and 0 ends the session now. [case 44]
func TestS10DisconnectChangesTheExpiry(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "s10"))
	c.Send(&mqttcodec.Disconnect{SessionExpirySeconds: mqttcodec.Some[uint32](0)})
	c.ExpectClosed()
	if b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "s10")).Connack.SessionPresent {
		t.Error("session present is 1 after DISCONNECT with expiry 0")
	}
}

// 3.1.1 has no expiry of its own: its sessions get sessions.default_expiry_v3.
func TestS10ExpiryOf311IsConfigured(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS(), harness.Set("sessions.default_expiry_v3", shortExpiry))
	c := connectForever(t, b, mqttcodec.V311, "old")
	c.Disconnect()
	c = b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "new"))
	c.Disconnect()
	eventuallyNoTrace(t, b.JetStream(t), "old", shortExpiry+expiryMargin+3*time.Second)
	b.Resume(t, mqttcodec.V5, "new")
}
