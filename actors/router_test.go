package actors

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// testRouter is a router that the test hands the log to.
func testRouter(ringBytes int) (*router, *sessionstest.Storage) {
	s := sessionstest.New()
	stats := &Stats{}
	return newRouter(s.Log(), stats, newRetainedIndex(0), newTestRetainer(s, stats), sessions.Position{}, ringBytes), s
}

// feed is a session as the router sees one.
type feed struct {
	*member
	mu     sync.Mutex // guards posted
	posted []any
}

func newFeed(r *router) *feed {
	f := &feed{}
	f.member = &member{post: func(m any) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.posted = append(f.posted, m)
	}}
	r.add(f.member)
	return f
}

// take empties the mailbox.
func (f *feed) take() []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	posted := f.posted
	f.posted = nil
	for _, m := range posted {
		switch m := m.(type) {
		case sessions.Delivered:
			f.release(len(m.Entries), entryBytes(m.Entries))
		case sessions.Routed:
			f.release(len(m.Messages), messageListBytes(m.Messages))
		}
	}
	return posted
}

func (f *feed) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.posted) == 0
}

func (f *feed) sequences() (got []uint64) {
	for _, m := range f.take() {
		for _, e := range m.(sessions.Delivered).Entries {
			got = append(got, e.Sequence)
		}
	}
	return got
}

func entry(sequence uint64, topic string) sessions.Entry {
	return sessions.Entry{
		Position: sessions.Position{Sequence: sequence, Time: retainedAt.Add(time.Duration(sequence))},
		Message:  &sessions.Message{Topic: topic, QoS: 1, Payload: fmt.Append(nil, sequence)},
	}
}

func TestEntryReachesALiveSessionOnce(t *testing.T) {
	r, _ := testRouter(1 << 20)
	live, other := newFeed(r), newFeed(r)
	r.attach(live.member, []string{"a/+", "a/#", "a/b", "x"})
	r.attach(other.member, []string{"a/#"})
	r.join(live.member, true)
	r.deliver([]sessions.Entry{entry(1, "a/b"), entry(2, "b"), entry(3, "x")})
	r.deliver([]sessions.Entry{entry(3, "x"), entry(4, "a/b")}) // 3 was handed out before
	if got := live.sequences(); !slices.Equal(got, []uint64{1, 3, 4}) {
		t.Fatalf("got %v", got)
	}
	if got := other.take(); len(got) > 0 {
		t.Fatalf("a session that is not fed got %v", got)
	}
}

// At QoS 0 the log is handed to those who are there, whether they are fed live or behind: what is routed past the log must
// not overtake it. Unless it is queued for those who are behind. [MQTT-4.6.0-5]
func TestQoS0ReachesThoseWhoAreBehind(t *testing.T) {
	for _, queued := range []bool{false, true} {
		r, _ := testRouter(1 << 20)
		r.queuesQoS0 = queued
		behind, gone := newFeed(r), newFeed(r)
		for _, f := range []*feed{behind, gone} {
			r.attach(f.member, []string{"a/#", "a/+"})
		}
		r.detach(gone.member)
		zero := entry(2, "a/b")
		zero.Message.QoS = 0
		r.deliver([]sessions.Entry{entry(1, "a/b"), zero, entry(3, "a/b")})
		if got, want := behind.sequences(), []uint64{2}; slices.Equal(got, want) == queued {
			t.Errorf("queue_qos0 %v: a session that is behind got %v", queued, got)
		}
		if got := gone.take(); len(got) > 0 {
			t.Errorf("a session without a client got %v", got)
		}
		if got := behind.handed.Load(); got != 0 {
			t.Errorf("it counts as fed up to %d", got)
		}
	}
}

// readOn reads after a position as a session that catches up does: what wants holds for when little is left, else a window.
func (f *feed) readOn(r *router, after uint64, room int, wants func(sessions.Entry) bool) (entries []sessions.Entry, upTo sessions.Position, live, ok bool) {
	e := sessions.Fetch{After: sessions.Position{Sequence: after}, Max: room, Durable: true}
	if entries, upTo, live, ok = r.read(f.member, e, wants); !ok && room > denseFrom {
		entries, upTo, ok = r.readDense(e, wants, nil)
	}
	if !ok {
		entries, upTo, _, ok = r.window(after, catchUpStep, nil)
	}
	return entries, upTo, live, ok
}

func TestDenseReadIsForThoseWhoWantMuchOfTheRing(t *testing.T) {
	r, _ := testRouter(3000 * (entryOverhead + 16))
	for sequence := uint64(1); sequence <= 5000; sequence++ {
		r.deliver([]sessions.Entry{entry(sequence, "a")})
	}
	ringAfter, _ := r.reach()
	every := func(n uint64) func(sessions.Entry) bool {
		return func(e sessions.Entry) bool { return e.Sequence%n == 0 }
	}
	for _, c := range []struct {
		name        string
		after       uint64
		max         int
		wants       func(sessions.Entry) bool
		entries     int
		first, upTo uint64
		ok          bool
	}{
		{"before the ring", ringAfter - 1, 256, every(1), 0, 0, 0, false},
		{"all", 3000, 200, every(1), 200, 3001, 3200, true},
		{"few fit", 3000, 8, every(2), 8, 3002, 3016, true},
		{"some", 3000, 200, every(3), 200, 3003, 3600, true},
		{"just enough", 3000, 200, every(4), 200, 3004, 3800, true},
		{"few", 3000, 200, every(5), 0, 0, 0, false},
		{"less than there seemed", 3000, 200, func(e sessions.Entry) bool { return e.Sequence <= 3050 }, 50, 3001, 3000 + joinWithin, true},
		{"the end", 4990, 256, every(1), 10, 4991, 5000, true},
		{"nothing is left", 5000, 256, every(1), 0, 0, 0, false},
	} {
		e := sessions.Fetch{After: sessions.Position{Sequence: c.after}, Max: c.max}
		entries, upTo, ok := r.readDense(e, c.wants, nil)
		if ok != c.ok || len(entries) != c.entries || ok && (upTo.Sequence != c.upTo || entries[0].Sequence != c.first) {
			t.Errorf("%s: %d entries up to %d, %v", c.name, len(entries), upTo.Sequence, ok)
		}
	}
}

// chase follows the log through a router, by joining, leaving and reading at random, and notes what it sees of topic "a".
func chase(t *testing.T, r *router, f *feed, random *rand.Rand, end uint64) (seen []uint64) {
	looked, live := uint64(0), false
	room := []int{8, 256, 4 * joinWithin}[random.IntN(3)]
	wants := func(e sessions.Entry) bool { return e.Message.Topic == "a" }
	look := func(entries []sessions.Entry, source string) {
		for _, e := range entries {
			if e.Sequence <= looked {
				t.Errorf("%s: %d again at %d", source, e.Sequence, looked)
			}
			looked = e.Sequence
			if e.Message.Topic == "a" {
				seen = append(seen, e.Sequence)
			}
		}
	}
	drain := func() {
		for _, m := range f.take() {
			switch m := m.(type) {
			case sessions.Delivered:
				look(m.Entries, "live")
			case sessions.Overrun:
				live = false
			}
		}
	}
	for looked < end {
		switch {
		case !live:
			entries, upTo, joined, ok := f.readOn(r, looked, room, wants)
			if !ok {
				t.Error("the ring holds everything, and did not reach back far enough")
				return seen
			}
			look(entries, "read")
			looked, live = max(looked, upTo.Sequence), joined
		case random.IntN(4) == 0:
			at := r.leave(f.member)
			drain()
			if at.Sequence > 0 {
				looked = max(looked, at.Sequence)
			}
			live = false
		case random.IntN(3) == 0:
			drain()
			if live && r.Head().Sequence >= end && f.empty() { // what is behind the last match is not handed over
				drain()
				return seen
			}
		default:
			runtime.Gosched()
		}
	}
	return seen
}

// However a session joins, leaves and reads while the log goes on: it sees every entry once, in order.
func TestFeedHasNoGapAndNoRepeat(t *testing.T) {
	for seed := range uint64(8) {
		r, _ := testRouter(1 << 30)
		const end = 3000
		feeds := make([]*feed, 4)
		for i := range feeds {
			feeds[i] = newFeed(r)
			r.attach(feeds[i].member, []string{"a"})
		}
		var want []uint64
		var all []sessions.Entry
		random := rand.New(rand.NewPCG(seed, 1))
		for s := uint64(1); s <= end; s++ {
			topic := "b"
			if random.IntN(2) == 0 {
				topic = "a"
				want = append(want, s)
			}
			all = append(all, entry(s, topic))
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for rest := all; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(20))
				r.deliver(rest[:n])
				rest = rest[n:]
				runtime.Gosched()
			}
		})
		for i, f := range feeds {
			wg.Go(func() {
				if got := chase(t, r, f, rand.New(rand.NewPCG(seed, uint64(i+2))), end); !slices.Equal(got, want) {
					t.Errorf("seed %d, session %d saw %d entries, want %d", seed, i, len(got), len(want))
				}
			})
		}
		wg.Wait()
	}
}

func TestSubscribeWaitsForWhatWasPromisedToBeStored(t *testing.T) {
	r, s := testRouter(1 << 20)
	done := make(resultChan, 1)
	s.Log().Append(retainedEntry(0, "a", "1").Message, "", done, 1)
	<-done
	f := newFeed(r)
	reached := 0
	effect := sessions.Subscribe{Token: 7, Filters: []string{"a", "b"}, WantRetained: []bool{true, false}}
	if _, ok := r.subscribe(f.member, effect, 0, time.Now(), func() { reached++ }); ok {
		t.Fatal("the subscription was made before the log was handed out")
	}
	if len(f.filters) > 0 {
		t.Fatal("its filters are in the tree")
	}
	r.deliver(s.Entries())
	if reached != 1 {
		t.Fatalf("it was called %d times", reached)
	}
	// More is stored meanwhile, which must not keep the subscription waiting again.
	s.Log().Append(retainedEntry(0, "a", "2").Message, "", done, 2)
	<-done
	in, ok := r.subscribe(f.member, effect, 0, time.Now(), nil)
	if !ok || in.Position.Sequence != 1 || len(in.Retained) != 2 || len(in.Retained[0].Entries) != 1 || in.Token != 7 {
		t.Fatalf("subscribed: %+v, %v", in, ok)
	}
	if r.deliver([]sessions.Entry{entry(2, "b")}); reached != 1 {
		t.Fatal("it was called again")
	}
}

// Whatever the moment of a subscription: each retained message comes as retained, or live, and not both. [case 196]
func TestRetainedMessageComesOnceOrLive(t *testing.T) {
	for range 200 {
		r, _ := testRouter(1 << 20)
		f := newFeed(r)
		r.join(f.member, true)
		const n = 50
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range uint64(n) {
				e := entry(i+1, fmt.Sprint("topic/", i))
				e.Message.Retain = true
				r.deliver([]sessions.Entry{e})
			}
		})
		runtime.Gosched()
		in, ok := r.subscribe(f.member, sessions.Subscribe{Filters: []string{"#"}, WantRetained: []bool{true}}, 0, retainedAt, func() {})
		if !ok {
			t.Fatal("not subscribed")
		}
		wg.Wait()
		times := map[uint64]int{}
		for _, e := range in.Retained[0].Entries {
			times[e.Sequence]++
		}
		for _, s := range f.sequences() {
			times[s]++
		}
		for s := range uint64(n) {
			if times[s+1] != 1 {
				t.Fatalf("message %d came %d times", s+1, times[s+1])
			}
		}
	}
}

func TestSessionThatIsBehindIsOverrun(t *testing.T) {
	for _, size := range []int{0, maxUntakenBytes / 100} {
		r, _ := testRouter(1 << 30)
		f := newFeed(r)
		r.attach(f.member, []string{"#"})
		r.join(f.member, true)
		const n = 2 * maxUntaken
		payload := make([]byte, size)
		for i := range uint64(n) {
			e := entry(i+1, "a")
			e.Message.Payload = payload
			r.deliver([]sessions.Entry{e})
		}
		posted := f.take()
		if most := map[bool]int{true: maxUntaken, false: 100}[size == 0]; len(posted) > most+2 {
			t.Fatalf("%d messages of %d bytes wait for a session that is behind", len(posted), size)
		}
		if _, ok := posted[len(posted)-1].(sessions.Overrun); !ok {
			t.Fatalf("the last message is %T", posted[len(posted)-1])
		}
		if at := r.leave(f.member); at.Sequence != 0 {
			t.Fatalf("a feed that had stopped went up to %d", at.Sequence)
		}
		looked := posted[len(posted)-2].(sessions.Delivered).Entries[0].Sequence
		const room = joinWithin / 2
		all := func(sessions.Entry) bool { return true }
		for live := false; !live; {
			entries, upTo, joined, ok := f.readOn(r, looked, room, all)
			if !ok || len(entries) == 0 || entries[0].Sequence != looked+1 {
				t.Fatalf("it reads %d entries after %d", len(entries), looked)
			}
			if len(entries) > catchUpStep || joined && len(entries) > room {
				t.Fatalf("it reads %d entries at once", len(entries))
			}
			looked, live = upTo.Sequence, joined
		}
		if looked != n {
			t.Fatalf("it is live after %d of %d", looked, n)
		}
		if messages, bytes := f.untaken.Load(), f.untakenBytes.Load(); messages != 0 || bytes != 0 {
			t.Fatalf("%d messages, %d bytes count as not taken", messages, bytes)
		}
	}
}

// The checkpoint does not pass what a live session was handed and has not journaled.
func TestCheckpointWaitsForJournals(t *testing.T) {
	r, _ := testRouter(1 << 20)
	f := newFeed(r)
	r.attach(f.member, []string{"a"})
	want := func(sequence uint64) {
		t.Helper()
		if at := r.complete(); at.Sequence != sequence {
			t.Fatalf("complete up to %d, want %d", at.Sequence, sequence)
		}
	}
	r.deliver([]sessions.Entry{entry(1, "a")})
	want(1)
	r.join(f.member, true)
	r.deliver([]sessions.Entry{entry(2, "b"), entry(3, "b")})
	want(3) // nothing was handed over
	r.deliver([]sessions.Entry{entry(4, "a"), entry(5, "b")})
	want(1)
	f.journaled.Store(4)
	want(5)
	r.deliver([]sessions.Entry{entry(6, "a")})
	want(4)
	r.leave(f.member)
	r.deliver([]sessions.Entry{entry(7, "a")})
	want(4) // the durable journal still says live
	r.join(f.member, true)
	want(4)
	f.hold.Store(3)
	want(2)
	r.remove(f.member)
	want(7)
}
