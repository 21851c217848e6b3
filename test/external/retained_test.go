package external

import (
	"slices"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// What is put into or deleted from the bucket of retained messages while the broker is down counts when it is back.
func TestPutsWhileTheBrokerIsDown(t *testing.T) {
	t.Parallel()
	s := harness.StartNATSServer(t)
	b := harness.Start(t, harness.WithExternalNATS(s.URL()))
	nats := harness.NewNATSCommand(t, s.Address)
	publisher := harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Ephemeral)
	for _, topic := range []string{"a", "b", "c"} {
		publisher.PublishRetained(topic, 1, "published")
	}
	b.Down(harness.Kill9, publisher) // maybe before they were written to the bucket
	nats.Run(t, "kv", "put", "mqtt_retained", "a", "put")
	nats.Run(t, "kv", "del", "mqtt_retained", "b", "--force")
	nats.Run(t, "kv", "put", "mqtt_retained", "d", "put")
	b.Up()
	if got, want := b.Retained(t, "#"), []string{"a=put", "c=published", "d=put"}; !slices.Equal(got, want) {
		t.Errorf("new subscribers get %q, want %q", got, want)
	}
}

// The broker goes on following the bucket when its NATS server was away.
func TestPutsAfterNATSWasAway(t *testing.T) {
	t.Parallel()
	s := harness.StartNATSServer(t)
	b := harness.Start(t, harness.WithExternalNATS(s.URL()))
	nats := harness.NewNATSCommand(t, s.Address)
	nats.Run(t, "kv", "put", "mqtt_retained", "a", "before")
	b.AwaitRetained(t, "#", "a=before")
	s.Kill()
	s.Up()
	nats.Run(t, "kv", "put", "mqtt_retained", "a", "after")
	nats.Run(t, "kv", "put", "mqtt_retained", "b", "after")
	b.AwaitRetained(t, "#", "a=after", "b=after")
}
