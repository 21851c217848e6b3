package jetstream_test

import (
	"testing"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

func TestStoreContract(t *testing.T) {
	jetstreamtest.StoreContract(t, func(t testing.TB) sessions.Store {
		_, s := newStorage(t)
		return s.Store()
	})
}

func TestLogContract(t *testing.T) {
	jetstreamtest.LogContract(t, func(t testing.TB) sessions.Log {
		_, s := newStorage(t)
		return s.Log()
	})
}
