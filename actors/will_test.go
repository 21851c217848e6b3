package actors

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

func sessionExpiry(seconds uint32) func(*mqttcodec.Connect) {
	return func(p *mqttcodec.Connect) { p.Properties.SessionExpirySeconds = mqttcodec.Some(seconds) }
}

const neverExpires = 0xFFFFFFFF

// wantWillAfter waits for one will, which must come this long after a time, and for no other.
func wantWillAfter(t *testing.T, watcher *testClient, left time.Time, due time.Duration) {
	t.Helper()
	elapse(time.Until(left.Add(due)) - time.Second)
	synctest.Wait()
	if due > time.Second && watcher.waiting() > 0 {
		t.Errorf("the will came more than a second before it was due")
	}
	watcher.takeAll("will")
	if took := time.Since(left); took < due || took > due+time.Second {
		t.Errorf("the will came after %v, want %v", took, due)
	}
	elapse(3 * time.Hour)
	synctest.Wait()
	if n := watcher.waiting(); n > 0 {
		t.Errorf("%d packets came behind the will", n)
	}
}

// A will comes after its delay or with the end of its session, whichever is first. [MQTT-3.1.2-8] (3.1.3.2.2) [case 52]
func TestWillIsDueAfterItsDelayOrWithItsSession(t *testing.T) {
	for _, c := range []struct {
		delay, expiry uint32
		due           time.Duration
	}{
		{0, 0, 0},
		{0, 60, 0},
		{0, neverExpires, 0},
		{60, 0, 0}, // and not after its delay
		{neverExpires, 0, 0},
		{30, 60, 30 * time.Second},
		{60, 60, time.Minute},
		{60, 30, 30 * time.Second},
		{neverExpires, 3600, time.Hour},
		{7200, neverExpires, 2 * time.Hour},
	} {
		t.Run(fmt.Sprintf("delay %d expiry %d", c.delay, c.expiry), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot", func(cfg *Config) { cfg.Sessions.MaxExpiry = sessions.Never })
				watcher := b.connected("watcher", sessionExpiry(neverExpires))
				watcher.subscribe(1, "will")
				client := b.connected("client", sessionExpiry(c.expiry), withWill("will", c.delay))
				elapse(100 * time.Second) // it counts from the end of the connection
				left := time.Now()
				client.close()
				wantWillAfter(t, watcher, left, c.due)
			})
		})
	}
}

// A client that is back before the delay is over has left no will; the next connection's delay begins anew.
// [MQTT-3.1.3-9] [case 53]
func TestClientThatIsBackInTimeHasLeftNoWill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "will")
		for range 5 {
			client := b.connected("client", withWill("will", 60))
			client.close()
			elapse(59 * time.Second)
		}
		client := b.connected("client", withWill("will", 60))
		elapse(time.Hour)
		synctest.Wait()
		if n := watcher.waiting(); n > 0 {
			t.Fatalf("%d packets came, though the client was always back in time", n)
		}
		left := time.Now()
		client.close()
		wantWillAfter(t, watcher, left, time.Minute)
	})
}

// A will whose delay runs while the node goes down, whether in good order or not, is sent when it is due, or at the start
// if it was due before; once, however many starts there are. [MQTT-3.1.2-8] [case 58] [case 192]
func TestDelayedWillIsSentAfterARestart(t *testing.T) {
	for _, c := range []struct {
		name  string
		crash bool
		down  time.Duration
		due   time.Duration
	}{
		{"stopped", false, 20 * time.Second, 100 * time.Second},
		{"stopped and down for long", false, 300 * time.Second, 300 * time.Second},
		{"killed", true, 20 * time.Second, 100 * time.Second},
		{"killed and down for long", true, 300 * time.Second, 300 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot-1")
				b.connected("watcher").subscribe(1, "will")
				client := b.connected("client", withWill("will", 100))
				elapse(10 * time.Second)
				left := time.Now()
				client.close()
				elapse(5 * time.Second)
				storage := b.storage
				restart := func(boot string, down time.Duration) {
					if c.crash {
						storage = b.crash()
					} else {
						b.shutdown()
					}
					elapse(down)
					b = startOnPipes(t, storage, boot)
				}
				restart("boot-2", c.down-5*time.Second)
				elapse(time.Second)
				restart("boot-3", 0)
				watcher, present := b.resumed("watcher")
				if !present {
					t.Fatal("the watcher's session is gone")
				}
				elapse(time.Until(left.Add(c.due)) - 5*time.Second)
				watcher.takeAll("will")
				if took := time.Since(left); took < c.due || took > c.due+2*time.Second {
					t.Errorf("the will came after %v, want %v", took, c.due)
				}
				elapse(5 * time.Second)
				restart("boot-4", time.Second)
				elapse(10 * time.Minute)
				if got := payloads(storage); len(got) != 1 {
					t.Errorf("wills sent: %v", got)
				}
			})
		})
	}
}

// What a will carries survives the restart, and its expiry counts from when it is published. [MQTT-3.1.3-10] [case 60] [case 61]
func TestWillIsWholeAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		will := &mqttcodec.Will{
			Topic: "will", Payload: []byte{0, 0xFF, '"'}, QoS: 2, Retain: true, DelaySeconds: 100,
			Properties: mqttcodec.MessageProperties{
				PayloadFormat: mqttcodec.Some(byte(0)), MessageExpirySeconds: mqttcodec.Some(uint32(30)), ContentType: mqttcodec.Some("<\u2028>"),
				ResponseTopic: "r/\u00fc", CorrelationData: []byte{},
				UserProperties: []mqttcodec.UserProperty{{Key: "b", Value: "\x01"}, {Key: "a", Value: ""}, {Key: "b", Value: "\x01"}},
			},
		}
		b.connected("client", func(p *mqttcodec.Connect) { p.Will = will }).close()
		elapse(5 * time.Second)
		b = startOnPipes(t, b.crash(), "boot-2")
		watcher := b.connected("watcher")
		watcher.subscribe(1, "will")
		elapse(90 * time.Second)
		want := mqttcodec.Publish{PacketID: 1, QoS: 1, Topic: will.Topic, Payload: will.Payload, Properties: will.Properties}
		if got := watcher.take1(); fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", want) {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}
		elapse(25 * time.Second)
		late := b.connected("late")
		late.subscribe(1, "will")
		got := late.take1()
		if left := got.Properties.MessageExpirySeconds; !got.Retain || left.Value < 4 || left.Value > 6 {
			t.Errorf("retained %v, %d seconds left", got.Retain, left.Value)
		}
		elapse(6 * time.Second)
		late.subscribe(1, "will")
		synctest.Wait()
		if n := late.waiting(); n > 0 {
			t.Error("the retained will outlives its expiry")
		}
	})
}
