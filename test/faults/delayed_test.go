package faults

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// delayer publishes delayed messages, and repeats none.
type delayer struct {
	sent  int
	acked map[string]bool
}

// run publishes until the broker dies.
func (d *delayer) run(t *testing.T, address string, random *rand.Rand) {
	r, err := harness.DialRaw(t, address, mqttcodec.V5)
	if err != nil {
		return
	}
	defer r.Drop()
	if r.TrySend(harness.CleanConnect(mqttcodec.V5, "delayer")) != nil {
		return
	}
	if _, err := r.TryRead(); err != nil {
		return
	}
	unacknowledged := map[uint16]string{}
	for id := uint16(1); ; id++ {
		payload := fmt.Sprint(d.sent)
		d.sent++
		unacknowledged[id] = payload
		p := &mqttcodec.Publish{Topic: fmt.Sprintf("$delayed/%d/k9/delayed", 1+random.IntN(2)), QoS: 1, PacketID: id, Payload: []byte(payload)}
		if r.TrySend(p) != nil {
			return
		}
		if id%32 != 0 {
			continue
		}
		harness.Wait(5 * time.Millisecond) // no more than become due, or the broker refuses what is too much
		for len(unacknowledged) > 0 {
			packet, err := r.TryRead()
			if err != nil {
				return
			}
			if ack, ok := packet.(*mqttcodec.Puback); ok {
				if ack.Reason.Failed() {
					t.Errorf("PUBACK %#x", ack.Reason)
				} else {
					d.acked[unacknowledged[ack.PacketID]] = true
				}
				delete(unacknowledged, ack.PacketID)
			}
		}
	}
}

// A broker that is killed while messages become due publishes each that was acknowledged, once.
func TestKill9WhileMessagesBecomeDue(t *testing.T) {
	rounds, seed := environment(t)
	random := rand.New(rand.NewPCG(seed, 1))
	b := harness.Start(t, harness.WithNATS(), harness.Set("storage.max_bytes", "1GiB"))
	d := &delayer{acked: map[string]bool{}}
	for range rounds {
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.run(t, b.MQTT, random)
		}()
		harness.Wait(1200*time.Millisecond + time.Duration(rand.Int64N(int64(time.Second)))) // well into those of a second's delay
		b.Kill()
		<-done
		b.Up()
	}
	js := b.JetStream(t)
	harness.Eventually(t, harness.Patience, "all are published", func() error {
		stream, err := js.Stream(t.Context(), "MQTT_DELAYED")
		if err == nil && stream.CachedInfo().State.Msgs > 0 {
			err = fmt.Errorf("%d messages wait", stream.CachedInfo().State.Msgs)
		}
		return err
	})
	ctx := harness.Context(t)
	published := map[string]int{}
	consumer, err := js.OrderedConsumer(ctx, "MQTT", natsjs.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	stream, err := js.Stream(ctx, "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	for left := stream.CachedInfo().State.Msgs; left > 0; left-- {
		m, err := messages.Next(natsjs.NextContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		published[string(m.Data())]++
	}
	for payload := range d.acked {
		if published[payload] == 0 {
			t.Errorf("%s was acknowledged and is lost", payload)
		}
	}
	for payload, n := range published {
		if n > 1 {
			t.Errorf("%s was published %d times", payload, n)
		}
	}
	t.Logf("%d kills, seed %d: %d messages sent, %d acknowledged, %d published", rounds, seed, d.sent, len(d.acked), len(published))
}
