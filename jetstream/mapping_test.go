package jetstream

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

func TestCompatSubjectsOfKnownTopics(t *testing.T) {
	for topic, subject := range map[string]string{
		"foo":               "foo",
		"/":                 "/./",
		"//":                "/././",
		"/foo":              "/.foo",
		"//foo":             "/./.foo",
		"foo/bar":           "foo.bar",
		"foo/bar/":          "foo.bar./",
		"foo//bar":          "foo./.bar",
		"foo////bar":        "foo./././.bar",
		".":                 "//",
		"..":                "////",
		"foo.":              "foo//",
		".foo":              "//foo",
		"foo./bar":          "foo//.bar",
		"foo/.bar":          "foo.//bar",
		"foo.//bar":         "foo//./.bar",
		"foo../bar/.":       "foo////.bar.//",
		"foo.bar///baz":     "foo//bar././.baz",
		"spBv1.0/g/NDATA/e": "spBv1//0.g.NDATA.e",
		"foo*/>bar":         "foo*.>bar",
		"**/>>":             "**.>>",
		"$SYS/x=y":          "$SYS.x=y",
		"größe/漢字\x01":      "größe.漢字\x01",
	} {
		if got, ok := MappingNATSCompat.Subject(topic); !ok || got != subject {
			t.Errorf("subject of %q is %q %v, want %q", topic, got, ok, subject)
		}
		if got, ok := MappingNATSCompat.Topic(subject); !ok || got != topic {
			t.Errorf("topic of %q is %q %v, want %q", subject, got, ok, topic)
		}
	}
}

func TestCompatHasNoSubjectForSomeTopics(t *testing.T) {
	for _, topic := range []string{"a b", " ", "a\tb", "a\nb", "a\rb", "a\fb", "a/b\x7f", "*", ">", "a/*", "*/a", "a/>/b", "a/ /b"} {
		if subject, ok := MappingNATSCompat.Subject(topic); ok || MappingNATSCompat.Represents(topic) {
			t.Errorf("%q became %q", topic, subject)
		}
		if !MappingDefault.Represents(topic) {
			t.Errorf("%q has no subject in the default mapping", topic)
		}
	}
}

func TestCompatSubjectsThatAreNoTopic(t *testing.T) {
	for _, subject := range []string{
		"", ".", "/", "a.", ".a", "a..b", "a/b", "a.b/", "a./b", "a.///", "a.+", "a.#", "a+", "a b", "a.*", "*", ">", "a.>.b", "a\x7f", "\xff", "a\x00", "a./-",
	} {
		if topic, ok := MappingNATSCompat.Topic(subject); ok {
			t.Errorf("%q was taken for topic %q", subject, topic)
		}
	}
}

func TestMappingRoundTrip(t *testing.T) {
	for _, m := range Mappings() {
		t.Run(string(m), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				topic := topics().Draw(t, "topic")
				subject, ok := m.Subject(topic)
				if ok != m.Represents(topic) {
					t.Fatalf("%q: subject %q %v, represented %v", topic, subject, ok, m.Represents(topic))
				}
				if !ok {
					return
				}
				if !server.IsValidLiteralSubject(subject) || strings.ContainsAny(subject, " \t\r\n\f\x7f") {
					t.Fatalf("%q is no literal subject", subject)
				}
				if m == MappingDefault && strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' }) {
					t.Fatalf("%q holds a control character", subject)
				}
				if back, ok := m.Topic(subject); !ok || back != topic {
					t.Fatalf("%q became %q, which became %q %v", topic, subject, back, ok)
				}
			})
		})
	}
}

func TestMappedSubjectHasOneTopic(t *testing.T) {
	for _, m := range Mappings() {
		t.Run(string(m), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				subject := rapid.StringOfN(rapid.SampledFrom([]rune("aab//..=02E+#>* \x01é")), 0, 12, -1).Draw(t, "subject")
				topic, ok := m.Topic(subject)
				if !ok {
					return
				}
				if back, ok := m.Subject(topic); !ok || back != subject {
					t.Fatalf("%q was taken for %q, whose subject is %q %v", subject, topic, back, ok)
				}
			})
		})
	}
}

// A filter that is not represented is among them: it comes from a session of another time.
func TestMappedFilterMatchesAsItsSubjectsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter := filters().Draw(t, "filter")
		topic := rapid.OneOf(meetingTopics(), topics()).Filter(MappingNATSCompat.Represents).Draw(t, "topic")
		subject, _ := MappingNATSCompat.Subject(topic)
		subjects := MappingNATSCompat.Subjects(filter)
		if got, want := subjectMatches(subjects, subject), matches(filter, topic); got != want {
			t.Fatalf("filter %q, topic %q: MQTT %v, subjects %q %v", filter, topic, want, subjects, got)
		}
		queue := MappingNATSCompat.queueSubjects([]string{filter, "b/+"})
		if want := matches(filter, topic) || matches("b/+", topic); subjectMatches(queue, subject) != want {
			t.Fatalf("filter %q, topic %q: MQTT %v, subjects %q", filter, topic, want, queue)
		}
	})
}

func FuzzMappings(f *testing.F) {
	for _, seed := range []string{"a.b", "a/b", "/", "a//b", "./.", "a./", "a b/*", "a./-", "=00", "a=2Eb", "a=", "=3D=2A", "\xff=00", "a..b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if topic, ok := TopicFromKey(s); ok && len(s) <= MaxSubject && KeyFromTopic(topic) != s {
			t.Fatalf("key %q was taken for %q", s, topic)
		}
		for _, m := range Mappings() {
			if topic, ok := m.Topic(s); ok {
				if subject, ok := m.Subject(topic); !ok || subject != s {
					t.Fatalf("%s: subject %q was taken for %q", m, s, topic)
				}
			}
			if !validTopic(s) {
				continue
			}
			subject, ok := m.Subject(s)
			if ok != m.Represents(s) || m == MappingDefault && !ok {
				t.Fatalf("%s: topic %q became %q %v", m, s, subject, ok)
			}
			if topic, back := m.Topic(subject); ok && (!back || topic != s) {
				t.Fatalf("%s: topic %q became %q", m, s, topic)
			}
			if ok && !server.IsValidLiteralSubject(subject) {
				t.Fatalf("%s: topic %q became %q, which is no literal subject", m, s, subject)
			}
		}
	})
}

func TestNamesThatOverlapAreRefused(t *testing.T) {
	for _, c := range []struct{ prefix, live, fault string }{
		{"mqtt", "mqtt0", ""},
		{"acme.mqtt", "acme.mqtt0", ""},
		{"acme.mqtt", "acme.live", ""},
		{"MQTT", "mqtt", ""},
		{"mqtt_journal2", "dunlin2", ""},
		{"mqtt", "mqtt", "subjects mqtt.> of the log and mqtt.> of live messages overlap"},
		{"mqtt", "mqtt.live", "mqtt.live.> of live messages overlap"},
		{"a.b.c", "a", "subjects a.b.c.> of the log and a.> of live messages overlap"},
		{"mqtt_journal", "mqtt0", "mqtt_journal.> of journals overlap"},
		{"mqtt", "mqtt_checkpoint.x", "mqtt_checkpoint.> of checkpoints overlap"},
		{"dunlin", "mqtt0", "dunlin.> of events and control overlap"},
		{"mqtt", "dunlin.event", "dunlin.> of events and control overlap"},
		{"_INBOX", "mqtt0", "_INBOX.> are among those of NATS itself"},
		{"mqtt", "_R_.x", "_R_.x.> are among those of NATS itself"},
		{"$SYS", "mqtt0", `"$SYS" is not made of tokens`},
		{"", "mqtt0", `"" is not made of tokens`},
		{"a..b", "mqtt0", `"a..b" is not made of tokens`},
		{"mqtt", "a.", `"a." is not made of tokens`},
		{"mqtt", "a.*", `"a.*" is not made of tokens`},
		{"mqtt", "a b", `"a b" is not made of tokens`},
		{strings.Repeat("a", 101), "mqtt0", "at most 100 bytes"},
	} {
		names := DefaultConfig().Names
		names.Subjects, names.LiveSubjects = c.prefix, c.live
		switch err := names.Validate(); {
		case c.fault == "" && err != nil:
			t.Errorf("%s and %s: %v", c.prefix, c.live, err)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%s and %s: error %v, want %s", c.prefix, c.live, err, c.fault)
		}
	}
}

func TestUnknownMappingIsRefused(t *testing.T) {
	c := DefaultConfig()
	c.Mapping = "mqtt"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "[default nats-compat]") {
		t.Errorf("error %v", err)
	}
	if !slices.Contains(Mappings(), DefaultConfig().Mapping) {
		t.Error("the default is none")
	}
}
