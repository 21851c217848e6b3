package jetstream

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

// topicRunes favours what the mapping has to take care of.
var topicRunes = []rune("aab/./*>= =\x01\x1f\x7f$_-éß漢🐦Z09AF\u0085")

// topics are topic names as clients may send them.
func topics() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom(topicRunes), 1, 24, -1),
		rapid.String(),
	).Filter(validTopic)
}

// filters are topic filters made of few levels, so that they meet topics.
func filters() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "+", "é", "a.b", "*", ">", "="}), 1, 5).Draw(t, "levels")
		if rapid.Bool().Draw(t, "multi") {
			levels = append(levels, "#")
		}
		if filter := strings.Join(levels, "/"); filter != "" {
			return filter
		}
		return "#"
	})
}

// meetingTopics are topics that filters meets often.
func meetingTopics() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "é", "a.b", "*", ">", "="}), 1, 6).Draw(t, "levels")
		return strings.Join(levels, "/")
	}).Filter(validTopic)
}

func TestSubjectsOfKnownTopics(t *testing.T) {
	for topic, subject := range map[string]string{
		"a":                  "a",
		"a/b":                "a.b",
		"sensor/1/temp":      "sensor.1.temp",
		"/":                  "=00.=00",
		"/a":                 "=00.a",
		"a/":                 "a.=00",
		"a//b":               "a.=00.b",
		"a.b/c":              "a=2Eb.c",
		"a b":                "a=20b",
		"=00":                "=3D00",
		"*/>":                "=2A.=3E",
		"a\tb\x7f":           "a=09b=7F",
		"$SYS/x":             "$SYS.x",
		"größe/漢字":           "größe.漢字",
		"$share/g/a":         "$share.g.a",
		"a-b_c/(d)&e%20;'\"": "a-b_c.(d)&e%20;'\"",
	} {
		if got := defaultSubject(topic); got != subject {
			t.Errorf("subject of %q is %q, want %q", topic, got, subject)
		}
		if got, ok := defaultTopic(subject); !ok || got != topic {
			t.Errorf("topic of %q is %q %v, want %q", subject, got, ok, topic)
		}
	}
}

func TestSubjectsThatAreNoTopic(t *testing.T) {
	for _, subject := range []string{
		"", ".", "a.", ".a", "a..b", "a/b", "a+b", "a.#", "a=2eb", "a=2", "a=", "a=41", "a=2F", "=00b", "b=00", "a b", "a\x01",
		"a.*", "a.>", "\xff", "a=XX", "a\x00", "=", "a=C3=A9",
	} {
		if topic, ok := defaultTopic(subject); ok {
			t.Errorf("%q was taken for topic %q", subject, topic)
		}
	}
}

func TestTopicKeyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topic := topics().Draw(t, "topic")
		key := KeyFromTopic(topic)
		if strings.Trim(key, tokenAlphabet+"=.") != "" || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") || strings.Contains(key, "..") {
			t.Fatalf("%q is no KV key", key)
		}
		if back, ok := TopicFromKey(key); !ok || back != topic {
			t.Fatalf("%q became %q, which became %q %v", topic, key, back, ok)
		}
	})
}

func TestLongTopicsGetHashedKeys(t *testing.T) {
	topic := strings.Repeat("é/", 500)
	if len(defaultSubject(topic)) > MaxSubject {
		t.Fatal("the topic should fit the log")
	}
	key := KeyFromTopic(topic)
	if len(key) > MaxSubject {
		t.Fatalf("key has %d bytes", len(key))
	}
	if got, ok := TopicFromKey(key); ok {
		t.Fatalf("a hashed key was taken for %q", got)
	}
	if key == KeyFromTopic(topic+"x") {
		t.Fatal("two topics share a key")
	}
}

// matches is MQTT's rule without that for "$". [MQTT-4.7.1-1] [MQTT-4.7.1-2]
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t):
			return false
		case level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

// subjectMatches is the server's own rule.
func subjectMatches(subjects []string, subject string) bool {
	return slices.ContainsFunc(subjects, func(s string) bool { return server.SubjectsCollide(s, subject) })
}

func TestFilterMatchesAsItsSubjectsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter := filters().Draw(t, "filter")
		topic := rapid.OneOf(meetingTopics(), topics()).Draw(t, "topic")
		subjects := defaultSubjects(filter)
		if got, want := subjectMatches(subjects, defaultSubject(topic)), matches(filter, topic); got != want {
			t.Fatalf("filter %q, topic %q: MQTT %v, subjects %q %v", filter, topic, want, subjects, got)
		}
	})
}

func TestQueueSubjectsCoverTheirFilters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(filters(), 1, 8).Draw(t, "filters")
		topic := meetingTopics().Draw(t, "topic")
		subjects := MappingDefault.queueSubjects(all)
		want := slices.ContainsFunc(all, func(f string) bool { return matches(f, topic) })
		if got := subjectMatches(subjects, defaultSubject(topic)); got != want {
			t.Fatalf("filters %q, topic %q: %v, subjects %q: %v", all, topic, want, subjects, got)
		}
		for i, a := range subjects {
			for j, b := range subjects {
				if i != j && server.SubjectMatchesFilter(a, b) {
					t.Fatalf("%q is a subset of %q", a, b)
				}
			}
		}
	})
}

func TestQueueSubjectsAreBounded(t *testing.T) {
	distinct := func(n int, format func(i int) string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = format(i)
		}
		return all
	}
	number := func(i int) string {
		return strings.Repeat("x", i%50+1) + string(rune('a'+i%26)) + strings.Repeat("y", i/50)
	}
	for name, c := range map[string]struct {
		filters []string
		want    int
	}{
		"few":             {distinct(64, func(i int) string { return "d/" + number(i) }), 64},
		"one prefix":      {distinct(65, func(i int) string { return "d/" + number(i) + "/cmd" }), 1},
		"deep":            {distinct(1000, func(i int) string { return "a/b/c/" + number(i) + "/e/f" }), 1},
		"nothing shared":  {distinct(10000, func(i int) string { return number(i) + "/a" }), 1},
		"everything":      {append(distinct(5000, func(i int) string { return number(i) + "/a" }), "#"), 1},
		"same many times": {distinct(5000, func(int) string { return "a/b" }), 1},
	} {
		subjects := MappingDefault.queueSubjects(c.filters)
		if len(subjects) != c.want {
			t.Errorf("%s: %d subjects, want %d", name, len(subjects), c.want)
		}
		for _, f := range c.filters {
			topic := strings.NewReplacer("#", "x", "+", "x").Replace(f)
			if !subjectMatches(subjects, defaultSubject(topic)) {
				t.Fatalf("%s: %q is not covered", name, f)
			}
		}
	}
}

func TestTokenIsInjectiveAndShort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.String(), rapid.StringN(0, 300, -1), rapid.StringMatching(`[a-z=.-]{0,210}`))
		a, b := strings.ReplaceAll(id.Draw(t, "a"), "\x00", ""), strings.ReplaceAll(id.Draw(t, "b"), "\x00", "") // [MQTT-1.5.4-2]
		tokenA, tokenB := EncodeToken(a), EncodeToken(b)
		if len(tokenA) > maxToken || strings.Trim(tokenA, tokenAlphabet+"=") != "" || tokenA == "" {
			t.Fatalf("%q is no token", tokenA)
		}
		if a != b && tokenA == tokenB {
			t.Fatalf("%q and %q share %q", a, b, tokenA)
		}
	})
}
