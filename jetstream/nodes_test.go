package jetstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// testNeighbour keeps what it hears.
type testNeighbour struct {
	claims  chan sessions.Claim
	greeted chan sessions.Hello
	drained chan struct{}
	silent  bool // it answers no Ask
}

func newTestNeighbour() *testNeighbour {
	return &testNeighbour{claims: make(chan sessions.Claim, 100), greeted: make(chan sessions.Hello, 100), drained: make(chan struct{}, 1)}
}

func (n *testNeighbour) Claimed(c sessions.Claim) { n.claims <- c }

func (n *testNeighbour) Asked(c sessions.Claim, answer func(sessions.Release)) {
	if !n.silent {
		answer(sessions.Release{Later: c.Stamp < 10, ScanFrom: 7})
	}
}

func (n *testNeighbour) Greeted(h sessions.Hello) sessions.Hello {
	n.greeted <- h
	return sessions.Hello{Boot: "there", Stamp: h.Stamp + 1}
}

func (n *testNeighbour) PlaceOfShare(share string, removing bool) sessions.SharePlace {
	if share == "$share/s/t" && removing {
		return sessions.ShareServed
	}
	return sessions.ShareOpening
}

func (n *testNeighbour) DrainAsked() { n.drained <- struct{}{} }

func (n *testNeighbour) Rejoined() {}

// startNodes starts two nodes: here, and one that hears.
func startNodes(t *testing.T) (here *Nodes, there *testNeighbour, stats *Stats, nc *nats.Conn) {
	t.Helper()
	e, nc := startServer(t)
	other, err := e.Connect()
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	stats, there = new(Stats), newTestNeighbour()
	nodes := &Nodes{nc: other, stats: stats, logger: c.Logger}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- nodes.Run(ctx, "there", there, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		other.Close()
	})
	return &Nodes{nc: nc, stats: stats, logger: c.Logger}, there, stats, nc
}

func TestNodesReachEachOther(t *testing.T) {
	here, there, _, _ := startNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	claim := sessions.Claim{ClientID: "a.b*>é\x01", Boot: "here", Stamp: 1 << 60, Principal: "p"}
	here.Announce(claim)
	if c := <-there.claims; c != claim {
		t.Errorf("heard %+v", c)
	}
	for _, stamp := range []int64{1, 20} {
		r, err := here.Ask(ctx, "there", sessions.Claim{ClientID: "c", Boot: "here", Stamp: stamp})
		if want := (sessions.Release{Later: stamp < 10, ScanFrom: 7}); err != nil || r != want {
			t.Errorf("asked, and answered %+v, %v", r, err)
		}
	}
	if h, err := here.Greet(ctx, "there", sessions.Hello{Boot: "here", Node: "n", Stamp: 4}); err != nil || h.Boot != "there" || h.Stamp != 5 {
		t.Errorf("greeted, and answered %+v, %v", h, err)
	}
	if h := <-there.greeted; h.Node != "n" {
		t.Errorf("greeted by %+v", h)
	}
	for removing, want := range map[bool]sessions.SharePlace{true: sessions.ShareServed, false: sessions.ShareOpening} {
		if place, err := here.PlaceOfShare(ctx, "there", "$share/s/t", removing); err != nil || place != want {
			t.Errorf("asked for a share, and answered %v, %v", place, err)
		}
	}
	if err := here.Drain(ctx, "there"); err != nil {
		t.Error(err)
	}
	<-there.drained
}

// Who is not there, and who does not answer, are told from each other.
func TestNodeThatDoesNotAnswer(t *testing.T) {
	here, there, _, _ := startNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := here.Ask(ctx, "nobody", sessions.Claim{}); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("nobody answered: %v", err)
	}
	there.silent = true
	if _, err := here.Ask(ctx, "there", sessions.Claim{}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("one that is silent answered: %v", err)
	}
}

// What others publish on the subjects of nodes is passed over and counted when it is not from a node.
func TestNodesPassOverNonsense(t *testing.T) {
	here, there, stats, nc := startNodes(t)
	nonsense := []string{"", "{", "null ,", `"x"`, `[1]`, `{"stamp":"x"}`, `{"stamp":1e99}`, `{"client_id":7}`, strings.Repeat("[", 100_000)}
	for _, subject := range []string{claimSubject, nodeSubject("there", askRelease), nodeSubject("there", askHello), nodeSubject("there", askShare)} {
		for _, text := range nonsense {
			if err := nc.Publish(subject, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	here.Announce(sessions.Claim{ClientID: "sense", Boot: "here"})
	for c := range there.claims {
		if c.ClientID == "sense" {
			break
		}
		t.Errorf("took %+v for a claim", c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := here.PlaceOfShare(ctx, "there", "x", false); err != nil { // behind all that was sent there
		t.Error(err)
	}
	if n := stats.ForeignControl.Load(); n < uint64(len(nonsense)) {
		t.Errorf("%d are counted", n)
	}
}
