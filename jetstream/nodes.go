package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

const (
	// claimSubject is where nodes announce claims.
	claimSubject = controlSubjects + ".ctl.claim"
	// nodeSubjects begin the subjects on which a boot is asked: dunlin.ctl.node.<boot>.release, ….hello,
	// ….drain.
	nodeSubjects = controlSubjects + ".ctl.node."
	askRelease   = ".release"
	askHello     = ".hello"
	askShare     = ".share"
	askDrain     = ".drain"
)

// Nodes are the nodes on the same storage, reached by core NATS. Safe for concurrent use.
type Nodes struct {
	nc     *nats.Conn
	stats  *Stats
	logger interface{ Warn(string, ...any) }
}

var _ sessions.Nodes = (*Nodes)(nil)

// Nodes are the other nodes on the same storage.
func (s *Storage) Nodes() *Nodes {
	return &Nodes{nc: s.log.nc, stats: s.stats, logger: s.log.config.Logger}
}

// ReadNodes is what the nodes on a NATS, which is only looked at, have last said of themselves.
func ReadNodes(ctx context.Context, nc *nats.Conn, c Config) ([]sessions.Checkpoint, error) {
	in := newInboxes(nc, c.AckTimeout)
	defer in.close()
	s := &Store{config: &c, stats: new(Stats), journals: streamReader{
		inboxes: in, stream: c.Names.JournalStream, api: c.api(), clustered: nc.ConnectedClusterName() != "",
	}}
	return s.Checkpoints(ctx)
}

// AskDrain asks a boot to send its clients to others, and to end.
func AskDrain(ctx context.Context, nc *nats.Conn, boot string) error {
	return (&Nodes{nc: nc}).Drain(ctx, boot)
}

func nodeSubject(boot, ask string) string { return nodeSubjects + EncodeToken(boot) + ask }

func encodeControl(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("control message does not encode: %v", err)) // Invariant: it holds nothing that JSON cannot.
	}
	return data
}

// Announce implements sessions.Nodes. What is not sent, since the servers are away, is announced when they are back.
func (n *Nodes) Announce(c sessions.Claim) {
	if err := n.nc.Publish(claimSubject, encodeControl(c)); err != nil {
		n.stats.ControlUnsent.Add(1)
	}
}

// Ask implements sessions.Nodes.
func (n *Nodes) Ask(ctx context.Context, boot string, c sessions.Claim) (r sessions.Release, err error) {
	return r, n.ask(ctx, nodeSubject(boot, askRelease), c, &r)
}

// Greet implements sessions.Nodes.
func (n *Nodes) Greet(ctx context.Context, boot string, h sessions.Hello) (answer sessions.Hello, err error) {
	return answer, n.ask(ctx, nodeSubject(boot, askHello), h, &answer)
}

// shareQuestion and shareAnswer are about the subscribers of a shared subscription.
type (
	shareQuestion struct {
		Share    string `json:"share"`
		Removing bool   `json:"removing,omitempty"`
	}
	shareAnswer struct {
		Place sessions.SharePlace `json:"place"`
	}
)

// PlaceOfShare implements sessions.Nodes.
func (n *Nodes) PlaceOfShare(ctx context.Context, boot, share string, removing bool) (sessions.SharePlace, error) {
	var a shareAnswer
	err := n.ask(ctx, nodeSubject(boot, askShare), shareQuestion{share, removing}, &a)
	return a.Place, err
}

// Drain implements sessions.Nodes.
func (n *Nodes) Drain(ctx context.Context, boot string) error {
	return n.ask(ctx, nodeSubject(boot, askDrain), struct{}{}, &struct{}{})
}

func (n *Nodes) ask(ctx context.Context, subject string, question, answer any) error {
	m, err := n.nc.RequestWithContext(ctx, subject, encodeControl(question))
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: %s: %w", sessions.ErrNotFound, subject, err)
	case err != nil:
		return fmt.Errorf("%w: %s: %w", sessions.ErrUnavailable, subject, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("%w: %s: %w", sessions.ErrUnavailable, subject, err)
	}
	return nil
}

// Run implements sessions.Nodes.
func (n *Nodes) Run(ctx context.Context, boot string, to sessions.Neighbour, ready func()) error {
	status := n.nc.StatusChanged(nats.CONNECTED)
	defer n.nc.RemoveStatusListener(status)
	for subject, take := range map[string]func(*nats.Msg) error{
		claimSubject: func(m *nats.Msg) error {
			var c sessions.Claim
			err := json.Unmarshal(m.Data, &c)
			if err == nil && c.Boot != boot {
				to.Claimed(c)
			}
			return err
		},
		nodeSubject(boot, askRelease): func(m *nats.Msg) error {
			var c sessions.Claim
			err := json.Unmarshal(m.Data, &c)
			if err == nil {
				to.Asked(c, func(r sessions.Release) { n.answer(m, r) })
			}
			return err
		},
		nodeSubject(boot, askHello): func(m *nats.Msg) error {
			var h sessions.Hello
			err := json.Unmarshal(m.Data, &h)
			if err == nil {
				n.answer(m, to.Greeted(h))
			}
			return err
		},
		nodeSubject(boot, askShare): func(m *nats.Msg) error {
			var q shareQuestion
			err := json.Unmarshal(m.Data, &q)
			if err == nil {
				n.answer(m, shareAnswer{to.PlaceOfShare(q.Share, q.Removing)})
			}
			return err
		},
		nodeSubject(boot, askDrain): func(m *nats.Msg) error {
			n.answer(m, struct{}{})
			to.DrainAsked()
			return nil
		},
	} {
		sub, err := n.nc.Subscribe(subject, func(m *nats.Msg) {
			if err := take(m); err != nil {
				if so := n.stats.ForeignControl.Add(1); telling(so, 1) {
					n.logger.Warn("a message that is not from a node was passed over", "subject", m.Subject, "err", err, "so_far", so)
				}
			}
		})
		if err != nil {
			return clientErr(err)
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed, and the subscription with it
	}
	if err := n.nc.FlushTimeout(flushTimeout); err != nil {
		n.logger.Warn("other nodes may not reach this one yet", "err", err)
	}
	ready()
	for {
		select {
		case <-status:
			to.Rejoined()
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Nodes) answer(m *nats.Msg, v any) {
	if err := m.Respond(encodeControl(v)); err != nil {
		n.stats.ControlUnsent.Add(1)
	}
}
