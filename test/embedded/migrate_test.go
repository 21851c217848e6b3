package embedded

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// state is what there is of a stream, and where its durable consumers on disk are.
func state(t *testing.T, b *harness.Broker, name string) string {
	t.Helper()
	ctx := harness.Context(t)
	stream, err := b.JetStream(t).Stream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	s := stream.CachedInfo().State
	text := fmt.Sprintf("%d messages from %d to %d, %v, %v", s.Msgs, s.FirstSeq, s.LastSeq, s.FirstTime.UTC(), s.LastTime.UTC())
	consumers := stream.ListConsumers(ctx)
	for c := range consumers.Info() {
		if strings.HasPrefix(c.Name, "dunlin-g-") {
			text += fmt.Sprintf(", %s at %d, %d acknowledged, %d pending", c.Name, c.Delivered.Stream, c.AckFloor.Stream, c.NumAckPending)
		}
	}
	if err := consumers.Err(); err != nil {
		t.Fatal(err)
	}
	return text
}

// givenOutAgain is how long NATS waits for the answer to a message of a shared subscription.
const givenOutAgain = 30 * time.Second

// What a broker that was alone has stored goes on in a cluster: queues, unfinished deliveries, retained and delayed messages, and a
// shared subscription at its place.
func TestMigrateToACluster(t *testing.T) {
	t.Parallel()
	alone := harness.Start(t, harness.WithNATS())
	away := harness.NewDevice(mqttcodec.V5, "away")
	c := away.Connect(alone, harness.Persistent)
	c.Subscribe("a/#", 2)
	worker := harness.NewDevice(mqttcodec.V5, "worker")
	w := worker.Connect(alone, harness.Persistent)
	w.Subscribe("$share/g/job/+", 1)
	publish(t, alone, "a/seen", "seen")
	c.ExpectPayloads("seen")
	publish(t, alone, "job/1", "done")
	w.ExpectPayloads("done")
	c.Disconnect()
	w.Disconnect()
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprint(i))
	}
	publish(t, alone, "a/b", want...)
	publish(t, alone, "job/2", "work")
	p := harness.NewDevice(mqttcodec.V5, "publisher").Connect(alone, harness.Ephemeral)
	p.PublishRetained("kept", 1, "state")
	p.Publish("$delayed/3600/a/later", 1, "later")
	p.Disconnect()
	foreign := harness.NewNATSCommand(t, alone.NATS)
	foreign.Run(t, "stream", "add", "PLANT", "--subjects", "plant.>", "--defaults")
	was, wasDelayed := state(t, alone, "MQTT"), state(t, alone, "MQTT_DELAYED")
	alone.Stop()

	cluster := harness.NewEmbeddedCluster(t, 3, harness.Set("cluster.await_migration", true))
	var ready []func()
	for _, b := range cluster.Nodes {
		ready = append(ready, b.Begin())
	}
	for _, b := range cluster.Nodes {
		harness.Eventually(t, harness.Patience, "the nodes wait for the migration", func() error {
			if !strings.Contains(b.Log(), "dunlin migrate") {
				return errors.New("it is not logged")
			}
			return nil
		})
	}
	migrate := []string{"migrate", "--from", alone.DataDir, "--nats", "nats://" + cluster.Nodes[0].NATS}
	code, out, stderr := harness.RunToExit(t, migrate...)
	if code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, out, stderr)
	}
	for _, says := range []string{"MQTT ", "MQTT_JOURNAL", "KV_mqtt_sessions", "KV_mqtt_retained", "MQTT_DELAYED", "PLANT", "compared"} {
		if !strings.Contains(out, says) {
			t.Errorf("it does not say %q:\n%s", says, out)
		}
	}
	for _, wait := range ready {
		wait()
	}
	if is, delayed := state(t, cluster.Nodes[2], "MQTT"), state(t, cluster.Nodes[2], "MQTT_DELAYED"); is != was || delayed != wasDelayed {
		t.Errorf("the log was %s, is %s; delayed: %s, %s", was, is, wasDelayed, delayed)
	}
	replicated(t, cluster.Nodes[1])
	b := cluster.Nodes[0]
	away.Resume(b).ExpectPayloads(want...)
	// It may have been on its way to the worker as that left, and been returned to servers that are still fetching the log.
	if m := worker.Resume(b).ReceiveWithin(givenOutAgain + harness.Patience); m.Payload != "work" {
		t.Errorf("the worker got %+v", m)
	}
	late := harness.NewDevice(mqttcodec.V5, "late").Connect(b, harness.Ephemeral)
	late.Subscribe("kept", 1)
	if m := late.Receive(); m.Payload != "state" || !m.Retain {
		t.Errorf("retained: %+v", m)
	}
	for _, node := range cluster.Nodes {
		if strings.Contains(node.Log(), "does not mean what it meant") {
			t.Error("positions in the log were not recognized")
		}
	}

	code, _, stderr = harness.RunToExit(t, migrate...)
	if code != 1 || !strings.Contains(stderr, "MQTT_JOURNAL") || !strings.Contains(stderr, "must have none") {
		t.Errorf("again: exit %d, %s", code, stderr)
	}
	alone.Up() // its directory is as it was
	if is := state(t, alone, "MQTT"); is != was {
		t.Errorf("the log was %s, is %s", was, is)
	}
}
