package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

func newJS(t testing.TB, nc *nats.Conn) natsjs.JetStream {
	t.Helper()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestRestartLeavesNoGapAndRepeatsNothing(t *testing.T) {
	n, s := newStorage(t)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	stored := make(map[uint64]string) // by sequence, what was acknowledged
	sink := make(jetstreamtest.Sink, 100)
	next := 0
	appendSome := func(count int) (failed bool) {
		first := next
		for ; next < first+count; next++ {
			s.Log().Append(jetstreamtest.Message("a", fmt.Sprint(next)), "", sink, uint64(next))
		}
		for range count {
			r := sink.Next(t)
			if r.Err != nil {
				if !errors.Is(r.Err, sessions.ErrUnavailable) {
					t.Fatalf("result %+v", r)
				}
				failed = true
				continue
			}
			stored[r.Sequence] = fmt.Sprint(r.Token)
		}
		return failed
	}
	for range 3 {
		for range 10 {
			if appendSome(100) {
				t.Fatal("append failed while the server runs")
			}
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			n.Stop()
		}()
		for !appendSome(50) { // until it is noticed
		}
		<-stopped
		if !appendSome(1) {
			t.Error("append succeeded without a server")
		}
		n.Start()
		for appendSome(1) { // until it is back
		}
	}
	appendSome(100)
	last, err := s.Log().Last(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	entries := tail.Count(int(last.Sequence))
	for i, e := range entries {
		if e.Sequence != uint64(i+1) {
			t.Fatalf("entry %d has sequence %d", i, e.Sequence)
		}
		if payload, ok := stored[e.Sequence]; ok && payload != string(e.Message.Payload) {
			t.Errorf("at %d is %s, acknowledged was %s", e.Sequence, e.Message.Payload, payload)
		}
		delete(stored, e.Sequence)
	}
	if len(stored) > 0 {
		t.Errorf("%d acknowledged messages are missing", len(stored))
	}
	if lost := s.Stats().ConnectionLosses.Load(); lost == 0 {
		t.Log("no write was under way when the connection was lost")
	}
}

func TestTrimmedMessagesArePassedOverAndCounted(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	ctx := testContext(t)
	for i := range 100 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i)))
	}
	stream, err := js.Stream(ctx, "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []uint64{20, 21, 30} {
		if err := stream.DeleteMsg(ctx, gone); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Purge(ctx, natsjs.WithPurgeSequence(10)); err != nil {
		t.Fatal(err)
	}
	if first, err := s.Log().First(ctx); err != nil || first != 10 {
		t.Errorf("first %d, %v", first, err)
	}
	entries := jetstreamtest.StartTail(t, s.Log(), 4).Count(88)
	if entries[0].Sequence != 10 || entries[87].Sequence != 100 {
		t.Errorf("from %d to %d", entries[0].Sequence, entries[87].Sequence)
	}
	if trimmed := s.Stats().Trimmed.Load(); trimmed != 5+3 {
		t.Errorf("%d trimmed messages were counted", trimmed)
	}
	if loaded, err := s.Log().Load(ctx, []uint64{5, 20, 22}); err != nil || len(loaded) != 1 || loaded[0].Sequence != 22 {
		t.Errorf("loaded %v, %v", loaded, err)
	}
	for _, p := range []sessions.Position{
		{Sequence: 5, Time: entries[0].Time.Add(-time.Microsecond)},
		{Sequence: 20, Time: entries[10].Time},
	} {
		if now, moved, err := s.Log().Resolve(ctx, p); err != nil || moved || now != p {
			t.Errorf("trimmed position %+v became %+v %v, %v", p, now, moved, err)
		}
	}
	if now, moved, err := s.Log().Resolve(ctx, sessions.Position{Sequence: 20, Time: entries[60].Time.Add(time.Hour)}); err != nil || !moved || now.Sequence != 100 {
		t.Errorf("position of a younger message became %+v %v, %v", now, moved, err)
	}
	// An emptied log keeps its numbering.
	if err := stream.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	p := entries[87].Position
	if now, moved, err := s.Log().Resolve(ctx, p); err != nil || moved || now != p {
		t.Errorf("last position became %+v %v, %v", now, moved, err)
	}
	if first, err := s.Log().First(ctx); err != nil || first != 101 {
		t.Errorf("first %d, %v", first, err)
	}
}

func TestRecreatedLogIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	ctx := testContext(t)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	for i := range 10 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("old", fmt.Sprint(i)))
	}
	old := tail.Count(10)
	if err := js.DeleteStream(ctx, "MQTT"); err != nil {
		t.Fatal(err)
	}
	if r := func() sessions.Result {
		sink := make(jetstreamtest.Sink, 1)
		s.Log().Append(jetstreamtest.Message("none", ""), "", sink, 0)
		return sink.Next(t)
	}(); !errors.Is(r.Err, sessions.ErrUnavailable) {
		t.Errorf("append without a log: %+v", r)
	}
	if err := jetstream.EnsureTopology(ctx, n.Conn, testConfig()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("new", fmt.Sprint(i)))
	}
	entries := tail.Count(15)[10:]
	for i, e := range entries {
		if e.Sequence != uint64(i+1) || e.Message.Topic != "new" {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if s.Stats().LogReplacements.Load() == 0 {
		t.Error("nothing was counted")
	}
	if s.Log().LastAppended() != 5 {
		t.Errorf("last appended %d", s.Log().LastAppended())
	}
	for _, e := range []sessions.Entry{old[2], old[9]} {
		if now, moved, err := s.Log().Resolve(ctx, e.Position); err != nil || !moved || now.Sequence != 0 {
			t.Errorf("old position %+v became %+v %v, %v", e.Position, now, moved, err)
		}
	}
	if now, moved, err := s.Log().Resolve(ctx, entries[2].Position); err != nil || moved {
		t.Errorf("new position became %+v %v, %v", now, moved, err)
	}
	stream, err := js.Stream(ctx, "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if now, moved, err := s.Log().Resolve(ctx, old[2].Position); err != nil || !moved || now.Sequence != 0 {
		t.Errorf("old position at a trimmed message became %+v %v, %v", now, moved, err)
	}
}

func TestReaderSurvivesTheLossOfItsConsumer(t *testing.T) {
	t.Parallel()
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	ctx := testContext(t)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", "1"))
	tail.Count(1)
	stream, err := js.Stream(ctx, "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	for name := range stream.ConsumerNames(ctx).Name() {
		if err := stream.DeleteConsumer(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", "2"))
	if e := tail.Count(2)[1]; e.Sequence != 2 {
		t.Errorf("entry %+v", e)
	}
}

func TestNATSClientsShareTheLog(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	ctx := testContext(t)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a/b c/", "from MQTT"))
	consumer, err := js.CreateConsumer(ctx, "MQTT", natsjs.ConsumerConfig{Durable: "service", FilterSubject: "mqtt.a.>"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next()
	if err != nil || m.Subject() != "mqtt.a.b=20c.=00" || string(m.Data()) != "from MQTT" || len(m.Headers()) != 0 {
		t.Fatalf("message %v, %v", m, err)
	}
	if _, err := js.Publish(ctx, "mqtt.a.b", []byte("from NATS")); err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"mqtt.a=2eb", "mqtt.a/b", "mqtt.a+b"} {
		if _, err := js.Publish(ctx, foreign, nil); err != nil {
			t.Fatal(err)
		}
	}
	spoof := nats.NewMsg("mqtt.a.b")
	spoof.Header = nats.Header{"Status": {"404"}, "Nats-Sequence": {"1"}, "Nats-Subject": {"mqtt.x"}, "Mqtt-Qos": {"9"}}
	if _, err := js.PublishMsg(ctx, spoof); err != nil {
		t.Fatal(err)
	}
	entries := tail.Count(6)
	if e := entries[1]; e.Message.Topic != "a/b" || string(e.Message.Payload) != "from NATS" || e.Message.QoS != 1 {
		t.Errorf("entry %+v %+v", e, e.Message)
	}
	for _, e := range entries[2:5] {
		if e.Message != nil {
			t.Errorf("%d was taken for topic %q", e.Sequence, e.Message.Topic)
		}
	}
	check := func(how string, e sessions.Entry) {
		t.Helper()
		if e.Sequence != 6 || e.Message == nil || e.Message.Topic != "a/b" || len(e.Message.Properties.UserProperties) != 0 || e.Message.QoS != 1 {
			t.Errorf("%s: entry %+v %+v", how, e, e.Message)
		}
	}
	check("tail", entries[5])
	loaded, err := s.Log().Load(ctx, []uint64{6})
	if err != nil || len(loaded) != 1 {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	check("load", loaded[0])
	if err := s.Log().Scan(ctx, 5, 6, func(e sessions.Entry) { check("scan", e) }); err != nil {
		t.Error(err)
	}
	if got := s.Stats().Undecodable.Load(); got != 3 {
		t.Errorf("%d undecodable entries were counted", got)
	}
	if got := s.Stats().InvalidHeaders.Load(); got != 3 {
		t.Errorf("%d invalid headers were counted", got)
	}
}

func TestForeignReplyIsNoAcknowledgement(t *testing.T) {
	n, s := newStorage(t)
	sub, err := n.Conn.Subscribe("mqtt.svc", func(m *nats.Msg) {
		for _, answer := range []string{"+OK", "{}", `{"stream":"OTHER","seq":9}`, `{"stream":"MQTT","seq":0}`, ""} {
			_ = m.Respond([]byte(answer))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for want := range uint64(20) {
		if got := jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("svc", "1")); got != want+1 {
			t.Errorf("sequence %d, want %d", got, want+1)
		}
	}
}

func TestOversizeIsRejected(t *testing.T) {
	n, s := newStorage(t)
	sink := make(jetstreamtest.Sink, 1)
	big := jetstreamtest.Message("a", strings.Repeat("x", int(n.Config.MaxPayload)+1))
	s.Log().Append(big, "", sink, 1)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrRejected) {
		t.Errorf("payload: %+v", r)
	}
	longest := strings.Repeat("x", jetstream.MaxSubject)
	s.Log().Append(jetstreamtest.Message(longest+"x", "1"), "", sink, 2)
	if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrRejected) || !errors.Is(r.Err, jetstream.ErrTopicTooLong) {
		t.Errorf("topic: %+v", r)
	}
	if got := jetstreamtest.Append(t, s.Log(), jetstreamtest.Message(longest, "1")); got != 1 {
		t.Errorf("the longest topic has sequence %d", got)
	}
}

// TestStalledReaderLosesNothing: it stalls for longer than three heartbeats, before a backlog of small messages.
func TestStalledReaderLosesNothing(t *testing.T) {
	t.Parallel()
	_, s := newStorage(t)
	const n = 60_000
	sink := make(jetstreamtest.Sink, 4096)
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		for range n {
			<-sink
		}
	}()
	m := jetstreamtest.Message("a", "1")
	for range n {
		s.Log().Append(m, "", sink, 0)
	}
	<-stored
	ctx, cancel := context.WithCancel(testContext(t))
	next, stall := uint64(1), time.NewTimer(time.Second)
	err := s.Log().Tail(ctx, 0, func(batch []sessions.Entry) {
		if next == 1 {
			<-stall.C
		}
		for _, e := range batch {
			if e.Sequence != next {
				t.Errorf("entry %d, want %d", e.Sequence, next)
				cancel()
				return
			}
			next++
		}
		if next > n {
			cancel()
		}
	})
	if err != nil || next != n+1 {
		t.Errorf("read up to %d, %v", next-1, err)
	}
}
