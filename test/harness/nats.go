package harness

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// JetStream connects to the broker's NATS listener as any NATS program would.
func (b *Broker) JetStream(t testing.TB) natsjs.JetStream {
	t.Helper()
	if b.NATS == "" {
		t.Fatal("the broker was started without WithNATS")
	}
	nc, err := nats.Connect("nats://" + b.NATS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Context is a context that ends with the test or when its patience does.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// SessionTraces lists what JetStream holds of a session: its record, its consumer, its journal. Deletion markers do
// not count. The client identifier must be one that stands for itself in a subject.
func SessionTraces(ctx context.Context, js natsjs.JetStream, clientID string) ([]string, error) {
	var traces []string
	records, err := js.KeyValue(ctx, "mqtt_sessions")
	if err != nil {
		return nil, err
	}
	if _, err := records.Get(ctx, clientID); err == nil {
		traces = append(traces, "a record in bucket mqtt_sessions")
	} else if !errors.Is(err, natsjs.ErrKeyNotFound) {
		return nil, err
	}
	if _, err := js.Consumer(ctx, "MQTT", "dunlin-s-"+clientID); err == nil {
		traces = append(traces, "a consumer on stream MQTT")
	} else if !errors.Is(err, natsjs.ErrConsumerNotFound) {
		return nil, err
	}
	journals, err := js.Stream(ctx, "MQTT_JOURNAL")
	if err != nil {
		return nil, err
	}
	info, err := journals.Info(ctx, natsjs.WithSubjectFilter(">"))
	if err != nil {
		return nil, err
	}
	for subject := range info.State.Subjects {
		if subject[strings.LastIndexByte(subject, '.')+1:] != clientID {
			continue
		}
		m, err := journals.GetLastMsgForSubject(ctx, subject)
		if err != nil && !errors.Is(err, natsjs.ErrMsgNotFound) {
			return nil, err
		}
		if err == nil && !deletionMarker(m) {
			traces = append(traces, "a journal at "+subject)
		}
	}
	return traces, nil
}

// deletionMarker reports whether a message only says that there is none.
func deletionMarker(m *natsjs.RawStreamMsg) bool {
	return len(m.Data) == 0 || m.Header.Get("KV-Operation") != "" || m.Header.Get("Nats-Marker-Reason") != ""
}
