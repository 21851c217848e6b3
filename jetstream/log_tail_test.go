package jetstream_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// stranger is a connection of somebody else to the same server.
func stranger(t *testing.T, n *jetstreamtest.NATS) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// appendOwn appends n messages, a few hundred at a time, and waits until they are stored.
func appendOwn(t *testing.T, log sessions.Log, topic string, n int) {
	const window = 300
	sink := make(jetstreamtest.Sink, window)
	for first := 0; first < n; first += window {
		count := min(window, n-first)
		for i := range count {
			log.Append(jetstreamtest.Message(topic, fmt.Sprint(first+i)), "", sink, 0)
		}
		for range count {
			if r := sink.Next(t); r.Err != nil {
				t.Errorf("append: %v", r.Err)
				return
			}
		}
	}
}

// expectTheLog compares what a tail has handed out with what the log holds.
func expectTheLog(t *testing.T, log sessions.Log, entries []sessions.Entry) {
	t.Helper()
	i := 0
	err := log.Scan(testContext(t), 0, uint64(len(entries)), func(e sessions.Entry) {
		got := entries[i]
		i++
		if got.Sequence != e.Sequence || !got.SameTime(e.Time) || got.Message.Topic != e.Message.Topic ||
			string(got.Message.Payload) != string(e.Message.Payload) || got.Message.QoS != e.Message.QoS {
			t.Errorf("entry %d is %+v %+v, the log holds %+v %+v", i, got.Position, got.Message, e.Position, e.Message)
		}
	})
	if err != nil || i != len(entries) {
		t.Errorf("the log holds %d entries of %d, %v", i, len(entries), err)
	}
}

func TestTailPutsOwnAndForeignMessagesInOrder(t *testing.T) {
	t.Parallel()
	n, s := newStorage(t)
	nc := stranger(t, n)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	total := 0
	for _, round := range []struct{ own, foreign int }{{1, 0}, {0, 1}, {1, 1}, {3000, 0}, {0, 500}, {3000, 30}, {3000, 1500}, {1, 0}, {0, 1}} {
		var writers sync.WaitGroup
		writers.Go(func() { appendOwn(t, s.Log(), "own/topic", round.own) })
		writers.Go(func() {
			for i := range round.foreign {
				if err := nc.Publish("mqtt.foreign.topic", fmt.Append(nil, i)); err != nil {
					t.Error(err)
				}
			}
		})
		writers.Wait()
		total += round.own + round.foreign
		expectTheLog(t, s.Log(), tail.Count(total))
	}
}

// What the server refuses is heard of and never comes; what comes next is not held up.
func TestTailDoesNotWaitForWhatIsRefused(t *testing.T) {
	t.Parallel()
	n, s := newStorage(t)
	nc := stranger(t, n)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	for range 10 {
		refused := &nats.Msg{Subject: "mqtt.a", Header: nats.Header{"Nats-Expected-Last-Sequence": {"77"}}, Data: []byte("refused")}
		if err := nc.PublishMsg(refused); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish("mqtt.a", []byte("taken")); err != nil {
		t.Fatal(err)
	}
	tail.Count(1)
	appendOwn(t, s.Log(), "a", 1)
	expectTheLog(t, s.Log(), tail.Count(2))
}

// A message that nothing told of is found all the same: one that comes over our own connection, and is not our own.
func TestTailLooksForWhatItWasNotTold(t *testing.T) {
	t.Parallel()
	n, s := newStorage(t)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	appendOwn(t, s.Log(), "a", 1)
	tail.Count(1)
	if err := n.Conn.Publish("mqtt.a", []byte("untold")); err != nil {
		t.Fatal(err)
	}
	expectTheLog(t, s.Log(), tail.Count(2))
}

// readers is how many consumers of the log reader there are.
func readers(t *testing.T, js natsjs.JetStream) (n int) {
	t.Helper()
	stream, err := js.Stream(testContext(t), "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	for info := range stream.ListConsumers(testContext(t)).Info() {
		if info.Config.Description == "log reader" {
			n++
		}
	}
	return n
}

// While much is written by others a consumer reads the log, and only then.
func TestTailChangesItsSource(t *testing.T) {
	t.Parallel()
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	nc := stranger(t, n)
	tail := jetstreamtest.StartTail(t, s.Log(), 0)
	total := 0
	write := func(own, foreign, want int) {
		deadline := time.Now().Add(20 * time.Second)
		for readers(t, js) != want {
			if time.Now().After(deadline) {
				t.Fatalf("after %d messages there are not %d readers", total, want)
			}
			for i := range foreign {
				if err := nc.Publish("mqtt.foreign", fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
			}
			appendOwn(t, s.Log(), "own", own)
			total += own + foreign
			tail.Count(total)
		}
	}
	write(100, 0, 0)
	write(50, 400, 1)
	write(400, 10, 0)
	expectTheLog(t, s.Log(), tail.Count(total))
	if restarts := s.Stats().ReaderRestarts.Load(); restarts >= 2 { // a heartbeat may be late on a busy machine
		t.Errorf("%d restarts: a change of the source counts as one", restarts)
	}
}
