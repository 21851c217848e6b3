package integration

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// delayedLeft is how many messages wait in the stream of delayed messages.
func delayedLeft(t *testing.T, js natsjs.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(harness.Context(t), "MQTT_DELAYED")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// A delayed message survives every end of the broker, comes when it is due, or at the next start, and leaves nothing behind.
func TestDelayedMessageComesAfterARestart(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS())
		device := harness.NewDevice(v, "subscriber")
		subscriber := device.Connect(b, harness.Persistent)
		subscriber.Subscribe("plant/#", 2)
		publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		began := time.Now()
		for qos := range byte(3) {
			publisher.Publish("$delayed/3/plant/a", qos, fmt.Sprint("QoS ", qos))
		}
		publisher.PublishRetained("$delayed/3600/plant/later", 1, "much later")
		if n := delayedLeft(t, b.JetStream(t)); n < 3 { // QoS 0 is on its way
			t.Errorf("%d messages wait in the stream, want 3 or 4", n)
		}
		b.Restart(how, publisher, subscriber)
		subscriber = device.Resume(b)
		got := map[string]byte{}
		for len(got) < 2 {
			if m := subscriber.Receive(); m.QoS > 0 { // at QoS 0 it may have been lost with the broker
				got[m.Payload] = m.QoS
				if m.Topic != "plant/a" || time.Since(began) < 2900*time.Millisecond {
					t.Errorf("after %v: %+v", time.Since(began), m)
				}
			}
		}
		if want := (map[string]byte{"QoS 1": 1, "QoS 2": 2}); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		js := b.JetStream(t)
		harness.Eventually(t, harness.Patience, "what was published is gone from the stream", func() error {
			if n := delayedLeft(t, js); n != 1 {
				return fmt.Errorf("%d messages wait", n)
			}
			return nil
		})
	})
}

// What nobody may delay is refused, and so is what there is no room for. (3.3.2.1)
func TestDelayedMessageIsRefused(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.Set("delayed.max_messages", 2), harness.Set("delayed.max_seconds", 60))
	c := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c"))
	for i, p := range []struct {
		topic  string
		reason mqttcodec.ReasonCode
	}{
		{"$delayed/61/a", mqttcodec.TopicNameInvalid},
		{"$delayed/1.5/a", mqttcodec.TopicNameInvalid},
		{"$delayed/60", mqttcodec.TopicNameInvalid},
		{"$delayed/60/$SYS/a", mqttcodec.NotAuthorized},
		{"$delayed/60/a", mqttcodec.Success},
		{"$delayed/60/a/b", mqttcodec.Success},
		{"$delayed/60/a/b", mqttcodec.QuotaExceeded},
	} {
		c.Send(&mqttcodec.Publish{Topic: p.topic, QoS: 1, PacketID: uint16(i + 1)})
		if ack := harness.Expect[*mqttcodec.Puback](c); ack.Reason != p.reason {
			t.Errorf("%s: PUBACK %#x, want %#x", p.topic, ack.Reason, p.reason)
		}
	}
	old := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "old"))
	old.Send(&mqttcodec.Publish{Topic: "$delayed/60/a", QoS: 1, PacketID: 1})
	old.ExpectClosed()

	off := harness.Start(t, harness.Set("delayed.enabled", false), harness.WithNATS())
	c = off.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c"))
	c.Send(&mqttcodec.Publish{Topic: "$delayed/1/a", QoS: 1, PacketID: 1})
	if ack := harness.Expect[*mqttcodec.Puback](c); ack.Reason != mqttcodec.TopicNameInvalid {
		t.Errorf("where it is off: PUBACK %#x", ack.Reason)
	}
	if _, err := off.JetStream(t).Stream(harness.Context(t), "MQTT_DELAYED"); err == nil {
		t.Error("where it is off there is a stream for it")
	}
}

// A NATS service sees what waits, can delay a message itself, and can take one back.
func TestNATSServiceDelaysAMessage(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	ctx, js := harness.Context(t), b.JetStream(t)
	subscriber := harness.NewDevice(mqttcodec.V5, "subscriber").Connect(b, harness.Ephemeral)
	subscriber.Subscribe("devices/#", 1)
	publisher := harness.NewDevice(mqttcodec.V311, "publisher").Connect(b, harness.Ephemeral)
	publisher.Publish("$delayed/3/devices/d 1/cmd", 1, "taken back")
	stream, err := js.Stream(ctx, "MQTT_DELAYED")
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := stream.GetLastMsgForSubject(ctx, "mqtt_delayed.3.devices.d=201.cmd")
	if err != nil || string(waiting.Data) != "taken back" {
		t.Fatalf("the stream has %+v, %v", waiting, err)
	}
	if err := stream.DeleteMsg(ctx, waiting.Sequence); err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: "mqtt_delayed.1.devices.d2.cmd", Header: nats.Header{"Color": {"red"}}, Data: []byte("first")}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "mqtt_delayed.4.devices.d2.cmd", []byte("second")); err != nil {
		t.Fatal(err)
	}
	if m := subscriber.Receive(); m.Topic != "devices/d2/cmd" || m.Payload != "first" || m.QoS != 1 || len(m.UserProperties) != 1 {
		t.Errorf("got %+v", m)
	}
	subscriber.ExpectPayloads("second")
}
