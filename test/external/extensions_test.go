package external

import (
	"encoding/json"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// What waits to be published later, and what is replayed, is on several servers: the loss of the one that leads costs neither.
func TestDelayedAndReplayedWhenAServerIsLost(t *testing.T) {
	t.Parallel()
	servers := harness.StartNATSCluster(t, 3)
	b := harness.Start(t, harness.WithExternalNATS(strings.Join([]string{servers[0].URL(), servers[1].URL(), servers[2].URL()}, ",")))
	publisher := harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Persistent)
	replaying := harness.NewDevice(mqttcodec.V5, "replaying").Connect(b, harness.Ephemeral)
	publisher.Publish("a/1", 1, "stored")
	replaying.Subscribe("$replay/first/a/#", 1)
	replaying.ExpectPayloads("stored")
	publisher.Publish("$delayed/2/a/2", 1, "two")
	publisher.Publish("$delayed/4/a/4", 1, "four")
	var info struct {
		Cluster struct{ Leader string }
	}
	out, err := harness.NewNATSCommand(t, servers[0].Address).Try("stream", "info", "MQTT_DELAYED", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &info)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if s.Name == info.Cluster.Leader {
			s.Kill()
		}
	}
	publisher.Publish("$delayed/1/a/3", 2, "between")
	got := map[string]bool{}
	for range 3 { // the order is that of the servers' return
		m := replaying.Receive()
		if got[m.Payload] {
			t.Errorf("comes again: %+v", m)
		}
		got[m.Payload] = true
	}
	if !got["two"] || !got["four"] || !got["between"] {
		t.Errorf("got %v", got)
	}
	late := harness.NewDevice(mqttcodec.V5, "late").Connect(b, harness.Ephemeral)
	late.Subscribe("$replay/1h/#", 1)
	for range 4 {
		late.Receive()
	}
	b.Kill() // some streams may be without a leader for a while, and then SIGTERM does not end it well
}
