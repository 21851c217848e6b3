package cluster

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// What is retained on one node, replaced and cleared is what a new subscriber on another sees as soon as it is acknowledged.
func retainedAtOnce(t *testing.T, c *harness.Cluster) {
	const rounds = 20
	var clients []*harness.Raw
	for i, b := range c.Brokers {
		clients = append(clients, b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, fmt.Sprint("retained-", i))))
	}
	for round := range rounds {
		topic := fmt.Sprintf("retained/%d", round%5)
		publisher, other := clients[round%3], c.Brokers[(round+1+round/3%2)%3]
		publish := func(payload string, want ...string) {
			t.Helper()
			publisher.Publish(mqttcodec.Publish{Topic: topic, QoS: mqttcodec.QoS(1 + round%2), Retain: true, Payload: []byte(payload)})
			if got := other.Retained(t, topic); !slices.Equal(got, want) {
				t.Fatalf("round %d: %q is retained and acknowledged, a new subscriber on another node gets %q", round, payload, got)
			}
		}
		first, second := fmt.Sprint("first-", round), fmt.Sprint("second-", round)
		publish(first, topic+"="+first)
		publish(second, topic+"="+second)
		publish("")
	}
}
