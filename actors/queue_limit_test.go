package actors

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// limitedQueues keeps queues to ten messages, and nothing of the log in memory, so that they are read from the durable queue.
func limitedQueues(cfg *Config) {
	cfg.Sessions.MaxQueuedMessages = 10
	cfg.RingBytes = 2 * entryOverhead
}

// numbered are n payloads.
func numbered(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(prefix, i)
	}
	return all
}

// A client's own messages, which No Local keeps from it, take no place in its queue. [MQTT-3.8.3-3] [case 116] [case 155]
func TestOwnMessagesTakeNoPlaceInTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", limitedQueues)
		c, other := b.connected("c", receiveMaximum(1)), b.connected("other")
		c.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{
			{Filter: "a", Options: mqttcodec.SubscriptionOptions{QoS: 1, NoLocal: true}},
		}})
		expect[*mqttcodec.Suback](c)
		other.publish1("a", numbered("before", 4)...)
		first := expect[*mqttcodec.Publish](c)
		c.disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })

		own := b.connected("c", receiveMaximum(1))
		if p := expect[*mqttcodec.Publish](own); p.PacketID != first.PacketID {
			t.Fatalf("got %+v", p)
		}
		own.publish1("a", numbered("own", 30)...)
		own.disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
		other.publish1("a", numbered("after", 5)...)

		c = b.connected("c", receiveMaximum(2))
		c.takeAll(numbered("before", 4)...)
		c.takeAll(numbered("after", 5)...)
		if dropped := b.Stats().Drops(); len(dropped) > 0 {
			t.Errorf("dropped: %v", dropped)
		}
	})
}

// What was published before a filter was subscribed to takes no place in the queue of a session that still catches up. [case 155]
func TestOlderMessagesTakeNoPlaceInTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", limitedQueues)
		c, other := b.connected("c", receiveMaximum(1)), b.connected("other")
		c.subscribe(1, "a")
		c.disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
		other.publish1("a", numbered("a", 4)...)
		other.publish1("b", numbered("never", 50)...)
		other.publish1("a", numbered("later", 4)...)

		c = b.connected("c", receiveMaximum(1))
		first := expect[*mqttcodec.Publish](c)
		c.subscribe(1, "b")
		c.send(&mqttcodec.Puback{PacketID: first.PacketID})
		c.takeAll(numbered("a", 4)[1:]...)
		c.takeAll(numbered("later", 4)...)
		other.publish1("b", "now")
		c.takeAll("now")
		if dropped := b.Stats().Drops(); len(dropped) > 0 {
			t.Errorf("dropped: %v", dropped)
		}
	})
}

// Neither does what comes for a filter that has ended meanwhile. [MQTT-3.10.4-2] [case 155]
func TestEndedFilterTakesNoPlaceInTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", limitedQueues)
		c, other := b.connected("c", receiveMaximum(1)), b.connected("other")
		c.subscribe(1, "a", "b")
		c.disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
		other.publish1("a", numbered("a", 6)...)

		c = b.connected("c", receiveMaximum(1))
		first := expect[*mqttcodec.Publish](c)
		c.send(&mqttcodec.Unsubscribe{PacketID: 1, Filters: []string{"b"}})
		expect[*mqttcodec.Unsuback](c)
		other.publish1("b", numbered("never", 50)...)
		c.send(&mqttcodec.Puback{PacketID: first.PacketID})
		c.takeAll(numbered("a", 6)[1:]...)
		if dropped := b.Stats().Drops(); len(dropped) > 0 {
			t.Errorf("dropped: %v", dropped)
		}
	})
}

// Nor does what was published at QoS 0 and is in the log because it is retained. [MQTT-4.3.1-1] [case 155]
func TestQoS0TakesNoPlaceInTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", limitedQueues)
		c, other := b.connected("c"), b.connected("other")
		c.subscribe(1, "a/#")
		c.disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
		other.publish1("a/b", numbered("a", 8)...)
		for i := range 50 {
			other.send(&mqttcodec.Publish{Topic: "a/c", Retain: true, Payload: fmt.Append(nil, i)})
		}
		other.publish1("a/b", "last")
		eventually(t, "the log is handed out", func() bool { return b.router.Head().Sequence == 8+50+1 }) // what is not yet, comes live

		c = b.connected("c", receiveMaximum(2))
		c.takeAll(append(numbered("a", 8), "last")...)
		if dropped := b.Stats().Drops(); len(dropped) > 0 {
			t.Errorf("dropped: %v", dropped)
		}
	})
}
