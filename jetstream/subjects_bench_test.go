package jetstream

import (
	"fmt"
	"testing"
)

// benchTopics are a topic that is its own subject but for the separators, and one with bytes that subjects cannot hold.
var benchTopics = map[string]string{"plain": "site/7/line/3/temperature", "escaped": "site 7/line.3//temperature"}

func BenchmarkSubjectOfTopic(b *testing.B) {
	for name, topic := range benchTopics {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				defaultSubject(topic)
			}
		})
	}
}

func BenchmarkTopicOfSubject(b *testing.B) {
	for name, topic := range benchTopics {
		b.Run(name, func(b *testing.B) {
			subject := defaultSubject(topic)
			b.ReportAllocs()
			for b.Loop() {
				if got, ok := defaultTopic(subject); !ok || got != topic {
					b.Fatalf("%q is the topic %q", subject, got)
				}
			}
		})
	}
}

// BenchmarkSubjectOfPublish is what Log.Append does for each message: the subject of a topic that was used before, with prefix.
func BenchmarkSubjectOfPublish(b *testing.B) {
	c := newSubjectCache(MappingDefault, "mqtt.")
	topics := make([]string, 50)
	for i := range topics {
		topics[i] = fmt.Sprintf("site/7/device/%d/state", i)
	}
	for _, bench := range []struct {
		name    string
		subject func(topic string) string
	}{
		{"made", func(topic string) string { return c.prefix + defaultSubject(topic) }},
		{"remembered", func(topic string) string { subject, _ := c.subject(topic); return subject }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n += len(bench.subject(topics[n%len(topics)]))
			}
		})
	}
}
