package jetstream

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// RetainedStore keeps the retained message of each topic in a KV bucket: key a.b for topic a/b, the payload as the value,
// attributes as headers. Safe for concurrent use.
type RetainedStore struct {
	config    *Config
	publisher writer
	reader    streamReader
	stats     *Stats
}

var _ sessions.RetainedStore = (*RetainedStore)(nil)

func (s *RetainedStore) subjectPrefix() string { return "$KV." + s.config.Names.RetainedBucket + "." }

// Put implements sessions.RetainedStore.
func (s *RetainedStore) Put(e sessions.Entry, to sessions.Sink, token uint64) {
	m := e.Message
	w := write{
		stream: bucketStream(s.config.Names.RetainedBucket), subject: s.subjectPrefix() + KeyFromTopic(m.Topic),
		to: to, token: token,
	}
	if len(m.Payload) == 0 { // [MQTT-3.3.1-6]
		w.header = nats.Header{headerKVOperation: {"PURGE"}, headerTTL: {ttl(s.config.TombstoneTTL)}}
	} else {
		w.header, w.data = encodeMessage(m)
		w.header = s.header(e, w.header)
	}
	w.header[headerLogSequence] = []string{strconv.FormatUint(e.Sequence, 10)}
	s.publisher.publish(w)
}

// header adds to a message's header where it stood in the log.
func (s *RetainedStore) header(e sessions.Entry, h nats.Header) nats.Header {
	m := e.Message
	if h == nil {
		h = make(nats.Header, 2)
	}
	h[headerLogTime] = []string{m.PublishedAt.UTC().Format(time.RFC3339Nano)}
	if _, plain := TopicFromKey(KeyFromTopic(m.Topic)); !plain {
		h[headerTopic] = []string{escapeValue(m.Topic)}
	}
	if m.Properties.MessageExpirySeconds.Present {
		deadline := m.PublishedAt.Add(time.Duration(m.Properties.MessageExpirySeconds.Value) * time.Second)
		h[headerTTL] = []string{ttl(max(time.Until(deadline), time.Second))}
	}
	return h
}

// Each implements sessions.RetainedStore.
func (s *RetainedStore) Each(ctx context.Context, visit func(sessions.Entry)) error {
	prefix := s.subjectPrefix()
	return s.reader.scan(ctx, prefix+">", 1, everything, func(m storedMessage) error {
		if m.deleted() {
			return nil
		}
		e, ok := s.entry(strings.TrimPrefix(m.subject, prefix), m)
		if !ok {
			if n := s.stats.InvalidRetained.Add(1); telling(n, 1) {
				s.config.Logger.Warn("a retained message is not ours or damaged; it is passed over", "subject", m.subject, "so_far", n)
			}
			return nil
		}
		visit(e)
		return nil
	})
}

// entry is a stored retained message as the entry of the log that it was.
func (s *RetainedStore) entry(key string, m storedMessage) (e sessions.Entry, ok bool) {
	topic, ok := TopicFromKey(key)
	if v, hashed := headerValue(m.header, headerTopic); !ok && hashed {
		topic, ok = unescape(v)
		ok = ok && validTopic(topic) && KeyFromTopic(topic) == key
	}
	if !ok {
		return e, false
	}
	e.Time = m.time.UTC()
	if v, found := headerValue(m.header, headerLogTime); found {
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			e.Time = at.UTC()
		}
	}
	if v, found := headerValue(m.header, headerLogSequence); found {
		e.Sequence, _ = strconv.ParseUint(v, 10, 64) // 0 when it makes no sense: then anything in the log is newer
	}
	e.Message = &sessions.Message{Topic: topic, PublishedAt: e.Time}
	if invalid := decodeMessage(m.header, m.data, e.Message); invalid > 0 {
		s.stats.InvalidHeaders.Add(invalid)
	}
	e.Message.Retain = true
	return e, true
}
