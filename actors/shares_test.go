package actors

import (
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

// A message that a member gives back while the queue is away is not lost with it: it comes again when the queue does.
func TestGivenBackWhileTheQueueIsAwayComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot-1")
		held := b.connected("held")
		held.subscribe(1, "$share/g/t")
		other := b.connected("other")
		b.connected("p", clean).publish1("t", "m")
		expect[*mqttcodec.Publish](held)
		held.close()
		elapse(time.Second)
		other.subscribe(1, "$share/g/t")
		other.disconnect()
		elapse(time.Second)
		storage = b.crash()
		storage.Fail(sessions.ErrUnavailable, sessionstest.OpenShared)
		b = startOnPipes(t, storage, "boot-2")
		held = b.connected("held")
		expect[*mqttcodec.Publish](held)
		held.send(&mqttcodec.Disconnect{SessionExpirySeconds: mqttcodec.Some(uint32(0))}) // it ends
		elapse(time.Second)
		storage.Fail(nil)
		other = b.connected("other")
		if got := other.take1(); string(got.Payload) != "m" {
			t.Errorf("got %q", got.Payload)
		}
	})
}

// A message that only a member without room can take does not keep the others from what is behind it. [case 169]
func TestMessageForOneMemberDoesNotHoldUpTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		full := b.connected("full", clean, func(c *mqttcodec.Connect) { c.Properties.ReceiveMaximum = 1 })
		full.subscribe(1, "$share/g/t")
		p := b.connected("p", clean)
		p.publish1("t", "first")
		expect[*mqttcodec.Publish](full) // and never acknowledged
		small := b.connected("small", clean, func(c *mqttcodec.Connect) { c.Properties.MaximumPacketSize = 100 })
		small.subscribe(1, "$share/g/t")
		p.publish1("t", strings.Repeat("large", 100))
		for i := range 1000 {
			p.publish1("t", fmt.Sprint(i))
			if got := small.take1(); string(got.Payload) != fmt.Sprint(i) {
				t.Fatalf("got %q, want %d", got.Payload, i)
			}
		}
		full.send(&mqttcodec.Puback{PacketID: 1})
		if got := full.take1(); len(got.Payload) != 500 {
			t.Errorf("got %q", got.Payload)
		}
	})
}

// Shares of stored sessions are served, and keep their messages, though fewer are allowed now.
func TestFewerSharesLoseNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot-1")
		c := b.connected("c")
		c.subscribe(1, "$share/g/t", "$share/h/t")
		c.disconnect()
		b.connected("p", clean).publish1("t", "m")
		elapse(time.Second)
		storage = b.crash()
		b = startOnPipes(t, storage, "boot-2", func(c *Config) { c.MaxShares = 1 })
		c = b.connected("c")
		for range 2 {
			if got := c.take1(); string(got.Payload) != "m" {
				t.Errorf("got %q", got.Payload)
			}
		}
	})
}

// What members had that died with the node comes again at once and in order, however often the queue fails at first.
func TestWhatDiedWithItsMemberComesAtOnce(t *testing.T) {
	for _, kind := range []sessionstest.Kind{sessionstest.OpenShared, sessionstest.Reclaim} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := sessionstest.New()
				b := startOnPipes(t, storage, "boot-1")
				c := b.connected("c")
				c.subscribe(1, "$share/g/t")
				c.disconnect()
				died := b.connected("died", clean)
				died.subscribe(1, "$share/g/t")
				p := b.connected("p", clean)
				p.publish1("t", "1", "2")
				expect[*mqttcodec.Publish](died)
				expect[*mqttcodec.Publish](died)
				storage = b.crash()
				storage.Fail(sessions.ErrUnavailable, kind)
				b = startOnPipes(t, storage, "boot-2")
				elapse(5 * time.Second)
				storage.Fail(nil)
				b.connected("p", clean).publish1("t", "3")
				c = b.connected("c")
				c.takeAll("1", "2", "3")
			})
		})
	}
}

// Storage is asked for a few queues at a time, so that the answer to the last of many does not come too late.
func TestQueuesOfSharesAreMadeFewAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot-1")
		storage.Latency(func(o sessionstest.Operation) time.Duration {
			if o.Kind == sessionstest.OpenShared {
				return time.Second
			}
			return 0
		})
		filters := make([]string, 3*maxShareCalls)
		for i := range filters {
			filters[i] = fmt.Sprintf("$share/g/t/%d", i)
		}
		began := time.Now()
		b.connected("c", clean).subscribe(1, filters...)
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// What is given back late, by a session that was given up, stays with the member that has it by then.
func TestWhatAnotherMemberHasIsNotGivenBack(t *testing.T) {
	s := newShare(&shares{stats: &Stats{}}, "$share/g/t")
	s.held.set(1, holding{clientID: "other"})
	s.giveBack([]sessions.Entry{{Position: sessions.Position{Sequence: 1}, Message: &sessions.Message{}}}, &member{clientID: "late"}, "")
	if !s.held.has(1) {
		t.Error("it was taken away")
	}
}

// What a client acknowledges after a restart does not come again, though its share's queue could not be told at once.
func TestAcknowledgedWhileTheQueueIsOpenedIsSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		c := b.connected("c")
		c.subscribe(1, "$share/g/t")
		b.connected("p", clean).publish1("t", "1")
		expect[*mqttcodec.Publish](c)
		c.close()
		elapse(time.Second) // so that it is in the journal
		storage := b.crash()
		storage.Latency(func(o sessionstest.Operation) time.Duration {
			if o.Kind == sessionstest.OpenShared {
				return 5 * time.Second
			}
			return 0
		})
		b = startOnPipes(t, storage, "boot-2")
		c = b.connected("c")
		c.takeAll("1")
		elapse(2 * sessions.RenewWithin)
		if n := c.waiting(); n > 0 {
			t.Errorf("%d messages came again", n)
		}
	})
}
