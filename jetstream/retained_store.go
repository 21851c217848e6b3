package jetstream

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// RetainedStore keeps the retained message of each topic in a KV bucket: key a.b for topic a/b, the payload as the value,
// attributes as headers. What nodes write says where it stood in the log; what does not is somebody else's. Safe for
// concurrent use.
type RetainedStore struct {
	config    *Config
	nc        *nats.Conn
	js        natsjs.JetStream
	publisher writer
	reader    streamReader
	stats     *Stats
	own       ownRevisions
}

var _ sessions.RetainedStore = (*RetainedStore)(nil)

func (s *RetainedStore) subjectPrefix() string { return "$KV." + s.config.Names.RetainedBucket + "." }

func (s *RetainedStore) stream() string { return bucketStream(s.config.Names.RetainedBucket) }

// Put implements sessions.RetainedStore.
func (s *RetainedStore) Put(e sessions.Entry, expect uint64, to sessions.Sink, token uint64) {
	m, key := e.Message, KeyFromTopic(e.Message.Topic)
	w := write{
		stream: s.stream(), subject: s.subjectPrefix() + key,
		to: &retainedSink{s, to}, token: token,
	}
	if len(m.Payload) == 0 { // [MQTT-3.3.1-6]
		w.header = nats.Header{headerKVOperation: {"PURGE"}, headerTTL: {ttl(s.config.TombstoneTTL)}}
	} else {
		w.header, w.data = encodeMessage(m)
		w.header = s.header(e, key, w.header)
	}
	w.header[headerLogSequence] = []string{strconv.FormatUint(e.Sequence, 10)}
	s.publisher.publish(w.expecting(expect))
}

// retainedSink notes what of the bucket this node wrote, and tells who asked for it.
type retainedSink struct {
	store *RetainedStore
	to    sessions.Sink
}

// Stored implements sessions.Sink.
func (r *retainedSink) Stored(res sessions.Result) {
	if res.Err == nil {
		r.store.own.add(res.Sequence)
	}
	r.to.Stored(res)
}

// header adds to a message's header where it stood in the log, and the topic when the key does not tell it.
func (s *RetainedStore) header(e sessions.Entry, key string, h nats.Header) nats.Header {
	m := e.Message
	if h == nil {
		h = make(nats.Header, 3)
	}
	at := e.Time
	if at.IsZero() {
		at = m.PublishedAt
	}
	h[headerLogTime] = []string{at.UTC().Format(time.RFC3339Nano)}
	if strings.Contains(key, hashMark) {
		h[headerTopic] = []string{escapeValue(m.Topic)}
	}
	if m.Properties.MessageExpirySeconds.Present {
		deadline := m.PublishedAt.Add(time.Duration(m.Properties.MessageExpirySeconds.Value) * time.Second)
		h[headerTTL] = []string{ttl(max(time.Until(deadline), time.Second))}
	}
	return h
}

// Load implements sessions.RetainedStore.
func (s *RetainedStore) Load(ctx context.Context, topic string) (sessions.Retained, error) {
	key := KeyFromTopic(topic)
	m, err := s.reader.get(ctx, getRequest{LastFor: s.subjectPrefix() + key})
	switch {
	case errors.Is(err, sessions.ErrNotFound):
		return sessions.Retained{}, nil
	case err != nil:
		return sessions.Retained{}, err
	case m.ended():
		return sessions.Retained{Revision: m.sequence}, nil
	}
	return s.retained(topic, m), nil
}

// Each implements sessions.RetainedStore.
func (s *RetainedStore) Each(ctx context.Context, visit func(sessions.Retained)) (revision uint64, err error) {
	info, err := s.info(ctx)
	if err != nil {
		return 0, err
	}
	err = s.scan(ctx, 1, everything, func(w sessions.Retained) {
		if w.Message != nil && (len(w.Message.Payload) > 0 || w.Foreign()) {
			visit(w)
		}
	})
	return info.State.LastSeq, err
}

func (s *RetainedStore) info(ctx context.Context) (*natsjs.StreamInfo, error) {
	stream, err := s.js.Stream(ctx, s.stream())
	if err != nil {
		return nil, clientErr(err)
	}
	return stream.CachedInfo(), nil
}

// scan visits the writes of revisions in [from, upTo] that are still the last of their keys, in order. Those that tell nothing
// come without message.
func (s *RetainedStore) scan(ctx context.Context, from, upTo uint64, visit func(sessions.Retained)) error {
	prefix := s.subjectPrefix()
	return s.reader.scan(ctx, prefix+">", from, upTo, func(m storedMessage) error {
		w := sessions.Retained{Revision: m.sequence}
		if !m.ended() {
			if topic, ok := topicOfKey(strings.TrimPrefix(m.subject, prefix), m.header); ok {
				w = s.retained(topic, m)
			} else {
				s.invalidKey(m)
			}
		}
		visit(w)
		return nil
	})
}

// invalidKey counts a key of the bucket that stands for no topic.
func (s *RetainedStore) invalidKey(m storedMessage) {
	if _, ours := headerValue(m.header, headerLogSequence); ours && m.deleted() {
		return // of a topic with a hashed key
	}
	if n := s.stats.InvalidRetained.Add(1); telling(n, 1) {
		s.config.Logger.Warn("the key of a retained message is that of no topic; it is passed over", "subject", m.subject, "so_far", n)
	}
}

// topicOfKey is the topic that a key stands for. A hashed key needs a header which says that.
func topicOfKey(key string, h nats.Header) (string, bool) {
	if topic, ok := TopicFromKey(key); ok {
		return topic, true
	}
	v, hashed := headerValue(h, headerTopic)
	if !hashed {
		return "", false
	}
	topic, ok := unescape(v)
	return topic, ok && validTopic(topic) && KeyFromTopic(topic) == key
}

// retained is what a stored message of the bucket says about a topic.
func (s *RetainedStore) retained(topic string, m storedMessage) sessions.Retained {
	w := sessions.Retained{Revision: m.sequence}
	w.Time = m.time.UTC()
	if v, found := headerValue(m.header, headerLogSequence); found {
		w.Sequence, _ = strconv.ParseUint(v, 10, 64) // one that makes no sense is not ours
	}
	if v, found := headerValue(m.header, headerLogTime); found && w.Sequence > 0 {
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			w.Time = at.UTC()
		}
	}
	w.Message = &sessions.Message{Topic: topic, Retain: true, PublishedAt: w.Time}
	if m.deleted() {
		return w
	}
	if invalid := decodeMessage(m.header, m.data, w.Message); invalid > 0 {
		if n := s.stats.InvalidHeaders.Add(invalid); telling(n, invalid) {
			s.config.Logger.Warn("headers of a retained message make no sense; they are passed over", "topic", topic, "revision", m.sequence, "so_far", n)
		}
	}
	w.Message.Retain = true
	if expiry := &w.Message.Properties.MessageExpirySeconds; w.Foreign() && !expiry.Present { // it ends when the bucket forgets it
		if seconds, ok := ttlSeconds(m.header); ok {
			*expiry = mqttcodec.Some(seconds)
		}
	}
	return w
}

// ttlSeconds reads how long the bucket keeps a message, in either form that the server takes.
func ttlSeconds(h nats.Header) (uint32, bool) {
	v, found := headerValue(h, headerTTL)
	if !found {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(v, 10, 32); err == nil {
		return uint32(seconds), seconds > 0
	}
	d, err := time.ParseDuration(v)
	seconds := (d + time.Second - 1) / time.Second
	return uint32(seconds), err == nil && seconds > 0 && seconds < 1<<32
}
