package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A NATS program reads what MQTT clients publish, from the log, with a durable consumer of its own.
func TestNATSConsumerReadsTheSameMessages(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	ctx, js := harness.Context(t), b.JetStream(t)
	consumer, err := js.CreateConsumer(ctx, "MQTT", natsjs.ConsumerConfig{Durable: "reader", FilterSubject: "mqtt.plant.>"})
	if err != nil {
		t.Fatal(err)
	}
	publisher := harness.NewDevice(mqttcodec.V311, "publisher").Connect(b, harness.Ephemeral)
	publisher.Publish("plant/line 1/temp", 1, "one")
	publisher.Publish("plant/a.b/x", 2, "two")
	publisher.Publish("elsewhere", 1, "not for the consumer")
	publisher.Publish("plant", 1, "not for the consumer either")
	publisher.Publish("plant/none", 0, "QoS 0 is not in the log")
	publisher.PublishRetained("plant/kept", 0, "three")
	want := []struct{ subject, data string }{
		{"mqtt.plant.line=201.temp", "one"}, {"mqtt.plant.a=2Eb.x", "two"}, {"mqtt.plant.kept", "three"},
	}
	for _, w := range want {
		m, err := consumer.Next(natsjs.FetchContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject() != w.subject || string(m.Data()) != w.data {
			t.Errorf("got %q on %s, want %q on %s", m.Data(), m.Subject(), w.data, w.subject)
		}
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	b.Restart(harness.Kill9, publisher)
	js = b.JetStream(t)
	if _, err := js.Consumer(ctx, "MQTT", "reader"); err != nil {
		t.Errorf("the consumer of the NATS program, after the restart: %v", err)
	}
}

// What a NATS program publishes on mqtt.<subject> reaches MQTT subscribers: at once, and on return those who are away.
func TestNATSPublishReachesOfflineSubscriber(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS())
		away := harness.NewDevice(v, "away")
		c := away.Connect(b, harness.Persistent)
		c.Subscribe("devices/+/cmd", 1)
		c.Disconnect()
		online := harness.NewDevice(v, "online").Connect(b, harness.Ephemeral)
		online.Subscribe("devices/#", 1)

		ctx, js := harness.Context(t), b.JetStream(t)
		if _, err := js.Publish(ctx, "mqtt.devices.d1.cmd", []byte("reboot")); err != nil {
			t.Fatal(err)
		}
		if m := online.Receive(); m.Topic != "devices/d1/cmd" || m.Payload != "reboot" || m.QoS != 1 {
			t.Errorf("online: %+v", m)
		}
		b.Restart(how, online)
		if m := away.Resume(b).Receive(); m.Topic != "devices/d1/cmd" || m.Payload != "reboot" || m.QoS != 1 || m.Retain {
			t.Errorf("on return: %+v", m)
		}
	})
}

// A header of a NATS program lowers the QoS; headers that are none of ours come as user properties.
func TestNATSHeadersBecomeProperties(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	c := harness.NewDevice(mqttcodec.V5, "c").Connect(b, harness.Ephemeral)
	c.Subscribe("h/#", 2)
	js := b.JetStream(t)
	m := nats.NewMsg("mqtt.h.x")
	m.Data = []byte("payload")
	m.Header.Set("Mqtt-Qos", "2")
	m.Header.Set("Trace", "42")
	if _, err := js.PublishMsg(harness.Context(t), m); err != nil {
		t.Fatal(err)
	}
	got := c.Receive()
	if got.QoS != 2 || got.Payload != "payload" {
		t.Errorf("got %+v, want QoS 2", got)
	}
	if want := (mqttcodec.UserProperty{Key: "Trace", Value: "42"}); !slices.Contains(got.UserProperties, want) {
		t.Errorf("user properties %v, want %v among them", got.UserProperties, want)
	}
}

// The consumer of a parked session shows its queue: right after it left, while it grows, and after kill -9.
func TestNATSSeesTheQueueLength(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS())
		device := harness.NewDevice(mqttcodec.V5, "sleeper")
		c := device.Connect(b, harness.Persistent)
		c.Subscribe("q/#", 1)
		c.Disconnect()
		publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		publisher.PublishAll(harness.Messages("q/a", 1, "", 30))
		publisher.PublishAll(harness.Messages("other", 1, "", 30))
		expectQueueLength(t, b, "sleeper", 30)
		publisher.PublishAll(harness.Messages("q/b", 2, "", 12))
		expectQueueLength(t, b, "sleeper", 42)
		b.Restart(how, publisher)
		expectQueueLength(t, b, "sleeper", 42)
		c = device.Resume(b)
		for range 42 {
			c.Receive()
		}
		c.Disconnect()
		expectQueueLength(t, b, "sleeper", 0)
	})
}

// A session that was connected when the broker was killed is parked when it is back, and shows its queue too.
func TestNATSSeesTheQueueOfAKilledConnection(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	c := harness.NewDevice(mqttcodec.V311, "sleeper").Connect(b, harness.Persistent)
	c.Subscribe("q/#", 1)
	b.Restart(harness.Kill9, c)
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.PublishAll(harness.Messages("q/a", 1, "", 30))
	expectQueueLength(t, b, "sleeper", 30)
}

// expectQueueLength waits until the consumer of a session shows so many messages. It is made within a second of
// parking; the rest is for a busy machine.
func expectQueueLength(t *testing.T, b *harness.Broker, clientID string, want uint64) {
	t.Helper()
	ctx, js := harness.Context(t), b.JetStream(t)
	harness.Eventually(t, 4*time.Second, fmt.Sprintf("%d messages in the queue of %s", want, clientID), func() error {
		consumer, err := js.Consumer(ctx, "MQTT", "dunlin-s-"+clientID)
		if err != nil {
			return err
		}
		if info := consumer.CachedInfo(); info.NumPending != want {
			return fmt.Errorf("NumPending is %d", info.NumPending)
		}
		return nil
	})
}

// A retained message is a KV entry under its topic's subject; cleared it is gone.
func TestNATSReadsRetainedMessages(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS())
		publisher := harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Ephemeral)
		publisher.PublishRetained("a/b", 1, "first")
		publisher.PublishRetained("a/b", 2, "second")
		publisher.PublishRetained("a/c", 0, "other")
		expectRetained(t, b, "a.b", "second")
		b.Restart(how, publisher)
		expectRetained(t, b, "a.b", "second")
		expectRetained(t, b, "a.c", "other")
		publisher = harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Ephemeral)
		publisher.PublishRetained("a/b", 1, "")
		expectRetained(t, b, "a.b", "")
	})
}

// expectRetained waits for the value at a key of the retained bucket; an empty one means that there is none.
func expectRetained(t *testing.T, b *harness.Broker, key, want string) {
	t.Helper()
	ctx := harness.Context(t)
	bucket, err := b.JetStream(t).KeyValue(ctx, "mqtt_retained")
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 2*time.Second, fmt.Sprintf("retained %q at %s", want, key), func() error {
		entry, err := bucket.Get(ctx, key)
		switch {
		case want == "" && err == nil:
			return fmt.Errorf("still there: %q", entry.Value())
		case want == "":
			return nil
		case err != nil:
			return err
		case string(entry.Value()) != want:
			return fmt.Errorf("it is %q", entry.Value())
		}
		return nil
	})
}

// Topics cannot reach outside the log's subjects: what looks like a NATS subject is only a name. [case 187]
func TestTopicsCannotReachNATSSubjects(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	js := b.JetStream(t)
	heard := make(chan string, 16)
	if _, err := js.Conn().Subscribe(">", func(m *nats.Msg) {
		if string(m.Data) == "probe" && m.Header.Get("Nats-Stream") == "" { // else the broker reads it in the log
			heard <- m.Subject
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	publisher := harness.NewDevice(mqttcodec.V311, "publisher").Connect(b, harness.Ephemeral)
	topics := []string{"$JS.API.STREAM.PURGE.MQTT", "$JS/API/STREAM/PURGE/MQTT", "a b\r\nPUB x 0", "_INBOX/x", "*/>", ">", "$SYS.REQ", "é/ü"}
	for _, topic := range topics {
		publisher.Publish(topic, 1, "probe")
	}
	for range topics {
		select {
		case subject := <-heard:
			if len(subject) < 5 || subject[:5] != "mqtt." {
				t.Errorf("a topic reached subject %q", subject)
			}
		case <-time.After(harness.Patience):
			t.Fatal("a message did not reach the log")
		}
	}
	info, err := js.Stream(harness.Context(t), "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	if got := info.CachedInfo().State.Msgs; got != uint64(len(topics)) {
		t.Errorf("%d messages in the log, want %d", got, len(topics))
	}
}

// What the server's side publishes under $SYS reaches who asks for $SYS by name, and no wildcard in the first level; a client
// cannot publish there. [MQTT-4.7.2-1] [3.1.1 MQTT-4.7.2-1] [case 120]
func TestSystemTopicsAreForThoseWhoNameThem(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := b.For(t)
		topic := fmt.Sprintf("$SYS/broker/v%d", v)
		named := b.ConnectRaw(t, harness.CleanConnect(v, fmt.Sprint("named", v)))
		named.Subscribe(harness.Filter("$SYS/#", 1))
		wild := b.ConnectRaw(t, harness.CleanConnect(v, fmt.Sprint("wild", v)))
		wild.Subscribe(harness.Filter("#", 1), harness.Filter("+/broker/#", 1), harness.Filter("+/+/+", 1))
		client := b.ConnectRaw(t, harness.CleanConnect(v, fmt.Sprint("client", v)))
		client.Send(&mqttcodec.Publish{Topic: topic, QoS: 1, PacketID: 1, Payload: []byte("a client's")})
		if ack := harness.Expect[*mqttcodec.Puback](client); v == mqttcodec.V5 && ack.Reason != mqttcodec.NotAuthorized {
			t.Errorf("PUBACK %#x for a client's PUBLISH to %s", ack.Reason, topic)
		}
		ctx, js := harness.Context(t), b.JetStream(t)
		if _, err := js.Publish(ctx, fmt.Sprintf("mqtt.$SYS.broker.v%d", v), []byte("up")); err != nil {
			t.Fatal(err)
		}
		end := fmt.Sprint("end", v)
		client.Publish(mqttcodec.Publish{Topic: end, QoS: 1})
		for {
			if m := harness.Expect[*mqttcodec.Publish](wild); m.Topic == end {
				break
			} else if m.Topic[0] == '$' {
				t.Fatalf("a wildcard in the first level brought %q", m.Topic)
			}
		}
		for {
			if m := harness.Expect[*mqttcodec.Publish](named); string(m.Payload) != "up" {
				t.Fatalf("got %+v", m)
			} else if m.Topic == topic {
				break
			}
		}
	})
}
