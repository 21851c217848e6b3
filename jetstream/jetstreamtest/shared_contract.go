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

// SharedContract tests what every sessions.SharedQueues promises. run gives a test empty storage; one that waits until
// messages come again because nobody renewed them is best given a short RenewWithin.
func SharedContract(t *testing.T, run func(t *testing.T, waits bool, test func(*testing.T, SharedStorage))) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, SharedStorage)
	}{
		{"QueueBeginsWhenItIsOpened", testSharedBegins},
		{"MembersMoveOnePlaceTogether", testSharedTogether},
		{"SettledIsNotTakenAgain", testSharedSettled},
		{"ReturnedComesFirstAndInOrder", testSharedReturned},
		{"WaitingTakeGetsWhatIsReturnedFirst", testSharedReturnedToWaiting},
		{"ReturnedStaysTogether", testSharedReturnedTogether},
		{"ReturnedComesInOrderInSmallTakes", testSharedReturnedSmall},
		{"TakeIsBoundedInBytes", testSharedBytes},
		{"ReclaimReturnsWhatIsNotKept", testSharedReclaim},
		{"EndedTakeGivesBack", testSharedEndedTake},
	} {
		t.Run(test.name, func(t *testing.T) { run(t, false, test.run) })
	}
	t.Run("NotRenewedComesAgain", func(t *testing.T) { run(t, true, testSharedRenewed) })
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

const muchBytes = 4 << 20

// TakeShared takes n messages, in Takes of at most batch.
func TakeShared(t testing.TB, q sessions.SharedQueue, n, batch int) []uint64 {
	t.Helper()
	return takeBytes(t, q, n, batch, muchBytes)
}

func takeBytes(t testing.TB, q sessions.SharedQueue, n, batch, maxBytes int) []uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var taken []uint64
	for len(taken) < n {
		entries, err := q.Take(ctx, min(batch, n-len(taken)), maxBytes)
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
	if _, err := q.Take(t.Context(), 1, muchBytes); !errors.Is(err, sessions.ErrNotFound) {
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

// testSharedReturned: what one member has not finished goes to the next before everything else, in the order of the log.
func testSharedReturned(t *testing.T, s SharedStorage) {
	for _, batch := range []int{1, 7, 100} {
		q := OpenShared(t, s.Queues, "$share/g/a")
		last := fill(t, s.Log, "a", 100)
		first := last - 99
		held := TakeShared(t, q, 50, 50)
		want(t, "held", held, count(first, first+49))
		var returned []uint64
		for i := first + 40; i > first; i -= 2 {
			returned = append(returned, i)
		}
		for some := range slices.Chunk(returned, 3) { // from the highest to the lowest
			q.Return(some...)
		}
		slices.Sort(returned)
		want(t, "taken", TakeShared(t, q, 70, batch), append(returned, count(first+50, last)...))
		q.Settle(count(first, last)...)
		// Once: the next is a new one.
		next := fill(t, s.Log, "a", 1)
		want(t, "taken at last", TakeShared(t, q, 1, 1), []uint64{next})
		q.Settle(next)
	}
}

// testSharedReturnedToWaiting: a Take that waits when messages are returned gets them before what is appended after,
// also when they are too much for one Take.
func testSharedReturnedToWaiting(t *testing.T, s SharedStorage) {
	const n = 200
	q := OpenShared(t, s.Queues, "$share/g/a")
	for i := range 10 {
		first := fill(t, s.Log, "a", n) - n + 1
		want(t, "held", TakeShared(t, q, n, n), count(first, first+n-1))
		taken := make(chan []uint64)
		go func() { taken <- takeBytes(t, q, 2*n, 64, 2000+(i%2)*4<<20) }()
		q.Return(count(first, first+n-1)...)
		fill(t, s.Log, "a", n)
		want(t, "taken", <-taken, count(first, first+2*n-1))
		q.Settle(count(first, first+2*n-1)...)
	}
}

// testSharedReturnedTogether: what is returned while messages arrive and are taken comes before all that is taken later.
func testSharedReturnedTogether(t *testing.T, s SharedStorage) {
	const n, more = 500, 1000
	q := OpenShared(t, s.Queues, "$share/g/a")
	for i := range 6 {
		first := fill(t, s.Log, "a", n) - n + 1
		held := TakeShared(t, q, n, n)
		flowing, appended, taken := make(chan struct{}), make(chan uint64), make(chan []uint64)
		go func() {
			fill(t, s.Log, "a", 10)
			close(flowing)
			appended <- fill(t, s.Log, "a", more-10)
		}()
		go func() { taken <- takeBytes(t, q, n+more, 300, 10_000+(i%2)*4<<20) }()
		<-flowing
		q.Return(held...)
		last, got := <-appended, <-taken
		at := max(0, slices.Index(got, first))
		want(t, "returned", got[at:at+n], held)
		want(t, "the others", slices.Delete(got, at, at+n), count(first+n, last))
		q.Settle(count(first, last)...)
	}
}

func testSharedReturnedSmall(t *testing.T, s SharedStorage) {
	q := OpenShared(t, s.Queues, "$share/g/a")
	var first uint64
	for i := range 40 {
		first = Append(t, s.Log, Message("a", strings.Repeat("x", i%4*3000))) - 39
	}
	held := TakeShared(t, q, 30, 30)
	q.Return(held...)
	want(t, "taken", takeBytes(t, q, 40, 100, 10_000), count(first, first+39))
}

func testSharedBytes(t *testing.T, s SharedStorage) {
	q := OpenShared(t, s.Queues, "$share/g/a")
	const large = 100_000
	for range 10 {
		Append(t, s.Log, Message("a", strings.Repeat("x", large)))
	}
	next := uint64(1)
	for _, c := range []struct{ maxBytes, atMost int }{{3 * large, 3}, {5 * large / 2, 3}, {large / 2, 1}, {0, 1}, {100 * large, 10}} {
		entries, err := q.Take(t.Context(), 100, c.maxBytes)
		if err != nil || len(entries) == 0 || len(entries) > c.atMost {
			t.Fatalf("took %d of %d bytes, %v", len(entries), c.maxBytes, err)
		}
		for _, e := range entries {
			if e.Sequence != next || len(e.Message.Payload) != large {
				t.Fatalf("took %d with %d bytes, want %d", e.Sequence, len(e.Message.Payload), next)
			}
			next++
		}
	}
	if next < 9 {
		t.Errorf("took %d messages", next-1)
	}
}

func testSharedRenewed(t *testing.T, s SharedStorage) {
	q := OpenShared(t, s.Queues, "$share/g/a")
	fill(t, s.Log, "a", 3)
	taken := time.Now()
	TakeShared(t, q, 3, 3)
	ctx, cancel := context.WithCancel(t.Context())
	renewed := make(chan time.Time)
	go func() {
		at := time.Now()
		tick := time.NewTicker(s.RenewWithin / 8)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				at = time.Now()
				q.Renew(1, 3, 1000)
			case <-ctx.Done():
				renewed <- at
				return
			}
		}
	}()
	want(t, "taken", TakeShared(t, q, 1, 10), []uint64{2})
	if after := time.Since(taken); after < s.RenewWithin || after > 10*s.RenewWithin {
		t.Errorf("taken again after %v", after)
	}
	q.Settle(2)
	cancel()
	last := <-renewed
	q.Settle(3)
	want(t, "taken", TakeShared(t, q, 1, 10), []uint64{1})
	if after := time.Since(last); after < s.RenewWithin {
		t.Errorf("taken again %v after it was renewed", after)
	}
}

func testSharedReclaim(t *testing.T, s SharedStorage) {
	q := OpenShared(t, s.Queues, "$share/g/a/#")
	if err := q.Reclaim(t.Context(), func(uint64) bool { return false }); err != nil {
		t.Fatal(err)
	}
	const n = 1500
	messages := make([]*sessions.Message, n)
	for i := range messages {
		messages[i] = Message([]string{"a", "other", "a/b"}[i%3], fmt.Sprint(i))
	}
	Append(t, s.Log, messages...)
	held := TakeShared(t, q, 900, 500)
	var kept, lost []uint64
	for i, sequence := range held {
		switch i % 5 {
		case 0, 1:
			q.Settle(sequence)
		case 2:
			kept = append(kept, sequence)
		default:
			lost = append(lost, sequence)
		}
	}
	// The holders have died. Another node, or the next run of this one, takes over.
	q = OpenShared(t, s.Queues, "$share/g/a/#")
	err := q.Reclaim(t.Context(), func(sequence uint64) bool { return slices.Contains(kept, sequence) })
	if err != nil {
		t.Fatal(err)
	}
	taken := TakeShared(t, q, len(lost)+100, 100)
	want(t, "reclaimed", taken[:len(lost)], lost)
	if rest := taken[len(lost):]; rest[0] <= held[len(held)-1] {
		t.Errorf("then taken: %v", rest)
	}
	q.Settle(taken...)
	q.Return(kept...) // what was kept is still there
	want(t, "returned", TakeShared(t, q, len(kept), 100), kept)
}

// testSharedEndedTake: what was under way to a Take that ended early is neither lost nor late nor out of order.
func testSharedEndedTake(t *testing.T, s SharedStorage) {
	const n = 500
	q := OpenShared(t, s.Queues, "$share/g/a")
	first := fill(t, s.Log, "a", n) - n + 1
	var taken []uint64
	began := time.Now()
	for i := 0; len(taken) < n; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%50)*20*time.Microsecond)
		entries, err := q.Take(ctx, 300, muchBytes)
		cancel()
		if err != nil && (len(entries) > 0 || !errors.Is(err, context.DeadlineExceeded)) {
			t.Fatalf("took %v, %v", entries, err)
		}
		for _, e := range entries {
			taken = append(taken, e.Sequence)
		}
		taken = append(taken, TakeShared(t, q, min(5, n-len(taken)), 5)...)
	}
	want(t, "taken", taken, count(first, first+n-1))
	if took := time.Since(began); took >= s.RenewWithin {
		t.Errorf("some came again only after %v", took)
	}
}
