package sessionstest

import (
	"context"
	"fmt"
	"sync"

	"dunlin/sessions"
)

// Neighbours connects the nodes on one storage. Safe for concurrent use.
type Neighbours struct {
	// mu guards the fields below it.
	mu    sync.Mutex
	nodes map[string]sessions.Neighbour
	// deaf are the boots that hear nothing and do not answer.
	deaf map[string]bool
}

var _ sessions.Nodes = (*Neighbours)(nil)

// NewNeighbours connects nobody yet.
func NewNeighbours() *Neighbours {
	return &Neighbours{nodes: map[string]sessions.Neighbour{}, deaf: map[string]bool{}}
}

// Deafen keeps a boot from hearing the others, or ends that.
func (n *Neighbours) Deafen(boot string, deaf bool) {
	n.mu.Lock()
	node := n.nodes[boot]
	n.deaf[boot] = deaf
	n.mu.Unlock()
	if !deaf && node != nil {
		node.Rejoined()
	}
}

// Announce implements sessions.Nodes.
func (n *Neighbours) Announce(c sessions.Claim) {
	n.mu.Lock()
	var to []sessions.Neighbour
	for boot, node := range n.nodes {
		if boot != c.Boot && !n.deaf[boot] && !n.deaf[c.Boot] {
			to = append(to, node)
		}
	}
	n.mu.Unlock()
	for _, node := range to {
		node.Claimed(c)
	}
}

func (n *Neighbours) find(boot string) (node sessions.Neighbour, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	node = n.nodes[boot]
	switch {
	case node == nil:
		return nil, fmt.Errorf("%w: node %s", sessions.ErrNotFound, boot)
	case n.deaf[boot]:
		return nil, fmt.Errorf("%w: node %s", sessions.ErrUnavailable, boot)
	}
	return node, nil
}

// Ask implements sessions.Nodes.
func (n *Neighbours) Ask(ctx context.Context, boot string, c sessions.Claim) (sessions.Release, error) {
	node, err := n.find(boot)
	if err != nil {
		return sessions.Release{}, err
	}
	answer := make(chan sessions.Release, 1)
	node.Asked(c, func(r sessions.Release) { answer <- r })
	select {
	case r := <-answer:
		return r, nil
	case <-ctx.Done():
		return sessions.Release{}, fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
	}
}

// Greet implements sessions.Nodes.
func (n *Neighbours) Greet(_ context.Context, boot string, h sessions.Hello) (sessions.Hello, error) {
	node, err := n.find(boot)
	if err != nil {
		return sessions.Hello{}, err
	}
	return node.Greeted(h), nil
}

// PlaceOfShare implements sessions.Nodes.
func (n *Neighbours) PlaceOfShare(_ context.Context, boot, share string, removing bool) (sessions.SharePlace, error) {
	node, err := n.find(boot)
	if err != nil {
		return sessions.ShareAbsent, err
	}
	return node.PlaceOfShare(share, removing), nil
}

// Drain implements sessions.Nodes.
func (n *Neighbours) Drain(_ context.Context, boot string) error {
	node, err := n.find(boot)
	if err == nil {
		node.DrainAsked()
	}
	return err
}

// Run implements sessions.Nodes.
func (n *Neighbours) Run(ctx context.Context, boot string, to sessions.Neighbour, ready func()) error {
	n.mu.Lock()
	n.nodes[boot] = to
	n.mu.Unlock()
	ready()
	<-ctx.Done()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.nodes, boot)
	return nil
}
