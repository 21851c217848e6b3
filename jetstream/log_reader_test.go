package jetstream

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

func delivered(stream, consumer uint64) *nats.Msg {
	return &nats.Msg{Subject: "mqtt.a", Reply: fmt.Sprintf("$JS.ACK.MQTT.c.1.%d.%d.1700000000000000000.0", stream, consumer)}
}

func heartbeat(consumer uint64) *nats.Msg {
	return &nats.Msg{Header: nats.Header{"Status": {"100"}, "Description": {"Idle Heartbeat"}, "Nats-Last-Consumer": {fmt.Sprint(consumer)}}}
}

func TestReaderNoticesWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages []*nats.Msg
		want     []uint64
		trimmed  uint64
		gap      bool
	}{
		{name: "in order", messages: []*nats.Msg{delivered(5, 1), delivered(6, 2), heartbeat(2)}, want: []uint64{5, 6}},
		{name: "trimmed", messages: []*nats.Msg{delivered(7, 1), delivered(9, 2)}, want: []uint64{7, 9}, trimmed: 3},
		{name: "seen before", messages: []*nats.Msg{delivered(3, 1), delivered(4, 2), delivered(5, 3)}, want: []uint64{5}},
		{name: "first lost", messages: []*nats.Msg{delivered(6, 2)}, gap: true},
		{name: "one lost", messages: []*nats.Msg{delivered(5, 1), delivered(7, 3)}, want: []uint64{5}, gap: true},
		{name: "repeated", messages: []*nats.Msg{delivered(5, 1), delivered(5, 1)}, want: []uint64{5}, gap: true},
		{name: "last lost", messages: []*nats.Msg{delivered(5, 1), heartbeat(1), heartbeat(2)}, want: []uint64{5}, gap: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			stats := new(Stats)
			tail := &tail{
				log: &Log{stats: stats, prefix: "mqtt."}, next: 5,
				batch: make([]sessions.Entry, 0, maxTailBatch), messages: make(chan *nats.Msg, 10),
			}
			var got []uint64
			tail.deliver = func(batch []sessions.Entry) {
				for _, e := range batch {
					got = append(got, e.Sequence)
				}
			}
			for _, m := range c.messages[1:] {
				tail.messages <- m
			}
			err := tail.take(c.messages[0])
			if errors.Is(err, errGap) != c.gap || !slices.Equal(got, c.want) || stats.Trimmed.Load() != c.trimmed {
				t.Errorf("handed over %v, %d trimmed, %v", got, stats.Trimmed.Load(), err)
			}
		})
	}
}
