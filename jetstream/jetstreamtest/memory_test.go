package jetstreamtest_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// The storage in memory that other packages test with keeps what the durable one keeps.

func TestMemoryStoreContract(t *testing.T) {
	jetstreamtest.StoreContract(t, func(testing.TB) sessions.Store { return sessionstest.New().Store() })
}

func TestMemoryLogContract(t *testing.T) {
	jetstreamtest.LogContract(t, func(testing.TB) sessions.Log { return sessionstest.New().Log() })
}

func TestMemoryDelayedContract(t *testing.T) {
	jetstreamtest.DelayedContract(t, func(testing.TB) sessions.Delayed { return sessionstest.New().Delayed() })
}

func TestMemorySharedContract(t *testing.T) {
	jetstreamtest.SharedContract(t, func(t *testing.T, _ bool, test func(*testing.T, jetstreamtest.SharedStorage)) {
		synctest.Test(t, func(t *testing.T) {
			s := sessionstest.New()
			test(t, jetstreamtest.SharedStorage{Log: s.Log(), Queues: s.Shared(), RenewWithin: sessions.RenewWithin})
		})
	})
}

// TestMemorySharedQueueCrashes: a crash keeps what was taken, forgets what was returned, and loses what was on its way.
func TestMemorySharedQueueCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const share = "$share/g/a"
		s := sessionstest.New()
		q := jetstreamtest.OpenShared(t, s.Shared(), share)
		for range 10 {
			s.Log().Put(jetstreamtest.Message("a", "x"))
		}
		s.Log().Put(nil)
		jetstreamtest.TakeShared(t, q, 6, 10)
		q.Return(1, 2)
		s.Hold(sessionstest.Settle)
		q.Settle(3)
		s.Intercept(func(o sessionstest.Operation) sessionstest.Outcome {
			return sessionstest.Outcome{Err: map[bool]error{true: sessions.ErrUnavailable}[o.Kind == sessionstest.Renew]}
		})
		sessionstest.Elapse(sessions.RenewWithin / 2)
		q.Renew(4) // is lost
		if pending, taken := s.SharedPending(share), s.SharedTaken(share); pending != 6 || len(taken) != 6 {
			t.Errorf("%d pending, %v taken", pending, taken)
		}

		crashed := s.Crash()
		if _, err := q.Take(t.Context(), 1, 1000); !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("take from the crashed one: %v", err)
		}
		if names := crashed.SharedNames(); !slices.Equal(names, []string{share}) {
			t.Errorf("queues %q", names)
		}
		q = jetstreamtest.OpenShared(t, crashed.Shared(), share)
		q.Settle(5)
		if got := jetstreamtest.TakeShared(t, q, 4, 10); !slices.Equal(got, []uint64{7, 8, 9, 10}) {
			t.Errorf("taken %v", got)
		}
		sessionstest.Elapse(sessions.RenewWithin / 2)
		if got := jetstreamtest.TakeShared(t, q, 5, 10); !slices.Equal(got, []uint64{1, 2, 3, 4, 6}) {
			t.Errorf("taken later %v", got)
		}
	})
}
