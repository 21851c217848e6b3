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
