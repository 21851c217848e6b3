package actors

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// Every client is told, every session is flushed, and nothing is left.
func TestShutdownFlushesAThousandSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		const n = 1000
		clients := make([]*testClient, n)
		for i := range clients {
			c := b.client(mqttcodec.V5)
			clients[i] = c
			if i%2 == 0 {
				c.send(connectPacket(mqttcodec.V5, fmt.Sprint("client ", i)))
			} else {
				c.send(connectPacket(mqttcodec.V5, fmt.Sprint("client ", i), clean))
			}
			expect[*mqttcodec.Connack](c)
		}
		clients[0].subscribe(1, "a")
		start := time.Now()
		b.shutdown()
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		synctest.Wait()
		for i, c := range clients {
			if p := expect[*mqttcodec.Disconnect](c); p.Reason != mqttcodec.ServerShuttingDown {
				t.Fatalf("client %d: DISCONNECT has reason %#x", i, p.Reason)
			}
			c.wantEnd()
			record := storage.Record(fmt.Sprint("client ", i))
			if (record != nil) != (i%2 == 0) {
				t.Fatalf("client %d has the record %q", i, record)
			}
			if record == nil {
				continue
			}
			if r, err := sessions.DecodeRecord(record); err != nil || r.DetachedAt == nil {
				t.Fatalf("client %d: the record %s does not say when it was left (%v)", i, record, err)
			}
		}
		if live, open := b.directory.live.Load(), b.Stats().Connections(); live != 0 || open != 0 {
			t.Fatalf("%d session actors and %d connections are left", live, open)
		}
	})
}

func TestConnectDuringShutdownDoesNotDelayIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		b.connected("slow")
		late := b.client(mqttcodec.V5)
		storage.Hold(sessionstest.SaveRecord)
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			done <- b.Shutdown(ctx)
		}()
		b.ended = true
		synctest.Wait()
		late.send(connectPacket(mqttcodec.V5, "late"))
		if p := expect[*mqttcodec.Connack](late); !p.Reason.Failed() {
			t.Errorf("CONNACK has reason %#x", p.Reason)
		}
		start := time.Now()
		storage.Release(sessionstest.SaveRecord)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		b.connected("stuck")
		storage.Hold(sessionstest.SaveRecord)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		start := time.Now()
		b.ended = true
		if err := b.Shutdown(ctx); err == nil {
			t.Error("no error, though a session was not flushed")
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A will is not sent because the node goes down for a while. (3.1.2.5)
func TestShutdownKeepsWillsForTheNextStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot-1")
		b.connected("c", func(p *mqttcodec.Connect) { p.Will = &mqttcodec.Will{Topic: "will", QoS: 1} })
		b.shutdown()
		if n := len(storage.Entries()); n != 0 {
			t.Fatalf("%d messages are in the log", n)
		}
		startOnPipes(t, storage, "boot-2")
		elapse(time.Second)
		if n := len(storage.Entries()); n != 1 {
			t.Fatalf("after the next start %d messages are in the log, want the will", n)
		}
	})
}

// Nothing is awaited from clients that do not read.
func TestShutdownDoesNotWaitForClientsThatDoNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		c := b.connected("c")
		c.pause()
		c.send(&mqttcodec.Pingreq{})
		synctest.Wait()
		c.send(&mqttcodec.Pingreq{})
		start := time.Now()
		b.shutdown()
		if took := time.Since(start); took > 3*time.Second {
			t.Fatalf("it took %v", took)
		}
	})
}
