package jetstream_test

import (
	"strings"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// migration is one from a store with some messages to an empty one, and the two.
func migration(t *testing.T) (m *jetstream.Migration, from, to *jetstreamtest.NATS) {
	t.Helper()
	from, to = jetstreamtest.StartNATS(t), jetstreamtest.StartNATS(t)
	s := openStorage(t, from, testConfig())
	for range 10 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a/b", strings.Repeat("x", 200_000)))
	}
	return &jetstream.Migration{From: from.Conn, To: to.Conn, Config: testConfig(), Done: func(jetstream.MigratedStream) {}}, from, to
}

// Positions mean in the log that was taken over what they meant before.
func TestMigratedLogKeepsPositions(t *testing.T) {
	m, from, to := migration(t)
	position := func(n *jetstreamtest.NATS) sessions.Position {
		entries, err := openStorage(t, n, testConfig()).Log().Load(testContext(t), []uint64{7})
		if err != nil || len(entries) != 1 {
			t.Fatalf("read %v, %v", entries, err)
		}
		return entries[0].Position
	}
	was := position(from)
	if left, err := m.Run(testContext(t)); err != nil || len(left) > 0 {
		t.Fatalf("left %q, %v", left, err)
	}
	if is := position(to); is != was {
		t.Errorf("position %v, was %v", is, was)
	}
	log := openStorage(t, to, testConfig()).Log()
	if is, moved, err := log.Resolve(testContext(t), was); err != nil || moved || is != was {
		t.Errorf("resolved as %v, moved %v, %v", is, moved, err)
	}
}

// What fails half way leaves the target as it was.
func TestMigrationThatFailsLeavesNothing(t *testing.T) {
	m, _, to := migration(t)
	ctx, js := testContext(t), newJS(t, to.Conn)
	if _, err := js.CreateStream(ctx, natsjs.StreamConfig{Name: "OTHER", Subjects: []string{"mqtt_journal.mine"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run(ctx); err == nil || !strings.Contains(err.Error(), "MQTT_JOURNAL") {
		t.Errorf("error %v", err)
	}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if name != "OTHER" {
			t.Errorf("stream %s is there", name)
		}
	}
	if err := names.Err(); err != nil {
		t.Error(err)
	}
	if err := js.DeleteStream(ctx, "OTHER"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, err := m.Run(ctx); err == nil || !strings.Contains(err.Error(), "must have none") {
		t.Errorf("again: %v", err)
	}
}
