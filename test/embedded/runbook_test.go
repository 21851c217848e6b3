package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"dunlin/test/harness"
)

// A restart of one after another, and of all at once, loses nothing and needs nobody.
func TestRestartOfOneAndOfAll(t *testing.T) {
	t.Parallel()
	c := harness.StartEmbeddedCluster(t)
	publish(t, c.Nodes[0], "a/b", "1")
	for _, b := range c.Nodes {
		b.Stop()
		b.Up()
		replicated(t, b)
	}
	code, out, stderr := harness.RunToExit(t, "doctor", "--nats-listen", c.Nodes[0].NATS, "--cluster-listen", c.Routes[0], "--cluster-routes", strings.Join(c.Routes, ","))
	if code != 0 || strings.Contains(out, "warning") {
		t.Errorf("doctor: exit %d\n%s\n%s", code, out, stderr)
	}
	publish(t, c.Nodes[1], "a/b", "2")
	var stops sync.WaitGroup
	for _, b := range c.Nodes {
		stops.Go(b.Kill)
	}
	stops.Wait()
	c.Up()
	replicated(t, c.Nodes[2])
	publish(t, c.Nodes[2], "a/b", "3")
	for _, b := range c.Nodes {
		stored(t, b, "mqtt.a.b", "1", "2", "3")
	}
}

// cluster runs dunlin cluster for a node, as on its machine.
func cluster(t *testing.T, b *harness.Broker, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return harness.RunToExit(t, append(append([]string{"cluster"}, args...), "--data-dir", b.DataDir, "--nats-listen", b.NATS)...)
}

// name is what a node is called.
func name(t *testing.T, b *harness.Broker) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(b.DataDir, "node"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// A machine that is lost is replaced by an empty one, which then keeps what the lost one kept.
func TestLostServerIsReplaced(t *testing.T) {
	t.Parallel()
	c := harness.StartEmbeddedCluster(t)
	publish(t, c.Nodes[0], "a/b", "1")
	lost := c.Nodes[0]
	if code, _, stderr := cluster(t, c.Nodes[1], "rm", name(t, lost)); code != 1 || !strings.Contains(stderr, "runs: stop it") {
		t.Errorf("a server that runs is removed: exit %d, %s", code, stderr)
	}
	lost.Kill()
	led(t, c.Nodes[1])
	publish(t, c.Nodes[1], "a/b", "2")
	replacement := c.Add()
	replacement.Up()
	harness.Eventually(t, harness.Patience, "the leader misses the server", func() error {
		_, out, _ := cluster(t, c.Nodes[1], "ls")
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, name(t, lost)+" ") && strings.Contains(line, "offline") {
				return nil
			}
		}
		return errors.New(out)
	})
	if code, _, stderr := cluster(t, c.Nodes[1], "rm", "nobody"); code != 1 || !strings.Contains(stderr, name(t, replacement)) {
		t.Errorf("nobody is removed: exit %d, %s", code, stderr)
	}
	if code, out, stderr := cluster(t, c.Nodes[2], "rm", name(t, lost)); code != 0 {
		t.Fatalf("exit %d, %s%s", code, out, stderr)
	}
	harness.Eventually(t, harness.Patience, "the leader has forgotten the server", func() error {
		_, out, _ := cluster(t, replacement, "ls", "-o", "json")
		if strings.Contains(out, name(t, lost)) || !strings.Contains(out, name(t, replacement)) {
			return errors.New(out)
		}
		return nil
	})
	replicated(t, replacement)
	ctx, js := harness.Context(t), replacement.JetStream(t)
	for _, asset := range assets {
		stream, err := js.Stream(ctx, asset)
		if err != nil {
			t.Fatal(err)
		}
		info := stream.CachedInfo().Cluster
		keepers := []string{info.Leader}
		for _, r := range info.Replicas {
			keepers = append(keepers, r.Name)
		}
		if want := name(t, replacement); !slices.Contains(keepers, want) {
			t.Errorf("%s is kept by %v, not by %s", asset, keepers, want)
		}
	}
	c.Nodes[1].Kill() // two of three are left, the new one among them
	led(t, replacement)
	publish(t, replacement, "a/b", "3")
	stored(t, replacement, "mqtt.a.b", "1", "2", "3")
}
