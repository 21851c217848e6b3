package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// fetchAll empties a queue and returns the sequences.
func fetchAll(ctx context.Context, t testing.TB, q sessions.Queue, batch int) []uint64 {
	t.Helper()
	var got []uint64
	for {
		entries, err := q.Fetch(ctx, batch)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return got
		}
		if len(entries) > batch {
			t.Fatalf("%d entries, asked for %d", len(entries), batch)
		}
		for _, e := range entries {
			got = append(got, e.Sequence)
		}
	}
}

func openQueue(ctx context.Context, t testing.TB, queues sessions.Queues, clientID string, after uint64, filters ...string) sessions.Queue {
	t.Helper()
	q, err := queues.Open(ctx, clientID, filters, after)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func count(from, to uint64) []uint64 {
	var all []uint64
	for i := from; i <= to; i++ {
		all = append(all, i)
	}
	return all
}

func TestQueueHoldsWhatMatchesAfterItsPosition(t *testing.T) {
	_, s := newStorage(t)
	ctx := testContext(t)
	for i := range 300 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message([]string{"a/b", "a", "other"}[i%3], fmt.Sprint(i)))
	}
	q := openQueue(ctx, t, s.Queues(), "c", 0, "a/#", "+/b", "a/b")
	want := slices.DeleteFunc(count(1, 300), func(i uint64) bool { return i%3 == 0 })
	if n, err := q.Count(ctx, func(e sessions.Entry) bool { return e.Message.Topic == "a" }); err != nil || n != 100 {
		t.Errorf("%d counted, %v", n, err)
	}
	entries, err := q.Fetch(ctx, 10)
	if err != nil || len(entries) != 10 || entries[9].QueuedAfter != 190 || string(entries[1].Message.Payload) != "1" {
		t.Fatalf("fetched %v, %v", entries, err)
	}
	if got := fetchAll(ctx, t, q, 64); !slices.Equal(got, want[10:]) {
		t.Errorf("fetched %v", got)
	}
	// Opened again it stands where it is told to, also before what it has handed out, and with other filters.
	for _, after := range []uint64{0, 100, 299, 300, 50} {
		q = openQueue(ctx, t, s.Queues(), "c", after, "#")
		if got := fetchAll(ctx, t, q, 1000); !slices.Equal(got, count(after+1, 300)) {
			t.Errorf("after %d: fetched %v", after, got)
		}
	}
	q = openQueue(ctx, t, s.Queues(), "c", 0, "other")
	if got := fetchAll(ctx, t, q, 100); len(got) != 100 || got[0] != 3 {
		t.Errorf("fetched %v", got)
	}
}

func TestEmptyFetchProvesThatNothingIsLeft(t *testing.T) {
	_, s := newStorage(t)
	ctx := testContext(t)
	// Other consumers and other messages keep the server from noticing ours at once.
	var queues []sessions.Queue
	for i := range 200 {
		queues = append(queues, openQueue(ctx, t, s.Queues(), fmt.Sprint("other-", i), 0, "#"))
	}
	q := openQueue(ctx, t, s.Queues(), "c", 0, "a/+", "b")
	noise, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		for sink := make(jetstreamtest.Sink, 64); noise.Err() == nil; {
			for range cap(sink) {
				s.Log().Append(jetstreamtest.Message("noise", "x"), "", sink, 0)
			}
			for range cap(sink) {
				<-sink
			}
		}
	})
	defer group.Wait()
	defer stop()
	for i := range 300 {
		want := jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a/x", "1"))
		entries, err := q.Fetch(ctx, 10)
		if err != nil || len(entries) != 1 || entries[0].Sequence != want {
			t.Fatalf("round %d: fetched %v, %v; %d was stored before", i, entries, err, want)
		}
	}
	_ = queues
}

func TestQueueIsRebuiltWhenTheServerForgetsIt(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	for i := range 20 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i)))
	}
	q := openQueue(ctx, t, s.Queues(), "c", 0, "a")
	if entries, err := q.Fetch(ctx, 5); err != nil || len(entries) != 5 {
		t.Fatalf("fetched %v, %v", entries, err)
	}
	n.Restart()
	if got := fetchAll(ctx, t, q, 100); !slices.Equal(got, count(6, 20)) {
		t.Errorf("after a restart: %v", got)
	}
	if err := newJS(t, n.Conn).DeleteConsumer(ctx, "MQTT", "dunlin-s-c"); err != nil {
		t.Fatal(err)
	}
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", "20"))
	if got := fetchAll(ctx, t, q, 100); !slices.Equal(got, count(21, 21)) {
		t.Errorf("after it was deleted: %v", got)
	}
}

func TestQueueRecoversWhatOthersTookOut(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	for i := range 20 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i)))
	}
	q := openQueue(ctx, t, s.Queues(), "c", 0, "a")
	if entries, err := q.Fetch(ctx, 5); err != nil || len(entries) != 5 {
		t.Fatalf("fetched %v, %v", entries, err)
	}
	consumer, err := newJS(t, n.Conn).Consumer(ctx, "MQTT", "dunlin-s-c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(); err != nil {
		t.Fatal(err)
	}
	if got := fetchAll(ctx, t, q, 7); !slices.Equal(got, count(6, 20)) {
		t.Errorf("fetched %v", got)
	}
	if s.Stats().QueueResets.Load() != 1 {
		t.Errorf("%d resets were counted", s.Stats().QueueResets.Load())
	}
	// All that was left is taken: nothing arrives that could show it.
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", "20"))
	if _, err := consumer.Next(); err != nil {
		t.Fatal(err)
	}
	if got := fetchAll(ctx, t, q, 7); !slices.Equal(got, count(21, 21)) {
		t.Errorf("fetched %v", got)
	}
}

func TestFetchThatIsCancelledLosesNothing(t *testing.T) {
	_, s := newStorage(t)
	ctx := testContext(t)
	for i := range 50 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i)))
	}
	q := openQueue(ctx, t, s.Queues(), "c", 0, "a")
	var got []uint64
	for i := range 20 {
		short, cancel := context.WithTimeout(ctx, time.Duration(i)*20*time.Microsecond)
		entries, _ := q.Fetch(short, 3)
		cancel()
		for _, e := range entries {
			got = append(got, e.Sequence)
		}
	}
	if got = append(got, fetchAll(ctx, t, q, 10)...); !slices.Equal(got, count(1, 50)) {
		t.Errorf("fetched %v", got)
	}
}

func TestForeignConsumerIsLeftAlone(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	js := newJS(t, n.Conn)
	if _, err := js.CreateConsumer(ctx, "MQTT", natsjs.ConsumerConfig{Durable: "dunlin-s-c", FilterSubject: "mqtt.x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Queues().Open(ctx, "c", []string{"a"}, 0); !errors.Is(err, sessions.ErrRejected) || !strings.Contains(err.Error(), "dunlin-s-c") {
		t.Errorf("open: %v", err)
	}
	if err := s.Queues().Remove(ctx, "c"); !errors.Is(err, sessions.ErrRejected) {
		t.Errorf("remove: %v", err)
	}
	consumer, err := js.Consumer(ctx, "MQTT", "dunlin-s-c")
	if err != nil || consumer.CachedInfo().Config.FilterSubject != "mqtt.x" {
		t.Errorf("consumer %v, %v", consumer, err)
	}
}

func TestRemovedQueueIsGone(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	id := "a client/with ü. and * in " + strings.Repeat("x", 300)
	openQueue(ctx, t, s.Queues(), id, 0, "a")
	for range 2 {
		if err := s.Queues().Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := newJS(t, n.Conn).Stream(ctx, "MQTT")
	if err != nil || stream.CachedInfo().State.Consumers != 0 {
		t.Errorf("consumers %d, %v", stream.CachedInfo().State.Consumers, err)
	}
	if _, err := s.Queues().Open(ctx, id, nil, 0); !errors.Is(err, sessions.ErrRejected) {
		t.Errorf("a queue without filters: %v", err)
	}
}

func TestQueueLengthIsVisibleToNATSClients(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	for i := range 30 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i)))
	}
	openQueue(ctx, t, s.Queues(), "client 1", 10, "a", "#")
	plain, err := nats.Connect("", nats.InProcessServer(n))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	consumer, err := newJS(t, plain).Consumer(ctx, "MQTT", "dunlin-s-client=201")
	if err != nil {
		t.Fatal(err)
	}
	if info := consumer.CachedInfo(); info.NumPending != 20 || info.Config.Metadata["dunlin.client_id"] != "client 1" {
		t.Errorf("%+v", info)
	}
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("b", "30"))
	eventually(t, "the queue has grown", func() bool {
		info, err := consumer.Info(ctx)
		return err == nil && info.NumPending == 21
	})
}

func TestQueueOfAnotherKindIsMadeAnew(t *testing.T) {
	n, s := newStorage(t)
	ctx := testContext(t)
	jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", "1"))
	old := natsjs.ConsumerConfig{Durable: "dunlin-s-c", Metadata: map[string]string{"dunlin.kind": "queue", "dunlin.client_id": "c"}}
	if _, err := newJS(t, n.Conn).CreateConsumer(ctx, "MQTT", old); err != nil {
		t.Fatal(err)
	}
	if got := fetchAll(ctx, t, openQueue(ctx, t, s.Queues(), "c", 0, "a"), 10); !slices.Equal(got, count(1, 1)) {
		t.Errorf("fetched %v", got)
	}
}

func TestFetchOfLargeMessagesIsSmall(t *testing.T) {
	_, s := newStorage(t)
	ctx := testContext(t)
	large := jetstreamtest.Message("a", strings.Repeat("x", 1<<20))
	for range 20 {
		jetstreamtest.Append(t, s.Log(), large)
	}
	q := openQueue(ctx, t, s.Queues(), "c", 10, "a")
	if entries, err := q.Fetch(ctx, 5); err != nil || len(entries) != 5 { // it cannot know yet
		t.Fatalf("fetched %d, %v", len(entries), err)
	}
	if entries, err := q.Fetch(ctx, 100); err != nil || len(entries) != 4 {
		t.Fatalf("fetched %d, %v", len(entries), err)
	}
	if got := fetchAll(ctx, t, q, 100); !slices.Equal(got, count(20, 20)) {
		t.Errorf("fetched %v", got)
	}
}
