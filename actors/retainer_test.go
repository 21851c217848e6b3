package actors

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// newTestRetainer is a retainer that takes all that others write. Its goroutines end by themselves, in a bubble.
func newTestRetainer(s *sessionstest.Storage, stats *Stats) *retainer {
	task := func(f func(context.Context)) { go f(context.Background()) }
	return newRetainer(s.Retained(), s.Log(), func(*sessions.Message) bool { return true }, task, stats, slog.New(slog.DiscardHandler))
}

// retaining is a router of which only the retained messages matter.
type retaining struct {
	*router
	s *sessionstest.Storage
}

func newRetaining(s *sessionstest.Storage) retaining {
	stats := &Stats{}
	return retaining{newRouter(s.Log(), stats, newRetainedIndex(0), newTestRetainer(s, stats), sessions.Position{}, 1<<20), s}
}

func testRetainer() (*retainer, *sessionstest.Storage) {
	r := newRetaining(sessionstest.New())
	return r.retainer, r.s
}

func wantRetained(t *testing.T, s *sessionstest.Storage, topic, payload string) {
	t.Helper()
	if e, ok := s.RetainedMessage(topic); !ok || string(e.Message.Payload) != payload {
		t.Fatalf("the bucket has %v for %s, want %q", e.Message, topic, payload)
	}
}

// Of each topic one write is in flight; what comes meanwhile is replaced by what is newer.
func TestRetainerWritesTheNewestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := testRetainer()
		written := map[string]int{}
		s.Intercept(func(o sessionstest.Operation) sessionstest.Outcome { written[o.Topic]++; return sessionstest.Outcome{} })
		s.Hold(sessionstest.PutRetained)
		for i := range uint64(10) {
			r.put(retainedEntry(i+1, "a", fmt.Sprint(i)), applied{})
		}
		r.put(retainedEntry(11, "b", "x"), applied{})
		if at := r.complete(20); at != 0 {
			t.Fatalf("complete up to %d, though the first is not written", at)
		}
		s.Release(sessionstest.PutRetained)
		synctest.Wait()
		wantRetained(t, s, "a", "9")
		wantRetained(t, s, "b", "x")
		if written["a"] != 2 || s.Overlaps() > 0 {
			t.Fatalf("topic a was written %d times, %d writes overlapped", written["a"], s.Overlaps())
		}
		if at := r.complete(20); at != 20 {
			t.Fatalf("complete up to %d, want all", at)
		}
		if len(r.topics)+len(r.byToken) > 0 {
			t.Fatalf("%d topics and %d tokens are left", len(r.topics), len(r.byToken))
		}
	})
}

func TestRetainerTriesAgainAndTakesTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := testRetainer()
		s.Fail(sessions.ErrUnavailable, sessionstest.PutRetained)
		r.put(retainedEntry(5, "a", "old"), applied{})
		elapse(3500 * time.Millisecond)
		r.put(retainedEntry(9, "a", "new"), applied{})
		if at := r.complete(20); at != 4 {
			t.Fatalf("complete up to %d, want 4", at)
		}
		s.Fail(nil)
		elapse(2 * time.Second)
		synctest.Wait()
		wantRetained(t, s, "a", "new")
		if at := r.complete(20); at != 20 {
			t.Fatalf("complete up to %d, want all", at)
		}
	})
}

// A message that the bucket will never take holds nothing up.
func TestRetainerGivesUpWhatIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := testRetainer()
		s.Fail(sessions.ErrRejected, sessionstest.PutRetained)
		r.put(retainedEntry(5, "a", "too large"), applied{})
		synctest.Wait()
		if at := r.complete(20); at != 20 {
			t.Fatalf("complete up to %d, want all", at)
		}
		if n := r.stats.Drops()[dropRetainedRefused]; n != 1 {
			t.Fatalf("%d are counted as refused", n)
		}
	})
}
