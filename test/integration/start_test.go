package integration

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A start that cannot work says why in one line and ends with code 1.
func TestStartFailsWithOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	running := harness.Start(t)
	mqtt := func() string { return harness.FreeAddress(t) }

	cases := []struct {
		name string
		args []string
		says string // part of the line
	}{
		{"MQTT port taken", []string{"--mqtt-listen", taken.Addr().String(), "--nats-listen", "off"}, taken.Addr().String()},
		{"WebSocket port taken", []string{"--mqtt-listen", mqtt(), "--ws-listen", taken.Addr().String(), "--nats-listen", "off"}, "--ws-listen"},
		{"NATS port taken", []string{"--mqtt-listen", mqtt(), "--nats-listen", taken.Addr().String()}, taken.Addr().String()},
		{"data directory is a file", []string{"--data-dir", file, "--mqtt-listen", mqtt(), "--nats-listen", "off"}, file},
		{"data directory cannot be made", []string{"--data-dir", "/proc/dunlin", "--mqtt-listen", mqtt(), "--nats-listen", "off"}, "/proc/dunlin"},
		{"data directory in use", []string{"--data-dir", running.DataDir, "--mqtt-listen", mqtt(), "--nats-listen", "off"}, running.DataDir},
		{"unknown key", []string{"--mqtt-listen", mqtt(), "--nats-listen", "off", "--set", "sessions.max_expirry=1h"}, "sessions.max_expiry"},
		{"MQTT on all interfaces", []string{"--mqtt-listen", "0.0.0.0:0", "--nats-listen", "off"}, "--allow-anonymous"},
		{"WebSocket on all interfaces", []string{"--mqtt-listen", mqtt(), "--ws-listen", "0.0.0.0:0", "--nats-listen", "off"}, "--allow-anonymous"},
		{"NATS on all interfaces", []string{"--mqtt-listen", mqtt(), "--nats-listen", "0.0.0.0:0"}, "--allow-anonymous"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := harness.RunToExit(t, append([]string{"serve"}, c.args...)...)
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if stdout != "" {
				t.Errorf("standard output %q, want nothing", stdout)
			}
			if line := strings.TrimSpace(stderr); line == "" || strings.Contains(line, "\n") || !strings.Contains(line, c.says) {
				t.Errorf("standard error is not one line that says %q:\n%s", c.says, stderr)
			}
		})
	}
}

// The broker that holds a data directory does not notice another's attempt on it.
func TestStartOnUsedDataDirectoryHarmsNobody(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	device := harness.NewDevice(mqttcodec.V5, "c")
	c := device.Connect(b, harness.Persistent)
	c.Subscribe("a", 1)
	harness.RunToExit(t, "serve", "--data-dir", b.DataDir, "--mqtt-listen", harness.FreeAddress(t), "--nats-listen", "off")
	c.Publish("a", 1, "still here")
	c.ExpectPayloads("still here")
	b.Restart(harness.Kill9, c) // the lock of a killed process is no lock
	device.Resume(b)
}

// SIGTERM tells a 5.0 client why, closes a 3.1.1 client, and publishes no loss of what was acknowledged.
// [MQTT-3.14.0-1] [MQTT-3.14.4-1] [case 49]
func TestSIGTERMSendsDisconnect(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	new5 := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "new"))
	new5.Subscribe(harness.Filter("a", 1))
	old := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V311, "old"))
	b.Stop()
	expectShutdown(t, new5)
	if last := old.ExpectClosed(); len(last) != 0 {
		t.Errorf("a 3.1.1 client got %T: that version has no DISCONNECT from the server", last[0])
	}
}

// A half-open client that reads nothing does not hold the broker up.
func TestSIGTERMDoesNotWaitForClients(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	stuck := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "stuck"))
	stuck.Subscribe(harness.Filter("flood", 0))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	big := make([]byte, 64<<10)
	for range 200 {
		publisher.Send(&mqttcodec.Publish{Topic: "flood", Payload: big})
	}
	publisher.Publish(mqttcodec.Publish{Topic: "sync", QoS: 1})
	b.Stop() // checks code and time
}

// The broker ends in time also when SIGTERM finds it in the middle of something: a session being read, a connection
// just gone, the recovery after a kill not over.
func TestSIGTERMRightAfterStartEndsInTime(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "c"))
	c.Subscribe(harness.Filter("a", 1))
	for range 8 {
		b.Restart(harness.Kill9, c)
		c = b.Resume(t, mqttcodec.V5, "c")
		c.Drop()
		b.Restart(harness.Term)
		c = b.Resume(t, mqttcodec.V5, "c")
	}
}
