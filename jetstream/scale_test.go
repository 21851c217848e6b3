package jetstream_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// TestTenThousandSessions: they are found fast, more than a thousand have their queue at a time (the
// server's own limit), and the server still stops in time.
func TestTenThousandSessions(t *testing.T) {
	const records, queues = 10_000, 1_200
	n, s := newStorage(t)
	ctx := testContext(t)
	sink := make(jetstreamtest.Sink, 2*records)
	record := make([]byte, 400)
	for i := range records {
		s.Store().SaveRecord(fmt.Sprint("client-", i), record, 0, sessions.AtOnce, sink, 0)
		s.Store().SaveJournal(fmt.Sprint("client-", i), record, 0, sessions.AtOnce, sink, 0)
	}
	for range 2 * records {
		sink.Must(t)
	}
	for i := range 100 {
		jetstreamtest.Append(t, s.Log(), jetstreamtest.Message("a", fmt.Sprint(i)))
	}

	begin := time.Now()
	visited := 0
	if err := s.Store().Each(ctx, func(sessions.Stored) { visited++ }); err != nil || visited != records {
		t.Fatalf("visited %d records, %v", visited, err)
	}
	t.Logf("visiting %d records took %v", records, time.Since(begin))

	begin = time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range queues {
		group.Go(func() error {
			_, err := s.Queues().Open(groupCtx, fmt.Sprint("client-", i), []string{"a", fmt.Sprint("client/", i)}, 50)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("opening %d queues took %v", queues, time.Since(begin))
	q := openQueue(ctx, t, s.Queues(), "client-7", 50, "a", "client/7")
	if got := fetchAll(ctx, t, q, 100); len(got) != 50 {
		t.Errorf("fetched %d", len(got))
	}

	// Those of shared subscriptions are found among them.
	jetstreamtest.OpenShared(t, s.Shared(), "$share/g/a")
	if err := s.Shared().Each(ctx, func(string) { visited++ }); err != nil || visited != records+1 {
		t.Errorf("visited %d shared queues, %v", visited-records, err)
	}

	begin = time.Now()
	n.Stop()
	t.Logf("shutdown took %v", time.Since(begin))
	begin = time.Now()
	n.Start()
	t.Logf("start took %v", time.Since(begin))
	eventually(t, "connected", func() bool { return n.Conn.Stats().Reconnects > 0 && n.Conn.IsConnected() })
	if stored, err := s.Store().Load(context.Background(), "client-9999"); err != nil || len(stored.Record) != len(record) {
		t.Errorf("loaded %+v, %v", stored, err)
	}
}
