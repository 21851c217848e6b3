package actors

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// pursuit is a shared read of the log with the sessions that take part, one step at a time.
type pursuit struct {
	t       *rapid.T
	storage *sessionstest.Storage
	router  *router
	*catchUp
	now     time.Time
	runners []*runner
	trimmed uint64 // all below is gone
	failing bool
	crowd   bool
	// owed are the sessions that wait for an answer.
	owed map[*laggard]bool
}

// testCatchUp is a shared read whose clock goes on by a second with every look at it.
func testCatchUp(r *router, s *sessionstest.Storage) *catchUp {
	c := newCatchUp(r, s.Log(), func() bool { return false }, slog.New(slog.DiscardHandler))
	now := retainedAt
	c.clock = func() time.Time {
		now = now.Add(time.Second)
		return now
	}
	return c
}

// runner is a session that catches up.
type runner struct {
	filters []string
	at      uint64
	// laggard is nil between uses, asked while it waits for an answer.
	laggard *laggard
	asked   bool
	// follows: it is a replay.
	follows bool
	fetch   sessions.Fetch
	counts  bool
	token   uint64
	answer  *caughtUp
}

func newPursuit(t *rapid.T) *pursuit {
	r, s := testRouter(rapid.IntRange(0, 40).Draw(t, "ring") * (entryOverhead + 4))
	p := &pursuit{t: t, storage: s, router: r, now: retainedAt, trimmed: 1, owed: map[*laggard]bool{}}
	p.catchUp = newCatchUp(r, s.Log(), func() bool { return p.crowd }, slog.New(slog.DiscardHandler))
	p.clock = func() time.Time { return p.now }
	p.perStep = rapid.IntRange(1, 10).Draw(t, "entries a step")
	p.windowBytes = rapid.IntRange(1, 30).Draw(t, "window") * (entryOverhead + 4)
	p.heldBytes = rapid.IntRange(1, 40).Draw(t, "held") * (entryOverhead + 4)
	p.startAt(0)
	return p
}

var pursuitTopics = []string{"a", "b", "c/1", "c/2", "c"}

func (p *pursuit) publish() {
	for range rapid.IntRange(1, 30).Draw(p.t, "messages") {
		var m *sessions.Message
		if topic := rapid.SampledFrom(append(pursuitTopics, "")).Draw(p.t, "topic"); topic != "" {
			m = &sessions.Message{Topic: topic, QoS: 1, Payload: []byte("x")}
		}
		p.storage.Log().Put(m)
	}
}

// handOut lets the router see a part of the log.
func (p *pursuit) handOut() {
	entries := p.storage.Entries()
	i, _ := slices.BinarySearchFunc(entries, p.router.Head().Sequence+1, func(e sessions.Entry, s uint64) int { return int(e.Sequence) - int(s) })
	rest := entries[i:]
	p.router.deliver(rest[:rapid.IntRange(0, len(rest)).Draw(p.t, "handed out")])
}

func (p *pursuit) trim() {
	ringAfter, _ := p.router.reach()
	if ringAfter >= p.trimmed {
		p.trimmed = uint64(rapid.IntRange(int(p.trimmed), int(ringAfter)+1).Draw(p.t, "trimmed below"))
		p.storage.Trim(p.trimmed)
	}
}

func (p *pursuit) matches(r *runner, e sessions.Entry) bool {
	return e.Message != nil && slices.ContainsFunc(r.filters, func(f string) bool { return mqttcodec.MatchTopic(f, e.Message.Topic) })
}

func (p *pursuit) ask(r *runner) {
	if r.laggard == nil {
		r.laggard = &laggard{filters: slices.Clone(r.filters), follows: r.follows, answer: func(m *caughtUp) {
			r.answer = m
			delete(p.owed, m.laggard)
		}}
	}
	p.owed[r.laggard] = true
	r.token++
	r.asked, r.answer = true, nil
	r.fetch = sessions.Fetch{
		Token: r.token, After: sessions.Position{Sequence: r.at}, Max: rapid.IntRange(1, 12).Draw(p.t, "max"), Durable: true,
	}
	var counts func(sessions.Entry) bool
	if r.counts = !r.follows && rapid.Bool().Draw(p.t, "counts"); r.counts {
		counts = func(e sessions.Entry) bool { return p.matches(r, e) }
	}
	p.fetch(r.laggard, r.fetch, counts)
}

// leave is a change of filters, or the end of a connection.
func (p *pursuit) leave(r *runner) {
	if r.laggard != nil {
		p.forget(r.laggard)
	}
	r.laggard, r.answer, r.asked, r.follows = nil, nil, false, rapid.Bool().Draw(p.t, "follows")
	r.filters = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c/#", "c/+", "#", "+", "z"}), 1, 3, rapid.ID[string]).Draw(p.t, "filters")
}

// take checks an answer against the log.
func (p *pursuit) take(r *runner) {
	m := r.answer
	if m == nil || m.laggard != r.laggard || m.fetched.Token != r.token { // the session takes no other either
		return
	}
	r.answer, r.asked = nil, false
	in := m.fetched
	upTo := max(in.UpTo.Sequence, r.at)
	if in.Err != nil || in.Live {
		p.t.Fatalf("answer %+v", in)
	}
	if r.follows && len(in.Entries) == 0 {
		p.t.Fatalf("a replay was answered with nothing")
	}
	if len(in.Entries) > r.fetch.Max {
		p.t.Fatalf("%d entries, %d were asked for", len(in.Entries), r.fetch.Max)
	}
	if upTo > p.router.Head().Sequence {
		p.t.Fatalf("up to %d, and the log was handed out up to %d", upTo, p.router.Head().Sequence)
	}
	var want, got []uint64
	waited := uint64(0)
	for _, e := range p.storage.Entries() {
		if e.Sequence > r.at && p.matches(r, e) {
			if e.Sequence <= upTo {
				want = append(want, e.Sequence)
			}
			if e.Sequence <= in.Head.Sequence {
				waited++
			}
		}
	}
	for _, e := range in.Entries {
		if e.Sequence >= p.trimmed { // what is gone meanwhile may have been read before
			got = append(got, e.Sequence)
		}
	}
	if !slices.Equal(got, want) {
		p.t.Fatalf("after %d up to %d, filters %v: got %v, want %v", r.at, upTo, r.filters, got, want)
	}
	if !slices.IsSortedFunc(in.Entries, func(a, b sessions.Entry) int { return int(a.Sequence) - int(b.Sequence) }) {
		p.t.Fatalf("not in order: %v", in.Entries)
	}
	if m.counted != r.counts || r.counts && p.trimmed == 1 && in.Queued != waited {
		p.t.Fatalf("%d wait, want %d up to %d", in.Queued, waited, in.Head.Sequence)
	}
	r.at = upTo
}

func (p *pursuit) check() {
	held, following := 0, 0
	for _, l := range p.waiting {
		if !l.waits {
			p.t.Fatal("a session waits that does not")
		}
		if l.follows {
			following++
		}
		held += l.bytes
	}
	if n := p.following.Load(); n != int64(following) {
		p.t.Fatalf("%d replays wait, %d are counted", following, n)
	}
	for _, m := range p.done {
		held += m.held
	}
	if held != p.held {
		p.t.Fatalf("%d bytes are held, %d are counted", held, p.held)
	}
	if most := p.heldBytes + (len(p.runners)+len(p.done))*(entryOverhead+4); held > most {
		p.t.Fatalf("%d bytes are held, at most %d may be", held, most)
	}
	if p.window.bytes > p.windowBytes+entryOverhead+4 {
		p.t.Fatalf("the window has %d bytes", p.window.bytes)
	}
}

// Whatever joins, leaves and fails meanwhile: each session gets all that matches, once, in the order of the log, and no more
// than it has room for.
func TestSharedReadBringsEachSessionItsMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPursuit(t)
		ctx := context.Background()
		for range rapid.IntRange(1, 6).Draw(t, "sessions") {
			r := &runner{}
			p.leave(r)
			p.runners = append(p.runners, r)
		}
		some := rapid.SampledFrom(p.runners)
		advance := func() {
			p.now = p.now.Add(time.Duration(rapid.SampledFrom([]int{0, 20, 120, 1200}).Draw(t, "ms")) * time.Millisecond)
			p.step(ctx)
			p.check()
		}
		t.Repeat(map[string]func(*rapid.T){
			"publish":  func(*rapid.T) { p.publish() },
			"hand out": func(*rapid.T) { p.handOut() },
			"trim":     func(*rapid.T) { p.trim() },
			"fail": func(*rapid.T) {
				if p.failing = !p.failing; p.failing {
					p.storage.Fail(sessions.ErrUnavailable, sessionstest.ReadLog)
				} else {
					p.storage.Fail(nil)
				}
			},
			"ask": func(*rapid.T) {
				p.ask(some.Draw(t, "session")) // also when it is waiting, as one whose first answer nobody waits for any more
			},
			"crowd": func(*rapid.T) { p.crowd = !p.crowd },
			"leave": func(*rapid.T) { p.leave(some.Draw(t, "session")) },
			"take":  func(*rapid.T) { p.take(some.Draw(t, "session")) },
			"step":  func(*rapid.T) { advance() },
			"steps": func(*rapid.T) {
				for range 10 {
					advance()
				}
			},
		})
		p.storage.Fail(nil)
		p.router.deliver(p.storage.Entries())
		for _, r := range p.runners { // all get there in the end
			for n := 0; r.at < p.router.Head().Sequence; n++ {
				if !r.asked {
					p.ask(r)
				}
				p.now = p.now.Add(2 * time.Second)
				p.step(ctx)
				p.check()
				p.take(r)
				if r.asked && r.laggard.waits && p.idle(r.laggard) {
					r.at = p.router.Head().Sequence
					for _, e := range p.storage.Entries() {
						if e.Sequence > r.fetch.After.Sequence && p.matches(r, e) {
							t.Fatalf("a replay waits at the end of the log, and has not got %d", e.Sequence)
						}
					}
				}
				if n > 100_000 {
					t.Fatalf("a session does not get beyond %d of %d", r.at, p.router.Head().Sequence)
				}
			}
		}
		for _, r := range p.runners {
			p.leave(r)
		}
		for p.step(ctx) || len(p.done) > 0 { // what is done may wait for a crowd to be gone
			p.now = p.now.Add(time.Second)
		}
		if n := p.tree.Len(); n > 0 {
			t.Fatalf("%d filters are left", n)
		}
		if n := len(p.owed); n > 0 {
			t.Fatalf("%d sessions got no answer", n)
		}
	})
}

// Sessions that are behind together cost one read of the log, however many they are and however often they come back for more.
func TestSharedReadReadsTheLogOnce(t *testing.T) {
	r, s := testRouter(1)
	const messages, members = 5000, 50
	for i := range messages {
		s.Log().Put(&sessions.Message{Topic: fmt.Sprint("t/", i%members), QoS: 1})
	}
	r.deliver(s.Entries())
	reads := 0
	s.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
		if o.Kind == sessionstest.ReadLog {
			reads++
		}
		return sessionstest.Outcome{}
	})
	c := testCatchUp(r, s)
	got := make([]int, members)
	for i := range members {
		var l *laggard
		l = &laggard{filters: []string{fmt.Sprint("t/", i)}, answer: func(m *caughtUp) {
			got[i] += len(m.fetched.Entries)
			if at := m.fetched.UpTo; at.Sequence < messages {
				c.fetch(l, sessions.Fetch{After: at, Max: 10}, nil)
			}
		}}
		c.fetch(l, sessions.Fetch{Max: 10}, nil)
	}
	for c.step(context.Background()) {
	}
	for i, n := range got {
		if n != messages/members {
			t.Errorf("session %d got %d messages, want %d", i, n, messages/members)
		}
	}
	if most := messages/catchUpStep + 1; reads > most {
		t.Errorf("the log was read in %d windows, want %d", reads, most)
	}
}

// Who is nearly there does not wait for those who are far behind, and these do not wait for ever. [case 155]
func TestSharedReadServesTheNearestFirst(t *testing.T) {
	r, s := testRouter(100 * (entryOverhead + 2))
	for range 1000 {
		s.Log().Put(&sessions.Message{Topic: "a", QoS: 1})
	}
	r.deliver(s.Entries())
	c := testCatchUp(r, s)
	c.perStep = 10
	var order []string
	far := &laggard{filters: []string{"a"}, answer: func(*caughtUp) { order = append(order, "far") }}
	c.fetch(far, sessions.Fetch{Max: 1}, nil)
	var near *laggard
	near = &laggard{filters: []string{"a"}, answer: func(*caughtUp) {
		order = append(order, "near")
		c.fetch(near, sessions.Fetch{After: sessions.Position{Sequence: 990}, Max: 1}, nil) // and again and again
	}}
	c.fetch(near, sessions.Fetch{After: sessions.Position{Sequence: 990}, Max: 1}, nil)
	for range 2 * (maxNearSteps + 1) { // each hands over in a step of its own
		c.step(context.Background())
	}
	if len(order) == 0 || order[0] != "near" || !slices.Contains(order, "far") {
		t.Fatalf("they were served in the order %v", order)
	}
}

// A session whose place the read has passed does not wait for ever while others keep it busy.
func TestSharedReadGoesBack(t *testing.T) {
	r, s := testRouter(1)
	for range 1000 {
		s.Log().Put(&sessions.Message{Topic: "a", QoS: 1})
	}
	r.deliver(s.Entries())
	c := testCatchUp(r, s)
	c.perStep = 10
	var busy *laggard
	busy = &laggard{filters: []string{"a"}, answer: func(*caughtUp) {
		c.fetch(busy, sessions.Fetch{After: sessions.Position{Sequence: 500}, Max: 1}, nil)
	}}
	c.fetch(busy, sessions.Fetch{After: sessions.Position{Sequence: 500}, Max: 1}, nil)
	c.step(context.Background())
	served := false
	passed := &laggard{filters: []string{"a"}, answer: func(*caughtUp) { served = true }}
	c.fetch(passed, sessions.Fetch{Max: 1}, nil)
	for range 2 * (maxPassedOver + 2) {
		c.step(context.Background())
	}
	if !served {
		t.Fatal("it waits for the other one")
	}
}

func TestSourceOfASessionThatIsBehind(t *testing.T) {
	const always, never = 0, -1
	for _, c := range []struct {
		name   string
		from   int
		behind behindRing
		shares bool
	}{
		{"a single session", 70, behindRing{durable: true, filters: 1, distance: 100_000, sessions: 1}, false},
		{"a little behind the ring", 70, behindRing{durable: true, filters: 1, distance: 1000, sessions: 1}, true},
		{"fewer than worth it", 70, behindRing{durable: true, filters: 1, distance: 100_000, sessions: 69}, false},
		{"enough", 70, behindRing{durable: true, filters: 1, distance: 100_000, sessions: 71}, true},
		{"enough for ten times as much", 70, behindRing{durable: true, filters: 1, distance: 1_000_000, sessions: 710}, true},
		{"without a durable queue", 70, behindRing{filters: 1, distance: 10_000_000, sessions: 1}, true},
		{"most of the log is for it", 70, behindRing{durable: true, filters: 1, distance: 100_000, queued: 50_000, sessions: 1}, true},
		{"little of the log is for it", 70, behindRing{durable: true, filters: 1, distance: 100_000, queued: 1000, sessions: 1}, false},
		{"the same with several filters", 70, behindRing{durable: true, filters: 2, distance: 40_000, queued: 1000, sessions: 1}, true},
		{"always", always, behindRing{durable: true, filters: 1, distance: 10_000_000, sessions: 1}, true},
		{"never", never, behindRing{durable: true, filters: 1, distance: 10, queued: 10, sessions: 1000}, false},
		{"never, but there is no other way", never, behindRing{filters: 1, distance: 10, sessions: 1}, true},
	} {
		if got := (sourcePolicy{c.from}).shares(c.behind); got != c.shares {
			t.Errorf("%s: shares is %v", c.name, got)
		}
	}
}

// Those who are done are handed their portions a few at a time while many actors wait for their turn, and all get them.
func TestSharedReadHoldsBackInACrowd(t *testing.T) {
	r, s := testRouter(1 << 20)
	s.Log().Put(&sessions.Message{Topic: "a", QoS: 1})
	r.deliver(s.Entries())
	c := newCatchUp(r, s.Log(), func() bool { return true }, slog.New(slog.DiscardHandler))
	now := retainedAt
	c.clock = func() time.Time { return now }
	const members = 20
	answered := 0
	for range members {
		c.fetch(&laggard{filters: []string{"a"}, answer: func(*caughtUp) { answered++ }}, sessions.Fetch{Max: 1}, nil)
	}
	for pauses := 0; answered < members; pauses++ {
		before := answered
		for c.step(context.Background()) {
		}
		if n := answered - before; n != handOverCrowded {
			t.Fatalf("%d were handed their portions at once", n)
		}
		now = now.Add(crowdedPause)
	}
}
