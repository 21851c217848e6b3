package actors

import (
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// A client that is back soon is let in without a write. A kill that comes before the record says that it was there does
// not make its session end any earlier; a shutdown does not make that of one which was away end any later. [MQTT-3.1.2-23]
func TestSessionOfAClientThatIsBackSoonEndsInTime(t *testing.T) {
	aMinute := func(p *mqttcodec.Connect) { p.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(60)) }
	for _, c := range []struct {
		name          string
		back, killed  bool
		after         time.Duration
		stillExpected bool
	}{
		{"back, killed", true, true, 55 * time.Second, true},
		{"back, killed, long ago", true, true, 65 * time.Second, false},
		{"away, shut down", false, false, 15 * time.Second, true},
		{"away, shut down, long ago", false, false, 25 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := sessionstest.New()
				b := startOnPipes(t, storage, "boot-1")
				elapse(700 * time.Millisecond)
				b.connected("c", aMinute).disconnect()
				eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
				elapse(40 * time.Second)
				if c.back {
					storage.Hold(sessionstest.SaveRecord)
					b.resumed("c", aMinute)
				}
				elapse(500 * time.Millisecond) // there is a checkpoint, and no second has passed
				if c.killed {
					storage = b.crash()
				} else {
					b.shutdown()
				}
				b = startOnPipes(t, storage, "boot-2")
				elapse(c.after)
				if _, present := b.resumed("c", aMinute); present != c.stillExpected {
					t.Errorf("session present: %v", present)
				}
			})
		})
	}
}
