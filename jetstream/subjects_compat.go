package jetstream

import "strings"

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
