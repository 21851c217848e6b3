package actors

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// All sessions of a boot that has gone may be wanted at once: they share the readings of the log that each of them would need. One
// that is asked for later finds what was stored later.
func TestSessionsOfBootShareReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot")
		elapse(time.Second / 2)
		append1 := func(id string) {
			stored := make(resultChan, 1)
			storage.Log().Append(&sessions.Message{Topic: "t", QoS: 2}, id, stored, 0)
			if r := <-stored; r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		append1("early/1/1")
		l := newLegacy(b.Broker, sessions.Checkpoint{Boot: "gone", Time: time.Now()})
		var reads atomic.Int64
		storage.Latency(func(o sessionstest.Operation) time.Duration {
			if o.Kind != sessionstest.Read {
				return 0
			}
			reads.Add(1)
			return time.Millisecond
		})
		want := func(incarnation string, ids ...string) {
			t.Helper()
			r, err := l.recovery(t.Context(), incarnation)
			if err != nil || fmt.Sprint(r.IDs) != fmt.Sprint(ids) {
				t.Errorf("of %s is known %q (%v), want %q", incarnation, r.IDs, err, ids)
			}
		}
		const atOnce = 100
		var asking sync.WaitGroup
		for range atOnce {
			asking.Go(func() { want("early", "early/1/1") })
		}
		asking.Wait()
		if n := reads.Load(); n > atOnce/10 {
			t.Errorf("%d sessions at once took %d reads", atOnce, n)
		}
		append1("late/1/1")
		want("late", "late/1/1")

		storage.Latency(func(sessionstest.Operation) time.Duration { return time.Minute })
		go want("early", "early/1/1") // it reads
		elapse(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.recovery(ctx, "early"); ctx.Err() == nil || err == nil {
			t.Errorf("who waits for a reading does not give up in time: %v", err)
		}
		storage.Latency(nil)
		elapse(2 * time.Minute)
	})
}
