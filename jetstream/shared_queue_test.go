package jetstream_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

const share = "$share/group/a/#"

func appendMany(t testing.TB, s *jetstream.Storage, topic string, n int) uint64 {
	t.Helper()
	messages := make([]*sessions.Message, n)
	for i := range messages {
		messages[i] = jetstreamtest.Message(topic, "x")
	}
	return jetstreamtest.Append(t, s.Log(), messages...)
}

// killed is what kill -9 would leave of a server: another one, on a copy of the files that it has written.
func killed(t *testing.T, n *jetstreamtest.NATS) *jetstreamtest.NATS {
	t.Helper()
	c := n.Config
	eventually(t, "files can be copied", func() bool { // they come and go while we look
		c.DataDir = t.TempDir()
		return os.CopyFS(c.DataDir, os.DirFS(n.Config.DataDir)) == nil
	})
	return jetstreamtest.StartNATSWith(t, c)
}

func TestSharedQueueSurvivesKill(t *testing.T) {
	n, s := newStorage(t)
	appendMany(t, s, "a", 10)
	jetstreamtest.OpenShared(t, s.Shared(), "$share/idle/a")
	q := jetstreamtest.OpenShared(t, s.Shared(), share)
	last := appendMany(t, s, "a/b", 20)
	jetstreamtest.TakeShared(t, q, 10, 10)

	s = openStorage(t, killed(t, n), testConfig())
	// It has not lost its place, though nothing was ever taken from it.
	idle := jetstreamtest.OpenShared(t, s.Shared(), "$share/idle/a")
	next := appendMany(t, s, "a", 1)
	if got := jetstreamtest.TakeShared(t, idle, 1, 10); !slices.Equal(got, []uint64{next}) {
		t.Errorf("taken %v", got)
	}
	// Whoever held messages is gone; at most it is forgotten that they were taken.
	q = jetstreamtest.OpenShared(t, s.Shared(), share)
	if err := q.Reclaim(t.Context(), func(uint64) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if got := jetstreamtest.TakeShared(t, q, 21, 7); !slices.Equal(got, count(last-19, last+1)) {
		t.Errorf("taken %v", got)
	}
}

func TestSharedQueueSurvivesRestartOfTheServer(t *testing.T) {
	n, s := newStorage(t)
	q := jetstreamtest.OpenShared(t, s.Shared(), share)
	appendMany(t, s, "a", 20)
	jetstreamtest.TakeShared(t, q, 10, 10)
	q.Settle(1, 2, 3)
	failed := make(chan error)
	settled := jetstreamtest.OpenShared(t, s.Shared(), "$share/waiting/b")
	go func() {
		_, err := settled.Take(t.Context(), 10, 1<<20)
		failed <- err
	}()
	n.Stop()
	if err := <-failed; !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("take from a server that goes away: %v", err)
	}
	eventually(t, "disconnected", func() bool { return !n.Conn.IsConnected() })
	q.Settle(4)
	q.Renew(5, 6)
	if unsent := s.Stats().UnsentSettlements.Load(); unsent != 3 {
		t.Errorf("%d messages were counted as not settled", unsent)
	}
	n.Start()
	eventually(t, "connected", n.Conn.IsConnected)
	q.Return(4, 7, 1)
	if got := jetstreamtest.TakeShared(t, q, 12, 10); !slices.Equal(got, append([]uint64{4, 7}, count(11, 20)...)) {
		t.Errorf("taken %v", got)
	}
}

// TestReclaimKeepsWhatWouldComeAgain: after a restart nobody has renewed anything in time.
func TestReclaimKeepsWhatWouldComeAgain(t *testing.T) {
	c := testConfig()
	c.RenewWithin = 2 * time.Second
	s := openStorage(t, jetstreamtest.StartNATS(t), c)
	q := jetstreamtest.OpenShared(t, s.Shared(), share)
	appendMany(t, s, "a", 10)
	jetstreamtest.TakeShared(t, q, 10, 10)
	<-time.After(c.RenewWithin + 100*time.Millisecond) // nothing tells that the server has put them up again
	q = jetstreamtest.OpenShared(t, s.Shared(), share)
	if err := q.Reclaim(t.Context(), func(sequence uint64) bool { return sequence%2 == 0 }); err != nil {
		t.Fatal(err)
	}
	appendMany(t, s, "a", 1)
	if got := jetstreamtest.TakeShared(t, q, 6, 10); !slices.Equal(got, []uint64{1, 3, 5, 7, 9, 11}) {
		t.Errorf("taken %v", got)
	}
}

func TestTakeFromAQueueThatIsDeletedFails(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	take := func(q sessions.SharedQueue) chan error {
		failed := make(chan error)
		go func() {
			_, err := q.Take(context.Background(), 10, 1<<20)
			failed <- err
		}()
		return failed
	}
	q := jetstreamtest.OpenShared(t, s.Shared(), share)
	failed := take(q)
	eventually(t, "it waits", func() bool { return sharedConsumer(t, js).NumWaiting == 1 })
	if err := s.Shared().Remove(t.Context(), share); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("while it waited: %v", err)
	}
	if err := <-take(q); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("after: %v", err)
	}
	if err := q.Reclaim(t.Context(), func(uint64) bool { return false }); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("reclaim: %v", err)
	}

	q = jetstreamtest.OpenShared(t, s.Shared(), share)
	if err := js.DeleteStream(t.Context(), "MQTT"); err != nil {
		t.Fatal(err)
	}
	q.Return(1)
	if err := <-take(q); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("without the log: %v", err)
	}
	if _, err := s.Shared().Open(t.Context(), share); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("open without the log: %v", err)
	}
	if err := s.Shared().Remove(t.Context(), share); err != nil {
		t.Errorf("remove without the log: %v", err)
	}
	if err := jetstream.EnsureTopology(t.Context(), n.Conn, testConfig()); err != nil {
		t.Fatal(err)
	}
	q = jetstreamtest.OpenShared(t, s.Shared(), share)
	appendMany(t, s, "a", 1)
	if got := jetstreamtest.TakeShared(t, q, 1, 10); !slices.Equal(got, []uint64{1}) {
		t.Errorf("taken from the new log: %v", got)
	}
}

// sharedConsumer is the only consumer of the log.
func sharedConsumer(t testing.TB, js natsjs.JetStream) *natsjs.ConsumerInfo {
	t.Helper()
	stream, err := js.Stream(t.Context(), "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	var found *natsjs.ConsumerInfo
	consumers := stream.ListConsumers(t.Context())
	for info := range consumers.Info() {
		found = info
	}
	if err := consumers.Err(); err != nil || found == nil {
		t.Fatal("no consumer", err)
	}
	return found
}

func TestSharedQueueIsVisibleToNATSClients(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	q := jetstreamtest.OpenShared(t, s.Shared(), share)
	appendMany(t, s, "a", 10)
	jetstreamtest.TakeShared(t, q, 4, 10)
	q.Settle(1)
	eventually(t, "settled", func() bool { return sharedConsumer(t, js).AckFloor.Stream == 1 })
	info := sharedConsumer(t, js)
	if len(info.Name) != len("dunlin-g-")+32 || info.Config.Metadata["dunlin.share"] != share || info.NumPending != 6 || info.NumAckPending != 3 {
		t.Errorf("%+v", info)
	}
}

// TestForeignSharedConsumerIsLeftAlone: neither somebody else's, nor that of another share whose hash is the same.
func TestForeignSharedConsumerIsLeftAlone(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	jetstreamtest.OpenShared(t, s.Shared(), share)
	name := sharedConsumer(t, js).Name
	for _, metadata := range []map[string]string{nil, {"dunlin.kind": "shared", "dunlin.format": "1", "dunlin.share": "$share/other/a"}} {
		if err := js.DeleteConsumer(t.Context(), "MQTT", name); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateConsumer(t.Context(), "MQTT", natsjs.ConsumerConfig{Durable: name, FilterSubject: "mqtt.x", Metadata: metadata}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Shared().Open(t.Context(), share); !errors.Is(err, sessions.ErrRejected) {
			t.Errorf("open: %v", err)
		}
		if err := s.Shared().Remove(t.Context(), share); !errors.Is(err, sessions.ErrRejected) {
			t.Errorf("remove: %v", err)
		}
		visited := 0
		if err := s.Shared().Each(t.Context(), func(string) { visited++ }); err != nil || visited != len(metadata)/3 {
			t.Errorf("visited %d, %v", visited, err)
		}
		if info := sharedConsumer(t, js); info.Config.FilterSubject != "mqtt.x" {
			t.Errorf("consumer %+v", info.Config)
		}
	}
}

// TestSharedQueueOfAnotherVersionKeepsItsPlace: settings change, what it holds does not.
func TestSharedQueueOfAnotherVersionKeepsItsPlace(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	old := testConfig()
	old.RenewWithin = time.Minute
	s := openStorage(t, n, old)
	q := jetstreamtest.OpenShared(t, s.Shared(), share)
	appendMany(t, s, "a", 10)
	jetstreamtest.TakeShared(t, q, 4, 10)
	s = openStorage(t, n, testConfig())
	q = jetstreamtest.OpenShared(t, s.Shared(), share)
	if info := sharedConsumer(t, newJS(t, n.Conn)); info.Config.AckWait != sessions.RenewWithin || info.NumAckPending != 4 {
		t.Errorf("%+v", info)
	}
	q.Return(2)
	if got := jetstreamtest.TakeShared(t, q, 7, 10); !slices.Equal(got, append([]uint64{2}, count(5, 10)...)) {
		t.Errorf("taken %v", got)
	}
}

func TestWhatIsNoMessageIsSettledInASharedQueue(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	q := jetstreamtest.OpenShared(t, s.Shared(), share)
	for _, subject := range []string{"mqtt.a.=zz", "mqtt.a.b", "mqtt.a.=2F"} {
		if _, err := js.Publish(t.Context(), subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if got := jetstreamtest.TakeShared(t, q, 1, 10); !slices.Equal(got, []uint64{2}) {
		t.Errorf("taken %v", got)
	}
	q.Settle(2)
	if entries, err := q.Take(t.Context(), 10, 1<<20); err != nil || len(entries) > 0 {
		t.Errorf("took %v, %v", entries, err)
	}
	eventually(t, "all are settled", func() bool { return sharedConsumer(t, js).AckFloor.Stream == 3 })
}
