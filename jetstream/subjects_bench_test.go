package jetstream

import "testing"

// benchTopics are a topic that is its own subject but for the separators, and one with bytes that subjects cannot hold.
var benchTopics = map[string]string{"plain": "site/7/line/3/temperature", "escaped": "site 7/line.3//temperature"}

func BenchmarkSubjectFromTopic(b *testing.B) {
	for name, topic := range benchTopics {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				SubjectFromTopic(topic)
			}
		})
	}
}

func BenchmarkTopicFromSubject(b *testing.B) {
	for name, topic := range benchTopics {
		b.Run(name, func(b *testing.B) {
			subject := SubjectFromTopic(topic)
			b.ReportAllocs()
			for b.Loop() {
				if got, ok := TopicFromSubject(subject); !ok || got != topic {
					b.Fatalf("%q is the topic %q", subject, got)
				}
			}
		})
	}
}
