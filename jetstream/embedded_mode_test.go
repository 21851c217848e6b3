package jetstream_test

import (
	"os"
	"path/filepath"
	"testing"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
)

// A store opens in the mode in which it was written, and in no other.
func TestStoreOfAnotherModeIsRefused(t *testing.T) {
	alone := embeddedConfig(t)
	cluster := func(dir, name, server string) jetstream.EmbeddedConfig {
		c := embeddedConfig(t)
		c.DataDir, c.ServerName = dir, server
		c.Cluster = jetstream.ClusterConfig{Listen: "127.0.0.1:0", Routes: []string{"127.0.0.1:1"}, Name: name}
		return c
	}
	empty := embeddedConfig(t)
	stop(t, empty)
	stop(t, cluster(empty.DataDir, "flock", "a")) // without streams it may be either

	n := jetstreamtest.StartNATSWith(t, alone)
	jetstreamtest.Append(t, openStorage(t, n, testConfig()).Log(), jetstreamtest.Message("a/b", "1"))
	n.Stop()
	wantStartError(t, cluster(alone.DataDir, "flock", "a"), alone.DataDir, "was alone", "dunlin migrate --from "+alone.DataDir)
	if err := os.Remove(filepath.Join(alone.DataDir, "mode")); err != nil { // as a version before has left it
		t.Fatal(err)
	}
	wantStartError(t, cluster(alone.DataDir, "flock", "a"), "was alone", "dunlin migrate")
	stop(t, alone)

	one := cluster(t.TempDir(), "flock", "a")
	stop(t, one)
	stop(t, one)
	again := embeddedConfig(t)
	again.DataDir = one.DataDir
	wantStartError(t, again, one.DataDir, "cluster flock", "--cluster-listen")
	wantStartError(t, cluster(one.DataDir, "herd", "a"), one.DataDir, "cluster.name", "flock")
	wantStartError(t, cluster(one.DataDir, "flock", "b"), one.DataDir, "server a", "file node")
	if err := os.WriteFile(filepath.Join(one.DataDir, "mode"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantStartError(t, one, "mode", "put back")
}

// stop starts a server and stops it.
func stop(t *testing.T, c jetstream.EmbeddedConfig) {
	t.Helper()
	e, err := jetstream.StartEmbedded(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Shutdown(testContext(t)); err != nil {
		t.Fatal(err)
	}
}
