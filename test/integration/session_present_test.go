package integration

import (
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A session is more than its subscriptions. [MQTT-3.1.2-5] [3.1.1 MQTT-3.2.2-2] [3.1.1 MQTT-3.1.2-4] [case 40]
func TestS01SessionWithoutSubscriptionsSurvives(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t)
		device := harness.NewDevice(v, "s01")
		c := device.Connect(b, harness.Persistent)
		if c.SessionPresent {
			t.Fatal("session present is 1 for a client that was never here [MQTT-3.2.2-3]")
		}
		b.Restart(how, c)
		device.Resume(b)
	})
}

// connectStep is one CONNECT of a client identifier, and what session present must say to it.
type connectStep struct {
	mode harness.Mode
	want bool
}

// presenceCases are the histories of a client identifier. Each step's connection ends before the next step.
var presenceCases = []struct {
	name  string
	only5 bool
	steps []connectStep
}{
	{"resume", false, []connectStep{{harness.Persistent, false}, {harness.Persistent, true}, {harness.Persistent, true}}},
	{"clean start ends the session", false, []connectStep{{harness.Persistent, false}, {harness.Ephemeral, false}, {harness.Persistent, false}}},
	{"a clean session leaves nothing", false, []connectStep{{harness.Ephemeral, false}, {harness.Persistent, false}, {harness.Persistent, true}}},
	{"clean start with expiry makes a session", true, []connectStep{{harness.CleanPersistent, false}, {harness.Persistent, true}, {harness.CleanPersistent, false}, {harness.Persistent, true}}},
	{"expiry 0 ends the session with its connection", true, []connectStep{{harness.Persistent, false}, {harness.Passing, true}, {harness.Persistent, false}}},
	{"clean start 0 with expiry 0 leaves nothing", true, []connectStep{{harness.Passing, false}, {harness.Passing, false}}},
}

// Session present is right in every history, and a restart between the steps changes none.
// [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [3.1.1 MQTT-3.2.2-1] [3.1.1 MQTT-3.2.2-2]
// [3.1.1 MQTT-3.2.2-3] [3.1.1 MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-6] [case 39] [case 40] [case 41] [MQTT-3.1.3-2]
// [MQTT-3.1.4-4] [3.1.1 MQTT-3.1.3-2] [3.1.1 MQTT-3.1.4-3]
func TestS07SessionPresentIsRight(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		t.Run("no restart", func(t *testing.T) {
			t.Parallel()
			playPresenceCases(t, v, func(_ *harness.Broker, all []*harness.Client) {
				for _, c := range all {
					c.Disconnect()
				}
			})
		})
		harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
			playPresenceCases(t, v, func(b *harness.Broker, all []*harness.Client) {
				connections := make([]harness.Connection, len(all))
				for i, c := range all {
					connections[i] = c
				}
				b.Restart(how, connections...)
			})
		})
	})
}

// playPresenceCases plays all cases against one broker, step by step; between ends the connections of a step.
func playPresenceCases(t *testing.T, v mqttcodec.Version, between func(*harness.Broker, []*harness.Client)) {
	b := harness.Start(t)
	devices := map[string]*harness.Device{}
	for step, more := 0, true; more; step++ {
		more = false
		var connected []*harness.Client
		for _, c := range presenceCases {
			if step >= len(c.steps) || c.only5 && v != mqttcodec.V5 {
				continue
			}
			more = true
			if devices[c.name] == nil {
				devices[c.name] = harness.NewDevice(v, c.name)
			}
			client := devices[c.name].Connect(b, c.steps[step].mode)
			if client.SessionPresent != c.steps[step].want {
				t.Errorf("%s: session present at CONNECT %d is %v", c.name, step+1, client.SessionPresent)
			}
			connected = append(connected, client)
		}
		if more {
			between(b, connected)
		}
	}
}

// 3.1 has no session present flag: the byte stays 0 although the session is there. [case 6]
func TestS07SessionPresentDoesNotExistIn31(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	first := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V31, "old"))
	first.Subscribe(harness.Filter("old", 1))
	first.Disconnect()
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "p"))
	publisher.Publish(mqttcodec.Publish{Topic: "old", QoS: 1, Payload: []byte("missed")})
	second := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V31, "old"))
	if second.Connack.SessionPresent {
		t.Error("CONNACK of 3.1 has bit 0 set, which is reserved there")
	}
	if m := harness.Expect[*mqttcodec.Publish](second); string(m.Payload) != "missed" {
		t.Errorf("got %+v from the resumed session", m)
	}
}

// Clean start discards everything at once: subscriptions, queue, identifiers, and what JetStream holds of them.
// [MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-6] [case 39]
func TestS08CleanStartDiscardsAtOnce(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS())
		device := harness.NewDevice(v, "s08")
		c := device.Connect(b, harness.Persistent)
		c.Subscribe("s08/+", 2)
		c.Disconnect()
		publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.Publish("s08/queued", 1, "old")
		publisher.Publish("s08/queued", 2, "old")
		b.Restart(how, publisher)

		clean := device.Connect(b, harness.Ephemeral)
		if clean.SessionPresent {
			t.Error("session present is 1 although the session was discarded [MQTT-3.2.2-2]")
		}
		expectNoTrace(t, b, "s08")
		publisher = harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.Publish("s08/new", 1, "not subscribed")
		clean.Subscribe("marker", 1)
		publisher.Publish("marker", 1, "")
		if got := clean.ReceiveUntil("marker"); len(got) != 0 {
			t.Errorf("the discarded session delivered %+v", got)
		}
		clean.Disconnect()
		if device.Connect(b, harness.Persistent).SessionPresent {
			t.Error("session present is 1 after a clean session")
		}
	})
}

// An empty client identifier cannot be come back to with clean session 0. [3.1.1 MQTT-3.1.3-8] [3.1.1 MQTT-3.2.2-4]
// [3.1.1 MQTT-3.2.2-5] [3.1.1 MQTT-3.1.3-9] [case 14] [case 22]
func TestS19EmptyClientIDWithCleanSession0IsRefusedIn311(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	r := b.Dial(t, mqttcodec.V311)
	r.SendBytes(0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 0)
	connack := harness.Expect[*mqttcodec.Connack](r)
	if connack.Reason != mqttcodec.ClientIdentifierNotValid || connack.SessionPresent {
		t.Errorf("CONNACK %+v, want return code 0x02 and session present 0", connack)
	}
	if more := r.ExpectClosed(); len(more) != 0 {
		t.Errorf("packets after the refusal: %v", more)
	}
}

// 3.1 knows no empty client identifier at all. [case 16]
func TestS19EmptyClientIDIsRefusedIn31(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	r := b.Dial(t, mqttcodec.V31)
	r.SendBytes(0x10, 14, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 2, 0, 0, 0, 0)
	if connack := harness.Expect[*mqttcodec.Connack](r); connack.Reason != mqttcodec.ClientIdentifierNotValid {
		t.Errorf("CONNACK %+v, want return code 0x02", connack)
	}
	r.ExpectClosed()
}

// With clean session 1 the broker makes one up. [3.1.1 MQTT-3.1.3-7] [3.1.1 MQTT-3.1.3-6] [case 14]
func TestS19EmptyClientIDWithCleanSession1IsAcceptedIn311(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	first := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, ""))
	second := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, ""))
	first.Subscribe(harness.Filter("a", 0)) // both are alive: they have different identifiers
	second.Subscribe(harness.Filter("a", 0))
}

// 5.0 gets an identifier assigned, with clean start 0 too, and can come back to its session with it.
// [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] [case 15]
func TestS19AssignedClientIDNamesASessionThatSurvives(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t)
		first := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, ""))
		other := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, ""))
		id := first.Connack.Properties.AssignedClientID
		if id == "" || id == other.Connack.Properties.AssignedClientID {
			t.Fatalf("assigned client identifiers %q and %q", id, other.Connack.Properties.AssignedClientID)
		}
		if first.Connack.SessionPresent {
			t.Error("session present is 1 for a new identifier")
		}
		b.Restart(how, first, other)
		resumed := b.Resume(t, mqttcodec.V5, id)
		if again := resumed.Connack.Properties.AssignedClientID; again != "" {
			t.Errorf("the client brought its identifier, and was assigned %q", again)
		}
	})
}
