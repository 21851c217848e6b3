package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// readAll reads on until nothing is left.
func readAll(ctx context.Context, t testing.TB, r sessions.LogReader) (entries []sessions.Entry) {
	t.Helper()
	for {
		window, err := r.Next(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(window) == 0 {
			return entries
		}
		entries = append(entries, window...)
	}
}

// What was taken out of the log is passed over, and what is no message of ours takes its place.
func TestReaderPassesGapsOver(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	nc := n.Conn
	stream, err := newJS(t, nc).Stream(ctx, "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	r, stopped := s.Log().Reader(0), s.Log().Reader(7)
	for i := range 30 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i+1)))
	}
	if err := nc.Publish("mqtt.a=bad", nil); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(ctx, 20); err != nil {
		t.Fatal(err)
	}
	if entries, err := stopped.Next(ctx, 2); err != nil || len(entries) != 2 || entries[0].Sequence != 8 {
		t.Fatalf("read %v, %v", entries, err)
	}
	if err := stream.Purge(ctx, natsjs.WithPurgeSequence(16)); err != nil { // also below one that is being read
		t.Fatal(err)
	}
	for _, reader := range []sessions.LogReader{r, stopped} {
		next := uint64(16)
		for _, e := range readAll(ctx, t, reader) {
			if next == 20 {
				next++
			}
			if e.Sequence != next || (e.Message == nil) != (next == 31) {
				t.Fatalf("got %+v, want %d", e, next)
			}
			next++
		}
		if next != 32 {
			t.Fatalf("read up to %d", next-1)
		}
		reader.Close()
	}
}

// Whatever happens to its consumer, and to the server, a reader brings each entry once; an error skips nothing.
func TestReaderSurvivesLossOfItsConsumer(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	const last = 400
	for i := range last {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i+1)))
	}
	js := newJS(t, n.Conn)
	r := s.Log().Reader(0)
	defer r.Close()
	disturb := map[uint64]func(){
		100: func() {
			stream, err := js.Stream(ctx, "MQTT")
			if err != nil {
				t.Fatal(err)
			}
			for name := range stream.ConsumerNames(ctx).Name() {
				if err := stream.DeleteConsumer(ctx, name); err != nil {
					t.Fatal(err)
				}
			}
		},
		200: n.Restart,
	}
	next := uint64(1)
	for next <= last {
		entries, err := r.Next(ctx, 10)
		if err != nil && !errors.Is(err, sessions.ErrUnavailable) && ctx.Err() == nil {
			t.Logf("next is %d: %v", next, err)
		}
		if err == nil && len(entries) == 0 {
			t.Fatalf("nothing is left after %d", next-1)
		}
		for _, e := range entries {
			if e.Sequence != next {
				t.Fatalf("got %d, want %d", e.Sequence, next)
			}
			if f := disturb[next]; f != nil {
				f()
			}
			next++
		}
	}
	if entries := readAll(ctx, t, r); len(entries) > 0 {
		t.Fatalf("%d entries behind the end", len(entries))
	}
}

// A reader that is closed leaves no consumer behind.
func TestClosedReaderLeavesNoConsumer(t *testing.T) {
	n, c := jetstreamtest.StartNATS(t), testConfig()
	c.Heartbeat = time.Minute // it would end itself long after the test
	s := openStorage(t, n, c)
	ctx := testContext(t)
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", "1"))
	stream, err := newJS(t, n.Conn).Stream(ctx, "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	consumers := func() int {
		info, err := stream.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Consumers
	}
	r := s.Log().Reader(0)
	if entries := readAll(ctx, t, r); len(entries) != 1 {
		t.Fatalf("read %v", entries)
	}
	if got := consumers(); got != 1 {
		t.Fatalf("%d consumers", got)
	}
	r.Close()
	eventually(t, "the consumer is gone", func() bool { return consumers() == 0 })
}
