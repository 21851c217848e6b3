package jetstream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// startServer starts a server without a port and connects to it.
func startServer(t testing.TB) (*Embedded, *nats.Conn) {
	t.Helper()
	return startServerWith(t, func(*EmbeddedConfig) {})
}

func startServerWith(t testing.TB, change func(*EmbeddedConfig)) (*Embedded, *nats.Conn) {
	t.Helper()
	c := DefaultEmbeddedConfig(t.TempDir())
	c.Listen = ListenOff
	change(&c)
	e, err := StartEmbedded(c)
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := e.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
	nc, err := e.Connect()
	if err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		stop()
	})
	return e, nc
}

// handStream is a stream whose answers are given by hand.
type handStream struct {
	t        *testing.T
	nc       *nats.Conn // its own: the publisher's does not hear itself
	requests chan *nats.Msg
}

func newHandStream(t *testing.T, e *Embedded) *handStream {
	t.Helper()
	nc, err := e.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	h := &handStream{t: t, nc: nc, requests: make(chan *nats.Msg, 1000)}
	if _, err := nc.ChanSubscribe("hand.>", h.requests); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *handStream) next() *nats.Msg {
	h.t.Helper()
	select {
	case m := <-h.requests:
		return m
	case <-time.After(10 * time.Second):
		h.t.Fatal("no request")
		return nil
	}
}

// none makes sure that nothing more was sent: what was sent before the flush has arrived after it.
func (h *handStream) none(nc *nats.Conn) {
	h.t.Helper()
	for _, c := range []*nats.Conn{nc, h.nc} {
		if err := c.Flush(); err != nil {
			h.t.Fatal(err)
		}
	}
	select {
	case m := <-h.requests:
		h.t.Fatalf("unexpected write %q", m.Data)
	default:
	}
}

func (h *handStream) ack(m *nats.Msg, sequence int) {
	h.t.Helper()
	if err := m.Respond(fmt.Appendf(nil, `{"stream":"HAND","seq":%d}`, sequence)); err != nil {
		h.t.Fatal(err)
	}
}

type resultChan chan sessions.Result

func (c resultChan) Stored(r sessions.Result) { c <- r }

func (c resultChan) next(t *testing.T) sessions.Result {
	t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no result")
		return sessions.Result{}
	}
}

func newTestWriter(t *testing.T, nc *nats.Conn, change func(*Config)) (writer, *Stats) {
	t.Helper()
	c := DefaultConfig()
	change(&c)
	stats := new(Stats)
	p, err := newWriter(nc, &c, stats, func([]settled) {}, false, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p, stats
}

func handWrite(i int, to sessions.Sink) write {
	return write{stream: "HAND", subject: "hand.a", data: fmt.Append(nil, i), to: to, token: uint64(i)}
}

func TestWindowHoldsWritesBackInOrder(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"count": func(c *Config) { c.Window = 4 },
		"bytes": func(c *Config) { c.WindowBytes = 4*(128+len("hand.a")+1) + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			e, nc := startServer(t)
			h := newHandStream(t, e)
			p, _ := newTestWriter(t, nc, change)
			sink := make(resultChan, 10)
			for i := range 10 {
				p.publish(handWrite(i, sink))
			}
			var sent []*nats.Msg
			for range 4 {
				sent = append(sent, h.next())
			}
			h.none(nc)
			for i := range 10 {
				if string(sent[i].Data) != fmt.Sprint(i) {
					t.Fatalf("write %d is %q", i, sent[i].Data)
				}
				h.ack(sent[i], i+1)
				if r := sink.next(t); r.Token != uint64(i) || r.Sequence != uint64(i+1) || r.Err != nil {
					t.Fatalf("result %+v", r)
				}
				if i < 6 {
					sent = append(sent, h.next())
				}
				h.none(nc)
			}
		})
	}
}

func soon(w write) write {
	w.urgency = sessions.Soon
	return w
}

// What nobody waits for is sent when enough of it has come together, or something that cannot wait, or after a while, and in order.
func TestWritesThatNobodyWaitsForAreSent(t *testing.T) {
	for name, waits := range map[string]func(i int) bool{
		"alone":                    func(int) bool { return true },
		"before what cannot wait":  func(i int) bool { return i < 3 },
		"behind what cannot wait":  func(i int) bool { return i > 0 },
		"between what cannot wait": func(i int) bool { return i%2 == 1 },
	} {
		for _, n := range []int{1, 4, 3 * maxCompany} {
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				e, nc := startServer(t)
				h := newHandStream(t, e)
				p, _ := newTestWriter(t, nc, func(*Config) {})
				sink := make(resultChan, n)
				for round := range 2 {
					for i := range n {
						w := handWrite(i, sink)
						if waits(i) {
							w = soon(w)
						}
						p.publish(w)
					}
					for i := range n {
						m := h.next()
						if string(m.Data) != fmt.Sprint(i) {
							t.Fatalf("write %d is %q", i, m.Data)
						}
						h.ack(m, round*n+i+1)
						if r := sink.next(t); r.Token != uint64(i) || r.Err != nil {
							t.Fatalf("result %+v", r)
						}
					}
				}
			})
		}
	}
}

// What waits for others when the writer is closed, or comes behind that, has its result.
func TestCloseFailsWhatWaitsForOthers(t *testing.T) {
	_, nc := startServer(t)
	c := DefaultConfig()
	p, err := newPublisher(nc, &c, new(Stats), func([]settled) {}, false)
	if err != nil {
		t.Fatal(err)
	}
	sink := make(resultChan, 2)
	p.publish(soon(handWrite(1, sink)))
	p.close()
	p.publish(soon(handWrite(2, sink)))
	for token := range uint64(2) {
		if r := sink.next(t); r.Token != token+1 || !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Errorf("result %+v", r)
		}
	}
}

func TestLateAckAnswersNothing(t *testing.T) {
	for _, d := range []Durability{Process, Fsync} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			testLateAck(t, d)
		})
	}
}

func testLateAck(t *testing.T, d Durability) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	p, stats := newTestWriter(t, nc, func(c *Config) { c.Durability, c.Window, c.AckTimeout = d, 1, 2*time.Second })
	sink := make(resultChan, 2)
	p.publish(handWrite(1, sink))
	p.publish(handWrite(2, sink))
	late := h.next()
	if r := sink.next(t); r.Token != 1 || !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Fatalf("result %+v", r)
	}
	present := h.next() // the same slot of the window
	h.ack(late, 7)
	h.ack(present, 8)
	if r := sink.next(t); r.Token != 2 || r.Sequence != 8 || r.Err != nil {
		t.Errorf("result %+v", r)
	}
	if stats.AckTimeouts.Load() != 1 {
		t.Errorf("%d timeouts were counted", stats.AckTimeouts.Load())
	}
}

// While one server takes over a stream from another, both answer a write: the second answer is not that to the next one.
func TestSecondAnswerIsForNoOtherWrite(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	w, _ := newTestWriter(t, nc, func(c *Config) { c.Window = 1 })
	w.(*publisher).clustered = true
	sink := make(resultChan, 2)
	w.publish(handWrite(1, sink))
	first := h.next()
	h.answer(first, `{"error":{"code":500,"err_code":10009,"description":"not leader"},"stream":"HAND","seq":0}`)
	if r := sink.next(t); r.Token != 1 || !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Fatalf("result %+v", r)
	}
	w.publish(handWrite(2, sink))
	second := h.next()
	h.ack(first, 7)
	h.ack(second, 8)
	sink.expect(t, 2, 8)
}

func TestConnectionLossFailsWhatIsUnanswered(t *testing.T) {
	e, nc := startServer(t)
	h := newHandStream(t, e)
	p, stats := newTestWriter(t, nc, func(c *Config) { c.AckTimeout = time.Hour })
	sink := make(resultChan, 3)
	p.publish(handWrite(1, sink))
	p.publish(handWrite(2, sink))
	h.next()
	h.next()
	if err := e.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := sink.next(t); !errors.Is(r.Err, sessions.ErrUnavailable) {
			t.Errorf("result %+v", r)
		}
	}
	if stats.ConnectionLosses.Load() != 2 {
		t.Errorf("%d losses were counted", stats.ConnectionLosses.Load())
	}
	p.publish(handWrite(3, sink)) // nothing is kept for a later connection
	if r := sink.next(t); r.Token != 3 || !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Errorf("result %+v", r)
	}
}

func TestPubAcks(t *testing.T) {
	status503 := nats.Header{"Status": {"503"}}
	for _, c := range []struct {
		name   string
		data   string
		header nats.Header
		want   error
		seq    uint64
		dup    bool
		none   bool
	}{
		{name: "plain", data: `{"stream":"S","seq":12}`, seq: 12},
		{name: "duplicate", data: `{"stream":"S","seq":12,"duplicate": true}`, seq: 12, dup: true},
		{name: "domain", data: `{"stream":"S","domain":"hub","seq":12}`, seq: 12},
		{name: "largest", data: `{"stream":"S","seq":18446744073709551615}`, seq: 18446744073709551615},
		{name: "too large", data: `{"stream":"S","seq":18446744073709551616}`, none: true},
		{name: "conflict", data: `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"},"stream":"S","seq":0}`, want: sessions.ErrConflict},
		{name: "conflict in a cluster", data: `{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}`, want: sessions.ErrConflict},
		{name: "full", data: `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}`, want: sessions.ErrRejected},
		{name: "going down", data: `{"error":{"code":503,"err_code":10077,"description":"store is closed"}}`, want: sessions.ErrUnavailable},
		{name: "no resources", data: `{"error":{"code":503,"err_code":10023}}`, want: sessions.ErrRejected},
		{name: "no storage", data: `{"error":{"code":500,"err_code":10047}}`, want: sessions.ErrRejected},
		{name: "header", data: `{"error":{"code":400,"err_code":10097}}`, want: sessions.ErrRejected},
		{name: "message size", data: `{"error":{"code":400,"err_code":10054}}`, want: sessions.ErrRejected},
		{name: "busy", data: `{"error":{"code":429,"err_code":10167}}`, want: sessions.ErrUnavailable},
		{name: "the same on its way", data: `{"error":{"code":409,"err_code":10158}}`, want: sessions.ErrUnavailable},
		{name: "no leader", data: `{"error":{"code":503,"err_code":10008}}`, want: sessions.ErrUnavailable},
		{name: "no responders", header: status503, want: sessions.ErrUnavailable},
		{name: "other stream", data: `{"stream":"T","seq":12}`, none: true},
		{name: "nothing", none: true},
		{name: "no number", data: `{"stream":"S","seq":1x}`, none: true},
		{name: "text", data: `+OK`, none: true},
		{name: "zero", data: `{"stream":"S","seq":0}`, none: true},
		{name: "a service's error", data: `{"error":{"code":500}}`, none: true},
	} {
		r, ok := parsePubAck(&nats.Msg{Data: []byte(c.data), Header: c.header}, "S")
		if ok == c.none || !errors.Is(r.Err, c.want) || r.Sequence != c.seq || r.Duplicate != c.dup {
			t.Errorf("%s: %+v %v", c.name, r, ok)
		}
	}
}

func FuzzPubAck(f *testing.F) {
	f.Add([]byte(`{"stream":"S","seq":12}`))
	f.Add([]byte(`{"stream":"S","seq":12,"duplicate": true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, ok := parsePubAck(&nats.Msg{Data: data}, "S"); ok && r.Err == nil && r.Sequence == 0 {
			t.Fatalf("%q was taken for %+v", data, r)
		}
	})
}

func TestDeliveries(t *testing.T) {
	want := delivery{streamSequence: 7, consumerSequence: 8, pending: 10, time: time.Unix(0, 9).UTC()}
	for _, reply := range []string{
		"$JS.ACK.S.C.1.7.8.9.10",
		"$JS.ACK.hub.acchash.S.C.1.7.8.9.10",
		"$JS.ACK._.acchash.S.C.1.7.8.9.10.token",
	} {
		if d, ok := parseDelivery(reply); !ok || d != want {
			t.Errorf("%s: %+v %v", reply, d, ok)
		}
	}
	for _, reply := range []string{"", "$JS.ACK.", "$JS.ACK.S.C.1.7.8.9", "$JS.FC.S.C.x", "$JS.ACK.S.C.1.7.8.9.x", "$JS.ACK.S.C.1.7.8.9.10.11", "_INBOX.x"} {
		if d, ok := parseDelivery(reply); ok {
			t.Errorf("%q was taken for %+v", reply, d)
		}
	}
}
