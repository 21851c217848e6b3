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
	// MappingDefault has a subject for every topic, and looks like the topic wherever it can. See SubjectFromTopic.
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
	return SubjectFromTopic(topic), true
}

// Topic is the topic of a subject without the prefix, and whether the subject is exactly what Subject makes of it.
func (m Mapping) Topic(subject string) (string, bool) {
	if m == MappingNATSCompat {
		return compatTopic(subject)
	}
	return TopicFromSubject(subject)
}

// Subjects are the subjects without the prefix that match exactly what a topic filter matches, see SubjectsFromFilter. Those
// of a filter that is not represented match no topic: none that is can match the filter.
func (m Mapping) Subjects(filter string) []string {
	if m == MappingNATSCompat {
		return subjectsFromFilter(filter, appendCompatToken)
	}
	return SubjectsFromFilter(filter)
}

// The mapping of nats-server's MQTT: levels are tokens, a dot is two slashes, and an empty level is one slash. It has no
// escapes, so that what NATS cannot have in a subject no topic may have: white space, DEL (the server's own subject trees
// need it), and "*" or ">" as a whole level, which nats-server would take for wildcards.
const compatEmptyLevel = "/"

// compatNoTopic is a token in the subject of no topic: slashes come in pairs, or alone as the whole token.
const compatNoTopic = "/-"

func refusedInCompat(b byte) bool {
	switch b {
	case ' ', '\t', '\n', '\r', '\f', 0x7f:
		return true
	}
	return false
}

func escapedInCompat(b byte) bool { return b == '.' }

func compatRepresents(topic string) bool {
	start := 0 // of the level
	for i := 0; i <= len(topic); i++ {
		if i == len(topic) || topic[i] == '/' {
			if isWildcardToken(topic[start:i]) {
				return false
			}
			start = i + 1
		} else if refusedInCompat(topic[i]) {
			return false
		}
	}
	return true
}

// isWildcardToken reports whether a whole level, or a whole token, is one of NATS's wildcards.
func isWildcardToken(s string) bool { return s == "*" || s == ">" }

func compatSubject(topic string) (string, bool) {
	if !compatRepresents(topic) {
		return "", false
	}
	if plainLevels(topic, escapedInCompat) {
		return strings.ReplaceAll(topic, "/", "."), true
	}
	var b strings.Builder
	b.Grow(len(topic) + 16)
	for level := range strings.SplitSeq(topic, "/") {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		appendCompatToken(&b, level)
	}
	return b.String(), true
}

func appendCompatToken(b *strings.Builder, level string) {
	switch {
	case level == "":
		b.WriteString(compatEmptyLevel)
	case !compatRepresents(level):
		b.WriteString(compatNoTopic)
	default:
		b.WriteString(strings.ReplaceAll(level, ".", "//"))
	}
}

func compatTopic(subject string) (string, bool) {
	if subject == "" {
		return "", false
	}
	b := make([]byte, 0, len(subject))
	first := true
	for token := range strings.SplitSeq(subject, ".") {
		if !first {
			b = append(b, '/')
		}
		first = false
		if token == compatEmptyLevel {
			continue
		}
		if token == "" || isWildcardToken(token) {
			return "", false
		}
		for i := 0; i < len(token); i++ {
			c := token[i]
			if refusedInCompat(c) {
				return "", false
			}
			if c == '/' {
				if i++; i == len(token) || token[i] != '/' {
					return "", false // nats-server passes over such a slash, and then two subjects are one topic
				}
				c = '.'
			}
			b = append(b, c)
		}
	}
	topic := string(b)
	return topic, validTopic(topic)
}

// metadataMapping is the mapping of a log, in its metadata; a log without it has the default one.
const metadataMapping = "dunlin.mapping"

// checkTopics makes sure that topics have the subjects in an existing log that they have here.
func checkTopics(have, want natsjs.StreamConfig) error {
	if want.Metadata[metadataKind] != kindLog {
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
	switch need := want.Metadata[metadataMapping]; {
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

// maxPrefix bounds prefixes: with a subject of MaxSubject bytes they stand in one control line.
const maxPrefix = 100

// ValidPrefix reports whether subjects can begin with a text: one or more tokens of the letters that names are made of.
func ValidPrefix(prefix string) bool {
	for token := range strings.SplitSeq(prefix, ".") {
		if !validName(token) {
			return false
		}
	}
	return len(prefix) <= maxPrefix
}

func validName(token string) bool { return token != "" && strings.Trim(token, tokenAlphabet) == "" }

// Validate reports the first name that cannot be, or two subject spaces that overlap.
func (n *Names) Validate() error {
	for _, name := range []string{n.Stream, n.JournalStream, n.JournalSubjects, n.CheckpointSubjects, n.SessionBucket, n.RetainedBucket, n.QueuePrefix, n.GroupPrefix} {
		if !validName(name) {
			return fmt.Errorf("name %q is not made of A-Z a-z 0-9 _ -", name)
		}
	}
	for _, prefix := range []string{n.Subjects, n.LiveSubjects} {
		switch {
		case !ValidPrefix(prefix):
			return fmt.Errorf("%q is not made of tokens of A-Z a-z 0-9 _ -, at most %d bytes", prefix, maxPrefix)
		case strings.HasPrefix(prefix, "_"):
			return fmt.Errorf("subjects %s.> are among those of NATS itself, which begin with _", prefix)
		}
	}
	spaces := []struct{ of, prefix string }{
		{"the log", n.Subjects},
		{"live messages", n.LiveSubjects},
		{"journals", n.JournalSubjects},
		{"checkpoints", n.CheckpointSubjects},
		{"events and control", controlSubjects},
	}
	for i, a := range spaces {
		for _, b := range spaces[i+1:] {
			if subsetOf(a.prefix+".>", b.prefix+".>") || subsetOf(b.prefix+".>", a.prefix+".>") {
				return fmt.Errorf("subjects %s.> of %s and %s.> of %s overlap", a.prefix, a.of, b.prefix, b.of)
			}
		}
	}
	return nil
}

// controlSubjects begin the subjects that are about a node, not about topics: dunlin.event.…, dunlin.ctl.….
const controlSubjects = "dunlin"
