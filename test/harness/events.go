package harness

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// EventListener is a NATS program that listens to all events, and not to what a check of permissions sends.
type EventListener struct {
	Conn *nats.Conn

	t   testing.TB
	sub *nats.Subscription
}

// ListenToEvents listens from now on.
func ListenToEvents(t testing.TB, b *Broker) *EventListener {
	t.Helper()
	nc, err := nats.Connect("nats://" + b.NATS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	sub, err := nc.SubscribeSync("dunlin.event.*.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return &EventListener{nc, t, sub}
}

// Next waits for the next event and checks what every one has.
func (l *EventListener) Next() map[string]any {
	l.t.Helper()
	m, err := l.sub.NextMsg(Patience)
	if err != nil {
		l.t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(m.Data, &e); err != nil {
		l.t.Fatalf("%s: %s: %v", m.Subject, m.Data, err)
	}
	at, err := time.Parse(time.RFC3339, fmt.Sprint(e["time"]))
	if kind := strings.TrimPrefix(m.Subject, "dunlin.event."); e["type"] != kind || e["version"] != 1.0 || err != nil ||
		time.Since(at).Abs() > time.Minute || e["node"] == "" || e["boot"] == "" {
		l.t.Errorf("on %s came %s (%v)", m.Subject, m.Data, err)
	}
	return e
}

// Expect waits for events of one client, each its type and fields as name=value.
func (l *EventListener) Expect(clientID string, want ...string) {
	l.t.Helper()
	for _, w := range want {
		e := l.Next()
		words := strings.Fields(w)
		if e["type"] != words[0] || e["client_id"] != clientID {
			l.t.Fatalf("got %v, want %s of %s", e, w, clientID)
		}
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			if got := fmt.Sprint(e[name]); got != value {
				l.t.Errorf("%s of %s: %s is %s, want %s", words[0], clientID, name, got, value)
			}
		}
	}
}
