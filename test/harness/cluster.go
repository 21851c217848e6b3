package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Cluster is brokers that are one to their clients: each a process with a name of its own, all on the same three NATS servers.
type Cluster struct {
	Brokers []*Broker
	Servers []*NATSServer
	// Links are the networks between each broker and the servers.
	Links []*Link
}

// StartCluster starts n brokers and three NATS servers, and ends them with the test.
func StartCluster(t testing.TB, n int, options ...Option) *Cluster {
	t.Helper()
	c := &Cluster{Servers: StartNATSCluster(t, 3)}
	targets := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		targets[i] = s.Address
	}
	for range n {
		link, addresses := startLink(t, targets)
		c.Links = append(c.Links, link)
		c.Brokers = append(c.Brokers, Start(t, append([]Option{
			DrainWithin(3 * time.Second), WithExternalNATS("nats://" + strings.Join(addresses, ",nats://")),
		}, options...)...))
	}
	return c
}

// For is the cluster as a subtest uses it that did not start it; it leaves the processes as they are.
func (c *Cluster) For(t testing.TB) *Cluster {
	view := *c
	view.Brokers = make([]*Broker, len(c.Brokers))
	for i, b := range c.Brokers {
		view.Brokers[i] = b.For(t)
	}
	return &view
}

// Node is the name of the broker among others, which its data directory keeps.
func (b *Broker) Node() string {
	b.t.Helper()
	name, err := os.ReadFile(filepath.Join(b.DataDir, "node"))
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// Drain has a node hand its clients over and end, as an operator does (dunlin node drain).
func (c *Cluster) Drain(b *Broker) {
	b.t.Helper()
	c.nodeCommand(b.t, "drain", b.Node())
}

// AwaitState waits until a node is shown in a state (dunlin node ls).
func (c *Cluster) AwaitState(b *Broker, state string) {
	b.t.Helper()
	Eventually(b.t, Patience, b.Node()+" is "+state, func() error {
		var nodes []struct{ Node, State string }
		if err := json.Unmarshal([]byte(c.nodeCommand(b.t, "ls", "-o", "json")), &nodes); err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Node == b.Node() && n.State == state {
				return nil
			}
		}
		return fmt.Errorf("the nodes are %v", nodes)
	})
}

// nodeCommand runs a command of dunlin node, which must succeed, and returns what it prints.
func (c *Cluster) nodeCommand(t testing.TB, args ...string) string {
	t.Helper()
	code, out, errOut := RunToExit(t, append(append([]string{"node"}, args...), "--nats", c.Servers[0].URL())...)
	if code != 0 {
		t.Fatalf("dunlin node %s: exit code %d: %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

// Pause stops the process where it is (SIGSTOP), as a machine that hangs.
func (b *Broker) Pause() {
	b.t.Helper()
	b.signal(syscall.SIGSTOP)
	b.paused = true
}

// Continue ends Pause.
func (b *Broker) Continue() {
	b.t.Helper()
	b.signal(syscall.SIGCONT)
	b.paused = false
}

func (b *Broker) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.process.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}
