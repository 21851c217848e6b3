package jetstream

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// subjectCacheSlots is how many topics a cache remembers at most. Each may have MaxSubject bytes, and its subject as many.
const subjectCacheSlots = 512

// subjectCache remembers the subjects of topics that were published to lately: most are published to again and again, and to
// make a subject takes as long as to hand the message to the connection. A topic takes the place of whichever had its slot.
// Safe for concurrent use.
type subjectCache struct {
	mapping Mapping
	prefix  string
	seed    maphash.Seed
	slots   [subjectCacheSlots]atomic.Pointer[cachedSubject]
}

type cachedSubject struct{ topic, subject string }

func newSubjectCache(mapping Mapping, prefix string) *subjectCache {
	return &subjectCache{mapping: mapping, prefix: prefix, seed: maphash.MakeSeed()}
}

// subject is the subject of a topic with the prefix in front. The error is ErrTopicTooLong or ErrTopicUnmapped.
func (c *subjectCache) subject(topic string) (string, error) {
	slot := &c.slots[maphash.String(c.seed, topic)%subjectCacheSlots]
	if known := slot.Load(); known != nil && known.topic == topic {
		return known.subject, nil
	}
	known, err := c.newSubject(topic)
	if err != nil {
		return "", err
	}
	slot.Store(known)
	return known.subject, nil
}

// newSubject is the subject of a topic that is not remembered.
func (c *subjectCache) newSubject(topic string) (*cachedSubject, error) {
	subject, err := c.mapping.stored(topic)
	if err != nil {
		return nil, err
	}
	return &cachedSubject{topic: strings.Clone(topic), subject: c.prefix + subject}, nil // the topic may lie in a larger buffer
}

// stored is Subject for a topic that is to be stored. The error is ErrTopicTooLong or ErrTopicUnmapped.
func (m Mapping) stored(topic string) (string, error) {
	subject, ok := m.Subject(topic)
	switch {
	case !ok:
		return "", fmt.Errorf("%w %s", ErrTopicUnmapped, m)
	case len(subject) > MaxSubject:
		return "", fmt.Errorf("%w: %d bytes", ErrTopicTooLong, len(subject))
	}
	return subject, nil
}
