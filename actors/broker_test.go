package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

func TestMessageGoesFromPublisherToSubscriber(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		subscriber, publisher := b.connected("subscriber"), b.connected("publisher")
		subscriber.subscribe(1, "a/+")
		publisher.publish1("a/b", "one", "two")
		subscriber.takeAll("one", "two")
		publisher.send(&mqttcodec.Publish{Topic: "a/b", Payload: []byte("zero")})
		subscriber.takeAll("zero")
	})
}

func TestSessionIsResumedWithWhatCameMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		subscriber, publisher := b.connected("subscriber"), b.connected("publisher")
		subscriber.subscribe(1, "#")
		subscriber.disconnect()
		eventually(t, "the session is let go", func() bool { return b.directory.parked("subscriber") })
		publisher.publish1("a", "one", "two", "three")
		subscriber, present := b.resumed("subscriber")
		if !present {
			t.Fatal("the session was not there")
		}
		subscriber.takeAll("one", "two", "three")
		publisher.publish1("a", "four")
		subscriber.takeAll("four")
	})
}

// A silent client is taken for gone after one and a half times its keep alive. [MQTT-3.1.2-22] [case 29]
func TestSilentClientIsGoneAfterItsKeepAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		start := time.Now()
		c := b.connected("c", func(p *mqttcodec.Connect) { p.KeepAliveSeconds = 60 })
		elapse(80 * time.Second)
		c.send(&mqttcodec.Pingreq{})
		expect[*mqttcodec.Pingresp](c)
		elapse(89 * time.Second)
		synctest.Wait()
		if c.hasEnded() {
			t.Fatal("the client was taken for gone before its time")
		}
		if p := expect[*mqttcodec.Disconnect](c); p.Reason != mqttcodec.KeepAliveTimeout {
			t.Fatalf("DISCONNECT has reason %#x", p.Reason)
		}
		c.wantEnd()
		if took := time.Since(start); took > 171*time.Second {
			t.Fatalf("it took %v", took)
		}
	})
}
