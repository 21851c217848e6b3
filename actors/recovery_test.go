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

func withWill(payload string, delaySeconds uint32) func(*mqttcodec.Connect) {
	return func(p *mqttcodec.Connect) {
		p.Will = &mqttcodec.Will{Topic: "will", Payload: []byte(payload), QoS: 1, DelaySeconds: delaySeconds}
	}
}

// boots are the boots that have a checkpoint.
func boots(t *testing.T, s *sessionstest.Storage) []string {
	t.Helper()
	checkpoints, err := s.Store().Checkpoints(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	var boots []string
	for _, c := range checkpoints {
		boots = append(boots, c.Boot)
	}
	return boots
}

func TestStartSettlesTheSessionsOfADeadBoot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		for i := range 300 { // more than are settled at a time
			c := b.client(mqttcodec.V5)
			c.send(connectPacket(mqttcodec.V5, fmt.Sprint("client ", i)))
			expect[*mqttcodec.Connack](c)
		}
		b.connected("queued").subscribe(1, "a")
		elapse(1500 * time.Millisecond)
		storage := b.crash()
		if got := boots(t, storage); len(got) != 1 {
			t.Fatalf("checkpoints of %v", got)
		}
		elapse(time.Minute)

		b = startOnPipes(t, storage, "boot-2")
		eventually(t, "checkpoint of the dead boot is deleted", func() bool {
			got := boots(t, storage)
			return len(got) == 1 && got[0] == "boot-2"
		})
		if n := b.directory.live.Load(); n != 0 {
			t.Errorf("%d session actors are left", n)
		}
		for i := range 300 {
			r, err := sessions.DecodeRecord(storage.Record(fmt.Sprint("client ", i)))
			if err != nil || r.Owner != "boot-2" || r.DetachedAt == nil {
				t.Fatalf("client %d is not settled: %+v, %v", i, r, err)
			}
			if left := time.Since(*r.DetachedAt); left < time.Minute || left > 62*time.Second {
				t.Fatalf("client %d counts as left %v ago: not since its node's last sign of life", i, left)
			}
		}
		eventually(t, "the session with subscriptions has its queue", func() bool { return storage.QueueOpens("queued") > 0 })
	})
}

func TestWillsOfADeadBootAreSentOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		b.connected("now", withWill("now", 0))
		b.connected("later", withWill("later", 600))
		b.connected("clean", clean, withWill("clean", 0))
		sent := b.connected("sent", withWill("sent", 0))
		b.connected("none").disconnect()
		elapse(1500 * time.Millisecond)
		b.storage.Hold(sessionstest.SaveRecord) // the will gets into the log and not out of the record
		sent.close()
		eventually(t, "the will is stored", func() bool { return len(b.storage.Entries()) == 1 })
		storage := b.crash()

		for _, boot := range []string{"boot-2", "boot-3"} {
			b = startOnPipes(t, storage, boot)
			elapse(30 * time.Second)
			if got := payloads(storage); len(got) != 3 || got[0] != "sent" {
				t.Fatalf("after %s the log has the wills %v, want sent, clean and now", boot, got)
			}
			if storage.Record("clean") != nil {
				t.Fatalf("after %s there is a record of a session that ended with its connection", boot)
			}
			storage = b.crash()
		}
		startOnPipes(t, storage, "boot-4")
		elapse(10 * time.Minute)
		if got := payloads(storage); len(got) != 4 || got[3] != "later" {
			t.Fatalf("the log has the wills %v, want later as the fourth", got)
		}
	})
}

func payloads(s *sessionstest.Storage) []string {
	var list []string
	for _, e := range s.Entries() {
		list = append(list, string(e.Message.Payload))
	}
	return list
}

// What the log holds of a QoS 2 message and the journal does not is not taken again. [MQTT-4.3.3-10] [case 82]
func TestQoS2MessageInTheLogIsNotTakenAgainAfterACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		c := b.connected("c")
		b.connected("other").publish1("x", "so that the log is not empty")
		elapse(1500 * time.Millisecond)
		b.storage.Hold(sessionstest.SaveJournal)
		publish := &mqttcodec.Publish{QoS: 2, PacketID: 9, Topic: "a", Payload: []byte("once")}
		c.send(publish)
		eventually(t, "the message is stored", func() bool { return len(b.storage.Entries()) == 2 })
		elapse(5 * time.Second) // checkpoints are written, none behind the message
		synctest.Wait()
		if c.waiting() > 0 {
			t.Fatalf("got %#v before the journal was durable", c.received())
		}
		storage := b.crash()

		// The next boot dies before it has settled anything.
		storage.Hold(sessionstest.SaveJournal, sessionstest.SaveRecord)
		b = startOnPipes(t, storage, "boot-2")
		early := b.client(mqttcodec.V5)
		early.send(connectPacket(mqttcodec.V5, "c"))
		elapse(5 * time.Second)
		storage = b.crash()

		b = startOnPipes(t, storage, "boot-3")
		c, present := b.resumed("c")
		if !present {
			t.Fatal("the session is gone")
		}
		again := *publish
		again.Duplicate = true
		c.send(&again)
		expect[*mqttcodec.Pubrec](c)
		c.send(&mqttcodec.Pubrel{PacketID: 9})
		expect[*mqttcodec.Pubcomp](c)
		if got := payloads(storage); len(got) != 2 {
			t.Fatalf("the log has %v", got)
		}
		c.send(&mqttcodec.Publish{QoS: 2, PacketID: 9, Topic: "a", Payload: []byte("another")})
		expect[*mqttcodec.Pubrec](c)
		if got := payloads(storage); len(got) != 3 {
			t.Fatalf("a new message under the same identifier was not taken: %v", got)
		}
	})
}

// What waited in a window's shadow when the node died comes again.
func TestBacklogOfALiveSessionSurvivesACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		b.connected("c").subscribe(1, "a")
		b.connected("c").disconnect()
		publisher := b.connected("publisher")
		publisher.publish1("a", "1", "2", "3", "4", "5", "6", "7")
		elapse(900 * time.Millisecond)
		c := b.connected("c", receiveMaximum(5))
		for range 5 { // and none is acknowledged
			expect[*mqttcodec.Publish](c)
		}
		for range 40 { // whenever it dies
			elapse(50 * time.Millisecond)
			storage := b.storage.Crash()
			b.crash()
			b = startOnPipes(t, storage, "boot-"+time.Now().String())
			c = b.connected("c", receiveMaximum(5))
			for i := range 5 {
				if p := expect[*mqttcodec.Publish](c); string(p.Payload) != fmt.Sprint(i+1) {
					t.Fatalf("got %q, want %d", p.Payload, i+1)
				}
			}
		}
	})
}

func TestRetainedMessagesAboveTheCheckpointReachTheBucketAfterACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		c := b.connected("c")
		retain := func(topic, payload string) {
			t.Helper()
			c.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: topic, Payload: []byte(payload), Retain: true})
			expect[*mqttcodec.Puback](c)
		}
		retain("a", "old")
		retain("gone", "old")
		elapse(2500 * time.Millisecond)
		b.storage.Hold(sessionstest.PutRetained)
		retain("a", "new")
		retain("b", "new")
		retain("gone", "")
		elapse(2500 * time.Millisecond)
		storage := b.crash()
		if e, ok := storage.RetainedMessage("a"); !ok || string(e.Message.Payload) != "old" {
			t.Fatalf("the bucket has %v", e.Message)
		}

		b = startOnPipes(t, storage, "boot-2")
		c = b.connected("reader")
		c.subscribe(1, "#")
		got := map[string]string{}
		for range 2 {
			p := c.take1()
			got[p.Topic] = string(p.Payload)
		}
		if got["a"] != "new" || got["b"] != "new" {
			t.Fatalf("retained messages are %v", got)
		}
		eventually(t, "the bucket is made good", func() bool {
			a, _ := storage.RetainedMessage("a")
			b, _ := storage.RetainedMessage("b")
			_, gone := storage.RetainedMessage("gone")
			return a.Message != nil && b.Message != nil && string(a.Message.Payload) == "new" && string(b.Message.Payload) == "new" && !gone
		})
	})
}

// A retained message from a log that is gone is replaced by the next one of its topic, though that log counts from 1.
func TestRetainedMessagesOutliveTheirLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		c := b.connected("c")
		retain := func(topic, payload string) {
			t.Helper()
			c.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: topic, Payload: []byte(payload), Retain: true})
			expect[*mqttcodec.Puback](c)
		}
		for range 10 {
			retain("a", "old")
			retain("b", "old")
		}
		elapse(5 * time.Second)
		b.shutdown()
		b.storage.ReplaceLog()
		for _, want := range []string{"new", "newer"} {
			b = startOnPipes(t, b.storage, "boot-"+want)
			c = b.connected("c", clean)
			retain("a", want)
			c.subscribe(1, "+")
			got := map[string]string{}
			for range 2 {
				p := c.take1()
				got[p.Topic] = string(p.Payload)
			}
			if got["a"] != want || got["b"] != "old" {
				t.Fatalf("retained are %v, want a=%s b=old", got, want)
			}
			elapse(5 * time.Second)
			b.shutdown()
		}
	})
}

// Offline sessions come to their end and their wills are sent though nobody connects.
func TestSessionsEndWhileNobodyIsThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot-1")
		short := func(p *mqttcodec.Connect) { p.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(300)) }
		c := b.connected("c", short, withWill("late", 3600))
		c.subscribe(1, "a")
		c.close()
		elapse(100 * time.Second)
		if storage.Record("c") == nil {
			t.Fatal("the session ended early")
		}
		b.shutdown()
		b = startOnPipes(t, storage, "boot-2")
		elapse(190 * time.Second)
		if storage.Record("c") == nil || len(storage.Entries()) > 0 {
			t.Fatal("the session ended early")
		}
		elapse(15 * time.Second)
		if storage.Record("c") != nil {
			t.Fatal("the session did not end")
		}
		if got := payloads(storage); len(got) != 1 {
			t.Fatalf("wills sent: %v", got)
		}
		if n := len(storage.QueueNames()); n != 0 {
			t.Fatalf("%d queues are left", n)
		}
		if _, present := b.resumed("c"); present {
			t.Fatal("the session is back")
		}
	})
}

// A record that nobody can read costs its client the session, not the node its start. [case 186]
func TestDamagedRecordIsPassedOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		done := make(resultChan, 1)
		storage.Store().SaveRecord("c", []byte("{"), 0, sessions.AtOnce, done, 1)
		<-done
		b := startOnPipes(t, storage, "boot")
		if b.logged.count("session record passed over") != 1 {
			t.Error("the log does not tell")
		}
		c, present := b.resumed("c")
		if present {
			t.Fatal("a session was found in a damaged record")
		}
		c.subscribe(1, "a")
		b.connected("other").publish1("a", "works") // c would get it before or behind its PUBACK
		c.takeAll("works")
	})
}

// resultChan is a sink to read from.
type resultChan chan sessions.Result

func (c resultChan) Stored(r sessions.Result) { c <- r }

// A log that is made anew under a running broker is noticed: positions mean nothing any more until a start finds them.
func TestLogMadeAnewEndsTheBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		c := b.connected("c")
		c.publish1("a", "in the old log")
		elapse(time.Second) // virtual: the new log's message is younger
		storage.ReplaceLog()
		c.publish1("a", "in the new log")
		<-b.Failed()
		if err := b.Err(); err == nil || !strings.Contains(err.Error(), "made anew") {
			t.Errorf("the broker failed with %v", err)
		}
		b.crash()
	})
}
