package jetstream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func testConfig() jetstream.Config {
	c := jetstream.DefaultConfig()
	c.MaxBytes = 1 << 30
	c.Heartbeat = 200 * time.Millisecond
	return c
}

// openStorage opens storage on a server and ends it with the test.
func openStorage(t testing.TB, n *jetstreamtest.NATS, c jetstream.Config) *jetstream.Storage {
	t.Helper()
	s, err := jetstream.Open(testContext(t), n.Conn, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newStorage(t testing.TB) (*jetstreamtest.NATS, *jetstream.Storage) {
	t.Helper()
	n := jetstreamtest.StartNATS(t)
	return n, openStorage(t, n, testConfig())
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestWritesAfterCloseFail(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	s, err := jetstream.Open(testContext(t), n.Conn, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	sink := make(jetstreamtest.Sink, 3)
	s.Log().Append(jetstreamtest.Message("a", "1"), "", sink, 1)
	s.Store().SaveRecord("c", nil, 0, sessions.AtOnce, sink, 2)
	s.Log().Append(jetstreamtest.Message(string(make([]byte, 5000)), "1"), "", sink, 3)
	seen := make(map[uint64]bool)
	for range 3 {
		r := sink.Next(t)
		if !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Errorf("result %+v", r)
		}
		seen[r.Token] = true
	}
	if len(seen) != 3 {
		t.Errorf("tokens %v", seen)
	}
}

func TestSenselessConfigIsRefused(t *testing.T) {
	for name, change := range map[string]func(*jetstream.Config){
		"name":     func(c *jetstream.Config) { c.Names.Stream = "a.b" },
		"subjects": func(c *jetstream.Config) { c.Names.Subjects = "a..b" },
		"overlap":  func(c *jetstream.Config) { c.Names.JournalSubjects = c.Names.Subjects },
		"bytes":    func(c *jetstream.Config) { c.MaxBytes = 0 },
		"age":      func(c *jetstream.Config) { c.MaxAge = -1 },
		"window":   func(c *jetstream.Config) { c.Window = 0 },
		"ack":      func(c *jetstream.Config) { c.AckTimeout = 0 },
		"renew":    func(c *jetstream.Config) { c.RenewWithin = 0 },
		"group":    func(c *jetstream.Config) { c.Names.GroupPrefix = "a.b" },
		"beat":     func(c *jetstream.Config) { c.Heartbeat = 0 },
		"logger":   func(c *jetstream.Config) { c.Logger = nil },
		"lifetime": func(c *jetstream.Config) { c.TombstoneTTL = 0 },
		"presence": func(c *jetstream.Config) { c.Presence.OfflineTTL = 0 },
		"bucket":   func(c *jetstream.Config) { c.Names.PresenceBucket = "a.b" },
	} {
		c := testConfig()
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c := jetstream.DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
}

func TestRequestFailsWithItsConnection(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	c := testConfig()
	c.AckTimeout = time.Hour
	s := openStorage(t, n, c)
	ctx := testContext(t)
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Log().Load(ctx, []uint64{1}); err != nil {
				failed <- err
				return
			}
		}
	}()
	n.Stop()
	select {
	case err := <-failed:
		if !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("load: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a request waits for a connection that is lost")
	}
}
