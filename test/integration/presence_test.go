package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// presence is what a NATS program reads of a client.
type presence struct {
	State, Reason, Boot, Protocol string
	ClientID                      string `json:"client_id"`
	Since                         time.Time
}

func withPresence(more ...harness.Option) []harness.Option {
	return append(more, harness.WithNATS(), harness.Set("presence.enabled", true))
}

func presenceBucket(ctx context.Context, t *testing.T, b *harness.Broker) natsjs.KeyValue {
	t.Helper()
	bucket, err := b.JetStream(t).KeyValue(ctx, "mqtt_presence")
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

// expectPresence waits until a client is as it should be, "online" or "offline" and a reason, and returns what is said of it.
func expectPresence(ctx context.Context, t *testing.T, bucket natsjs.KeyValue, clientID, want string) (p presence) {
	t.Helper()
	harness.Eventually(t, harness.Patience, fmt.Sprintf("%s is %s", clientID, want), func() error {
		entry, err := bucket.Get(ctx, clientID)
		if err != nil {
			return err
		}
		p = presence{}
		if err := json.Unmarshal(entry.Value(), &p); err != nil {
			return err
		}
		if got := strings.TrimSpace(p.State + " " + p.Reason); got != want || p.ClientID != clientID {
			return fmt.Errorf("it is %s", entry.Value())
		}
		return nil
	})
	return p
}

// Who is online is in a bucket, and however the broker goes down it is right again when it is back.
func TestPresence(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t, withPresence()...)
		ctx := harness.Context(t)
		bucket := presenceBucket(ctx, t, b)
		const n = 40
		var connected []harness.Connection
		for i := range n {
			connected = append(connected, b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, fmt.Sprint("clean", i))))
			connected = append(connected, b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, fmt.Sprint("stays", i))))
		}
		back := harness.NewDevice(mqttcodec.V5, "back")
		connected = append(connected, back.Connect(b, harness.Persistent))
		harness.NewDevice(mqttcodec.V311, "left").Connect(b, harness.Ephemeral).Disconnect()
		for i := range n {
			expectPresence(ctx, t, bucket, fmt.Sprint("clean", i), "online")
			expectPresence(ctx, t, bucket, fmt.Sprint("stays", i), "online")
		}
		first := expectPresence(ctx, t, bucket, "back", "online")
		expectPresence(ctx, t, bucket, "left", "offline normal_disconnection")
		before := time.Now()
		b.Restart(how, connected...)
		back.Resume(b)

		bucket = presenceBucket(ctx, t, b)
		reason := map[harness.Ending]string{
			harness.CleanStop: "normal_disconnection", harness.Term: "server_shutting_down", harness.Kill9: "server_died",
		}[how]
		for i := range n {
			for _, kind := range []string{"clean", "stays"} {
				p := expectPresence(ctx, t, bucket, fmt.Sprint(kind, i), "offline "+reason)
				if p.Boot != first.Boot || p.Since.Sub(before) > 10*time.Second || before.Sub(p.Since) > 10*time.Second {
					t.Errorf("a client of before is %+v, the broker went down at %v", p, before)
				}
			}
		}
		if p := expectPresence(ctx, t, bucket, "back", "online"); p.Boot == first.Boot {
			t.Errorf("who came back is said to be online since before: %+v", p)
		}
		expectPresence(ctx, t, bucket, "left", "offline normal_disconnection")
	})
}

// Without being asked for, there is no bucket.
func TestPresenceIsOffByDefault(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	harness.NewDevice(mqttcodec.V5, "c").Connect(b, harness.Ephemeral)
	if _, err := b.JetStream(t).KeyValue(harness.Context(t), "mqtt_presence"); !errors.Is(err, natsjs.ErrBucketNotFound) {
		t.Errorf("the bucket is there: %v", err)
	}
}

// The nats command line follows who comes and goes, and is told when what is said of a client that left has ended.
func TestNATSCommandWatchesPresence(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, withPresence(harness.Set("presence.offline_ttl", "1s"))...)
	ctx := harness.Context(t)
	bucket := presenceBucket(ctx, t, b)
	harness.NewDevice(mqttcodec.V5, "first").Connect(b, harness.Ephemeral)
	expectPresence(ctx, t, bucket, "first", "online")
	lines := harness.NewNATSCommand(t, b.NATS).Lines(t, "kv", "watch", "mqtt_presence")
	see := func(parts ...string) {
		t.Helper()
		for {
			line := nextLine(t, lines)
			seen := true
			for _, part := range parts {
				seen = seen && strings.Contains(line, part)
			}
			if seen {
				return
			}
		}
	}
	see("first", "online") // from now on it watches
	c := harness.NewDevice(mqttcodec.V311, "second").Connect(b, harness.Ephemeral)
	see("second", `"state":"online"`, `"protocol":"3.1.1"`)
	c.Disconnect()
	see("second", `"state":"offline"`, "normal_disconnection")
	see("PURGE", "second")
	expectPresence(ctx, t, bucket, "first", "online")
}
