package mqttcodec

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValidateTopicName(t *testing.T) {
	for _, s := range []string{"a", "/", "a/b", " ", "$SYS/x", "\x01", "\u00e9\u0301", strings.Repeat("a", 65535)} {
		if err := ValidateTopicName(s); err != nil {
			t.Errorf("%.20q: %v", s, err)
		}
	}
	for _, c := range []struct {
		topic  string
		reason ReasonCode
		clause string
	}{
		{"", TopicNameInvalid, "MQTT-4.7.3-1"},
		{"a/+", TopicNameInvalid, "MQTT-3.3.2-2"},
		{"#", TopicNameInvalid, "MQTT-3.3.2-2"},
		{"a#", TopicNameInvalid, "MQTT-3.3.2-2"},
		{"a\x00", MalformedPacket, "MQTT-4.7.3-2"},
		{"\x00", MalformedPacket, "MQTT-4.7.3-2"},
		{"\xff", MalformedPacket, "MQTT-1.5.4-1"},
		{"\xed\xa0\x80", MalformedPacket, "MQTT-1.5.4-1"},
		{strings.Repeat("a", 65536), TopicNameInvalid, "MQTT-4.7.3-3"},
	} {
		checkRefusal(t, ValidateTopicName(c.topic), c.reason, c.clause)
	}
}

func TestValidateTopicFilter(t *testing.T) {
	for _, s := range []string{
		"a", "/", "#", "+", "+/+", "a/#", "/#", "+/#", "a/+/b", "//", "$SYS/#", "$share", "$shared/x",
		"$share/g/a", "$share/g/#", "$share/g//", "$share/g/+/a", "$share/$share/$share/a",
	} {
		if err := ValidateTopicFilter(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, c := range []struct {
		filter string
		reason ReasonCode
		clause string
	}{
		{"", TopicFilterInvalid, "MQTT-4.7.3-1"},
		{"a#", TopicFilterInvalid, "MQTT-4.7.1-1"},
		{"#/a", TopicFilterInvalid, "MQTT-4.7.1-1"},
		{"a/#/b", TopicFilterInvalid, "MQTT-4.7.1-1"},
		{"a/##", TopicFilterInvalid, "MQTT-4.7.1-1"},
		{"+#", TopicFilterInvalid, "MQTT-4.7.1-1"},
		{"#/", TopicFilterInvalid, "MQTT-4.7.1-1"},
		{"+a", TopicFilterInvalid, "MQTT-4.7.1-2"},
		{"a/b+", TopicFilterInvalid, "MQTT-4.7.1-2"},
		{"++", TopicFilterInvalid, "MQTT-4.7.1-2"},
		{"a\x00", MalformedPacket, "MQTT-4.7.3-2"},
		{"\xc0\x80", MalformedPacket, "MQTT-1.5.4-1"},
		{strings.Repeat("a", 65536), TopicFilterInvalid, "MQTT-4.7.3-3"},
		{"$share/", TopicFilterInvalid, "MQTT-4.8.2-1"},
		{"$share//f", TopicFilterInvalid, "MQTT-4.8.2-1"},
		{"$share/+/f", TopicFilterInvalid, "MQTT-4.8.2-2"},
		{"$share/g#/f", TopicFilterInvalid, "MQTT-4.8.2-2"},
		{"$share/g", TopicFilterInvalid, "MQTT-4.8.2-2"},
		{"$share/g/", TopicFilterInvalid, "MQTT-4.8.2-2"},
		{"$share/g/a#", TopicFilterInvalid, "MQTT-4.7.1-1"},
	} {
		if err := ValidateTopicFilter(c.filter); err == nil {
			t.Errorf("%.20q passed", c.filter)
		} else {
			checkRefusal(t, err, c.reason, c.clause)
		}
	}
}

func TestSharedFilter(t *testing.T) {
	for _, c := range []struct {
		s, group, filter string
		ok               bool
	}{
		{"$share/g/a/b", "g", "a/b", true},
		{"$share/g//", "g", "/", true},
		{"$share/g/", "", "", false},
		{"$share/g", "", "", false},
		{"$share//a", "", "", false},
		{"$SHARE/g/a", "", "", false},
		{"a", "", "", false},
	} {
		if group, filter, ok := SharedFilter(c.s); group != c.group || filter != c.filter || ok != c.ok {
			t.Errorf("%q: got %q, %q, %t", c.s, group, filter, ok)
		}
	}
}

func TestMatchTopic(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/B", false}, // [MQTT-4.7.3-4]
		{"\u00e9", "e\u0301", false},
		{"a/#", "a", true}, // 4.7.1.2: the parent level too
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/#", "a/", true},
		{"#", "a", true},
		{"#", "/", true},
		{"+", "a", true},
		{"+", "/a", false}, // 4.7.1.3
		{"+/+", "/a", true},
		{"/+", "/a", true},
		{"/+", "x", false},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"+/#", "a", true},
		{"a/+/#", "a", false},
		{"a/+/#", "a/b", true},
		{"a", "a/", false},
		{"a/", "a", false},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"#", "$SYS/x", false}, // [MQTT-4.7.2-1]
		{"+", "$SYS", false},
		{"+/x", "$SYS/x", false},
		{"#", "$", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/+", "$SYS/x", true},
		{"$SYS/#", "$SYS", true},
		{"a/+", "a/$b", true},
		{"a/#", "a/$b", true},
	} {
		if got := MatchTopic(c.filter, c.topic); got != c.want {
			t.Errorf("%q, %q: got %t", c.filter, c.topic, got)
		}
	}
}

// matchLevels says what 4.7.1 says, level by level.
func matchLevels(filter, topic []string) bool {
	switch {
	case len(filter) > 0 && filter[0] == "#":
		return true
	case len(filter) == 0 || len(topic) == 0:
		return len(filter) == len(topic)
	}
	return (filter[0] == "+" || filter[0] == topic[0]) && matchLevels(filter[1:], topic[1:])
}

func TestMatchTopicAgreesWithItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		levels := func(of []string, what string) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(of), 1, 4).Draw(t, what), "/")
		}
		topic := levels([]string{"", "a", "b", "$x"}, "topic")
		filter := levels([]string{"", "a", "b", "$x", "+", "+", "#"}, "filter")
		if topic == "" || ValidateTopicFilter(filter) != nil {
			return
		}
		want := matchLevels(strings.Split(filter, "/"), strings.Split(topic, "/"))
		if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') { // [MQTT-4.7.2-1]
			want = false
		}
		if got := MatchTopic(filter, topic); got != want {
			t.Fatalf("%q, %q: got %t", filter, topic, got)
		}
	})
}
