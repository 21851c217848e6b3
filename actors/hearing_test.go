package actors

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// What a client has sent on one connection is carried out before it is let in on the next, by TCP and by WebSocket: its
// message is delivered, and its DISCONNECT withdraws the will. [MQTT-3.1.2-10] [3.1.1 MQTT-3.1.2-10] [case 51]
func TestConnectionIsHeardOutBeforeTheNext(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *testBroker{
		"TCP": func(t *testing.T) *testBroker {
			return startOnSockets(t, sessionstest.New(), "boot", func(c *Config) { c.ConnectRate = 1000 })
		},
		"WebSocket": func(t *testing.T) *testBroker {
			return startOnWebSockets(t, func(c *Config) { c.ConnectRate = 1000 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			watcher := b.connected("watcher")
			watcher.subscribe(0, "#")
			for i := range 100 {
				c := b.client(mqttcodec.V5)
				c.send(connectPacket(mqttcodec.V5, "c", withWill("will", 0)))
				expect[*mqttcodec.Connack](c)
				c.send(&mqttcodec.Publish{Topic: "a", Payload: fmt.Append(nil, i)})
				c.send(&mqttcodec.Disconnect{})
			}
			for i := range 100 {
				watcher.takeAll(fmt.Sprint(i)) // and no will
			}
		})
	}
}

// So it is also when the first connection had not got its CONNACK yet. [case 23]
func TestConnectionIsLetInAndHeardOutBeforeTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		watcher := b.connected("watcher")
		watcher.subscribe(0, "#")
		storage.Hold(sessionstest.SaveRecord)
		first, second := b.client(mqttcodec.V5), b.client(mqttcodec.V5)
		first.send(connectPacket(mqttcodec.V5, "c", sessionExpiry(60), withWill("will", 0)))
		first.send(&mqttcodec.Publish{Topic: "a", Payload: []byte("1")}, &mqttcodec.Disconnect{})
		second.send(connectPacket(mqttcodec.V5, "c", sessionExpiry(60)))
		synctest.Wait()
		storage.Release(sessionstest.SaveRecord)
		if ack := expect[*mqttcodec.Connack](second); !ack.SessionPresent {
			t.Error("the first connection was not let in")
		}
		watcher.takeAll("1")
		second.send(&mqttcodec.Publish{Topic: "a", Payload: []byte("2")})
		watcher.takeAll("2") // and no will
	})
}

// What a client sends behind its CONNECT, while the connection before is heard out, is carried out behind it. (3.1.4) [case 23]
func TestPacketsBehindConnectWaitWithIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		b.connected("c")
		second := b.client(mqttcodec.V5)
		second.send(connectPacket(mqttcodec.V5, "c"))
		synctest.Wait()
		second.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "a"})
		second.send(&mqttcodec.Publish{QoS: 1, PacketID: 2, Topic: "a"})
		expect[*mqttcodec.Connack](second)
		for id := range uint16(2) {
			if ack := expect[*mqttcodec.Puback](second); ack.PacketID != id+1 {
				t.Fatalf("got %+v", ack)
			}
		}
	})
}

// A connection that says nothing keeps the next one waiting for a moment, and one that cannot be heard, since storage does
// not take what it sends, not for long. [MQTT-3.1.4-3] [case 195]
func TestNextConnectionDoesNotWaitLong(t *testing.T) {
	for _, c := range []struct {
		name  string
		fail  error
		takes time.Duration
	}{
		{"silent", nil, hearingTime},
		{"storage is away", sessions.ErrUnavailable, hearingLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := sessionstest.New()
				b := startOnPipes(t, storage, "boot", func(cfg *Config) { cfg.InboundMessages = 1 })
				first := b.connected("c")
				if c.fail != nil {
					storage.Fail(c.fail, sessionstest.Append)
					first.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "a"})
					synctest.Wait()
				}
				second := b.client(mqttcodec.V5)
				start := time.Now()
				second.send(connectPacket(mqttcodec.V5, "c"))
				expect[*mqttcodec.Connack](second)
				if took := time.Since(start); took < c.takes || took > c.takes+200*time.Millisecond {
					t.Errorf("CONNACK came after %v", took)
				}
				if bye := expect[*mqttcodec.Disconnect](first); bye.Reason != mqttcodec.SessionTakenOver {
					t.Errorf("got %+v", bye)
				}
				storage.Fail(nil)
			})
		})
	}
}

// A hearing ends when nothing has come for a while, however much came before, and leaves no deadline behind. A deadline that
// is set meanwhile is that of who set it.
func TestSocketIsHeardOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &audible{Conn: ours}
		read := make(chan string)
		go func() {
			b := make([]byte, 10)
			for {
				n, err := s.Read(b)
				if read <- string(b[:n]); err != nil {
					read <- err.Error()
					close(read)
					return
				}
			}
		}()
		heard := make(chan time.Time, 1)
		s.hearOut(func() { heard <- time.Now() })
		start := time.Now()
		go func() { _, _ = theirs.Write([]byte("late")) }()
		if got := <-read; got != "late" {
			t.Fatalf("read %q", got)
		}
		if took := (<-heard).Sub(start); took != hearingTime {
			t.Fatalf("heard out after %v", took)
		}
		elapse(time.Hour)
		go func() { _, _ = theirs.Write([]byte("later")) }()
		if got := <-read; got != "later" {
			t.Fatalf("read %q", got)
		}
		s.hearOut(func() { t.Error("heard out though there was a deadline") })
		if err := s.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := <-read + <-read; !strings.HasSuffix(got, os.ErrDeadlineExceeded.Error()) {
			t.Fatalf("got %q", got)
		}
	})
}
