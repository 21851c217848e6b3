package jetstreamtest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// DelayedContract tests what every sessions.Delayed promises.
func DelayedContract(t *testing.T, open func(testing.TB) sessions.Delayed) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, sessions.Delayed)
	}{
		{"EmptyStoreHasNothing", testDelayedEmpty},
		{"MessagesComeBackWhole", testDelayedWhole},
		{"DueIsCountedFromWhenItIsStored", testDelayedDue},
		{"MessageOfAnIDIsStoredOnce", testDelayedOnce},
		{"RemovedIsGone", testDelayedRemoved},
		{"FollowHandsOverWhatIsStoredAfterASequence", testDelayedFollow},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// PutDelayed stores messages that are delayed, and returns their sequences.
func PutDelayed(t testing.TB, d sessions.Delayed, delay time.Duration, messages ...*sessions.Message) (sequences []uint64) {
	t.Helper()
	sink := make(Sink, len(messages))
	for i, m := range messages {
		d.Put(m, delay, "", sink, uint64(i))
	}
	for range messages {
		sequences = append(sequences, sink.Must(t).Sequence)
	}
	return sequences
}

// AllDelayed are all messages in the store.
func AllDelayed(t testing.TB, d sessions.Delayed) (list []sessions.DelayedEntry) {
	t.Helper()
	if err := d.Each(t.Context(), func(e sessions.DelayedEntry) { list = append(list, e) }); err != nil {
		t.Fatal(err)
	}
	return list
}

func loadDelayed(t testing.TB, d sessions.Delayed, sequences ...uint64) map[uint64]sessions.DelayedMessage {
	t.Helper()
	found, err := d.Load(t.Context(), sequences)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func testDelayedEmpty(t *testing.T, d sessions.Delayed) {
	if list := AllDelayed(t, d); len(list) > 0 {
		t.Errorf("found %v", list)
	}
	if found := loadDelayed(t, d, 1, 2); len(found) > 0 {
		t.Errorf("loaded %v", found)
	}
	if removed, err := d.Remove(t.Context(), []uint64{1, 2}); len(removed) > 0 || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func testDelayedWhole(t *testing.T, d sessions.Delayed) {
	want := &sessions.Message{
		Topic: "größe/ /a.b", Payload: []byte("payload"), QoS: 2, Retain: true, Publisher: "publisher",
		Properties: mqttcodec.MessageProperties{
			MessageExpirySeconds: mqttcodec.Some(uint32(60)), ResponseTopic: "answer", UserProperties: []mqttcodec.UserProperty{{Key: "k", Value: "v"}},
		},
	}
	sink := make(Sink, 1)
	d.Put(want, time.Hour, "incarnation/1/2", sink, 7)
	r := sink.Must(t)
	got := loadDelayed(t, d, r.Sequence)[r.Sequence]
	if got.Message == nil || got.ID != "incarnation/1/2" || r.Token != 7 {
		t.Fatalf("loaded %+v for %+v", got, r)
	}
	if fmt.Sprintf("%+v", *got.Message) != fmt.Sprintf("%+v", *want) {
		t.Errorf("loaded %+v\nwant   %+v", *got.Message, *want)
	}
	if list := AllDelayed(t, d); len(list) != 1 || list[0].ID != got.ID || list[0].Bytes < len(want.Payload) {
		t.Errorf("found %+v", list)
	}
}

func testDelayedDue(t *testing.T, d sessions.Delayed) {
	before := time.Now()
	PutDelayed(t, d, sessions.MaxDelay, Message("a", "1"), Message("a", "2"))
	after := time.Now()
	list := AllDelayed(t, d)
	if len(list) != 2 || list[0].Sequence >= list[1].Sequence || list[0].Due.After(list[1].Due) || list[0].ID == list[1].ID || list[0].ID == "" {
		t.Fatalf("found %+v", list)
	}
	for _, e := range list {
		if e.Due.Before(before.Add(sessions.MaxDelay-sessions.TimeTolerance)) || e.Due.After(after.Add(sessions.MaxDelay+sessions.TimeTolerance)) { // the clock is the server's
			t.Errorf("due at %v, want %v after %v", e.Due, sessions.MaxDelay, before)
		}
		if got := loadDelayed(t, d, e.Sequence)[e.Sequence].ID; got != e.ID {
			t.Errorf("its identity is %s, and when it is loaded %s", e.ID, got)
		}
	}
}

func testDelayedOnce(t *testing.T, d sessions.Delayed) {
	sink := make(Sink, 1)
	m := Message("a", "1")
	m.Publisher = "publisher"
	d.Put(m, time.Hour, "incarnation/1/1", sink, 1)
	first := sink.Must(t)
	d.Put(m, time.Hour, "incarnation/1/1", sink, 2)
	if second := sink.Must(t); second.Sequence != first.Sequence || !second.Duplicate {
		t.Errorf("got %+v, then %+v", first, second)
	}
	if list := AllDelayed(t, d); len(list) != 1 {
		t.Errorf("found %+v", list)
	}
}

func testDelayedRemoved(t *testing.T, d sessions.Delayed) {
	sequences := PutDelayed(t, d, time.Hour, Message("a", "1"), Message("a", "2"), Message("b", "3"))
	removed, err := d.Remove(t.Context(), sequences[1:])
	if slices.Sort(removed); err != nil || !slices.Equal(removed, sequences[1:]) {
		t.Fatalf("removed %v, %v, want %v", removed, err, sequences[1:])
	}
	if found := loadDelayed(t, d, sequences...); len(found) != 1 || string(found[sequences[0]].Message.Payload) != "1" {
		t.Errorf("loaded %v", found)
	}
	if removed, err := d.Remove(t.Context(), sequences); err != nil || !slices.Equal(removed, sequences[:1]) {
		t.Errorf("removed %v, %v, want %v", removed, err, sequences[:1])
	}
	if list := AllDelayed(t, d); len(list) > 0 {
		t.Errorf("found %v", list)
	}
}

func testDelayedFollow(t *testing.T, d sessions.Delayed) {
	before := PutDelayed(t, d, time.Hour, Message("a", "1"), Message("a", "2"), Message("a", "3"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	followed := make(chan sessions.DelayedEntry, 10)
	done := make(chan error)
	go func() { done <- d.Follow(ctx, before[0], func(e sessions.DelayedEntry) { followed <- e }) }()
	var got []uint64
	take := func() {
		t.Helper()
		select {
		case e := <-followed:
			got = append(got, e.Sequence)
		case <-ctx.Done():
			t.Fatalf("only %v came", got)
		}
	}
	take()
	take()
	behind := PutDelayed(t, d, 0, Message("a", "4"))
	take()
	if want := append(before[1:], behind...); !slices.Equal(got, want) {
		t.Errorf("followed %v, want %v", got, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
