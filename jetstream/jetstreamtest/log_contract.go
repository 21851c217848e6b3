package jetstreamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// LogContract tests what every sessions.Log promises. open makes an empty log.
func LogContract(t *testing.T, open func(testing.TB) sessions.Log) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, sessions.Log)
	}{
		{"EmptyLog", testEmptyLog},
		{"AppendKeepsTheOrderOfACaller", testAppendOrder},
		{"MessagesComeBackWhole", testMessagesWhole},
		{"AnIDIsStoredOnce", testIDOnce},
		{"TooLongTopicIsRejected", testTooLong},
		{"TailStartsAfterASequence", testTailAfter},
		{"ScanIsBounded", testScan},
		{"ReaderGoesOnWhereItWas", testReader},
		{"LoadLeavesOutWhatIsGone", testLoad},
		{"BeforeFindsAPlaceByTime", testBefore},
		{"PositionHolds", testPositionHolds},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, open(t))
		})
	}
}

// Message is a QoS 1 message without properties.
func Message(topic, payload string) *sessions.Message {
	return &sessions.Message{Topic: topic, Payload: []byte(payload), QoS: 1}
}

// Append stores messages and returns the sequence of the last.
func Append(t testing.TB, log sessions.Log, messages ...*sessions.Message) uint64 {
	t.Helper()
	sink := make(Sink, len(messages))
	for i, m := range messages {
		log.Append(m, "", sink, uint64(i))
	}
	var last uint64
	for range messages {
		last = max(last, sink.Must(t).Sequence)
	}
	return last
}

// Tail runs a log's Tail and collects what it hands over.
type Tail struct {
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error

	mu      sync.Mutex
	changed chan struct{}    // guarded by mu; closed when entries grew
	entries []sessions.Entry // guarded by mu
}

// StartTail tails a log until the test ends, or until Stop.
func StartTail(t testing.TB, log sessions.Log, after uint64) *Tail {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tail := &Tail{t: t, cancel: cancel, ended: make(chan error, 1), changed: make(chan struct{})}
	go func() {
		tail.ended <- log.Tail(ctx, after, func(batch []sessions.Entry) {
			tail.mu.Lock()
			defer tail.mu.Unlock()
			tail.entries = append(tail.entries, batch...)
			close(tail.changed)
			tail.changed = make(chan struct{})
		})
	}()
	t.Cleanup(tail.Stop)
	return tail
}

// Stop ends the tail, which must be no error.
func (tail *Tail) Stop() {
	tail.t.Helper()
	tail.cancel()
	select {
	case err := <-tail.ended:
		if err != nil {
			tail.t.Errorf("tail: %v", err)
		}
		tail.ended <- nil // Stop may be called again
	case <-time.After(20 * time.Second):
		tail.t.Error("tail does not end")
	}
}

// Until waits until the entries satisfy a condition and returns them.
func (tail *Tail) Until(enough func([]sessions.Entry) bool) []sessions.Entry {
	tail.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		tail.mu.Lock()
		entries, changed := tail.entries, tail.changed
		tail.mu.Unlock()
		if enough(entries) {
			return entries
		}
		select {
		case <-changed:
		case <-deadline:
			tail.t.Fatalf("tail has %d entries", len(entries))
		}
	}
}

// Count waits for n entries.
func (tail *Tail) Count(n int) []sessions.Entry {
	tail.t.Helper()
	return tail.Until(func(e []sessions.Entry) bool { return len(e) >= n })
}

func testEmptyLog(t *testing.T, log sessions.Log) {
	ctx := t.Context()
	last, err := log.Last(ctx)
	if err != nil || last != (sessions.Position{}) {
		t.Errorf("last %+v, %v", last, err)
	}
	if first, err := log.First(ctx); err != nil || first > 1 {
		t.Errorf("first %d, %v", first, err)
	}
	if p, moved, err := log.Resolve(ctx, sessions.Position{}); err != nil || moved || p != (sessions.Position{}) {
		t.Errorf("resolved %+v %v, %v", p, moved, err)
	}
	if entries, err := log.Load(ctx, []uint64{1, 2}); err != nil || len(entries) != 0 {
		t.Errorf("loaded %v, %v", entries, err)
	}
	if err := log.Scan(ctx, 0, 100, func(e sessions.Entry) { t.Errorf("scanned %+v", e) }); err != nil {
		t.Error(err)
	}
	if log.LastAppended() != 0 {
		t.Errorf("last appended %d", log.LastAppended())
	}
}

func testAppendOrder(t *testing.T, log sessions.Log) {
	const callers, each = 8, 3000
	tail := StartTail(t, log, 0)
	sinks := make([]Sink, callers)
	var group sync.WaitGroup
	for c := range callers {
		sinks[c] = make(Sink, each)
		group.Go(func() {
			for i := range each {
				log.Append(Message(fmt.Sprint("caller/", c), fmt.Sprint(i)), "", sinks[c], uint64(i))
			}
		})
	}
	group.Wait()
	for c := range callers {
		var before uint64
		for range each {
			r := sinks[c].Must(t)
			if r.Sequence <= before {
				t.Fatalf("sequence %d after %d", r.Sequence, before)
			}
			before = r.Sequence
		}
	}
	if log.LastAppended() != callers*each {
		t.Errorf("last appended %d", log.LastAppended())
	}
	next := make(map[string]int)
	for i, e := range tail.Count(callers * each) {
		if e.Sequence != uint64(i+1) {
			t.Fatalf("entry %d has sequence %d", i, e.Sequence)
		}
		if want := fmt.Sprint(next[e.Message.Topic]); string(e.Message.Payload) != want {
			t.Fatalf("%s: message %s, want %s", e.Message.Topic, e.Message.Payload, want)
		}
		next[e.Message.Topic]++
	}
}

func testMessagesWhole(t *testing.T, log sessions.Log) {
	ctx := t.Context()
	want := &sessions.Message{
		Topic: "a/b c/é/", Payload: []byte{0, 1, '\r', '\n', 255}, QoS: 2, Retain: true, Publisher: "p\r\n",
		Properties: mqttcodec.MessageProperties{
			PayloadFormat: mqttcodec.Some(byte(1)), MessageExpirySeconds: mqttcodec.Some(uint32(60)), ContentType: mqttcodec.Some(""),
			ResponseTopic: "re/ply", CorrelationData: []byte{0, 255},
			UserProperties: []mqttcodec.UserProperty{{Key: "b", Value: "2"}, {Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "", Value: "\t="}},
		},
	}
	begin := time.Now().Add(-time.Second)
	sink := make(Sink, 1)
	log.Append(want, "id-1", sink, 7)
	if r := sink.Must(t); r.Token != 7 || r.Duplicate {
		t.Errorf("result %+v", r)
	}
	check := func(how string, e sessions.Entry) {
		t.Helper()
		m := e.Message
		if e.Sequence != 1 || e.ID != "id-1" || m == nil || m.PublishedAt != e.Time || e.Time.Before(begin) || e.Time.After(time.Now().Add(time.Second)) {
			t.Fatalf("%s: entry %+v", how, e)
		}
		if m.Topic != want.Topic || !bytes.Equal(m.Payload, want.Payload) || m.QoS != want.QoS || m.Retain != want.Retain || m.Publisher != want.Publisher {
			t.Errorf("%s: message %+v", how, m)
		}
		if got := fmt.Sprintf("%#v", m.Properties); got != fmt.Sprintf("%#v", want.Properties) {
			t.Errorf("%s: properties %s", how, got)
		}
	}
	entry := StartTail(t, log, 0).Count(1)[0]
	check("tail", entry)
	if err := log.Scan(ctx, 0, 10, func(e sessions.Entry) { check("scan", e) }); err != nil {
		t.Fatal(err)
	}
	loaded, err := log.Load(ctx, []uint64{1})
	if err != nil || len(loaded) != 1 {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	check("load", loaded[0])
	if !loaded[0].Time.Equal(entry.Time) {
		t.Errorf("loaded time %v, tailed time %v", loaded[0].Time, entry.Time)
	}
	if last, err := log.Last(ctx); err != nil || last.Sequence != 1 || !last.Time.Equal(entry.Time) {
		t.Errorf("last %+v, %v", last, err)
	}
}

func testIDOnce(t *testing.T, log sessions.Log) {
	sink := make(Sink, 3)
	log.Append(Message("a", "1"), "one", sink, 1)
	log.Append(Message("a", "1"), "one", sink, 2)
	log.Append(Message("a", "2"), "two", sink, 3)
	first, again, other := sink.Must(t), sink.Must(t), sink.Must(t)
	if first.Duplicate || !again.Duplicate || again.Sequence != first.Sequence || other.Duplicate || other.Sequence != first.Sequence+1 {
		t.Errorf("results %+v %+v %+v", first, again, other)
	}
}

func testTooLong(t *testing.T, log sessions.Log) {
	sink := make(Sink, 2)
	log.Append(Message(string(bytes.Repeat([]byte("x"), 65535)), "1"), "", sink, 1)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrRejected) || r.Token != 1 {
		t.Errorf("result %+v", r)
	}
	if last := Append(t, log, Message("a", "")); last != 1 {
		t.Errorf("the log goes on at %d", last)
	}
}

func testTailAfter(t *testing.T, log sessions.Log) {
	for i := range 10 {
		Append(t, log, Message("a", fmt.Sprint(i)))
	}
	tail := StartTail(t, log, 7)
	Append(t, log, Message("a", "10"))
	for i, e := range tail.Count(4) {
		if e.Sequence != uint64(8+i) || string(e.Message.Payload) != fmt.Sprint(7+i) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
}

func testScan(t *testing.T, log sessions.Log) {
	const n = 1700 // more than one request brings
	messages := make([]*sessions.Message, n)
	for i := range messages {
		messages[i] = Message("a", fmt.Sprint(i))
	}
	Append(t, log, messages...)
	for _, r := range []struct{ after, upTo, want uint64 }{{0, n, n}, {0, n + 100, n}, {10, 20, 10}, {20, 20, 0}, {n, n + 5, 0}, {n - 1, n, 1}, {5, 4, 0}} {
		next := r.after + 1
		err := log.Scan(t.Context(), r.after, r.upTo, func(e sessions.Entry) {
			if e.Sequence != next || string(e.Message.Payload) != fmt.Sprint(next-1) {
				t.Fatalf("scanned %+v, want %d", e, next)
			}
			next++
		})
		if got := next - r.after - 1; err != nil || got != r.want {
			t.Errorf("(%d, %d]: %d entries, want %d; %v", r.after, r.upTo, got, r.want, err)
		}
	}
}

func testLoad(t *testing.T, log sessions.Log) {
	Append(t, log, Message("a", "1"), Message("a", "2"), Message("a", "3"))
	entries, err := log.Load(t.Context(), []uint64{3, 99, 1})
	if err != nil || len(entries) != 2 || entries[0].Sequence != 3 || entries[1].Sequence != 1 || string(entries[1].Message.Payload) != "1" {
		t.Errorf("loaded %+v, %v", entries, err)
	}
}

func testPositionHolds(t *testing.T, log sessions.Log) {
	ctx := t.Context()
	Append(t, log, Message("a", "1"), Message("a", "2"))
	entries := StartTail(t, log, 0).Count(2)
	for _, p := range []sessions.Position{entries[0].Position, entries[1].Position, {Sequence: 2}} {
		if now, moved, err := log.Resolve(ctx, p); err != nil || moved || now != p {
			t.Errorf("%+v became %+v %v, %v", p, now, moved, err)
		}
	}
	const off = 2*sessions.TimeTolerance + time.Second
	for p, want := range map[sessions.Position]uint64{
		{Sequence: 2, Time: entries[0].Time.Add(-off)}:       0, // another message stands there now
		{Sequence: 9, Time: entries[1].Time.Add(off)}:        2, // the log was longer once
		{Sequence: 9, Time: entries[1].Time}:                 0, // rather again than never
		{Sequence: 9, Time: entries[0].Time.Add(-time.Hour)}: 0,
		{Sequence: 1, Time: entries[1].Time.Add(off)}:        2,
		{Sequence: 9}: 0, // no telling
	} {
		if now, moved, err := log.Resolve(ctx, p); err != nil || !moved || now.Sequence != want {
			t.Errorf("%+v became %+v %v, %v; want %d", p, now, moved, err, want)
		}
	}
}

func testReader(t *testing.T, log sessions.Log) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const first = 1500 // more than one request brings
	var messages []*sessions.Message
	for i := range first {
		messages = append(messages, Message("a/b", fmt.Sprint(i+1)))
	}
	Append(t, log, messages...)
	for _, after := range []uint64{0, 1, 700, first - 1, first} {
		r := log.Reader(after)
		next := after + 1
		read := func(most int) (n int) {
			t.Helper()
			entries, err := r.Next(ctx, most)
			if err != nil || len(entries) > most {
				t.Fatalf("%d entries of %d, %v", len(entries), most, err)
			}
			for _, e := range entries {
				if e.Sequence != next || string(e.Message.Payload) != fmt.Sprint(next) || e.Message.Topic != "a/b" || e.Time.IsZero() {
					t.Fatalf("after %d: got %+v, want %d", after, e, next)
				}
				next++
			}
			return len(entries)
		}
		last := LastSequence(t, log)
		for most := 1; next <= last; most = most*3 + 1 {
			if read(most) == 0 {
				t.Fatalf("nothing after %d of %d", next-1, last)
			}
		}
		if n := read(10); n != 0 {
			t.Fatalf("%d entries behind the end", n)
		}
		Append(t, log, Message("a/b", fmt.Sprint(last+1))) // is found at once
		if n := read(10); n != 1 {
			t.Fatalf("%d entries, one came", n)
		}
		r.Close()
	}
}

func testBefore(t *testing.T, log sessions.Log) {
	before := func(at time.Time, want uint64) {
		t.Helper()
		if p, err := log.Before(context.Background(), at); err != nil || p.Sequence != want {
			t.Errorf("before %v: %d, %v, want %d", at, p.Sequence, err, want)
		}
	}
	before(time.Now(), 0)
	Append(t, log, Message("a", "1"), Message("b", "2"), Message("a", "3"))
	entries, err := log.Load(context.Background(), []uint64{1, 2, 3})
	if err != nil || len(entries) != 3 {
		t.Fatalf("loaded %v, %v", entries, err)
	}
	before(entries[0].Time.Add(-time.Hour), 0)
	before(entries[0].Time, 0)
	for _, e := range entries[1:] {
		if e.Time.After(entries[e.Sequence-2].Time) { // a clock may be coarse
			before(e.Time, e.Sequence-1)
			before(entries[e.Sequence-2].Time.Add(1), e.Sequence-1)
		}
	}
	before(entries[2].Time.Add(1), 3)
	before(time.Now().Add(time.Hour), 3)
}

// LastSequence is the sequence of the last message of a log.
func LastSequence(t testing.TB, log sessions.Log) uint64 {
	t.Helper()
	last, err := log.Last(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return last.Sequence
}
