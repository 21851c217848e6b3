package actors

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// publishDelayed publishes at QoS 1 and waits for the PUBACKs.
func (c *testClient) publishDelayed(topic string, seconds int, payloads ...string) {
	c.t.Helper()
	c.publish1(fmt.Sprintf("$delayed/%d/%s", seconds, topic), payloads...)
}

func TestDelayedMessageIsPublishedWhenItIsDue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		watcher, p := b.connected("watcher"), b.connected("publisher")
		watcher.subscribe(2, "#")
		p.publishDelayed("a", 60, "later")
		p.publishDelayed("a", 10, "sooner", "behind it")
		p.publish1("a", "now")
		watcher.takeAll("now")
		began := time.Now()
		watcher.takeAll("sooner", "behind it")
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("the message came after %v, want 10s", took)
		}
		elapse(45 * time.Second)
		watcher.takeAll("later")
		if took := time.Since(began); took < 59*time.Second || took > 61*time.Second {
			t.Errorf("the message came after %v, want 60s", took)
		}
		synctest.Wait()
		if left := b.storage.DelayedMessages(); len(left) > 0 {
			t.Errorf("%d messages are still stored", len(left))
		}
	})
}

// Each comes at the QoS, and with the retain flag, that it was published with; at QoS 0 it is not in the log.
func TestDelayedMessageStaysWhatItWas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		watcher, p := b.connected("watcher"), b.connected("publisher")
		watcher.subscribe(2, "#")
		for qos := range mqttcodec.QoS(3) {
			p.send(&mqttcodec.Publish{PacketID: 1 + uint16(qos), QoS: qos, Topic: "$delayed/5/a", Payload: []byte{'0' + byte(qos)}})
		}
		p.send(&mqttcodec.Publish{Topic: "$delayed/5/r", Retain: true, Payload: []byte("retained")})
		got := map[string]mqttcodec.QoS{}
		for range 4 {
			m := watcher.take1()
			got[m.Topic+string(m.Payload)] = m.QoS
		}
		if want := "map[a0:0 a1:1 a2:2 rretained:0]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %v", got, want)
		}
		synctest.Wait()
		for _, e := range b.storage.Entries() {
			if string(e.Message.Payload) == "0" {
				t.Error("the message at QoS 0 is in the log")
			}
		}
		late := b.connected("late")
		late.subscribe(1, "#")
		late.takeAll("retained")
	})
}

func TestDelayedMessagesSurviveACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		b.connected("publisher").publishDelayed("a", 60, "early", "early too")
		b.connected("other").publishDelayed("a", 3600, "late")
		after := b.crash()
		elapse(10 * time.Minute)
		b = startOnPipes(t, after, "boot2", func(c *Config) { c.Sessions.QueueQoS0 = true })
		watcher := b.connected("watcher")
		watcher.subscribe(1, "#") // what was overdue is in the log by then, or comes
		elapse(time.Hour)
		synctest.Wait()
		var payloads []string
		for _, e := range b.storage.Entries() {
			payloads = append(payloads, string(e.Message.Payload))
		}
		if want := "early,early too,late"; strings.Join(payloads, ",") != want {
			t.Errorf("the log has %v, want %s", payloads, want)
		}
	})
}

// A crash between publishing and removing, and a start long after the duplicate window, publish nothing again.
func TestDelayedMessageIsPublishedOnceAcrossACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		b.storage.Fail(sessions.ErrUnavailable, sessionstest.RemoveDelayed)
		b.connected("publisher").publishDelayed("a", 5, "1", "2")
		p := b.connected("another")
		for range 10 { // the checkpoint has every reason to go on
			elapse(2 * time.Second)
			p.publish1("b", "x")
		}
		if n := len(b.storage.DelayedMessages()); n != 2 {
			t.Fatalf("%d messages are stored, want 2", n)
		}
		after := b.crash()
		elapse(10 * time.Minute)
		b = startOnPipes(t, after, "boot2")
		elapse(time.Minute)
		synctest.Wait()
		count := map[string]int{}
		for _, e := range b.storage.Entries() {
			count[string(e.Message.Payload)]++
		}
		if count["1"] != 1 || count["2"] != 1 || len(b.storage.DelayedMessages()) != 0 {
			t.Errorf("the log has %v, %d messages are still stored", count, len(b.storage.DelayedMessages()))
		}
	})
}

// A QoS 2 message that was stored, but not acknowledged, before a crash is not stored again, wherever it is then. [MQTT-4.3.3-10]
func TestDelayedQoS2IsStoredOnceAcrossACrash(t *testing.T) {
	for _, seconds := range []int{1, 3600} {
		t.Run(fmt.Sprint(seconds), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot")
				p := b.connected("publisher", sessionExpiry(neverExpires))
				b.storage.Hold(sessionstest.SaveJournal)
				message := &mqttcodec.Publish{PacketID: 7, QoS: 2, Topic: fmt.Sprintf("$delayed/%d/a", seconds), Payload: []byte("m")}
				p.send(message)
				elapse(10 * time.Second)
				after := b.crash()
				elapse(10 * time.Minute)
				b = startOnPipes(t, after, "boot2")
				p, present := b.resumed("publisher", sessionExpiry(neverExpires))
				if !present {
					t.Fatal("the session is gone")
				}
				message.Duplicate = true
				p.send(message)
				if ack := expect[*mqttcodec.Pubrec](p); ack.Reason != mqttcodec.Success {
					t.Errorf("PUBREC %#x", ack.Reason)
				}
				elapse(2 * time.Hour)
				synctest.Wait()
				if n := len(b.storage.Entries()); n != 1 {
					t.Errorf("the message is in the log %d times", n)
				}
			})
		})
	}
}

func TestDelayedMessagesWaitForStorage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "#")
		b.connected("publisher").publishDelayed("a", 5, "1", "2", "3")
		b.storage.Fail(sessions.ErrUnavailable, sessionstest.Read)
		elapse(10 * time.Second)
		b.storage.Fail(sessions.ErrUnavailable, sessionstest.Append)
		elapse(10 * time.Second)
		b.storage.Fail(sessions.ErrRejected, sessionstest.Append) // full, for now
		elapse(10 * time.Second)
		b.storage.Fail(nil)
		elapse(20 * time.Second)
		watcher.takeAll("1", "2", "3")
		elapse(time.Minute)
		synctest.Wait()
		if n := watcher.waiting(); n > 0 {
			t.Errorf("%d packets came behind them", n)
		}
	})
}

// Message expiry counts from when the message is due, wherever it is then. [MQTT-3.3.2-5] [MQTT-3.3.2-6]
func TestDelayedMessageExpiresAfterItIsDue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		p := b.connected("publisher")
		for i, expiry := range []uint32{30, 3000} {
			message := &mqttcodec.Publish{PacketID: uint16(i + 1), QoS: 1, Topic: "$delayed/60/a", Payload: fmt.Append(nil, expiry)}
			message.Properties.MessageExpirySeconds = mqttcodec.Some(expiry)
			p.send(message)
			expect[*mqttcodec.Puback](p)
		}
		watcher := b.connected("watcher")
		watcher.subscribe(1, "#")
		elapse(time.Minute)
		watcher.takeAll("30", "3000")

		for i, expiry := range []uint32{30, 3000} {
			message := &mqttcodec.Publish{PacketID: uint16(i + 1), QoS: 1, Topic: "$delayed/60/a", Payload: fmt.Append(nil, expiry)}
			message.Properties.MessageExpirySeconds = mqttcodec.Some(expiry)
			p.send(message)
			expect[*mqttcodec.Puback](p)
		}
		resuming := b.connected("resuming", sessionExpiry(neverExpires))
		resuming.subscribe(1, "#")
		after := b.crash()
		elapse(60*time.Second + 100*time.Second) // both due for 100 s
		b = startOnPipes(t, after, "boot2")
		resuming, _ = b.resumed("resuming", sessionExpiry(neverExpires))
		m := resuming.take1()
		if left := m.Properties.MessageExpirySeconds.Value; string(m.Payload) != "3000" || left < 2895 || left > 2901 {
			t.Errorf("%s came with %d s left, want 3000 with 2900", m.Payload, left)
		}
		if n := b.Stats().Drops()[sessions.DropExpired]; n != 1 {
			t.Errorf("%d messages dropped as expired, want 1", n)
		}
	})
}

func TestDelayedMessagesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		p := b.connected("publisher")
		for i := range sessionstest.MaxDelayed {
			p.publishDelayed("a", 3600, fmt.Sprint(i))
		}
		p.send(&mqttcodec.Publish{PacketID: 1, QoS: 1, Topic: "$delayed/3600/a"})
		if ack := expect[*mqttcodec.Puback](p); ack.Reason != mqttcodec.QuotaExceeded {
			t.Errorf("PUBACK %#x, want %#x", ack.Reason, mqttcodec.QuotaExceeded)
		}
		watcher := b.connected("watcher")
		watcher.subscribe(1, "#")
		elapse(time.Hour)
		for i := range sessionstest.MaxDelayed { // in several batches, in order
			if m := watcher.take1(); string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("%s came, want %d", m.Payload, i)
			}
		}
	})
}

// When the node is killed that publishes delayed messages, others do so, each once: late by a moment until they have noticed.
func TestDelayedMessagesOfALeaderThatDied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a := nodes.start("a")
		elapse(time.Second) // it is the oldest
		b, c := nodes.start("b"), nodes.start("c")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "t")
		a.connected("publisher").publishDelayed("t", 10, "soon", "soon too")
		c.connected("publisher").publishDelayed("t", 120, "later")
		began := time.Now()
		a.kill()
		watcher.takeAll("soon", "soon too")
		if took := time.Since(began); took > 10*time.Second+delayedLate+time.Second {
			t.Errorf("a message came after %v, want 10s", took)
		}
		elapse(time.Until(began.Add(119 * time.Second)))
		watcher.takeAll("later")
		if took := time.Since(began); took > 121*time.Second {
			t.Errorf("the message came after %v, want 120s", took)
		}
		elapse(10 * time.Minute)
		if watcher.waiting() > 0 || len(nodes.storage.DelayedMessages()) > 0 {
			t.Errorf("got %d packets more, %d messages are left", watcher.waiting(), len(nodes.storage.DelayedMessages()))
		}
	})
}

// A node that was stopped while it published a message does not go on with that: another has, and nothing tells duplicates any more.
func TestDelayedMessageOfANodeThatWasStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := newTestCluster(t)
		a := nodes.start("a")
		elapse(time.Second) // it is the oldest
		b := nodes.start("b")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "t")
		b.connected("publisher").publishDelayed("t", 10, "x")
		elapse(9 * time.Second)
		a.stop()
		defer a.goOn()
		elapse(5 * time.Minute)
		watcher.takeAll("x")
		a.goOn()
		elapse(5 * time.Minute)
		if watcher.waiting() > 0 {
			t.Errorf("got %+v, too", watcher.next())
		}
	})
}
