package jetstream_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// An event is wanted while somebody listens to its kind, in whatever way.
func TestEventsAreWantedByThoseWhoListen(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	e := jetstream.NewEvents(n.Conn, n.HasInterest)
	wanted := func(when string, want ...sessions.EventKind) {
		t.Helper()
		if err := n.Conn.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, kind := range sessions.EventKinds {
			expected := false
			for _, w := range want {
				expected = expected || w == kind
			}
			if got := e.Wanted(kind); got != expected {
				t.Errorf("%s: %s is wanted: %v", when, kind, got)
			}
		}
	}
	wanted("nobody listens")
	for _, subject := range []string{"dunlin.event.client.connected", "dunlin.*.client.connected"} {
		sub, err := n.Conn.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		wanted(subject, sessions.EventConnected)
		_ = sub.Unsubscribe()
		wanted(subject + " no more")
	}
	sub, err := n.Conn.QueueSubscribeSync("dunlin.event.session.>", "group")
	if err != nil {
		t.Fatal(err)
	}
	wanted("a queue group", sessions.EventCreated, sessions.EventResumed, sessions.EventExpired, sessions.EventTakenOver)
	_ = sub.Unsubscribe()

	js, err := natsjs.New(n.Conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(testContext(t), natsjs.StreamConfig{Name: "EVENTS", Subjects: []string{"dunlin.event.>"}}); err != nil {
		t.Fatal(err)
	}
	wanted("a stream", sessions.EventKinds...)

	e = jetstream.NewEvents(n.Conn, nil)
	if err := js.DeleteStream(testContext(t), "EVENTS"); err != nil {
		t.Fatal(err)
	}
	wanted("it is not known who listens", sessions.EventKinds...)
}

// Events come on the subject of their kind, in their order, and what a client has said is nowhere but in the JSON.
func TestEventsArePublished(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	listener, err := nats.Connect("", nats.InProcessServer(n))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sub, err := listener.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Flush(); err != nil {
		t.Fatal(err)
	}
	e := jetstream.NewEvents(n.Conn, n.HasInterest)
	clientID := "a.b > *\r\nPUB x 1\r\n" + `"\`
	for _, kind := range sessions.EventKinds {
		event := &sessions.Event{Version: 1, Kind: kind, Time: time.Unix(1, 0).UTC(), ClientID: clientID}
		if err := e.Publish(event); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range sessions.EventKinds {
		m, err := sub.NextMsgWithContext(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		var got sessions.Event
		if err := json.Unmarshal(m.Data, &got); err != nil {
			t.Fatal(err)
		}
		if m.Subject != "dunlin.event."+string(kind) || len(m.Header) > 0 || m.Reply != "" || got.Kind != kind || got.ClientID != clientID {
			t.Errorf("got %s on %q with header %v", m.Data, m.Subject, m.Header)
		}
	}
	n.Stop()
	eventually(t, "the connection is lost", func() bool { return !n.Conn.IsConnected() })
	if err := e.Publish(&sessions.Event{Kind: sessions.EventExpired}); err == nil {
		t.Error("an event that is lost is no error")
	}
}
