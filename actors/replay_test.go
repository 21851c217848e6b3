package actors

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// replayed is the sequence that a replayed message says it has.
func replayed(t *testing.T, p *mqttcodec.Publish) uint64 {
	t.Helper()
	for _, u := range p.Properties.UserProperties {
		if u.Key == "dunlin-sequence" {
			n, err := strconv.ParseUint(u.Value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s %q does not say where it stands", p.Topic, p.Payload)
	return 0
}

// suback is the reason code for one filter.
func (c *testClient) suback(filter string) mqttcodec.ReasonCode {
	c.t.Helper()
	c.send(&mqttcodec.Subscribe{PacketID: 9, Requests: []mqttcodec.SubscriptionRequest{{Filter: filter, Options: mqttcodec.SubscriptionOptions{QoS: 1}}}})
	return expect[*mqttcodec.Suback](c).Reasons[0]
}

// Wherever a replay begins, whatever of the log is in memory, and however fast it is published meanwhile: each message comes
// once, in log order, and says where it stands.
func TestReplayBringsTheLogWithoutSeam(t *testing.T) {
	for _, ring := range []int{1, 20 * entryOverhead, 64 << 20} {
		t.Run(fmt.Sprint(ring), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot", func(c *Config) {
					c.RingBytes = ring
					c.Sessions.ReplayRate = 100_000
				})
				b.storage.Latency(func(sessionstest.Operation) time.Duration { return time.Millisecond })
				p := b.connected("publisher")
				for i := range 300 {
					p.publish1("a/"+strconv.Itoa(i%2), fmt.Sprint(i))
				}
				first := b.connected("first")
				if reason := first.suback("$replay/first/a/#"); reason != 1 {
					t.Fatalf("SUBACK %#x", reason)
				}
				late := b.connected("late", receiveMaximum(2))
				if reason := late.suback("$replay/201/a/0"); reason != 1 {
					t.Fatalf("SUBACK %#x", reason)
				}
				for i := 300; i < 600; i++ {
					p.publish1("a/"+strconv.Itoa(i%2), fmt.Sprint(i))
				}
				for i := range 600 {
					if m := first.take1(); string(m.Payload) != fmt.Sprint(i) || replayed(t, m) != uint64(i+1) || m.QoS != 1 {
						t.Fatalf("%q of %d came, want %d", m.Payload, replayed(t, m), i)
					}
				}
				for i := 200; i < 600; i += 2 {
					if m := late.take1(); string(m.Payload) != fmt.Sprint(i) || replayed(t, m) != uint64(i+1) {
						t.Fatalf("%q of %d came, want %d", m.Payload, replayed(t, m), i)
					}
				}
				elapse(time.Minute)
				synctest.Wait()
				if n := first.waiting() + late.waiting(); n > 0 {
					t.Errorf("%d packets came behind", n)
				}
			})
		})
	}
}

func TestReplayBeginsAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		p := b.connected("publisher")
		p.publish1("a", "1")
		elapse(time.Hour)
		at := time.Now()
		p.publish1("a", "2")
		elapse(time.Hour)
		p.publish1("a", "3")
		elapse(time.Second)
		for filter, want := range map[string][]string{
			"$replay/150m/a": {"1", "2", "3"},
			"$replay/90m/a":  {"2", "3"},
			"$replay/" + at.UTC().Format(time.RFC3339) + "/a": {"2", "3"},
			"$replay/0s/a": nil,
			"$replay/4/a":  nil,
		} {
			c := b.connected("replaying " + filter)
			if reason := c.suback(filter); reason != 1 {
				t.Fatalf("%s: SUBACK %#x", filter, reason)
			}
			c.takeAll(want...)
			synctest.Wait()
			if n := c.waiting(); n > 0 {
				t.Errorf("%s: %d packets came behind", filter, n)
			}
		}
	})
}

// A replay belongs to a connection, of which a node has so many at a time; each ends with its connection, its UNSUBSCRIBE, or
// its actor.
func TestReplaysAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", func(c *Config) { c.MaxReplays = 2 })
		one := b.connected("one", sessionExpiry(neverExpires))
		for _, filter := range []string{"$replay/first/a", "$replay/first/b", "$replay/first/b"} { // the last begins again
			if reason := one.suback(filter); reason != 1 {
				t.Fatalf("%s: SUBACK %#x", filter, reason)
			}
		}
		two := b.connected("two")
		if reason := two.suback("$replay/first/c"); reason != mqttcodec.QuotaExceeded {
			t.Errorf("one too many: SUBACK %#x", reason)
		}
		if reason := two.suback("$replay/17/c"); reason != mqttcodec.QuotaExceeded {
			t.Errorf("one too many: SUBACK %#x", reason)
		}
		one.send(&mqttcodec.Unsubscribe{PacketID: 1, Filters: []string{"$replay/first/a"}})
		expect[*mqttcodec.Unsuback](one)
		if reason := two.suback("$replay/17/c"); reason != mqttcodec.TopicFilterInvalid {
			t.Errorf("no such place: SUBACK %#x", reason)
		}
		if reason := two.suback("$replay/first/c"); reason != 1 {
			t.Errorf("in the place of another: SUBACK %#x", reason)
		}
		one.disconnect()
		synctest.Wait()
		one, present := b.resumed("one", sessionExpiry(neverExpires))
		if n := b.replays.Load(); n != 1 || !present {
			t.Errorf("%d replays are there, the session is there: %v", n, present)
		}
		b.connected("publisher").publish1("a", "for nobody")
		elapse(time.Minute)
		if n := one.waiting(); n > 0 {
			t.Errorf("%d packets came by a replay that has ended", n)
		}
		b.storage.Fail(sessions.ErrConflict, sessionstest.SaveRecord) // the actor gives the session up
		if reason := one.suback("$replay/first/never"); reason != 1 {
			t.Fatalf("SUBACK %#x", reason)
		}
		one.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "x"}}})
		expect[*mqttcodec.Disconnect](one)
		one.wantEnd()
		two.close()
		synctest.Wait()
		if n := b.replays.Load(); n != 0 || b.catchUp.following.Load() != 0 {
			t.Errorf("%d replays are left, %d wait", n, b.catchUp.following.Load())
		}
	})
}

// A client that takes nothing holds no more in memory than its replay may read ahead, and nobody up.
func TestReplayWaitsForItsClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", func(c *Config) { c.Sessions.ReplayRate = 100_000 })
		const messages = 2000
		for i := range messages {
			b.storage.Log().Put(&sessions.Message{Topic: "a", QoS: 1, Payload: []byte(fmt.Sprint(i))})
		}
		slow := b.connected("slow", receiveMaximum(10))
		slow.subscribe(1, "b")
		if reason := slow.suback("$replay/first/a"); reason != 1 {
			t.Fatalf("SUBACK %#x", reason)
		}
		var unacknowledged []uint16
		for range 5 { // half of its window
			unacknowledged = append(unacknowledged, expect[*mqttcodec.Publish](slow).PacketID)
		}
		b.connected("publisher").publish1("b", "live")
		if m := expect[*mqttcodec.Publish](slow); string(m.Payload) != "live" {
			t.Errorf("%q came, want what is live", m.Payload)
		}
		elapse(time.Minute)
		synctest.Wait()
		if n := slow.waiting(); n > 0 {
			t.Errorf("%d packets more than the window came", n)
		}
		for _, id := range unacknowledged {
			slow.send(&mqttcodec.Puback{PacketID: id})
		}
		for i := 5; i < messages; i++ {
			if m := slow.take1(); string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("%q came, want %d", m.Payload, i)
			}
		}
	})
}

func TestReplayKeepsToItsRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", func(c *Config) { c.Sessions.ReplayRate = 100 })
		for range 1000 {
			b.storage.Log().Put(&sessions.Message{Topic: "a", QoS: 1})
		}
		c := b.connected("replaying")
		began := time.Now()
		if reason := c.suback("$replay/first/a"); reason != 1 {
			t.Fatalf("SUBACK %#x", reason)
		}
		for range 1000 {
			c.take1()
		}
		if took := time.Since(began); took < 9500*time.Millisecond || took > 11*time.Second {
			t.Errorf("1000 messages took %v, want 10s", took)
		}
	})
}
