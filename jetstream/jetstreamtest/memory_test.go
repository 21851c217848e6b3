package jetstreamtest_test

import (
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

func TestMemorySharedContract(t *testing.T) {
	jetstreamtest.SharedContract(t, func(t *testing.T, _ bool, test func(*testing.T, jetstreamtest.SharedStorage)) {
		synctest.Test(t, func(t *testing.T) {
			s := sessionstest.New()
			test(t, jetstreamtest.SharedStorage{Log: s.Log(), Queues: s.Shared(), RenewWithin: sessions.RenewWithin})
		})
	})
}
