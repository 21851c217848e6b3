package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// manySessions is how many offline sessions the broker must carry without noticing.
const manySessions = 10_000

// parkSessions makes persistent sessions with a QoS 1 subscription and leaves them, some at a time.
func parkSessions(t *testing.T, b *harness.Broker, n int, filter string) {
	t.Helper()
	const atATime = 16
	ids := make(chan int)
	failed := make(chan error, n)
	var workers sync.WaitGroup
	for range atATime {
		workers.Go(func() {
			for i := range ids {
				if err := parkSession(t, b.MQTT, sessionName(i), filter); err != nil {
					failed <- err
				}
			}
		})
	}
	for i := range n {
		ids <- i
	}
	close(ids)
	workers.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
}

func sessionName(i int) string { return fmt.Sprintf("session-%05d", i) }

// parkSession connects, subscribes and leaves.
func parkSession(t *testing.T, address, id, filter string) error {
	r, err := harness.DialRaw(t, address, mqttcodec.V311)
	if err != nil {
		return err
	}
	defer r.Drop()
	subscribe := &mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{harness.Filter(filter, 1)}}
	if err := r.TrySend(harness.PersistentConnect(mqttcodec.V311, id), subscribe); err != nil {
		return err
	}
	for range 2 { // CONNACK, SUBACK
		if _, err := r.TryRead(); err != nil {
			return fmt.Errorf("session %s: %w", id, err)
		}
	}
	return r.TrySend(&mqttcodec.Disconnect{})
}

// memory is the broker's resident memory in MiB.
func memory(t *testing.T, b *harness.Broker) int64 {
	t.Helper()
	rss, err := b.RSS()
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: cannot read the broker's memory: %v", err)
	}
	return rss >> 20
}

// Ten thousand offline sessions cost memory for being there, and none for what waits for them: a message is stored
// once however many want it. The broker with all of them still ends within five seconds.
func TestS11TenThousandOfflineSessionsStayFlat(t *testing.T) {
	const queued, payload = 500, 1024
	b := harness.Start(t)
	empty := memory(t, b)
	begin := time.Now()
	parkSessions(t, b, manySessions, "s11/all")
	t.Logf("%d sessions made in %v", manySessions, time.Since(begin).Round(time.Millisecond))
	parked := memory(t, b)

	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	body := make([]byte, payload)
	messages := make([]mqttcodec.Publish, queued)
	for i := range messages {
		messages[i] = mqttcodec.Publish{Topic: "s11/all", QoS: 1, Payload: append(fmt.Appendf(nil, "%05d", i), body...)}
	}
	publisher.PublishAll(messages)
	full := memory(t, b)
	t.Logf("RSS: %d MiB empty, %d MiB with %d sessions, %d MiB with %d messages queued for each", empty, parked, manySessions, full, queued)
	// A copy of each message for each session would be 5 GiB, a pointer to each 40 MiB and more. What is allowed is
	// the garbage of the publishing, the log's own caches, and the consumers that are still being made.
	if full-parked > 160 {
		t.Errorf("RSS grew by %d MiB while %d messages were queued for %d sessions", full-parked, queued, manySessions)
	}

	r := b.Resume(t, mqttcodec.V311, sessionName(manySessions/2))
	for i := range queued {
		m := harness.Expect[*mqttcodec.Publish](r)
		r.Answer(m)
		if got := string(m.Payload[:5]); got != fmt.Sprintf("%05d", i) {
			t.Fatalf("message %d of the queue is %s", i, got)
		}
	}
	r.Disconnect()
	stopsInTime(t, b, publisher)

	begin = time.Now()
	b.Up()
	t.Logf("started in %v with %d sessions; RSS %d MiB", time.Since(begin).Round(time.Millisecond), manySessions, memory(t, b))
	b.Resume(t, mqttcodec.V311, sessionName(manySessions-1))
}

// stopsInTime: SIGTERM tells a 5.0 client why it is sent away, then the broker ends with code 0 in five seconds.
// [MQTT-3.14.0-1] [MQTT-3.14.4-1]
func stopsInTime(t *testing.T, b *harness.Broker, client *harness.Raw) {
	t.Helper()
	took := b.Stop()
	t.Logf("SIGTERM with %d sessions in the store: exit after %v", manySessions, took.Round(time.Millisecond))
	expectShutdown(t, client)
}

// expectShutdown reads a 5.0 connection to its end, which DISCONNECT 0x8B must announce.
func expectShutdown(t *testing.T, client *harness.Raw) {
	t.Helper()
	last := client.ExpectClosed()
	if len(last) == 0 {
		t.Error("the connection was closed without DISCONNECT")
		return
	}
	if d, ok := last[len(last)-1].(*mqttcodec.Disconnect); !ok || d.Reason != mqttcodec.ServerShuttingDown {
		t.Errorf("the last packet before the close is %T %+v, want DISCONNECT 0x8B", last[len(last)-1], last[len(last)-1])
	}
}
