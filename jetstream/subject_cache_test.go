package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// The cache answers as if it were none, also when more topics are used than it has slots, by many at once.
func TestSubjectCacheChangesNoSubject(t *testing.T) {
	c := newSubjectCache(MappingDefault, "mqtt.")
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() {
			for round := range 3 {
				for i := range 2 * subjectCacheSlots {
					topic := fmt.Sprintf("a/%d/b.%d", i, user%2)
					if subject, err := c.subject(topic); err != nil || subject != "mqtt."+defaultSubject(topic) {
						t.Errorf("round %d: %q became %q", round, topic, subject)
					}
				}
			}
		})
	}
	users.Wait()
	long := strings.Repeat("x", MaxSubject+1)
	for range 2 {
		if subject, err := c.subject(long); !errors.Is(err, ErrTopicTooLong) {
			t.Errorf("a topic of %d bytes became %q, error %v", len(long), subject, err)
		}
	}
	compat := newSubjectCache(MappingNATSCompat, "mqtt.")
	for range 2 {
		if subject, err := compat.subject("a.b/c"); err != nil || subject != "mqtt.a//b.c" {
			t.Errorf("%q, error %v", subject, err)
		}
		if subject, err := compat.subject("a b"); !errors.Is(err, ErrTopicUnmapped) {
			t.Errorf("%q, error %v", subject, err)
		}
	}
}
