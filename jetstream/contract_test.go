package jetstream_test

import (
	"testing"
	"time"

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
		c := testConfig()
		c.AckTimeout = time.Minute // a busy machine is no failure
		return openStorage(t, jetstreamtest.StartNATS(t), c).Log()
	})
}

func TestSharedContract(t *testing.T) {
	jetstreamtest.SharedContract(t, func(t *testing.T, waits bool, test func(*testing.T, jetstreamtest.SharedStorage)) {
		c := testConfig()
		if waits {
			c.RenewWithin = 2 * time.Second
		}
		s := openStorage(t, jetstreamtest.StartNATS(t), c)
		test(t, jetstreamtest.SharedStorage{Log: s.Log(), Queues: s.Shared(), RenewWithin: c.RenewWithin})
	})
}
