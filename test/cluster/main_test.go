// Package cluster holds the black-box tests of several brokers on one NATS cluster: to their clients they are one broker, also
// while some of them, or the servers, or the network between them, are away.
package cluster

import (
	"os"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }

// The nodes give each other up, and themselves, sooner than by default. They give a sign of life each second.
const (
	deadAfter        = 6 * time.Second
	isolationTimeout = 3 * time.Second
)

// start starts three brokers on three NATS servers.
func start(t *testing.T, options ...harness.Option) *harness.Cluster {
	t.Helper()
	return harness.StartCluster(t, 3, append(options, harness.Set("nodes.dead_after", deadAfter), harness.Set("nodes.isolation_timeout", isolationTimeout))...)
}

// payloads are those of messages.
func payloads(messages []*mqttcodec.Publish) []string {
	list := make([]string, len(messages))
	for i, m := range messages {
		list[i] = string(m.Payload)
	}
	return list
}

// next reads and answers the next message.
func next(r *harness.Raw) *mqttcodec.Publish {
	for {
		p := r.Read()
		r.Answer(p)
		if m, ok := p.(*mqttcodec.Publish); ok {
			return m
		}
	}
}
