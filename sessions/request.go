package sessions

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"dunlin/mqttcodec"
)

const (
	replyPrefix   = "$reply/"
	requestPrefix = "$request/"
)

// sentRequest is a request that a client was sent and may answer.
type sentRequest struct {
	// token stands for who has asked. Only those who are sent the request know it.
	token string
	// topic is what was asked, until when an answer comes too late.
	topic string
	until time.Time
}

// ReplyTopic is where an answer is published: the Response Topic of a request.
func ReplyTopic(token string) string { return replyPrefix + token }

// ReplyTopicOf is the topic of a request for clients without response topics, who publish the answer to the very topic that
// the request has.
func ReplyTopicOf(m *Message) string { return m.Properties.ResponseTopic + "/" + m.Topic }

// ReservedTopic reports whether a topic is the server's own, so that what others publish to it is for no client. (4.7.2)
func ReservedTopic(topic string) bool {
	return len(topic) > 0 && topic[0] == '$' &&
		(strings.HasPrefix(topic, "$SYS/") || strings.HasPrefix(topic, sharedPrefix) || ExchangeTopic(topic))
}

// ExchangeTopic reports whether a topic or filter is one for requests and answers.
func ExchangeTopic(topic string) bool {
	return strings.HasPrefix(topic, replyPrefix) || strings.HasPrefix(topic, requestPrefix)
}

// RequestFilter is the topic filter of the requests that a filter asks for: "$reply/+/a/#" is that of "a/#". Other filters
// under $reply/ are for the answers to the session's own requests alone.
func RequestFilter(filter string) (asked string, ok bool) {
	return strings.CutPrefix(filter, replyPrefix+"+/")
}

// AnswersOnly reports whether a filter is for answers to the session itself.
func AnswersOnly(filter string) bool {
	_, requests := RequestFilter(filter)
	return strings.HasPrefix(filter, replyPrefix) && !requests
}

// askedTopic is the topic whose permissions count for a topic under $reply/: that of the request. An answer has none: it is
// addressed to the session.
func askedTopic(topic string) (asked string, ok bool) {
	_, asked, ok = strings.Cut(strings.TrimPrefix(topic, replyPrefix), "/")
	return asked, ok
}

// maxRequested and maxRequestedBytes bound the requests that a connection may have been sent and not answered, and their topics;
// the oldest are given up.
const (
	maxRequested      = 1024
	maxRequestedBytes = 256 << 10
)

// noteRequest notes that the client was sent a request, so that it may answer, once.
func (s *Session) noteRequest(now time.Time, m *Message, dst []Effect) []Effect {
	if s.version != mqttcodec.V5 && !ExchangeTopic(m.Topic) {
		return dst // it does not know how
	}
	for len(s.requested) > 0 && !s.requested[0].until.After(now) {
		s.requested = s.requested[1:]
	}
	r := sentRequest{strings.TrimPrefix(m.Properties.ResponseTopic, replyPrefix), m.Topic, m.PublishedAt.Add(s.cfg.RequestTimeout)}
	if ExchangeTopic(m.Topic) {
		r.topic, _ = askedTopic(m.Topic)
	}
	if slices.ContainsFunc(s.requested, func(other sentRequest) bool { return other.token == r.token }) {
		return dst // by another of its filters
	}
	bytes := len(r.topic)
	for _, other := range s.requested {
		bytes += len(other.topic)
	}
	for len(s.requested) >= maxRequested || len(s.requested) > 0 && bytes > maxRequestedBytes {
		bytes -= len(s.requested[0].topic)
		s.requested = s.requested[1:]
		dst = append(dst, Drop{Reason: DropRequestsFull, Count: 1})
	}
	s.requested = append(s.requested, r)
	return dst
}

// takeRequest finds the request that a topic answers, which nobody else can answer for this client again.
func (s *Session) takeRequest(now time.Time, topic string) (token string, ok bool) {
	token, rest, long := strings.Cut(strings.TrimPrefix(topic, replyPrefix), "/")
	i := slices.IndexFunc(s.requested, func(r sentRequest) bool { return r.token == token })
	if i < 0 || long && s.requested[i].topic != rest || !s.requested[i].until.After(now) {
		return "", false
	}
	s.requested = slices.Delete(s.requested, i, i+1)
	return token, true
}

// onExchange takes an answer ($reply/<token>) or a request ($request/<id>/<topic>) from the client, at any QoS: it goes on at
// QoS 0 at once and is in no log, so the acknowledgement says no more than that.
func (s *Session) onExchange(now time.Time, p *mqttcodec.Publish, m *Message, dst []Effect) []Effect {
	m.QoS, m.Retain, m.Publisher = 0, false, ""
	var effect Effect
	reason, drop := mqttcodec.Success, DropReason("")
	if rest, asks := strings.CutPrefix(m.Topic, requestPrefix); asks {
		id, topic, ok := strings.Cut(rest, "/")
		m.Topic = topic
		if id == "" || !ok || topic == "" {
			reason, drop = mqttcodec.TopicNameInvalid, DropRefused
		} else {
			reason, drop = s.publishRefusal(&s.identity, m)
		}
		effect = Ask{ID: id, Message: m}
	} else if token, ok := s.takeRequest(now, m.Topic); !ok {
		reason, drop = mqttcodec.NoMatchingSubscribers, DropNoRequest
	} else if m.Properties.PayloadFormat.Value == 1 && !utf8.Valid(m.Payload) {
		reason, drop = mqttcodec.PayloadFormatInvalid, DropRefused // (3.3.2.3.2)
	} else {
		effect = Answer{Token: token, Message: m}
	}
	if reason != mqttcodec.Success {
		return s.answerUnstored(now, p, reason, append(dst, Drop{Reason: drop, Count: 1}))
	}
	return s.answerUnstored(now, p, reason, append(dst, effect))
}

// onAnswered takes the answer to a request of this session, which nobody else is sent.
func (s *Session) onAnswered(now time.Time, in Answered, dst []Effect) []Effect {
	if s.state != stateConnected {
		return dst
	}
	d := delivery{entry: Entry{Message: in.Message}}
	wanted := false
	for _, sub := range s.subs.list {
		if sub.answers && mqttcodec.MatchTopic(sub.Filter, in.Message.Topic) {
			wanted = true
			if sub.Identifier > 0 {
				d.identifiers = append(d.identifiers, sub.Identifier)
			}
		}
	}
	switch {
	case !wanted:
		return append(dst, Drop{Reason: DropNoSubscription, Count: 1})
	case s.congested:
		return append(dst, Drop{Reason: DropSlowConsumer, Count: 1})
	}
	dst, _ = s.deliver(now, d, dst)
	return dst
}
