package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
)

// startTestBroker starts the real broker and ends it with the test.
func startTestBroker(t *testing.T, c Config) broker {
	t.Helper()
	b, err := startBroker(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestAddressesAreThoseThatAccept(t *testing.T) {
	at := startTestBroker(t, testConfig(t)).Addresses()
	for _, address := range []string{at.MQTT, at.WebSocket, at.NATS} {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsOffHasNoListener(t *testing.T) {
	at := startTestBroker(t, testConfig(t, override{"nats.listen", "off", "test"}, override{"listeners.ws", "off", "test"})).Addresses()
	if at.NATS != "off" || at.WebSocket != "off" {
		t.Errorf("NATS address %q, WebSocket address %q, want off", at.NATS, at.WebSocket)
	}
}

func TestTakenPortIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for name, says := range map[string]string{"listeners.mqtt": "--mqtt-listen", "listeners.ws": "--ws-listen", "nats.listen": "choose another"} {
		c := testConfig(t, override{name, l.Addr().String(), "test"})
		assertRefused(t, c, l.Addr().String(), "in use", says)
		startTestBroker(t, testConfig(t, override{"storage.data_dir", c.Storage.DataDir, "test"})) // nothing was left behind
	}
}

func TestDataDirHasOneProcessAtATime(t *testing.T) {
	c := testConfig(t)
	startTestBroker(t, c)
	assertRefused(t, c, c.Storage.DataDir, "in use by another process")
}

// assertRefused expects that serve ends, with one line that says all parts, and says nothing on standard output.
func assertRefused(t *testing.T, c Config, parts ...string) {
	t.Helper()
	var stdout strings.Builder
	err := serve(t.Context(), c, startBroker, &stdout, io.Discard)
	assertSays(t, err, parts...)
	if strings.Contains(err.Error(), "\n") || stdout.Len() > 0 {
		t.Errorf("error %q and output %q, want one line and nothing", err, stdout.String())
	}
}

func TestStoppedBrokerStartsAgain(t *testing.T) {
	c := testConfig(t)
	for range 2 {
		b, err := startBroker(t.Context(), c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStartThatFailsLeavesNothingRunning(t *testing.T) {
	c := testConfig(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := startBroker(ended, c, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("started although its context had ended")
	}
	startTestBroker(t, c) // the data directory is free
}

func TestPartsStopInReverseOrderWhateverFails(t *testing.T) {
	var order []string
	n := new(node)
	for _, name := range []string{"storage", "clients"} {
		n.onStop(func(context.Context) error {
			order = append(order, name)
			return errors.New(name + " broken")
		})
	}
	assertSays(t, n.Shutdown(t.Context()), "clients broken", "storage broken")
	if !slices.Equal(order, []string{"clients", "storage"}) {
		t.Errorf("stopped in the order %v", order)
	}
}

func TestTopicsThatFit(t *testing.T) {
	long := strings.Repeat("x", 60_000)
	for _, c := range []struct {
		topic                string
		stored, compatStored bool
		unstored, compatLive bool
	}{
		{"a/b", true, true, true, true},
		{"/a//b/", true, true, true, true},
		{"a.b/$c/ü", true, true, true, true},
		{"a b", true, false, true, false},
		{"a/*", true, false, true, false},
		{"a/>/+/#", true, false, true, false},
		{long, false, false, true, true},
		{long + " ", false, false, true, false},
		{strings.Repeat("x", 2048), true, true, true, true},
		{strings.Repeat("x", 2049), false, false, true, true},
		{strings.Repeat(".", 1024), false, true, true, true}, // =2E and //
		{strings.Repeat(".", 1025), false, false, true, true},
		{"$share/a name/" + strings.Repeat("x", 2048), true, true, true, true},
		{"$share/g/a b", true, false, true, false},
		{strings.Repeat("/", 256), false, false, false, false},
	} {
		for _, mapping := range []string{"default", "nats-compat"} {
			fits := brokerConfig(testConfig(t, override{"topics.mapping", mapping, "test"})).Sessions.TopicFits
			stored, unstored := c.stored, c.unstored
			if mapping == "nats-compat" {
				stored, unstored = c.compatStored, c.compatLive
			}
			if fits(c.topic, true) != stored || fits(c.topic, false) != unstored {
				t.Errorf("%s: %.40q of %d bytes fits stored %v, else %v, want %v, %v", mapping, c.topic, len(c.topic), !stored, !unstored, stored, unstored)
			}
		}
	}
}

func TestOverlappingPrefixesAreRefused(t *testing.T) {
	for prefixes, says := range map[[2]string]string{
		{"mqtt", "mqtt.live"}:    "subjects mqtt.> of the log and mqtt.live.> of live messages overlap",
		{"dunlin.mqtt", "mqtt0"}: "dunlin.> of events and control overlap",
	} {
		_, _, err := loadConfig(options{overrides: []override{{"topics.prefix", prefixes[0], "test"}, {"topics.live_prefix", prefixes[1], "test"}}})
		assertSays(t, err, "topics.prefix "+prefixes[0], "topics.live_prefix "+prefixes[1], says, "choose another one")
	}
}

func TestLogOfAnotherMappingIsRefused(t *testing.T) {
	c := testConfig(t)
	b, err := startBroker(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Topics.Mapping = "nats-compat"
	assertRefused(t, c, "MQTT", "mapping default, we need nats-compat", "set topics.mapping to default")
	c.Topics.Mapping, c.Topics.Prefix = "default", "acme"
	assertRefused(t, c, "MQTT", "[mqtt.>], we need [acme.>]", "set topics.prefix to mqtt")
}

func TestConnectRateReachesTheBroker(t *testing.T) {
	if got := brokerConfig(testConfig(t, override{"limits.connect_rate", "7", "test"})).ConnectRate; got != 7 {
		t.Errorf("connect rate is %d", got)
	}
}

// Many queues of shared subscriptions make the embedded server slow to stop; the process ends in time, and without an error.
func TestSlowNATSIsNoFailureOfTheStop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*stopMargin)
	defer cancel()
	never := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	if err := stopNATS(ctx, never, slog.New(slog.DiscardHandler)); err != nil || ctx.Err() != nil {
		t.Errorf("it ended with %v, and of its time with %v", err, ctx.Err())
	}
	broken := errors.New("broken")
	if err := stopNATS(t.Context(), func(context.Context) error { return broken }, slog.New(slog.DiscardHandler)); !errors.Is(err, broken) {
		t.Errorf("it ended with %v, want %v", err, broken)
	}
}
