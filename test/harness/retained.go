package harness

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/mqttcodec"
)

// Retained is what a new subscriber to a filter gets, each message as topic=payload, in the order of topics.
func (b *Broker) Retained(t testing.TB, filter string) []string {
	t.Helper()
	const end = "end/of/retained"
	c := b.For(t).ConnectRaw(t, CleanConnect(mqttcodec.V5, ""))
	defer c.Disconnect()
	early := c.Subscribe(Filter(filter, 1), Filter(end, 1))
	c.Send(&mqttcodec.Publish{Topic: end})
	var got []string
	for _, m := range append(early, c.ReceiveUntil(end)...) {
		if !m.Retain {
			t.Errorf("%s came without the retain flag", m.Topic)
		}
		got = append(got, m.Topic+"="+string(m.Payload))
	}
	return got
}

// AwaitRetained waits until a new subscriber to a filter gets just these messages.
func (b *Broker) AwaitRetained(t testing.TB, filter string, want ...string) {
	t.Helper()
	Eventually(t, Patience, fmt.Sprintf("%q for new subscribers to %s", want, filter), func() error {
		if got := b.Retained(t, filter); !slices.Equal(got, want) {
			return fmt.Errorf("they get %q", got)
		}
		return nil
	})
}
