package actors

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// A session whose client comes back soon is not read from storage; what was queued is there.
func TestSessionThatRestsIsNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		c := b.connected("c")
		c.subscribe(1, "a")
		c.disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
		b.connected("publisher", clean).publish1("a", "queued")
		storage.Fail(sessions.ErrUnavailable, sessionstest.Read)
		for range 2 {
			c, present := b.resumed("c")
			if !present {
				t.Fatal("the session is gone")
			}
			c.takeAll("queued")
			c.publish1("a", "queued")
			c.takeAll("queued")
			b.connected("publisher", clean).publish1("a", "more")
			c.takeAll("more")
			c.disconnect()
			eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
			b.connected("publisher", clean).publish1("a", "queued")
		}
	})
}

// A session that somebody else changed in storage is found out by the revision with the next write, which is soon, and read again.
func TestSessionThatRestsIsNotTrusted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		b.connected("c").disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
		storage.Fail(sessions.ErrConflict, sessionstest.SaveRecord)
		c := b.client(5)
		c.send(connectPacket(5, "c"))
		c.next() // CONNACK
		if bye, ok := c.next().(*mqttcodec.Disconnect); !ok || bye.Reason != mqttcodec.SessionTakenOver {
			t.Fatalf("got %v", bye)
		}
		c.wantEnd()
		storage.Fail(nil)
		if _, present := b.resumed("c"); !present {
			t.Fatal("the session is gone")
		}
	})
}

// Those that have rested longest are forgotten when there are too many.
func TestRestingSessionsAreBounded(t *testing.T) {
	r := newResting()
	for i := range 2 * maxResting {
		r.put(fmt.Sprint(i), &sessions.Resting{})
		if n := len(r.recent) + len(r.older); n > maxResting {
			t.Fatalf("%d sessions rest", n)
		}
	}
	if r.take("0") != nil || r.take(fmt.Sprint(2*maxResting-1)) == nil || r.take(fmt.Sprint(2*maxResting-1)) != nil {
		t.Error("not those are kept that rested last, until they are taken")
	}
}
