package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeBroker is a broker whose end the test decides.
type fakeBroker struct {
	stopping chan struct{}                   // closed when Shutdown is called
	shutdown func(ctx context.Context) error // nil: at once, without error
	failed   chan struct{}                   // closed when the broker cannot go on
	// company: other nodes take clients. draining has what ended each drain, drainAsked is closed when one is asked for.
	company    bool
	draining   chan struct{}
	drainAsked chan struct{}
}

func newFakeBroker() *fakeBroker {
	return &fakeBroker{
		stopping: make(chan struct{}), failed: make(chan struct{}), draining: make(chan struct{}), drainAsked: make(chan struct{}),
	}
}

func (b *fakeBroker) Company() bool { return b.company }

func (b *fakeBroker) DrainAsked() <-chan struct{} { return b.drainAsked }

func (b *fakeBroker) Drain(ctx context.Context) {
	close(b.draining)
	<-ctx.Done()
}

func (b *fakeBroker) Addresses() addresses {
	return addresses{MQTT: "127.0.0.1:1001", WebSocket: "127.0.0.1:1003", NATS: "127.0.0.1:1002"}
}

func (b *fakeBroker) Failed() <-chan struct{} { return b.failed }

func (b *fakeBroker) Shutdown(ctx context.Context) error {
	close(b.stopping)
	if b.shutdown == nil {
		return nil
	}
	return b.shutdown(ctx)
}

// testConfig is the default configuration on free ports, in a directory of the test.
func testConfig(t *testing.T, overrides ...override) Config {
	t.Helper()
	c, _, err := loadConfig(options{overrides: append([]override{
		{"storage.data_dir", t.TempDir(), "test"},
		{"listeners.mqtt", "127.0.0.1:0", "test"},
		{"listeners.ws", "127.0.0.1:0", "test"},
		{"nats.listen", "127.0.0.1:0", "test"},
		{"storage.max_bytes", "1GiB", "test"},
		{"log.format", "json", "test"},
	}, overrides...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serving is a serve that runs beside the test.
type serving struct {
	ready  string // its line on stdout
	done   chan error
	stderr *bytes.Buffer // to be read after done
}

func serveFake(ctx context.Context, t *testing.T, b *fakeBroker) serving {
	t.Helper()
	c := testConfig(t)
	s := serving{done: make(chan error, 1), stderr: new(bytes.Buffer)}
	read, write := io.Pipe()
	go func() {
		s.done <- serve(ctx, c, func(context.Context, Config, *slog.Logger) (broker, error) { return b, nil }, write, s.stderr)
		_ = write.Close()
	}()
	var err error
	s.ready, err = bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("no ready line: %v, %v", err, <-s.done)
	}
	return s
}

func sendSIGTERM(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func TestReadyLineNamesEveryAddress(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serveFake(ctx, t, newFakeBroker())
	if !strings.HasPrefix(s.ready, "dunlin ready: mqtt 127.0.0.1:1001, ws 127.0.0.1:1003, nats 127.0.0.1:1002, data /") {
		t.Errorf("ready line %q", s.ready)
	}
	cancel()
	if err := <-s.done; err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(s.stderr.String(), "\n")
	var line struct{ Level, Msg, MQTT, WS, NATS, Data string }
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.Level != "INFO" || line.MQTT != "127.0.0.1:1001" || line.WS != "127.0.0.1:1003" || line.Data == "" {
		t.Errorf("logged %q, %v", first, err)
	}
}

// With company a node sends its clients there first, for as long as it takes, or until a second signal.
func TestNodeWithCompanyDrains(t *testing.T) {
	for name, begin := range map[string]func(*fakeBroker){
		"SIGTERM":  func(*fakeBroker) { sendSIGTERM(t) },
		"operator": func(b *fakeBroker) { close(b.drainAsked) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newFakeBroker()
			b.company = true
			s := serveFake(t.Context(), t, b)
			begin(b)
			<-b.draining
			select {
			case <-b.stopping:
				t.Fatal("it is shut down while it drains")
			default:
			}
			sendSIGTERM(t)
			<-b.stopping
			if err := <-s.done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestSIGTERMStopsTheBroker(t *testing.T) {
	b := newFakeBroker()
	s := serveFake(t.Context(), t, b)
	sendSIGTERM(t)
	if err := <-s.done; err != nil {
		t.Errorf("a clean stop ends with %v", err)
	}
	<-b.stopping
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	b := newFakeBroker()
	release := make(chan struct{})
	defer close(release)
	b.shutdown = func(context.Context) error { <-release; return nil }
	s := serveFake(t.Context(), t, b)
	sendSIGTERM(t)
	<-b.stopping
	sendSIGTERM(t)
	assertSays(t, <-s.done, "second signal")
}

func TestStopEndsWithItsBudget(t *testing.T) {
	b := newFakeBroker()
	release := make(chan struct{})
	defer close(release)
	b.shutdown = func(context.Context) error { <-release; return nil }
	assertSays(t, stop(t.Context(), b, time.Millisecond), "1ms", "acknowledged is stored")
}

func TestErrorOfTheStopIsTheErrorOfServe(t *testing.T) {
	b := newFakeBroker()
	broken := errors.New("broken")
	b.shutdown = func(context.Context) error { return broken }
	s := serveFake(t.Context(), t, b)
	sendSIGTERM(t)
	if err := <-s.done; !errors.Is(err, broken) {
		t.Errorf("serve ends with %v, want the broker's error", err)
	}
}

func TestStopBeforeReadyIsNoMistake(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := testConfig(t)
	start := func(ctx context.Context, _ Config, _ *slog.Logger) (broker, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := serve(ctx, c, start, io.Discard, io.Discard); err != nil {
		t.Errorf("told to stop while starting: %v", err)
	}
}

func TestServeHandsOverTheResolvedStorage(t *testing.T) {
	c := testConfig(t, override{"storage.data_dir", t.TempDir() + "/./new", "test"}, override{"storage.max_bytes", "auto", "test"})
	stopHere := errors.New("seen enough")
	start := func(_ context.Context, c Config, _ *slog.Logger) (broker, error) {
		if c.Storage.MaxBytes <= 0 || strings.Contains(c.Storage.DataDir, "/./") {
			t.Errorf("storage %+v, want a bound in bytes and a clean absolute path", c.Storage)
		}
		return nil, stopHere
	}
	if err := serve(t.Context(), c, start, io.Discard, io.Discard); !errors.Is(err, stopHere) {
		t.Errorf("serve ends with %v", err)
	}
}

func TestServeEndsWithTheErrorOfABrokerThatFailed(t *testing.T) {
	b := newFakeBroker()
	b.shutdown = func(context.Context) error { return errors.New("the log cannot be read any more") }
	s := serveFake(t.Context(), t, b)
	close(b.failed)
	if err := <-s.done; err == nil || !strings.Contains(err.Error(), "the log cannot be read any more") {
		t.Errorf("serve returned %v", err)
	}
}
