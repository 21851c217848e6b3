package jetstream_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
)

func embeddedConfig(t testing.TB) jetstream.EmbeddedConfig {
	t.Helper()
	c := jetstream.DefaultEmbeddedConfig(t.TempDir())
	c.Listen = jetstream.ListenOff
	return c
}

// wantStartError makes sure that a start fails in one line that holds all of parts.
func wantStartError(t *testing.T, c jetstream.EmbeddedConfig, parts ...string) {
	t.Helper()
	e, err := jetstream.StartEmbedded(c)
	if err == nil {
		if err := e.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		t.Fatal("it has started")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := embeddedConfig(t)
	c.Listen = l.Addr().String()
	wantStartError(t, c, l.Addr().String(), "address already in use", "choose another")
}

func TestDataDirectoryThatCannotBeWrittenIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := embeddedConfig(t)
	c.DataDir = filepath.Join(file, "data")
	wantStartError(t, c, c.DataDir, "not a directory", "choose")

	c = embeddedConfig(t) // the server itself finds something in its way
	if err := os.WriteFile(filepath.Join(c.DataDir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantStartError(t, c, c.DataDir, "storage directory is not a directory")
}

func TestDataDirectoryInUseIsNamed(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	wantStartError(t, n.Config, n.Config.DataDir, "in use by another process", "stop it")
	n.Restart() // ours is not harmed, and lets go of it at its end
}

func TestSenselessEmbeddedConfigIsRefused(t *testing.T) {
	for name, change := range map[string]func(*jetstream.EmbeddedConfig){
		"directory": func(c *jetstream.EmbeddedConfig) { c.DataDir = "" },
		"name":      func(c *jetstream.EmbeddedConfig) { c.ServerName = "" },
		"address":   func(c *jetstream.EmbeddedConfig) { c.Listen = "4222" },
		"port":      func(c *jetstream.EmbeddedConfig) { c.Listen = "127.0.0.1:nats" },
		"payload":   func(c *jetstream.EmbeddedConfig) { c.MaxPayload = 1 },
		"interval":  func(c *jetstream.EmbeddedConfig) { c.SyncInterval = 0 },
		"logger":    func(c *jetstream.EmbeddedConfig) { c.Logger = nil },
	} {
		c := embeddedConfig(t)
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
		wantStartError(t, c, "embedded NATS: ")
	}
}

func TestNATSClientsConnectToTheListener(t *testing.T) {
	c := embeddedConfig(t)
	c.Listen = "127.0.0.1:0"
	n := jetstreamtest.StartNATSWith(t, c)
	s := openStorage(t, n, testConfig())
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a/b", "1"))
	nc, err := nats.Connect("nats://" + n.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	stream, err := newJS(t, nc).Stream(testContext(t), "MQTT")
	if err != nil || stream.CachedInfo().State.Msgs != 1 {
		t.Errorf("stream %v, %v", stream, err)
	}
	if info, err := os.Stat(filepath.Join(c.DataDir, "jetstream")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the store is readable for others: %v, %v", info.Mode(), err)
	}
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	e, err := jetstream.StartEmbedded(embeddedConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Shutdown(ended); err == nil {
		t.Log("it was faster")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
