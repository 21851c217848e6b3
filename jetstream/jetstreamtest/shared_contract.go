package jetstreamtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/sessions"
)

// SharedStorage is a log with the queues of shared subscriptions on it.
type SharedStorage struct {
	Log    sessions.Log
	Queues sessions.SharedQueues
	// RenewWithin is sessions.RenewWithin there.
	RenewWithin time.Duration
}

// SharedContract tests what every sessions.SharedQueues promises. run gives a test empty storage.
func SharedContract(t *testing.T, run func(*testing.T, func(*testing.T, SharedStorage))) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, SharedStorage)
	}{
		{"QueueBeginsWhenItIsOpened", testSharedBegins},
		{"MembersMoveOnePlaceTogether", testSharedTogether},
		{"SettledIsNotTakenAgain", testSharedSettled},
	} {
		t.Run(test.name, func(t *testing.T) { run(t, test.run) })
	}
}

// OpenShared opens the queue of a shared subscription.
func OpenShared(t testing.TB, queues sessions.SharedQueues, share string) sessions.SharedQueue {
	t.Helper()
	q, err := queues.Open(t.Context(), share)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

const takeBytes = 4 << 20

// TakeShared takes n messages, in Takes of at most batch.
func TakeShared(t testing.TB, q sessions.SharedQueue, n, batch int) []uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var taken []uint64
	for len(taken) < n {
		entries, err := q.Take(ctx, min(batch, n-len(taken)), takeBytes)
		if err != nil {
			t.Fatalf("take after %v: %v", taken, err)
		}
		for _, e := range entries {
			if e.Message == nil {
				t.Fatalf("took %+v", e)
			}
			taken = append(taken, e.Sequence)
		}
	}
	return taken
}

// fill appends n messages and returns the sequence of the last.
func fill(t testing.TB, log sessions.Log, topic string, n int) uint64 {
	t.Helper()
	messages := make([]*sessions.Message, n)
	for i := range messages {
		messages[i] = Message(topic, fmt.Sprint(i))
	}
	return Append(t, log, messages...)
}

func count(from, to uint64) []uint64 {
	var all []uint64
	for i := from; i <= to; i++ {
		all = append(all, i)
	}
	return all
}

func want(t testing.TB, what string, got, want []uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func testSharedBegins(t *testing.T, s SharedStorage) {
	if _, err := s.Queues.Open(t.Context(), "a/b"); !errors.Is(err, sessions.ErrRejected) {
		t.Errorf("opened a queue of no shared subscription: %v", err)
	}
	fill(t, s.Log, "a/b", 10)
	q := OpenShared(t, s.Queues, "$share/g/a/#")
	Append(t, s.Log, Message("a", "11"), Message("b", "12"), Message("a/b/c", "13"), Message("ab", "14"))
	want(t, "taken", TakeShared(t, q, 2, 10), []uint64{11, 13})

	names := []string{"$share/g/a/#", "$share/g/+", "$share/ü *>/x/" + strings.Repeat("long/", 2000) + "#", "$share/other/a/#"}
	for _, share := range names[1:] {
		OpenShared(t, s.Queues, share)
	}
	var visited []string
	if err := s.Queues.Each(t.Context(), func(share string) { visited = append(visited, share) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(visited)
	slices.Sort(names)
	if !slices.Equal(visited, names) {
		t.Errorf("visited %q", visited)
	}
	for range 2 {
		if err := s.Queues.Remove(t.Context(), "$share/g/a/#"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Take(t.Context(), 1, takeBytes); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("took from a queue that was removed: %v", err)
	}
	q = OpenShared(t, s.Queues, "$share/g/a/#")
	last := fill(t, s.Log, "a", 1)
	want(t, "taken from a new queue", TakeShared(t, q, 1, 10), []uint64{last})
}

func testSharedTogether(t *testing.T, s SharedStorage) {
	one := OpenShared(t, s.Queues, "$share/g/a")
	last := fill(t, s.Log, "a", 10)
	want(t, "taken", TakeShared(t, one, 4, 3), count(last-9, last-6))
	other := OpenShared(t, s.Queues, "$share/g/a")
	want(t, "taken by another", TakeShared(t, other, 6, 6), count(last-5, last))
	// What one took another may give back.
	other.Return(last-9, last-5)
	want(t, "taken after all", TakeShared(t, one, 2, 2), []uint64{last - 9, last - 5})
}

func testSharedSettled(t *testing.T, s SharedStorage) {
	q := OpenShared(t, s.Queues, "$share/g/a")
	last := fill(t, s.Log, "a", 10)
	first := last - 9
	TakeShared(t, q, 6, 6)
	q.Settle(first, first+2, first+4)
	q.Settle(first+2, last+1000, 0)
	q.Return(count(first, last)...)
	want(t, "taken", TakeShared(t, q, 7, 7), append([]uint64{first + 1, first + 3, first + 5}, count(first+6, last)...))
}
