package actors

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

func TestPubackWaitsForStorage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		c := b.connected("c")
		storage.Hold(sessionstest.Append)
		c.send(&mqttcodec.Publish{QoS: 1, PacketID: 7, Topic: "a"}, &mqttcodec.Pingreq{})
		expect[*mqttcodec.Pingresp](c)
		elapse(30 * time.Second)
		synctest.Wait()
		if n := c.waiting(); n > 0 {
			t.Fatalf("%d packets came before storage answered", n)
		}
		storage.Release(sessionstest.Append)
		if p := expect[*mqttcodec.Puback](c); p.PacketID != 7 {
			t.Fatalf("PUBACK for %d", p.PacketID)
		}
	})
}

// While storage does not answer nothing is acknowledged, the client is heard up to the inbound bound, and everything is
// stored in order when storage is back.
func TestOutageHoldsAcknowledgementsAndKeepsTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", func(cfg *Config) { cfg.InboundMessages = 20 })
		c := b.connected("c")
		storage.Fail(sessions.ErrUnavailable, sessionstest.Append)
		var want []string
		for i := range 10 {
			want = append(want, fmt.Sprint(i))
			c.send(&mqttcodec.Publish{QoS: 1, PacketID: uint16(i + 1), Topic: "a", Payload: []byte(want[i])})
		}
		elapse(3 * time.Second)
		c.send(&mqttcodec.Pingreq{})
		expect[*mqttcodec.Pingresp](c)
		sent := make(chan int, 1)
		go func() { // past the bound the broker stops reading
			n := 0
			for i := 10; i < 100; i++ {
				_ = c.socket.SetWriteDeadline(time.Now().Add(5 * time.Second))
				if _, err := c.socket.Write(c.encode(&mqttcodec.Publish{QoS: 1, PacketID: uint16(i + 1), Topic: "a", Payload: fmt.Append(nil, i)})); err != nil {
					break
				}
				n++
			}
			sent <- n
		}()
		n := <-sent
		if n < 10 || n > 12 {
			t.Fatalf("the broker took %d messages more than 10, its bound is 20", n)
		}
		if c.waiting() > 0 {
			t.Fatalf("%d packets came while storage was away", c.waiting())
		}
		storage.Fail(nil)
		for i := range 10 + n {
			if p := expect[*mqttcodec.Puback](c); int(p.PacketID) != i+1 || p.Reason != mqttcodec.Success {
				t.Fatalf("PUBACK %+v instead of that for %d", p, i+1)
			}
		}
		var stored []string
		for _, e := range storage.Entries() {
			stored = append(stored, string(e.Message.Payload))
		}
		if got := strings.Join(stored[:10], " "); got != strings.Join(want, " ") {
			t.Fatalf("stored %v", stored)
		}
	})
}

// A message whose PubAck was lost is stored again: twice is allowed at QoS 1, disorder is not.
func TestLostPubAcksCauseNoDisorder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		receiver, c := b.connected("receiver"), b.connected("c")
		receiver.subscribe(1, "a")
		asked := 0
		storage.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
			if o.Kind == sessionstest.Append {
				if asked++; asked == 2 {
					return sessionstest.Outcome{Err: sessions.ErrUnavailable, Stored: true}
				}
			}
			return sessionstest.Outcome{}
		})
		var packets []mqttcodec.Packet
		for i := range 5 {
			packets = append(packets, &mqttcodec.Publish{QoS: 1, PacketID: uint16(i + 1), Topic: "a", Payload: fmt.Append(nil, i)})
		}
		c.send(packets...)
		for i := range 5 {
			if p := expect[*mqttcodec.Puback](c); int(p.PacketID) != i+1 {
				t.Fatalf("PUBACK for %d instead of %d", p.PacketID, i+1)
			}
		}
		receiver.takeAll("0", "1", "2", "3", "4", "1", "2", "3", "4")
	})
}

// At QoS 2 the message that was stored without an answer is not stored again.
func TestLostPubAckAtQoS2StoresOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		c := b.connected("c")
		storage.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
			if o.Kind == sessionstest.Append {
				return sessionstest.Outcome{Err: sessions.ErrUnavailable, Stored: true}
			}
			return sessionstest.Outcome{}
		})
		c.send(&mqttcodec.Publish{QoS: 2, PacketID: 1, Topic: "a"})
		elapse(3 * time.Second)
		storage.Fail(nil)
		expect[*mqttcodec.Pubrec](c)
		if n := len(storage.Entries()); n != 1 {
			t.Fatalf("stored %d times", n)
		}
	})
}

func TestRejectedMessageIsToldToTheClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		c := b.connected("c")
		storage.Fail(sessions.ErrRejected, sessionstest.Append)
		c.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "a"})
		if p := expect[*mqttcodec.Puback](c); p.Reason != mqttcodec.QuotaExceeded {
			t.Fatalf("PUBACK has reason %#x", p.Reason)
		}
		if n := b.Stats().Drops()[sessions.DropNotStored]; n != 1 {
			t.Fatalf("%d messages are counted as not stored", n)
		}
	})
}

// A write of a session that finds another revision means that somebody else has the session: it is given up here.
func TestConflictFencesTheSession(t *testing.T) {
	for _, failure := range []error{sessions.ErrConflict, sessions.ErrUnavailable} {
		t.Run(failure.Error(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := sessionstest.New()
				b := startOnPipes(t, storage, "boot")
				c := b.connected("c")
				c.subscribe(1, "a")
				storage.Fail(failure, sessionstest.SaveRecord)
				c.send(&mqttcodec.Subscribe{PacketID: 2, Requests: []mqttcodec.SubscriptionRequest{{Filter: "b"}}})
				p := expect[*mqttcodec.Disconnect](c)
				if want := map[error]mqttcodec.ReasonCode{
					sessions.ErrConflict: mqttcodec.SessionTakenOver, sessions.ErrUnavailable: mqttcodec.ServerUnavailable,
				}[failure]; p.Reason != want && !errors.Is(failure, sessions.ErrUnavailable) {
					t.Fatalf("DISCONNECT has reason %#x", p.Reason)
				}
				c.wantEnd()
				storage.Fail(nil)
				c, present := b.resumed("c")
				if !present {
					t.Fatal("the session is gone")
				}
				c.publish1("a", "as before")
				c.takeAll("as before")
			})
		})
	}
}

// A CONNECT is refused while the session cannot be read, as it has to be after a start, and let in when it can.
func TestConnectIsRefusedWhileTheSessionCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		b.connected("c").disconnect()
		b.shutdown()
		b = startOnPipes(t, storage, "boot2")
		storage.Fail(sessions.ErrUnavailable, sessionstest.Read)
		c := b.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "c"))
		if p := expect[*mqttcodec.Connack](c); p.Reason != mqttcodec.ServerUnavailable {
			t.Fatalf("CONNACK has reason %#x", p.Reason)
		}
		c.wantEnd()
		storage.Fail(nil)
		if _, present := b.resumed("c"); !present {
			t.Fatal("the session is gone")
		}
	})
}

// A SUBSCRIBE pipelined behind a CONNECT that has to go to another actor is not lost in silence: the connection works, or ends.
func TestPacketsBehindAConnectThatIsHandedOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		first := b.connected("c")
		storage.Hold(sessionstest.SaveRecord)
		first.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "a"}}})
		synctest.Wait()
		second := b.client(mqttcodec.V5)
		second.send(connectPacket(mqttcodec.V5, "c"), &mqttcodec.Subscribe{PacketID: 2, Requests: []mqttcodec.SubscriptionRequest{{Filter: "b"}}})
		synctest.Wait()
		storage.Fail(sessions.ErrConflict, sessionstest.SaveRecord)
		storage.Release(sessionstest.SaveRecord)
		synctest.Wait()
		storage.Fail(nil)
		elapse(20 * time.Second)
		synctest.Wait()
		got := second.received()
		answered := false
		for _, p := range got {
			if ack, ok := p.(*mqttcodec.Suback); ok && ack.PacketID == 2 {
				answered = true
			}
		}
		if !answered && !second.hasEnded() {
			t.Fatalf("the connection is open and its SUBSCRIBE unanswered; it got %#v", got)
		}
	})
}
