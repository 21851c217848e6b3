package jetstream

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxSubject is how many bytes the subject of a topic may have. The NATS server closes a connection whose control line
// (subject, reply, sizes) passes 4,096 bytes.
const MaxSubject = 2048

const (
	upperHex   = "0123456789ABCDEF"
	emptyLevel = "=00" // U+0000 cannot occur in a topic [MQTT-1.5.4-2], so this is free
)

// escapedInSubject reports whether a byte of a topic level cannot stand in a subject token.
func escapedInSubject(b byte) bool {
	return b <= ' ' || b == 0x7f || b == '.' || b == '*' || b == '>' || b == '='
}

// escapedInKey reports whether a byte cannot stand in a key of a KV bucket or in a name.
func escapedInKey(b byte) bool {
	return !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '_' || b == '-')
}

// defaultSubject is the subject of a topic in the default mapping, without the prefix: a/b is a.b. Total and injective.
func defaultSubject(topic string) string { return encodeLevels(topic, escapedInSubject) }

// KeyFromTopic is the key of a topic in a KV bucket: a/b is a.b. A topic whose key would be longer than MaxSubject gets a
// hashed key, which TopicFromKey cannot read.
func KeyFromTopic(topic string) string {
	if key := encodeLevels(topic, escapedInKey); len(key) <= MaxSubject {
		return key
	}
	return hashed(encodeToken(topic), topic)
}

func encodeLevels(topic string, escaped func(byte) bool) string {
	if plainLevels(topic, escaped) {
		return strings.ReplaceAll(topic, "/", ".")
	}
	var b strings.Builder
	b.Grow(len(topic) + 16)
	for level := range strings.SplitSeq(topic, "/") {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		appendToken(&b, level, escaped)
	}
	return b.String()
}

// plainLevels reports whether no level is empty or needs an escape: almost all topics.
func plainLevels(topic string, escaped func(byte) bool) bool {
	previous := byte('/')
	for i := range len(topic) {
		b := topic[i]
		if b == '/' {
			if previous == '/' {
				return false
			}
		} else if escaped(b) {
			return false
		}
		previous = b
	}
	return previous != '/'
}

func appendToken(b *strings.Builder, level string, escaped func(byte) bool) {
	if level == "" {
		b.WriteString(emptyLevel)
		return
	}
	for i := range len(level) {
		if c := level[i]; escaped(c) {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
}

// defaultTopic is the topic of a subject in the default mapping, and whether the subject is exactly what defaultSubject makes of it. What
// a NATS service publishes elsewhere in the stream's subjects is no topic.
func defaultTopic(subject string) (string, bool) { return decodeLevels(subject, escapedInSubject) }

// TopicFromKey is the topic of a KV key that is not hashed.
func TopicFromKey(key string) (string, bool) { return decodeLevels(key, escapedInKey) }

func decodeLevels(subject string, escaped func(byte) bool) (string, bool) {
	if subject == "" {
		return "", false
	}
	if plainTokens(subject, escaped) {
		topic := strings.ReplaceAll(subject, ".", "/")
		return topic, validTopic(topic)
	}
	b := make([]byte, 0, len(subject))
	first := true
	for token := range strings.SplitSeq(subject, ".") {
		if !first {
			b = append(b, '/')
		}
		first = false
		var ok bool
		if b, ok = decodeToken(b, token, escaped); !ok {
			return "", false
		}
	}
	topic := string(b)
	return topic, validTopic(topic)
}

// plainTokens reports whether a subject holds nothing but dots and bytes that stand for themselves, with no empty token.
func plainTokens(subject string, escaped func(byte) bool) bool {
	previous := byte('.')
	for i := range len(subject) {
		b := subject[i]
		if b == '.' {
			if previous == '.' {
				return false
			}
		} else if b == '/' || escaped(b) {
			return false
		}
		previous = b
	}
	return previous != '.'
}

// decodeToken appends the level that token stands for. Only the one spelling that appendToken writes is taken.
func decodeToken(dst []byte, token string, escaped func(byte) bool) ([]byte, bool) {
	if token == emptyLevel {
		return dst, true
	}
	if token == "" {
		return dst, false
	}
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' {
			if i+2 >= len(token) {
				return dst, false
			}
			high, low := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
			if high < 0 || low < 0 {
				return dst, false
			}
			if c = byte(high<<4 | low); c == 0 || c == '/' || !escaped(c) {
				return dst, false
			}
			i += 2
		} else if c == '/' || escaped(c) {
			return dst, false
		}
		dst = append(dst, c)
	}
	return dst, true
}

// validTopic reports whether a string may be a topic name on the wire.
func validTopic(topic string) bool {
	return topic != "" && len(topic) <= 65535 && // [MQTT-4.7.3-1] [MQTT-4.7.3-3]
		utf8.ValidString(topic) && // [MQTT-1.5.4-1]
		!strings.ContainsAny(topic, "+#\x00") // [MQTT-3.3.2-2] [MQTT-4.7.3-2]
}

const (
	maxToken    = 200
	tokenPrefix = 150
)

// EncodeToken makes a client identifier, or a boot, into one token that is valid in subjects, KV keys and consumer
// names. Over 200 bytes it keeps the first 150 and a hash: two identifiers can then meet in one token, so that who reads
// a record compares the identifier stored with it.
func EncodeToken(s string) string {
	token := encodeToken(s)
	if len(token) <= maxToken {
		return token
	}
	return hashed(token, s)
}

func encodeToken(s string) string {
	plain := s != ""
	for i := 0; plain && i < len(s); i++ {
		plain = !escapedInKey(s[i])
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	appendToken(&b, s, escapedInKey)
	return b.String()
}

// hashed cannot meet a token that is not: there "=" is followed by a hex digit.
func hashed(token, s string) string {
	sum := sha256.Sum256([]byte(s))
	return token[:tokenPrefix] + hashMark + hex.EncodeToString(sum[:16])
}

const hashMark = "=-"

// defaultSubjects are the subjects in the default mapping that match exactly what a topic filter matches, but for the rule
// that wildcards do not match topics that start with "$" [MQTT-4.7.2-1], which NATS does not know and the caller applies.
func defaultSubjects(filter string) []string {
	return subjectsFromFilter(filter, func(b *strings.Builder, level string) { appendToken(b, level, escapedInSubject) })
}

func subjectsFromFilter(filter string, appendLevel func(b *strings.Builder, level string)) []string {
	if filter == "#" {
		return []string{">"}
	}
	parent, multi := strings.CutSuffix(filter, "/#")
	var b strings.Builder
	for level := range strings.SplitSeq(parent, "/") {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if level == "+" {
			b.WriteByte('*')
		} else {
			appendLevel(&b, level)
		}
	}
	if multi { // "a/#" matches "a" too (4.7.1.2)
		return []string{b.String(), b.String() + ".>"}
	}
	return []string{b.String()}
}

// maxQueueSubjects bounds the filters of one consumer: the server compares each with each.
const maxQueueSubjects = 64

// comparableSubjects is how many subjects we compare each with each.
const comparableSubjects = 4 * maxQueueSubjects

// queueSubjects are, without the prefix, the fewest subjects that match at least what the topic filters match, none a subset of another, at
// most maxQueueSubjects of them. Beyond that they are widened, and match more.
func (m Mapping) queueSubjects(filters []string) (subjects []string) {
	for _, filter := range filters {
		subjects = append(subjects, m.Subjects(filter)...)
	}
	slices.Sort(subjects)
	subjects = slices.Compact(subjects)
	for depth := 4; len(subjects) > comparableSubjects && depth > 0; depth-- {
		subjects = widen(subjects, depth)
	}
	if len(subjects) > comparableSubjects {
		return []string{">"}
	}
	subjects = maximal(subjects)
	for depth := 4; len(subjects) > maxQueueSubjects && depth > 0; depth-- {
		subjects = maximal(widen(subjects, depth))
	}
	if len(subjects) > maxQueueSubjects {
		return []string{">"}
	}
	return subjects
}

// widen cuts subjects after depth tokens and lets them match everything below.
func widen(subjects []string, depth int) []string {
	for i, subject := range subjects {
		if tokens := strings.SplitN(subject, ".", depth+1); len(tokens) > depth {
			subjects[i] = strings.Join(tokens[:depth], ".") + ".>"
		}
	}
	slices.Sort(subjects)
	return slices.Compact(subjects)
}

// maximal drops every subject that is a subset of another. The subjects are distinct.
func maximal(subjects []string) []string {
	kept := subjects[:0:0]
	for i, subject := range subjects {
		covered := slices.ContainsFunc(subjects[:i], func(other string) bool { return subsetOf(subject, other) }) ||
			slices.ContainsFunc(subjects[i+1:], func(other string) bool { return subsetOf(subject, other) })
		if !covered {
			kept = append(kept, subject)
		}
	}
	return kept
}

// subsetOf reports whether everything that subject a matches, b matches too.
func subsetOf(a, b string) bool {
	for {
		aToken, aRest, aMore := strings.Cut(a, ".")
		bToken, bRest, bMore := strings.Cut(b, ".")
		switch {
		case bToken == ">":
			return true
		case aToken == ">":
			return false
		case bToken != "*" && aToken != bToken:
			return false
		case !aMore || !bMore:
			return aMore == bMore
		}
		a, b = aRest, bRest
	}
}
