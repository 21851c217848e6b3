package jetstreamtest_test

import (
	"testing"

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
