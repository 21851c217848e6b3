package harness

import (
	"strings"
	"testing"
)

// EmbeddedCluster is several brokers whose NATS servers inside are one cluster.
type EmbeddedCluster struct {
	Nodes []*Broker
	// Routes are the addresses at which the first nodes listen for the servers of the others.
	Routes []string

	t       testing.TB
	options []Option
}

// StartEmbeddedCluster starts three brokers whose servers inside are one cluster and listen for NATS clients, and waits until they are
// ready. The test ends them.
func StartEmbeddedCluster(t testing.TB, options ...Option) *EmbeddedCluster {
	t.Helper()
	c := NewEmbeddedCluster(t, 3, options...)
	c.Up()
	return c
}

// NewEmbeddedCluster is a cluster of n brokers that are not started.
func NewEmbeddedCluster(t testing.TB, n int, options ...Option) *EmbeddedCluster {
	t.Helper()
	c := &EmbeddedCluster{t: t, options: options}
	for range n {
		c.Routes = append(c.Routes, FreeAddress(t))
	}
	for _, route := range c.Routes {
		c.add(route)
	}
	t.Cleanup(c.cleanup)
	return c
}

// Add is one more broker, not started, with a route to itself and those of the first.
func (c *EmbeddedCluster) Add() *Broker {
	c.t.Helper()
	return c.add(FreeAddress(c.t))
}

func (c *EmbeddedCluster) add(route string) *Broker {
	c.t.Helper()
	b := newBroker(c.t, append([]Option{
		WithNATS(), Set("cluster.listen", route), Set("cluster.routes", strings.Join(c.Routes, ",")), Set("cluster.password", "quill"),
	}, c.options...))
	c.Nodes = append(c.Nodes, b)
	return b
}

// Up starts the brokers that are down, all at once, and waits until they are ready.
func (c *EmbeddedCluster) Up() {
	c.t.Helper()
	var ready []func()
	for _, b := range c.Nodes {
		if b.process == nil {
			ready = append(ready, b.Begin())
		}
	}
	for _, wait := range ready {
		wait()
	}
}

// cleanup ends the brokers. Of those that end together the last ones have no servers left to write to, so that they are killed.
func (c *EmbeddedCluster) cleanup() {
	for _, b := range c.Nodes {
		if b.process != nil {
			b.Kill()
		}
		b.cleanup()
	}
}
