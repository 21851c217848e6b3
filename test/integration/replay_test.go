package integration

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A replay brings what is stored, on its topics, and goes on with what comes, in log order and without a gap, beside the other
// subscriptions of the client; a 5.0 client is told where each message stands. What is no topic is passed over.
func TestReplayBringsWhatIsStoredThenWhatComes(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS(), harness.Set("replay.max_rate", 100_000))
		publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		var want []string
		publish := func(i int) {
			topic := fmt.Sprint("plant/", i%3)
			publisher.Publish(topic, byte(1+i%2), strconv.Itoa(i))
			publisher.Publish("elsewhere", 1, strconv.Itoa(i))
			want = append(want, topic+" "+strconv.Itoa(i))
		}
		for i := range 50 {
			publish(i)
		}
		if _, err := b.JetStream(t).Publish(harness.Context(t), "mqtt.plant.=zz", []byte("no topic")); err != nil {
			t.Fatal(err)
		}
		b.Restart(how, publisher)
		publisher = harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		c := harness.NewDevice(v, "replaying").Connect(b, harness.Ephemeral)
		c.Subscribe("$replay/first/plant/#", 1)
		c.Subscribe("news", 1)
		for i := 50; i < 100; i++ {
			publish(i)
		}
		publisher.Publish("news", 1, "ordinary")
		stream, err := b.JetStream(t).Stream(harness.Context(t), "MQTT")
		if err != nil {
			t.Fatal(err)
		}
		for seen := 0; seen < len(want); {
			m := c.Receive()
			if m.Topic == "news" { // at its own pace
				continue
			}
			if got := m.Topic + " " + m.Payload; got != want[seen] || m.QoS != 1 || m.Retain {
				t.Fatalf("message %d is %+v, want %s", seen, m, want[seen])
			}
			if v == mqttcodec.V5 && seen%20 == 0 {
				checkReplayed(t, stream, m)
			}
			seen++
		}
		c.Unsubscribe("$replay/first/plant/#")
		publish(100)
		publisher.Publish("news", 1, "last")
		for m := c.Receive(); m.Payload != "last"; m = c.Receive() {
			if m.Topic != "news" {
				t.Errorf("came after UNSUBSCRIBE: %+v", m)
			}
		}
	})
}

// checkReplayed compares what a message says about its place in the log with the log.
func checkReplayed(t *testing.T, stream natsjs.Stream, m harness.Message) {
	t.Helper()
	properties := map[string]string{}
	for _, u := range m.UserProperties {
		properties[u.Key] = u.Value
	}
	sequence, err := strconv.ParseUint(properties["dunlin-sequence"], 10, 64)
	if err != nil {
		t.Fatalf("%+v: %v", m, err)
	}
	stored, err := stream.GetMsg(harness.Context(t), sequence)
	if err != nil || string(stored.Data) != m.Payload || properties["dunlin-time"] == "" {
		t.Errorf("%+v is said to be %+v, %v", m, stored, err)
	}
}

// Much is stored, more comes all the time: a replay gets there, and misses nothing.
func TestReplayCatchesUpWithPublishers(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.Set("replay.max_rate", 1_000_000))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "publisher"))
	const half = 5000
	publisher.PublishAll(harness.Messages("a", 1, "stored ", half))
	b.Restart(harness.Kill9) // what was in memory is read from the disk
	publisher = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "publisher"))
	var publishing sync.WaitGroup
	publishing.Go(func() {
		if err := publisher.TryPublishAll(append(harness.Messages("a", 1, "live ", half), harness.Messages("end", 1, "end", 1)...)); err != nil {
			t.Error(err)
		}
	})
	c := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "replaying"))
	c.Subscribe(harness.Filter("$replay/1/#", 1))
	got := c.ReceiveUntil("end")
	publishing.Wait()
	if len(got) != 2*half {
		t.Fatalf("%d messages came, want %d", len(got), 2*half)
	}
	for i, p := range got {
		want := fmt.Sprint("stored ", i)
		if i >= half {
			want = fmt.Sprint("live ", i-half)
		}
		if string(p.Payload) != want {
			t.Fatalf("message %d is %q, want %q", i, p.Payload, want)
		}
	}
}

// What is no replay is refused, and a replay begins with what is left of the log. [MQTT-3.8.4-5]
func TestReplayIsRefused(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS(), harness.Set("replay.max_active", 2))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.PublishAll(harness.Messages("a", 1, "", 10))
	stream, err := b.JetStream(t).Stream(harness.Context(t), "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(harness.Context(t), natsjs.WithPurgeSequence(8)); err != nil {
		t.Fatal(err)
	}
	reasons := func(r *harness.Raw, filters ...string) (codes []mqttcodec.ReasonCode) {
		t.Helper()
		p := &mqttcodec.Subscribe{PacketID: 1}
		for _, f := range filters {
			p.Requests = append(p.Requests, harness.Filter(f, 1))
		}
		r.Send(p)
		return harness.Expect[*mqttcodec.Suback](r).Reasons
	}
	refused := []string{
		"$replay/soon/a", "$replay/-1h/a", "$replay/2999-01-01T00:00:00Z/a", "$replay/12/a", "$replay/first", "$replay/first/$share/g/a", "$share/g/$replay/first/a",
	}
	c := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c"))
	for i, reason := range reasons(c, refused...) {
		want := mqttcodec.TopicFilterInvalid
		if i == len(refused)-1 {
			want = mqttcodec.SharedSubscriptionsNotAllowed
		}
		if reason != want {
			t.Errorf("%s: %#x, want %#x", refused[i], reason, want)
		}
	}
	old := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "old"))
	for i, reason := range reasons(old, refused...) {
		if reason != 0x80 {
			t.Errorf("3.1.1, %s: %#x, want 0x80", refused[i], reason)
		}
	}
	if got := reasons(c, "$replay/first/a"); got[0] != 1 {
		t.Fatalf("SUBACK %#x", got)
	}
	for want := 7; want < 10; want++ {
		p := harness.Expect[*mqttcodec.Publish](c)
		c.Answer(p)
		if string(p.Payload) != strconv.Itoa(want) {
			t.Errorf("%q came, want %d", p.Payload, want)
		}
	}
	if got := reasons(old, "$replay/11/a", "$replay/1h/b"); got[0] != 1 || got[1] != 0x80 {
		t.Errorf("the third replay of two: SUBACK %#x", got)
	}
	off := harness.Start(t, harness.Set("replay.enabled", false))
	if got := reasons(off.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c")), "$replay/first/a"); got[0] != mqttcodec.TopicFilterInvalid {
		t.Errorf("where it is off: SUBACK %#x", got)
	}
}

// A replay ends with its connection: the session does not have it.
func TestReplayIsNotPartOfTheSession(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t)
		device := harness.NewDevice(v, "device")
		c := device.Connect(b, harness.Persistent)
		c.Subscribe("$replay/first/a", 1)
		c.Subscribe("b", 1)
		publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.Publish("a", 1, "first")
		c.ExpectPayloads("first")
		b.Restart(how, c, publisher)
		publisher = harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.Publish("a", 1, "for nobody")
		publisher.Publish("b", 1, "second")
		c = device.Resume(b)
		for {
			m := c.Receive()
			if m.Payload == "second" {
				break
			}
			if m.Payload != "first" { // it may not have been acknowledged in time
				t.Errorf("came: %+v", m)
			}
		}
	})
}
