package integration

import (
	"os"
	"path/filepath"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A broker that nobody has configured, not even its data directory, keeps sessions, queues and retained messages.
func TestS14S16PersistenceNeedsNoConfiguration(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t, harness.WithoutDataDir())
		if filepath.Base(b.DataDir) != "dunlin-data" {
			t.Errorf("data is in %s, want ./dunlin-data", b.DataDir)
		}
		if _, err := os.Stat(b.DataDir); err != nil && filepath.IsAbs(b.DataDir) {
			t.Error(err)
		}
		device := harness.NewDevice(v, "s14")
		c := device.Connect(b, harness.Persistent)
		c.Subscribe("s14", 1)
		c.Disconnect()
		publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.Publish("s14", 1, "queued")
		publisher.PublishRetained("s16", 1, "retained")
		b.Restart(how, publisher)
		c = device.Resume(b)
		c.ExpectPayloads("queued")
		c.Subscribe("s16", 0)
		if m := c.Receive(); m.Payload != "retained" || !m.Retain {
			t.Errorf("got %+v, want the retained message", m)
		}
	})
}
