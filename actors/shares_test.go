package actors

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// payloadsOf are the payloads of the messages that have come, in order.
func payloadsOf(t *testing.T, c *testClient) []string {
	t.Helper()
	var payloads []string
	for _, p := range c.received() {
		payloads = append(payloads, string(p.(*mqttcodec.Publish).Payload))
	}
	return payloads
}

// Members take turns, each message goes to one of them, and a second group gets its own. [MQTT-4.8.2-3] [case 162]
func TestMembersOfAShareTakeTurns(t *testing.T) {
	for qos := range mqttcodec.QoS(2) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot-1")
				a1, a2, other := b.connected("a1", clean), b.connected("a2"), b.connected("other", clean)
				a1.subscribe(1, "$share/a/t/#")
				a2.subscribe(1, "$share/a/t/#")
				other.subscribe(1, "$share/b/t/#")
				p := b.connected("p", clean)
				want := make([]string, 10)
				for i := range want {
					want[i] = fmt.Sprint(i)
					p.send(&mqttcodec.Publish{QoS: qos, PacketID: uint16(qos) * uint16(i+1), Topic: "t/x", Payload: []byte(want[i])})
				}
				synctest.Wait()
				elapse(time.Second)
				one, two := payloadsOf(t, a1), payloadsOf(t, a2)
				if len(one) != 5 || len(two) != 5 || !slices.IsSorted(one) || !slices.IsSorted(two) {
					t.Errorf("one got %q, the other %q", one, two)
				}
				if all := slices.Sorted(slices.Values(slices.Concat(one, two))); !slices.Equal(all, want) {
					t.Errorf("together they got %q", all)
				}
				if got := payloadsOf(t, other); !slices.Equal(got, want) {
					t.Errorf("the other group got %q", got)
				}
			})
		})
	}
}

// The queue of a share is there from the first SUBSCRIBE on and goes with the last subscriber, connected or not; what a node
// that died left without subscribers goes when one starts. [case 170] [case 194]
func TestShareEndsWithItsLastSubscriber(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot-1")
		persistent, ending := b.connected("persistent"), b.connected("clean", clean)
		persistent.subscribe(1, "$share/g/t")
		ending.subscribe(1, "$share/g/t", "$share/dies/t")
		wantShares := func(want ...string) {
			t.Helper()
			synctest.Wait()
			elapse(time.Second)
			if got := storage.SharedNames(); !slices.Equal(got, want) {
				t.Fatalf("queues %q, want %q", got, want)
			}
		}
		wantShares("$share/dies/t", "$share/g/t")
		persistent.disconnect()
		storage = b.crash()
		b = startOnPipes(t, storage, "boot-2")
		wantShares("$share/g/t")
		persistent = b.connected("persistent")
		persistent.send(&mqttcodec.Unsubscribe{PacketID: 9, Filters: []string{"$share/g/t"}})
		expect[*mqttcodec.Unsuback](persistent)
		wantShares()
	})
}

// More shares than may be are refused, and what the session has stays. [MQTT-3.9.3-1]
func TestTooManySharesAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1", func(c *Config) { c.MaxShares = 1 })
		c := b.connected("c")
		c.subscribe(1, "$share/g/t")
		c.send(&mqttcodec.Subscribe{PacketID: 2, Requests: []mqttcodec.SubscriptionRequest{
			{Filter: "$share/g/t", Options: mqttcodec.SubscriptionOptions{QoS: 1}},
			{Filter: "$share/h/t", Options: mqttcodec.SubscriptionOptions{QoS: 1}},
			{Filter: "u"},
		}})
		got := expect[*mqttcodec.Suback](c).Reasons
		if want := []mqttcodec.ReasonCode{1, mqttcodec.QuotaExceeded, 0}; !slices.Equal(got, want) {
			t.Errorf("SUBACK %x, want %x", got, want)
		}
		b.connected("d", clean).subscribe(1, "$share/g/t")
	})
}

// A message that a client holds is renewed, so that it does not go to another after a while.
func TestHeldMessagesAreRenewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		slow := b.connected("slow")
		slow.subscribe(1, "$share/g/t")
		b.connected("p", clean).publish1("t", "held")
		held := expect[*mqttcodec.Publish](slow)
		other := b.connected("other", clean)
		other.subscribe(1, "$share/g/t")
		elapse(10 * sessions.RenewWithin)
		if n := other.waiting() + slow.waiting(); n > 0 {
			t.Errorf("%d messages came again", n)
		}
		slow.close()
		elapse(10 * sessions.RenewWithin)
		if n := other.waiting(); n > 0 {
			t.Errorf("the message of a session that lasts went to another")
		}
		slow = b.connected("slow")
		if again := slow.take1(); again.PacketID != held.PacketID || !again.Duplicate {
			t.Errorf("got %+v again", again)
		}
	})
}
