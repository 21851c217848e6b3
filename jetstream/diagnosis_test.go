package jetstream

import (
	"context"
	"log/slog"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// before is JetStream as it was before there were streams, to who looks for them by name.
type before struct{ natsjs.JetStream }

func (before) Stream(context.Context, string) (natsjs.Stream, error) {
	return nil, natsjs.ErrStreamNotFound
}

// Brokers that start together make the streams while the others look at them.
func TestDiagnosisTakesStreamsThatOthersHaveJustMade(t *testing.T) {
	embedded, err := StartEmbedded(DefaultEmbeddedConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = embedded.Shutdown(context.Background()) }()
	nc, err := embedded.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := DefaultConfig()
	c.Logger = slog.New(slog.DiscardHandler)
	if err := EnsureTopology(t.Context(), nc, c); err != nil {
		t.Fatal(err)
	}
	js, err := c.client(nc)
	if err != nil {
		t.Fatal(err)
	}
	d := diagnosis{nc: nc, config: &c, js: before{js}}
	d.streams(t.Context())
	if err := FirstFailure(d.findings); err != nil {
		t.Error(err)
	}
}
