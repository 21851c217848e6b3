package jetstream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

// newTestGroupCommit returns a group commit and the sequences that it reports as stored.
func newTestGroupCommit(t *testing.T, nc *nats.Conn, change func(*Config)) (*groupCommit, *Stats, chan uint64) {
	t.Helper()
	c := DefaultConfig()
	c.AckTimeout = time.Minute // a busy machine is no failure
	change(&c)
	stats := new(Stats)
	acked := make(chan uint64, 10_000)
	g, err := newGroupCommit(nc, &c, stats, func(done []settled) {
		for i := range done {
			if r := done[i].result; r.Err == nil {
				acked <- r.Sequence
			}
		}
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	return g, stats, acked
}

// batch takes the n messages of an atomic batch that carry the numbers from first on, and returns the last.
func (h *handStream) batch(first, n int) *nats.Msg {
	h.t.Helper()
	id := ""
	for i := range n {
		m := h.next()
		if i == 0 {
			id = m.Header.Get(headerBatchID)
		}
		commit := m.Header.Get(headerBatchCommit)
		if id == "" || m.Header.Get(headerBatchID) != id || m.Header.Get(headerBatchSequence) != strconv.Itoa(i+1) ||
			string(m.Data) != strconv.Itoa(first+i) || (commit == "1") != (i == n-1) || (m.Reply != "") != (i == n-1) {
			h.t.Fatalf("message %d of %d of a batch from %d is %q with %v, reply %q", i+1, n, first, m.Data, m.Header, m.Reply)
		}
		if i == n-1 {
			return m
		}
	}
	return nil
}

// plain takes the write with a number, which must be in no batch.
func (h *handStream) plain(number int) *nats.Msg {
	h.t.Helper()
	m := h.next()
	if string(m.Data) != strconv.Itoa(number) || len(m.Header[headerBatchID]) > 0 || m.Reply == "" {
		h.t.Fatalf("plain write %q with %v, not %d", m.Data, m.Header, number)
	}
	return m
}

func (h *handStream) answer(m *nats.Msg, text string) {
	h.t.Helper()
	if err := m.Respond([]byte(text)); err != nil {
		h.t.Fatal(err)
	}
}

// expect checks that the next result is of a token, stored with a sequence.
func (c resultChan) expect(t *testing.T, token, sequence int) {
	t.Helper()
	if r := c.next(t); r != (sessions.Result{Token: uint64(token), Sequence: uint64(sequence)}) {
		t.Fatalf("result %+v, not %d stored with %d", r, token, sequence)
	}
}

// quiet makes sure that no result is there, after whatever was sent to the server has arrived.
func (c resultChan) quiet(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-c:
		t.Fatalf("unexpected result %+v", r)
	default:
	}
}

func TestGroupIsAnsweredWithItsBatch(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, acked := newTestGroupCommit(t, nc, func(*Config) {})
	sink := make(resultChan, 20)
	for i := range 10 {
		g.publish(handWrite(i, sink))
	}
	lone := h.plain(0) // nothing was under way: it does not wait for others
	h.none(nc)
	sink.quiet(t, nc)
	h.ack(lone, 11)
	sink.expect(t, 0, 11)
	end := h.batch(1, 9)
	g.publish(handWrite(10, sink)) // comes behind it
	h.none(nc)
	sink.quiet(t, nc)
	h.answer(end, `{"stream":"HAND","seq":20,"batch":"x","count":9}`)
	for i := range 9 {
		sink.expect(t, 1+i, 12+i)
	}
	h.ack(h.plain(10), 21)
	sink.expect(t, 10, 21)
	for want := range uint64(11) {
		if got := <-acked; got != 11+want {
			t.Fatalf("%d was reported as stored, not %d", got, 11+want)
		}
	}
}

// Where the log has replicas, a message of a session is not sent before the one before it is answered, unless both are in a batch;
// and what waits behind one that was lost fails with it, so that it is sent again in order.
func TestOrderedGroupHasOnePlainWriteOfEachSink(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, _ := newTestGroupCommit(t, nc, func(c *Config) { c.AckTimeout = 200 * time.Millisecond })
	g.ordered = true
	a, b := make(resultChan, 20), make(resultChan, 20)
	g.publish(handWrite(0, a))
	first := h.plain(0)
	g.publish(handWrite(1, a))
	g.publish(handWrite(2, b))
	g.publish(handWrite(3, a))
	h.none(nc)
	h.ack(first, 11)
	a.expect(t, 0, 11)
	h.plain(1) // lost
	second := h.plain(2)
	h.none(nc)
	h.ack(second, 12)
	b.expect(t, 2, 12)
	for _, token := range []uint64{1, 3} {
		if r := a.next(t); r.Token != token || !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Fatalf("result %+v, not %d unavailable", r, token)
		}
	}
	g.publish(handWrite(4, a)) // who has not heard of that yet
	if r := a.next(t); r.Token != 4 || !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Fatalf("result %+v, not 4 unavailable", r)
	}
	g.publish(handWrite(5, a))
	if r := a.next(t); r.Token != 5 || !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Fatalf("result %+v, not 5 unavailable", r)
	}
	h.none(nc)
	g.publish(handWrite(1, a)) // again
	h.ack(h.plain(1), 13)
	a.expect(t, 1, 13)
	g.publish(handWrite(3, a))
	h.ack(h.plain(3), 14)
	a.expect(t, 3, 14)
}

// A sink that does not send again what was lost is heard again after a while.
func TestOrderedSinkThatSendsNothingAgain(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, _ := newTestGroupCommit(t, nc, func(c *Config) { c.AckTimeout = 200 * time.Millisecond })
	g.ordered = true
	a := make(resultChan, 20)
	g.publish(handWrite(0, a))
	h.plain(0) // lost
	if r := a.next(t); !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Fatalf("result %+v", r)
	}
	barred := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.barred)
	}
	if barred() != 1 {
		t.Error("it is not barred")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for barred() > 0 {
		select {
		case <-tick.C:
		case <-time.After(20 * time.Second):
			t.Fatal("it is barred for ever")
		}
	}
	g.publish(handWrite(1, a))
	h.ack(h.plain(1), 11)
	a.expect(t, 1, 11)
}

// A message that is on its way already, from a node that had its session before, is answered like one that is not stored yet: it may
// never be, so what waits behind it fails too. A batch with such a message goes on in parts.
func TestMessageInProcessIsNotStoredYet(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, stats, _ := newTestGroupCommit(t, nc, func(*Config) {})
	g.ordered = true
	sink := make(resultChan, 20)
	const inProcess = `{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"HAND","seq":0}`
	g.publish(handWrite(0, sink))
	g.publish(handWrite(1, sink))
	unavailable := func(token uint64) {
		t.Helper()
		if r := sink.next(t); r.Token != token || !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Fatalf("result %+v, not %d unavailable", r, token)
		}
	}
	h.answer(h.plain(0), inProcess)
	unavailable(0)
	unavailable(1)
	for i := range 9 {
		g.publish(handWrite(i, sink))
	}
	h.ack(h.plain(0), 10)
	sink.expect(t, 0, 10)
	h.answer(h.batch(1, 8), inProcess) // one of them is
	for i := range 4 {
		m := h.plain(1 + i)
		if i < 3 {
			h.ack(m, 11+i)
			sink.expect(t, 1+i, 11+i)
			continue
		}
		h.answer(m, inProcess)
		for token := range uint64(5) {
			unavailable(4 + token)
		}
	}
	if n := stats.RefusedBatches.Load(); n != 1 {
		t.Errorf("%d refused batches were counted", n)
	}
}

func TestRefusedBatchGoesOnInPartsInOrder(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, stats, _ := newTestGroupCommit(t, nc, func(*Config) {})
	sink := make(resultChan, 100)
	const refusal = `{"error":{"code":400,"err_code":10201,"description":"duplicate"},"stream":"HAND","seq":0}`
	for i := range 21 {
		g.publish(handWrite(i, sink))
	}
	h.ack(h.plain(0), 1)
	sink.expect(t, 0, 1)
	h.answer(h.batch(1, 20), refusal)
	h.answer(h.batch(1, 10), `{"stream":"HAND","seq":11,"batch":"x","count":10}`)
	for i := range 10 {
		sink.expect(t, 1+i, 2+i)
	}
	h.answer(h.batch(11, 10), refusal)
	first, second := h.plain(11), h.plain(12) // too few for a batch
	rest := []*nats.Msg{h.plain(13), h.plain(14), h.plain(15)}
	h.none(nc)
	sink.quiet(t, nc)
	h.answer(first, `{"stream":"HAND","seq":7,"duplicate":true}`)
	if r := sink.next(t); r != (sessions.Result{Token: 11, Sequence: 7, Duplicate: true}) {
		t.Fatalf("result %+v", r)
	}
	h.none(nc)
	h.answer(second, `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}`)
	if r := sink.next(t); r.Token != 12 || !errors.Is(r.Err, sessions.ErrConflict) {
		t.Fatalf("result %+v", r)
	}
	h.none(nc)
	for i, m := range rest {
		h.ack(m, 13+i)
		sink.expect(t, 13+i, 13+i)
	}
	for i := 16; i < 21; i++ {
		h.ack(h.plain(i), i)
		sink.expect(t, i, i)
	}
	if n := stats.RefusedBatches.Load(); n != 2 {
		t.Errorf("%d refused batches were counted", n)
	}
}

func TestBatchOfUnknownOutcomeFailsAsAWhole(t *testing.T) {
	t.Parallel()
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, _ := newTestGroupCommit(t, nc, func(c *Config) { c.AckTimeout = time.Second })
	sink := make(resultChan, 20)
	for i := range 10 {
		g.publish(handWrite(i, sink))
	}
	h.ack(h.plain(0), 1)
	sink.expect(t, 0, 1)
	late := h.batch(1, 9)
	for i := range 9 {
		if r := sink.next(t); r.Token != uint64(1+i) || !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Fatalf("result %+v", r)
		}
	}
	g.publish(handWrite(10, sink))
	h.answer(late, `{"stream":"HAND","seq":10,"batch":"x","count":9}`)
	h.ack(h.plain(10), 11)
	sink.expect(t, 10, 11)
}

func TestBatchHasOneExpectationForASubject(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, _ := newTestGroupCommit(t, nc, func(*Config) {})
	sink := make(resultChan, 30)
	g.publish(handWrite(0, sink))
	for i := 1; i <= 20; i++ {
		w := handWrite(i, sink)
		w.subject = fmt.Sprint("hand.", (i-1)%10)
		g.publish(w.expecting(1))
	}
	h.ack(h.plain(0), 1)
	h.answer(h.batch(1, 10), `{"stream":"HAND","seq":11,"batch":"x","count":10}`)
	h.answer(h.batch(11, 10), `{"stream":"HAND","seq":21,"batch":"x","count":10}`)
	for i := range 21 {
		sink.expect(t, i, i+1)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"count": func(c *Config) { c.Window = 9 },
		"bytes": func(c *Config) { c.WindowBytes = 9*(128+len("hand.a")+2) + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			e, nc := startServer(t)
			h := newHandStream(t, e)
			g, _, _ := newTestGroupCommit(t, nc, change)
			sink := make(resultChan, 20)
			for i := range 20 {
				g.publish(handWrite(10+i, sink))
			}
			h.ack(h.plain(10), 1)
			h.answer(h.batch(11, 9), `{"stream":"HAND","seq":10,"batch":"x","count":9}`)
			end := h.batch(20, 9)
			h.none(nc)
			h.answer(end, `{"stream":"HAND","seq":19,"batch":"x","count":9}`)
			h.ack(h.plain(29), 20)
			for i := range 20 {
				sink.expect(t, 10+i, 1+i)
			}
		})
	}
}

func TestStreamsDoNotWaitForOneAnother(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, _ := newTestGroupCommit(t, nc, func(*Config) {})
	sink := make(resultChan, 2)
	g.publish(handWrite(0, sink))
	h.plain(0)
	w := handWrite(1, sink)
	w.stream = "OTHER"
	g.publish(w)
	h.answer(h.plain(1), `{"stream":"OTHER","seq":5}`)
	sink.expect(t, 1, 5)
}

func TestCloseFailsGroupsAndWhatWaits(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	c := DefaultConfig()
	g, err := newGroupCommit(nc, &c, new(Stats), func([]settled) {}, false)
	if err != nil {
		t.Fatal(err)
	}
	sink := make(resultChan, 30)
	for i := range 10 {
		g.publish(handWrite(i, sink))
	}
	h.ack(h.plain(0), 1)
	h.batch(1, 9)
	for i := range 10 {
		g.publish(handWrite(10+i, sink))
	}
	g.close()
	if len(sink) != 20 {
		t.Fatalf("close returned with %d results", len(sink))
	}
	sink.expect(t, 0, 1)
	for i := range 19 {
		if r := <-sink; r.Token != uint64(1+i) || !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Errorf("result %+v", r)
		}
	}
	g.publish(handWrite(20, sink))
	if r := sink.next(t); r.Token != 20 || !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Errorf("result %+v", r)
	}
}

// TestGroupsKeepOrderAndResults writes batches and plain writes, with duplicates and failed expectations among them, and
// compares the stream with the results.
func TestGroupsKeepOrderAndResults(t *testing.T) {
	_, nc := startServerWith(t, func(c *EmbeddedConfig) { c.Durability = Fsync })
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), natsjs.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Storage: natsjs.FileStorage, AllowAtomicPublish: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	g, stats, acked := newTestGroupCommit(t, nc, func(*Config) {})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for run := range 25 {
		before, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next := before.State.LastSeq + 1
		n := 1 + random.IntN(60)
		sink := make(resultChan, n)
		type outcome struct {
			sequence  uint64
			duplicate bool
			err       error
		}
		var want []outcome
		var stored []int // the numbers that are in the stream, in order
		ids := map[int]uint64{}
		for i := range n {
			w := write{stream: "S", subject: fmt.Sprintf("s.%d.%d", run, i), data: []byte(strconv.Itoa(i)), to: sink, token: uint64(i)}
			o := outcome{sequence: next}
			switch random.IntN(12) {
			case 0, 1, 2:
				id := random.IntN(20)
				w.header = nats.Header{headerMessageID: {fmt.Sprintf("%d-%d", run, id)}}
				if first, ok := ids[id]; ok {
					o = outcome{sequence: first, duplicate: true}
				} else {
					ids[id] = next
				}
			case 3:
				w = w.expecting(77777777)
				o = outcome{err: sessions.ErrConflict}
			case 4, 5:
				w = w.expecting(0)
			}
			if o.sequence == next {
				next++
				stored = append(stored, i)
			}
			want = append(want, o)
			g.publish(w)
		}
		for i, o := range want {
			r := sink.next(t)
			if r.Token != uint64(i) || r.Sequence != o.sequence || r.Duplicate != o.duplicate || !errors.Is(r.Err, o.err) {
				t.Fatalf("write %d: result %+v, not %+v", i, r, o)
			}
			if o.err == nil && <-acked != o.sequence {
				t.Fatalf("write %d was reported as stored with another sequence", i)
			}
		}
		var got []int
		for sequence := before.State.LastSeq + 1; sequence < next; sequence++ {
			m, err := stream.GetMsg(t.Context(), sequence)
			if err != nil {
				t.Fatal(err)
			}
			number, _ := strconv.Atoi(string(m.Data))
			got = append(got, number)
		}
		if !slices.Equal(got, stored) {
			t.Fatalf("the stream has %v, not %v", got, stored)
		}
	}
	if stats.RefusedBatches.Load() == 0 {
		t.Error("no batch was refused: the test tests nothing")
	}
}

// heldLane has two writes, the second of which came when the first was held for one more than that.
func heldLane(g *groupCommit, sink sessions.Sink) {
	l := &lane{waiting: []write{handWrite(0, sink)}, busy: true, limit: maxBatch, hold: time.NewTimer(time.Hour), full: 3}
	g.lanes["HAND"] = l
	g.publish(handWrite(1, sink))
}

func TestHeldGroupGoesWhenItIsFull(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, _ := newTestGroupCommit(t, nc, func(*Config) {})
	sink := make(resultChan, 3)
	heldLane(g, sink)
	h.none(nc)
	g.publish(handWrite(2, sink))
	for i := range 3 {
		h.ack(h.plain(i), 1+i)
		sink.expect(t, i, 1+i)
	}
}

func TestCloseFailsWhatIsHeld(t *testing.T) {
	_, nc := startServer(t)
	c := DefaultConfig()
	g, err := newGroupCommit(nc, &c, new(Stats), func([]settled) {}, false)
	if err != nil {
		t.Fatal(err)
	}
	sink := make(resultChan, 3)
	heldLane(g, sink)
	g.close()
	if len(sink) != 2 {
		t.Fatalf("close returned with %d results", len(sink))
	}
	for i := range 2 {
		if r := <-sink; r.Token != uint64(i) || !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Errorf("result %+v", r)
		}
	}
}

func TestConnectionLossFailsGroups(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	g, _, _ := newTestGroupCommit(t, nc, func(*Config) {})
	sink := make(resultChan, 30)
	for i := range 10 {
		g.publish(handWrite(i, sink))
	}
	h.ack(h.plain(0), 1)
	sink.expect(t, 0, 1)
	h.batch(1, 9)
	for i := range 10 {
		g.publish(handWrite(10+i, sink))
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.publish(handWrite(20, sink)) // nothing is kept for a later connection
	for i := range 20 {
		if r := sink.next(t); r.Token != uint64(1+i) || !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Errorf("result %+v", r)
		}
	}
}
