package integration

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// mixed are n messages on a topic, QoS 1 and 2 by turns, numbered from first on.
func mixed(topic string, first, n int) []mqttcodec.Publish {
	messages := make([]mqttcodec.Publish, n)
	for i := range messages {
		messages[i] = mqttcodec.Publish{Topic: topic, QoS: mqttcodec.QoS(1 + (first+i)%2), Payload: fmt.Append(nil, first+i)}
	}
	return messages
}

// A client that comes back gets what it missed at once, with nothing else going on that could push it along. [MQTT-4.5.0-1]
// [case 40]
func TestMissedMessageArrivesWithoutFurtherTraffic(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		c := b.ConnectRaw(t, harness.PersistentConnect(v, "c"))
		c.Subscribe(harness.Filter("a", 1))
		publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
		for i := range 20 {
			c.Disconnect()
			publisher.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, Payload: fmt.Append(nil, i)})
			c = b.Resume(t, v, "c")
			m := harness.Expect[*mqttcodec.Publish](c)
			if string(m.Payload) != fmt.Sprint(i) || m.Duplicate {
				t.Fatalf("got %+v, want message %d", m, i)
			}
			c.Answer(m)
		}
	})
}

// Ten thousand messages missed while offline arrive, each once, in order, with a restart in the middle of them.
// [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT-3.1.2-5] [MQTT-4.5.0-1] [3.1.1 MQTT-3.1.2-5] [3.1.1 MQTT-4.5.0-1]
// [3.1.1 MQTT-4.6.0-6] [case 40] [case 144] [3.1.1 MQTT-4.6.0-5]
func TestS04MissedMessagesArriveOnceInOrder(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		const n = 10_000
		b := harness.Start(t)
		device := harness.NewDevice(v, "s04")
		c := device.Connect(b, harness.Persistent)
		c.Subscribe("s04/#", 2)
		c.Disconnect()

		publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
		publisher.PublishAll(mixed("s04/a", 0, n/2))
		b.Restart(how, publisher)
		publisher = b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
		publisher.PublishAll(mixed("s04/a", n/2, n/2))
		publisher.Publish(mqttcodec.Publish{Topic: "s04/end", QoS: 2})

		got := device.Resume(b).ReceiveUntil("s04/end")
		// The order holds for each QoS on its own.
		for qos := range byte(2) {
			qos++
			var payloads, want []string
			for _, m := range got {
				if m.QoS == qos {
					payloads = append(payloads, m.Payload)
				}
			}
			for i := range n {
				if byte(1+i%2) == qos {
					want = append(want, fmt.Sprint(i))
				}
			}
			if at := firstDifference(payloads, want); at >= 0 {
				t.Errorf("QoS %d: got %d messages, want %d; they differ at %d: got %q, want %q", qos, len(payloads), len(want), at,
					payloads[at:min(at+3, len(payloads))], want[at:min(at+3, len(want))])
			}
		}
	})
}

// firstDifference is where two slices differ first, -1 when they do not.
func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// A message at QoS 0, by its publisher or by the subscription, is not for a client that is away; the option
// sessions.queue_qos0 makes it so. (4.3.1) [case 155]
func TestS06QoS0IsQueuedOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	for _, queued := range []bool{false, true} {
		t.Run(fmt.Sprintf("queue_qos0=%v", queued), func(t *testing.T) {
			t.Parallel()
			harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
				b := harness.Start(t, harness.Set("sessions.queue_qos0", queued))
				device := harness.NewDevice(v, "s06")
				c := device.Connect(b, harness.Persistent)
				c.Subscribe("s06/one", 1)
				c.Subscribe("s06/zero", 0)
				c.Subscribe("marker", 1)
				c.Disconnect()
				b.Resume(t, v, "s06").Disconnect() // this one returns when the broker knows that the client is away

				publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
				publisher.Publish("s06/one", 0, "published at 0")
				publisher.Publish("s06/zero", 1, "subscribed at 0")
				publisher.Publish("s06/zero", 0, "both at 0")
				publisher.Publish("s06/one", 1, "kept")
				b.Restart(how, publisher)

				c = device.Resume(b)
				publisher = harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
				publisher.Publish("marker", 1, "")
				want := []string{"kept"}
				if queued {
					want = []string{"published at 0", "subscribed at 0", "both at 0", "kept"}
				}
				if got := harness.Payloads(c.ReceiveUntil("marker")); !slices.Equal(got, want) {
					t.Errorf("after the restart %q, want %q", got, want)
				}
				publisher.Publish("s06/zero", 0, "online")
				c.ExpectPayloads("online")
			})
		})
	}
}

// A queue keeps what its limit allows, and drops at the end that is configured. 0 is no limit. [case 155]
func TestS09QueueLimitHolds(t *testing.T) {
	t.Parallel()
	const published = 250
	cases := []struct {
		limit    int
		overflow string
		want     []string
	}{
		{100, "drop_oldest", harness.Numbered("m", 150, 100)},
		{100, "drop_newest", harness.Numbered("m", 0, 100)},
		{0, "drop_oldest", harness.Numbered("m", 0, published)},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%d %s", c.limit, c.overflow), func(t *testing.T) {
			t.Parallel()
			harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
				testQueueLimit(t, v, how, c.want, published,
					harness.Set("sessions.max_queued_messages", c.limit), harness.Set("sessions.overflow", c.overflow))
			})
		})
	}
}

func testQueueLimit(t *testing.T, v mqttcodec.Version, how harness.Ending, want []string, published int, options ...harness.Option) {
	b := harness.Start(t, options...)
	device := harness.NewDevice(v, "s09")
	c := device.Connect(b, harness.Persistent)
	c.Subscribe("s09", 2)
	c.Disconnect()
	publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
	publisher.PublishAll(harness.Messages("s09", 1, "m", published))
	b.Restart(how, publisher)

	c = device.Resume(b)
	c.ExpectPayloads(want...)
	// What comes while the client is here is not subject to the limit that it has drained.
	publisher = b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
	publisher.PublishAll(harness.Messages("s09", 2, "live", 10))
	c.ExpectPayloads(harness.Numbered("live", 0, 10)...)
}

// The limit is exact, too, for a session with so many filters that its queue in JetStream holds messages of others. [case 155]
func TestS09QueueLimitHoldsForManyFilters(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.Set("sessions.max_queued_messages", 10), harness.Set("sessions.overflow", "drop_oldest"))
	c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "s09"))
	var requests []mqttcodec.SubscriptionRequest
	for i := range 100 {
		requests = append(requests, harness.Filter(fmt.Sprint("s09/", i, "/x"), 1))
	}
	c.Subscribe(requests...)
	c.Disconnect()
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.PublishAll(harness.Messages("s09/0/other", 1, "", 100))
	publisher.PublishAll(harness.Messages("s09/7/x", 1, "m", 30))
	publisher.PublishAll(harness.Messages("s09/0/other", 1, "", 100))
	b.Restart(harness.Kill9, publisher)

	c = b.Resume(t, mqttcodec.V5, "s09")
	for _, want := range append(harness.Numbered("m", 20, 10), "live") {
		if want == "live" {
			publisher = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
			publisher.Publish(mqttcodec.Publish{Topic: "s09/99/x", QoS: 1, Payload: []byte("live")})
		}
		m := harness.Expect[*mqttcodec.Publish](c)
		c.Answer(m)
		if string(m.Payload) != want {
			t.Fatalf("got %q, want %q", m.Payload, want)
		}
	}
}

// Messages in flight do not count as queued and are never dropped for the limit. [case 155]
func TestS09InFlightIsNeverDropped(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t, harness.Set("sessions.max_queued_messages", 10), harness.Set("sessions.overflow", "drop_oldest"))
		c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "s09"))
		c.Subscribe(harness.Filter("s09", 1))
		publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		publisher.PublishAll(harness.Messages("s09", 1, "sent", 5))
		sent := receiveUnanswered(c, 5)
		c.Disconnect()
		publisher.PublishAll(harness.Messages("s09", 1, "m", 50))
		b.Restart(how, publisher)

		c = b.Resume(t, mqttcodec.V5, "s09")
		again := readResent(t, c)
		if !slices.Equal(again.publishes, sent) {
			t.Errorf("resent %v, want %v", again.publishes, sent)
		}
		finish(t, c, again, harness.Numbered("m", 40, 10))
	})
}

// A persistent session gets all it missed on a retained topic, not just the last; a new subscriber gets one; a
// resumed session gets nothing for resuming. [MQTT-3.3.1-9] [MQTT-3.3.1-12] [3.1.1 MQTT-3.3.1-8] [3.1.1 MQTT-3.3.1-9]
// [case 135] [case 126]
func TestS12RetainedMessagesAreAlsoQueued(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t)
		publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.PublishRetained("s12", 1, "before")
		// Raw, so that the PUBACK is on the wire before the DISCONNECT: a library may leave without it, and then the message
		// was in flight and comes again.
		first := b.ConnectRaw(t, harness.PersistentConnect(v, "s12"))
		early := first.Subscribe(harness.Filter("s12", 1), harness.Filter("marker", 1))
		if len(early) == 0 {
			early = append(early, harness.Expect[*mqttcodec.Publish](first))
		}
		if m := early[0]; len(early) != 1 || string(m.Payload) != "before" || !m.Retain {
			t.Errorf("the new subscription got %+v, want the retained message with retain 1", early)
		}
		first.Answer(early[0])
		first.Disconnect()
		for i := range 5 {
			publisher.PublishRetained("s12", byte(1+i%2), fmt.Sprint("missed", i))
		}
		b.Restart(how, publisher)

		publisher = harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.Publish("marker", 1, "")
		c := harness.NewDevice(v, "s12").Resume(b)
		got := c.ReceiveUntil("marker")
		if !slices.Equal(harness.Payloads(got), harness.Numbered("missed", 0, 5)) {
			t.Errorf("the session missed five messages and got %q", harness.Payloads(got))
		}
		for _, m := range got {
			if m.Retain {
				t.Errorf("%q came with retain 1 on an existing subscription", m.Payload)
			}
		}
		fresh := harness.NewDevice(v, "fresh").Connect(b, harness.Ephemeral)
		fresh.Subscribe("marker", 1)
		fresh.Subscribe("s12", 1)
		publisher.Publish("marker", 1, "")
		if got := fresh.ReceiveUntil("marker"); len(got) != 1 || got[0].Payload != "missed4" || !got[0].Retain {
			t.Errorf("the new subscriber got %+v, want the last retained message only", got)
		}
	})
}
