package integration

import (
	"fmt"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/test/harness"
)

// expectNoTrace checks that JetStream holds nothing of a session that was discarded. The second allows for deletions
// that are on their way: nothing waits for an expiry or a sweep.
func expectNoTrace(t *testing.T, b *harness.Broker, clientID string) {
	t.Helper()
	eventuallyNoTrace(t, b.JetStream(t), clientID, time.Second)
}

// eventuallyNoTrace waits until JetStream holds nothing of a session.
func eventuallyNoTrace(t *testing.T, js natsjs.JetStream, clientID string, within time.Duration) {
	t.Helper()
	ctx := harness.Context(t)
	harness.Eventually(t, within, "nothing of "+clientID+" left in JetStream", func() error {
		traces, err := harness.SessionTraces(ctx, js, clientID)
		if err == nil && len(traces) > 0 {
			err = fmt.Errorf("left: %v", traces)
		}
		return err
	})
}
