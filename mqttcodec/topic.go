package mqttcodec

import (
	"math"
	"strings"
	"unicode/utf8"
)

// ValidateTopicName reports a *ProtocolError for a topic name that is empty, too long, not UTF-8, or has U+0000 or a wildcard.
func ValidateTopicName(s string) error {
	if err := checkTopicText(s, TopicNameInvalid); err != nil {
		return err
	}
	if hasWildcard(s) {
		return wildcardInTopic()
	}
	return nil
}

// ValidateTopicFilter reports a *ProtocolError for a topic filter that is empty, too long, not UTF-8, has U+0000, a
// wildcard in the wrong place, or begins with $share/ and is no shared subscription.
func ValidateTopicFilter(s string) error {
	if err := checkTopicText(s, TopicFilterInvalid); err != nil {
		return err
	}
	if !strings.HasPrefix(s, sharePrefix) {
		return checkWildcards(s)
	}
	group, filter, _ := strings.Cut(s[len(sharePrefix):], "/")
	switch {
	case group == "":
		return invalidFilter("MQTT-4.8.2-1", "share name is empty")
	case hasWildcard(group):
		return invalidFilter("MQTT-4.8.2-2", "share name has a wildcard")
	case filter == "":
		return invalidFilter("MQTT-4.8.2-2", "no topic filter behind the share name")
	}
	return checkWildcards(filter)
}

const sharePrefix = "$share/"

// SharedFilter splits $share/<group>/<filter>; ok is false for every other filter. (4.8.2)
func SharedFilter(s string) (group, filter string, ok bool) {
	rest, ok := strings.CutPrefix(s, sharePrefix)
	if !ok {
		return "", "", false
	}
	group, filter, _ = strings.Cut(rest, "/")
	if group == "" || filter == "" {
		return "", "", false
	}
	return group, filter, true
}

// MatchTopic reports whether a valid filter (without share name) matches a topic name. [MQTT-4.7.1-1] [MQTT-4.7.1-2]
func MatchTopic(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false // [MQTT-4.7.2-1]
	}
	for {
		filterLevel, filterRest, filterMore := strings.Cut(filter, "/")
		if filterLevel == "#" {
			return true
		}
		topicLevel, topicRest, topicMore := strings.Cut(topic, "/")
		if filterLevel != "+" && filterLevel != topicLevel { // character by character [MQTT-4.7.3-4]
			return false
		}
		if !topicMore {
			return !filterMore || filterRest == "#" // a/# matches a too
		}
		if !filterMore {
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

// checkTopicText checks what topic names and filters have in common. [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]
func checkTopicText(s string, reason ReasonCode) error {
	switch {
	case s == "":
		return &ProtocolError{Reason: reason, Clause: "MQTT-4.7.3-1", Detail: "topic is empty"}
	case len(s) > math.MaxUint16:
		return &ProtocolError{Reason: reason, Clause: "MQTT-4.7.3-3", Detail: "topic is longer than 65,535 bytes"}
	case !utf8.ValidString(s):
		return malformed("MQTT-1.5.4-1", "topic is not UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return malformed("MQTT-4.7.3-2", "topic contains U+0000")
	}
	return nil
}

// checkWildcards reports a # that is not the whole last level, and a + that is not a whole level.
func checkWildcards(filter string) error {
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if !hasWildcard(level) {
			continue
		}
		if strings.Contains(level, "#") && (level != "#" || more) {
			return invalidFilter("MQTT-4.7.1-1", "# is not the whole last level")
		}
		if strings.Contains(level, "+") && level != "+" {
			return invalidFilter("MQTT-4.7.1-2", "+ is not a whole level")
		}
	}
	return nil
}

func hasWildcard(s string) bool {
	return strings.IndexByte(s, '+') >= 0 || strings.IndexByte(s, '#') >= 0
}

func wildcardInTopic() *ProtocolError {
	return &ProtocolError{Reason: TopicNameInvalid, Clause: "MQTT-3.3.2-2", Detail: "topic name has a wildcard"}
}

func invalidFilter(clause, detail string) error {
	return &ProtocolError{Reason: TopicFilterInvalid, Clause: clause, Detail: detail}
}
