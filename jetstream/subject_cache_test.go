package jetstream

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// The cache answers as if it were none, also when more topics are used than it has slots, by many at once.
func TestSubjectCacheChangesNoSubject(t *testing.T) {
	c := newSubjectCache("mqtt.")
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() {
			for round := range 3 {
				for i := range 2 * subjectCacheSlots {
					topic := fmt.Sprintf("a/%d/b.%d", i, user%2)
					if subject, fits := c.subject(topic); !fits || subject != "mqtt."+SubjectFromTopic(topic) {
						t.Errorf("round %d: %q became %q", round, topic, subject)
					}
				}
			}
		})
	}
	users.Wait()
	long := strings.Repeat("x", MaxSubject+1)
	for range 2 {
		if subject, fits := c.subject(long); fits || len(subject) != len(long) {
			t.Errorf("a topic of %d bytes became a subject of %d", len(long), len(subject))
		}
	}
}
