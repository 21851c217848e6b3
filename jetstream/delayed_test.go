package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// What waits is bounded by the stream, so that it is for all who store there; a limit that is lowered takes nothing away.
func TestDelayedMessagesAreBounded(t *testing.T) {
	n := jetstreamtest.StartNATS(t)
	c := testConfig()
	c.MaxDelayed = 3
	s := openStorage(t, n, c)
	sequences := jetstreamtest.PutDelayed(t, s.Delayed(), time.Hour, jetstreamtest.Message("a", "1"), jetstreamtest.Message("a", "2"), jetstreamtest.Message("a", "3"))
	refused := func(m *sessions.Message, why string) {
		t.Helper()
		sink := make(jetstreamtest.Sink, 1)
		s.Delayed().Put(m, time.Hour, "", sink, 1)
		if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrRejected) {
			t.Errorf("%s: %+v", why, r)
		}
	}
	refused(jetstreamtest.Message("a", "4"), "a fourth message")
	c.MaxDelayed, c.MaxDelayedBytes = 2, 2<<20
	s = openStorage(t, n, c)
	if list := jetstreamtest.AllDelayed(t, s.Delayed()); len(list) != 3 {
		t.Errorf("found %v", list)
	}
	refused(jetstreamtest.Message("a", "4"), "a message above a lower limit")
	if _, err := s.Delayed().Remove(testContext(t), sequences); err != nil {
		t.Fatal(err)
	}
	large := jetstreamtest.Message("a", strings.Repeat("x", 3<<19))
	jetstreamtest.PutDelayed(t, s.Delayed(), time.Hour, large)
	refused(large, "more bytes than allowed")
	refused(jetstreamtest.Message(strings.Repeat("x", jetstream.MaxSubject+1), "long"), "a topic that is too long")
}

// A NATS service delays a message by publishing to the stream. What it publishes there that is no delayed message is due,
// is no message, and can be removed.
func TestNATSServiceDelaysAMessage(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	before := time.Now()
	good, err := js.PublishMsg(testContext(t), &nats.Msg{
		Subject: "mqtt_delayed.60.a.b", Header: nats.Header{"Nats-Msg-Id": {"order/1"}, "Mqtt-Qos": {"2"}}, Data: []byte("m"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"mqtt_delayed.soon.a", "mqtt_delayed.4294968.a", "mqtt_delayed.60.=x", "mqtt_delayed.-1.a"} {
		if _, err := js.Publish(testContext(t), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	list := jetstreamtest.AllDelayed(t, s.Delayed())
	if len(list) != 5 {
		t.Fatalf("found %+v", list)
	}
	for i, e := range list {
		due := before
		if i == 0 {
			due = before.Add(time.Minute)
		}
		if e.Due.Before(due.Add(-sessions.TimeTolerance)) || e.Due.After(due.Add(30*time.Second)) || strings.Contains(e.ID, "/") {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	found, err := s.Delayed().Load(testContext(t), []uint64{1, 2, 3, 4, 5})
	if err != nil || len(found) != 1 {
		t.Fatalf("loaded %v, %v", found, err)
	}
	if m := found[good.Sequence].Message; m.Topic != "a/b" || m.QoS != 2 || string(m.Payload) != "m" {
		t.Errorf("loaded %+v", m)
	}
	if removed, err := s.Delayed().Remove(testContext(t), []uint64{1, 2, 3, 4, 5}); err != nil || len(removed) != 5 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if got := s.Stats().Undecodable.Load(); got != 4 {
		t.Errorf("%d counted as undecodable, want 4", got)
	}
}

// Those who follow go on after the server was away, and what was read at a start was all.
func TestDelayedMessagesAreFollowedAcrossARestartOfTheServer(t *testing.T) {
	n, s := newStorage(t)
	const many = 2000
	var messages []*sessions.Message
	for i := range many {
		messages = append(messages, jetstreamtest.Message("a", fmt.Sprint(i)))
	}
	jetstreamtest.PutDelayed(t, s.Delayed(), time.Hour, messages...)
	if list := jetstreamtest.AllDelayed(t, s.Delayed()); len(list) != many || list[many-1].Sequence != many {
		t.Fatalf("found %d", len(list))
	}
	ctx := testContext(t)
	followed := make(chan sessions.DelayedEntry, many)
	go func() { _ = s.Delayed().Follow(ctx, many-1, func(e sessions.DelayedEntry) { followed <- e }) }()
	next := func(want uint64) {
		t.Helper()
		select {
		case e := <-followed:
			if e.Sequence != want {
				t.Fatalf("%d came, want %d", e.Sequence, want)
			}
		case <-ctx.Done():
			t.Fatalf("%d did not come", want)
		}
	}
	next(many)
	n.Restart()
	jetstreamtest.PutDelayed(t, s.Delayed(), time.Hour, jetstreamtest.Message("a", "behind"))
	next(many + 1)
}
