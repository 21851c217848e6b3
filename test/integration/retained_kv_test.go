package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// What the nats command line puts into the bucket is what new subscribers get, over restarts; those who are subscribed are
// not told. What it deletes is gone. What a client publishes afterwards counts, and so on.
func TestNATSSetsRetainedMessages(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS())
		nats := harness.NewNATSCommand(t, b.NATS)
		subscribed := harness.NewDevice(mqttcodec.V311, "subscribed").Connect(b, harness.Persistent)
		subscribed.Subscribe("plant/#", 1)
		nats.Run(t, "kv", "put", "mqtt_retained", "plant.a", "put")
		nats.Run(t, "kv", "put", "mqtt_retained", "plant.line=201.b", "put")
		nats.Run(t, "kv", "put", "mqtt_retained", "plant.gone", "put")
		b.AwaitRetained(t, "plant/#", "plant/a=put", "plant/gone=put", "plant/line 1/b=put")

		subscribed.PublishRetained("plant/a", 1, "published")
		b.AwaitRetained(t, "plant/a", "plant/a=published")
		expectRetained(t, b, "plant.a", "published")
		nats.Run(t, "kv", "put", "mqtt_retained", "plant.a", "put again")
		b.AwaitRetained(t, "plant/a", "plant/a=put again")
		nats.Run(t, "kv", "del", "mqtt_retained", "plant.gone", "--force")
		b.AwaitRetained(t, "plant/gone")
		if m := subscribed.Receive(); m.Payload != "published" {
			t.Errorf("who was subscribed got %+v, which is not in the log", m)
		}

		b.Restart(how, subscribed)
		nats = harness.NewNATSCommand(t, b.NATS)
		b.AwaitRetained(t, "plant/#", "plant/a=put again", "plant/line 1/b=put")
		nats.Run(t, "kv", "purge", "mqtt_retained", "plant.a", "--force")
		b.AwaitRetained(t, "plant/#", "plant/line 1/b=put")
		publisher := harness.NewDevice(mqttcodec.V311, "publisher").Connect(b, harness.Ephemeral)
		publisher.PublishRetained("plant/a", 1, "published")
		publisher.PublishRetained("plant/line 1/b", 1, "")
		b.AwaitRetained(t, "plant/#", "plant/a=published")
		expectRetained(t, b, "plant.a", "published")
		expectRetained(t, b, "plant.line=201.b", "")
	})
}

// A put or a deletion right before kill -9 counts after the restart, and what was published before it does not come back.
func TestPutRightBeforeKillCounts(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	publisher := harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Ephemeral)
	bucket, err := b.JetStream(t).KeyValue(harness.Context(t), "mqtt_retained")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 20 {
		topic, key := fmt.Sprintf("k/%02d", i), fmt.Sprintf("k.%02d", i)
		publisher.PublishRetained(topic, 1, "published")
		switch i % 4 {
		case 0:
			if _, err := bucket.PutString(harness.Context(t), key, "put"); err != nil {
				t.Fatal(err)
			}
			want = append(want, topic+"=put")
		case 1:
			if err := bucket.Delete(harness.Context(t), key); err != nil {
				t.Fatal(err)
			}
		case 2:
			if _, err := bucket.PutString(harness.Context(t), key, "put"); err != nil {
				t.Fatal(err)
			}
			publisher.PublishRetained(topic, 1, "published again")
			want = append(want, topic+"=published again")
		default:
			want = append(want, topic+"=published")
		}
	}
	b.Restart(harness.Kill9, publisher)
	if got := b.Retained(t, "k/#"); !slices.Equal(got, want) {
		t.Errorf("new subscribers get %q, want %q", got, want)
	}
}

// Headers of an entry are those of the log; what makes no sense is passed over.
func TestNATSSetsPropertiesOfRetainedMessages(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nats := harness.NewNATSCommand(t, b.NATS)
	nats.Run(t, "pub", "--jetstream", "$KV.mqtt_retained.h.x", "hello", "-H", "Mqtt-Content-Type:text/plain", "-H", "Mqtt-Qos:9",
		"-H", "Mqtt-Message-Expiry:soon", "-H", "Nats-TTL:3600s", "-H", "Unit:mm")
	b.AwaitRetained(t, "h/x", "h/x=hello")
	c := harness.NewDevice(mqttcodec.V5, "c").Connect(b, harness.Ephemeral)
	c.Subscribe("h/x", 2)
	m := c.Receive()
	if m.ContentType != "text/plain" || m.QoS != 1 || m.ExpirySeconds == 0 || m.ExpirySeconds > 3600 ||
		!slices.Equal(m.UserProperties, []mqttcodec.UserProperty{{Key: "Unit", Value: "mm"}}) {
		t.Errorf("got %+v", m)
	}
}

// What a NATS service publishes to the log with the retain header is told to who is subscribed, kept for who comes later, and
// put into the bucket.
func TestNATSPublishesRetainedMessages(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nats := harness.NewNATSCommand(t, b.NATS)
	c := harness.NewDevice(mqttcodec.V5, "c").Connect(b, harness.Ephemeral)
	c.Subscribe("a/#", 1)
	nats.Run(t, "pub", "--jetstream", "-H", "Mqtt-Retain:1", "mqtt.a.b", "value")
	if m := c.Receive(); m.Topic != "a/b" || m.Payload != "value" || m.Retain {
		t.Errorf("who is subscribed got %+v", m)
	}
	b.AwaitRetained(t, "a/b", "a/b=value")
	expectRetained(t, b, "a.b", "value")
	if out := nats.Run(t, "kv", "get", "mqtt_retained", "a.b", "--raw"); strings.TrimSpace(out) != "value" {
		t.Errorf("nats kv get --raw: %q", out)
	}
}

// nats kv watch shows what clients publish and clear.
func TestNATSWatchesRetainedMessages(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	watch := harness.NewNATSCommand(t, b.NATS).Command("kv", "watch", "mqtt_retained", "w.>")
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Process.Kill(); _ = watch.Wait() }) // it ends in no other way
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	publisher := harness.NewDevice(mqttcodec.V311, "publisher").Connect(b, harness.Ephemeral)
	publisher.PublishRetained("w/x", 1, "first")
	expectLine(t, lines, "PUT", "w.x", "first")
	publisher.PublishRetained("w/x", 1, "second")
	expectLine(t, lines, "PUT", "w.x", "second")
	publisher.PublishRetained("w/x", 1, "")
	expectLine(t, lines, "PURGE", "w.x")
}

// expectLine waits for a line that contains all of these.
func expectLine(t *testing.T, lines <-chan string, parts ...string) {
	t.Helper()
	deadline := time.After(harness.Patience)
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatal("the output ended")
			}
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return
			}
		case <-deadline:
			t.Fatalf("no line with %q", parts)
		}
	}
}

// What mosquitto's clients retain and what the nats command line puts is one set of messages.
func TestMosquittoAndNATSShareRetainedMessages(t *testing.T) {
	t.Parallel()
	pub, sub := harness.Program(t, "mosquitto_pub"), harness.Program(t, "mosquitto_sub")
	b := harness.Start(t, harness.WithNATS())
	nats := harness.NewNATSCommand(t, b.NATS)
	host, port, _ := strings.Cut(b.MQTT, ":")
	if out, err := exec.Command(pub, "-h", host, "-p", port, "-t", "m/a", "-r", "-q", "1", "-m", "from mosquitto").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v %s", err, out)
	}
	expectRetained(t, b, "m.a", "from mosquitto")
	nats.Run(t, "kv", "put", "mqtt_retained", "m.b", "from nats")
	b.AwaitRetained(t, "m/#", "m/a=from mosquitto", "m/b=from nats")
	out, err := exec.Command(sub, "-h", host, "-p", port, "-t", "m/+", "-C", "2", "-W", "10", "-v").CombinedOutput()
	if err != nil || string(out) != "m/a from mosquitto\nm/b from nats\n" {
		t.Errorf("mosquitto_sub: %q, %v", out, err)
	}
}

// The commands of docs/NATS.md do what it says.
func TestDocumentedCommandsForRetainedMessages(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/NATS.md")
	if err != nil {
		t.Fatal(err)
	}
	b := harness.Start(t, harness.WithNATS())
	nats := harness.NewNATSCommand(t, b.NATS)
	run := func(purpose string) string {
		t.Helper()
		for line := range strings.Lines(string(content)) {
			cells := strings.Split(line, "|")
			if len(cells) == 4 && strings.HasPrefix(strings.TrimSpace(cells[1]), purpose) {
				command := strings.TrimPrefix(strings.Split(cells[2], "`")[1], "nats ")
				return nats.Run(t, shellArguments(command)...)
			}
		}
		t.Fatalf("docs/NATS.md has no command to %s", purpose)
		return ""
	}
	run("set what new subscribers get")
	b.AwaitRetained(t, "#", "a/b=value")
	if out := run("read one"); strings.TrimSpace(out) != "value" {
		t.Errorf("read: %q", out)
	}
	if out := run("list topics"); !strings.Contains(out, "a.b") {
		t.Errorf("list: %q", out)
	}
	run("remove it")
	b.AwaitRetained(t, "#")
	run("the same with properties")
	b.AwaitRetained(t, "#", "a/b=value")
	if out := run("see the properties"); !strings.Contains(out, "Mqtt-Content-Type: text/plain") {
		t.Errorf("properties: %q", out)
	}
	c := harness.NewDevice(mqttcodec.V5, "c").Connect(b, harness.Ephemeral)
	c.Subscribe("#", 1)
	if m := c.Receive(); !m.Retain || m.ContentType != "text/plain" || m.ExpirySeconds > 3600 || m.ExpirySeconds < 3500 {
		t.Errorf("got %+v", m)
	}
	run("tell those who are subscribed")
	if m := c.Receive(); m.Retain || m.Payload != "value" {
		t.Errorf("got %+v", m)
	}
	expectRetained(t, b, "a.b", "value")
	run("remove it, and tell them")
	if m := c.Receive(); m.Payload != "" {
		t.Errorf("got %+v", m)
	}
	b.AwaitRetained(t, "#")
	expectRetained(t, b, "a.b", "")
}
