package jetstream

import (
	"fmt"
	"slices"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Mapping is how the topics of the log and of the live plane become subjects, and back. KV keys have a mapping of their own,
// KeyFromTopic, since KV clients allow few characters.
type Mapping string

const (
	// MappingDefault has a subject for every topic, and looks like the topic wherever it can. See defaultSubject.
	MappingDefault Mapping = "default"
	// MappingNATSCompat is that of the MQTT in nats-server, for those whose NATS services know its subjects. There are topics
	// that it has no subject for. See compatSubject.
	MappingNATSCompat Mapping = "nats-compat"
)

// Mappings are all there are.
func Mappings() []Mapping { return []Mapping{MappingDefault, MappingNATSCompat} }

func (m Mapping) validate() error {
	if !slices.Contains(Mappings(), m) {
		return fmt.Errorf("topic mapping %q is none of %v", m, Mappings())
	}
	return nil
}

// Represents reports whether a topic name, or a topic filter, has a subject.
func (m Mapping) Represents(topic string) bool {
	return m != MappingNATSCompat || compatRepresents(topic)
}

// Subject is the subject of a topic without the prefix, and whether there is one. No two topics share a subject.
func (m Mapping) Subject(topic string) (string, bool) {
	if m == MappingNATSCompat {
		return compatSubject(topic)
	}
	return defaultSubject(topic), true
}

// Topic is the topic of a subject without the prefix, and whether the subject is exactly what Subject makes of it.
func (m Mapping) Topic(subject string) (string, bool) {
	if m == MappingNATSCompat {
		return compatTopic(subject)
	}
	return defaultTopic(subject)
}

// Subjects are the subjects without the prefix that match exactly what a topic filter matches, see defaultSubjects. Those
// of a filter that is not represented match no topic: none that is can match the filter.
func (m Mapping) Subjects(filter string) []string {
	if m == MappingNATSCompat {
		return subjectsFromFilter(filter, appendCompatToken)
	}
	return defaultSubjects(filter)
}

// metadataMapping is the mapping of a log, in its metadata; a log without it has the default one.
const metadataMapping = "dunlin.mapping"

// checkTopics makes sure that topics have the subjects in an existing log that they have here.
func checkTopics(have, want natsjs.StreamConfig) error {
	need, mapped := want.Metadata[metadataMapping]
	if !mapped {
		return nil
	}
	const otherwise = "or begin with an empty log: in another data directory, or without this stream"
	if prefix, ok := logPrefix(have.Subjects); ok && !slices.Equal(have.Subjects, want.Subjects) {
		return fmt.Errorf("%w: %s has subjects %v, we need %v: set topics.prefix to %s, %s",
			ErrTopology, want.Name, have.Subjects, want.Subjects, prefix, otherwise)
	}
	mapping, said := have.Metadata[metadataMapping]
	if !said {
		mapping = string(MappingDefault)
	}
	switch {
	case mapping == need:
		return nil
	case !said && have.Metadata[metadataKind] == "":
		return fmt.Errorf("%w: %s was not made by us and says nothing about the topic mapping %s: give it the metadata %s=%s if its subjects are of that mapping, or set topics.mapping to %s",
			ErrTopology, want.Name, need, metadataMapping, need, mapping)
	default:
		return fmt.Errorf("%w: %s has subjects of the topic mapping %s, we need %s: set topics.mapping to %s, %s",
			ErrTopology, want.Name, mapping, need, mapping, otherwise)
	}
}

// logPrefix is the prefix of a log with these subjects, if it looks like one of ours.
func logPrefix(subjects []string) (string, bool) {
	if len(subjects) != 1 {
		return "", false
	}
	prefix, ok := strings.CutSuffix(subjects[0], ".>")
	return prefix, ok && ValidPrefix(prefix)
}
