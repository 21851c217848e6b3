package jetstream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// Queues, shared ones too, and reads of the log bring what their filters match, with subjects of either mapping and a
// prefix of several tokens. A filter that is not represented brings nothing.
func TestStorageMatchesInEachMapping(t *testing.T) {
	topics := []string{"a", "a/b", "a//b", "/a", "a/", "/", "v1.0/x", "v1.0", "./..", "a*/>b", "a=b", "a/ b", "*", "a/>"}
	filters := []string{"#", "a/#", "a/+", "+/b", "a//#", "/+", "/#", "v1.0/#", "+/..", "a*/+", "a/ b", "*", "a/>", "+/>b"}
	for _, mapping := range jetstream.Mappings() {
		t.Run(string(mapping), func(t *testing.T) {
			config := elsewhere
			config.Mapping = mapping
			n := jetstreamtest.StartNATS(t)
			s := openStorage(t, n, config)
			ctx := testContext(t)
			shared := map[string]sessions.SharedQueue{}
			for _, filter := range filters {
				shared[filter] = jetstreamtest.OpenShared(t, s.Shared(), "$share/g/"+filter)
			}
			stored := map[uint64]string{}
			for _, topic := range topics {
				if mapping.Represents(topic) {
					stored[jetstreamtest.Append(t, s.Log(), jetstreamtest.Message(topic, "x"))] = topic
					continue
				}
				sink := make(jetstreamtest.Sink, 1)
				s.Log().Append(jetstreamtest.Message(topic, "x"), "", sink, 1)
				if r := sink.Next(t); !errors.Is(r.Err, sessions.ErrRejected) || !errors.Is(r.Err, jetstream.ErrTopicUnmapped) {
					t.Errorf("%q: %+v", topic, r)
				}
			}
			for sequence, topic := range stored {
				entries, err := s.Log().Load(ctx, []uint64{sequence})
				if err != nil || len(entries) != 1 || entries[0].Message == nil || entries[0].Message.Topic != topic {
					t.Errorf("%q was read as %+v, %v", topic, entries, err)
				}
			}
			for i, filter := range filters {
				var want []uint64
				for sequence, topic := range stored {
					if mqttcodec.MatchTopic(filter, topic) {
						want = append(want, sequence)
					}
				}
				slices.Sort(want)
				q := openQueue(ctx, t, s.Queues(), fmt.Sprintf("session-%d", i), 0, filter)
				if got := fetchAll(ctx, t, q, 100); !slices.Equal(got, want) {
					t.Errorf("%q: the queue has %v, want %v", filter, got, want)
				}
				if got := jetstreamtest.TakeShared(t, shared[filter], len(want), 100); !slices.Equal(got, want) {
					t.Errorf("%q: the shared queue has %v, want %v", filter, got, want)
				}
			}
		})
	}
}

// Keys of the bucket of retained messages are the same in each mapping.
func TestRetainedKeysHaveTheirOwnMapping(t *testing.T) {
	for _, mapping := range jetstream.Mappings() {
		n := jetstreamtest.StartNATS(t)
		s := openStorage(t, n, changed(func(c *jetstream.Config) { c.Mapping = mapping }))
		ctx := testContext(t)
		sink := make(jetstreamtest.Sink, 1)
		s.Retained().Put(sessions.Entry{Position: sessions.Position{Sequence: 1}, Message: jetstreamtest.Message("v1.0//ü", "x")}, 0, sink, 1)
		sink.Must(t)
		bucket, err := newJS(t, n.Conn).KeyValue(ctx, "mqtt_retained")
		if err != nil {
			t.Fatal(err)
		}
		if entry, err := bucket.Get(ctx, "v1=2E0.=00.=C3=BC"); err != nil || string(entry.Value()) != "x" {
			t.Errorf("%s: %v, %v", mapping, entry, err)
		}
	}
}
