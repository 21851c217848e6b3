package jetstream_test

import (
	"testing"
	"time"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// inBothDurabilities runs a test with storage of either durability.
func inBothDurabilities(t *testing.T, test func(t *testing.T, open func(testing.TB) *jetstream.Storage)) {
	for _, d := range []jetstream.Durability{jetstream.Process, jetstream.Fsync} {
		t.Run(string(d), func(t *testing.T) {
			test(t, func(t testing.TB) *jetstream.Storage {
				server := jetstream.DefaultEmbeddedConfig(t.TempDir())
				server.Listen, server.Durability = jetstream.ListenOff, d
				c := testConfig()
				c.Durability = d
				c.AckTimeout = time.Minute // a busy machine is no failure
				return openStorage(t, jetstreamtest.StartNATSWith(t, server), c)
			})
		})
	}
}

func TestStoreContract(t *testing.T) {
	inBothDurabilities(t, func(t *testing.T, open func(testing.TB) *jetstream.Storage) {
		jetstreamtest.StoreContract(t, func(t testing.TB) sessions.Store { return open(t).Store() })
	})
}

func TestLogContract(t *testing.T) {
	inBothDurabilities(t, func(t *testing.T, open func(testing.TB) *jetstream.Storage) {
		jetstreamtest.LogContract(t, func(t testing.TB) sessions.Log { return open(t).Log() })
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

func TestDelayedContract(t *testing.T) {
	inBothDurabilities(t, func(t *testing.T, open func(testing.TB) *jetstream.Storage) {
		jetstreamtest.DelayedContract(t, func(t testing.TB) sessions.Delayed { return open(t).Delayed() })
	})
}
