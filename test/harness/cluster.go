package harness

import (
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
		c.Brokers = append(c.Brokers, Start(t, append(options, DrainWithin(3*time.Second), WithExternalNATS("nats://"+strings.Join(addresses, ",nats://")))...))
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
