package sessions

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// Message is one MQTT Application Message. It is immutable once made and shared by every session that it is delivered to.
type Message struct {
	Topic   string
	Payload []byte
	// QoS is the quality of service it was published with.
	QoS mqttcodec.QoS
	// Retain is the retain flag it was published with.
	Retain bool
	// Request: others await an answer, on the Response Topic that the broker has made for it.
	Request    bool
	Properties mqttcodec.MessageProperties
	// PublishedAt is when the broker took it, or, where it was read from the log, when the log did: message expiry counts
	// from here.
	PublishedAt time.Time
	// Publisher is the client identifier of the publisher, set only where a No Local subscription of that client may meet
	// the message: it had one while publishing, or the message is retained. [MQTT-3.8.3-3]
	Publisher string
}

// Memory is about how many bytes the message brings along in memory: topic, payload and properties. All bounds in bytes count
// so, since a client may put as much into properties as into the payload.
func (m *Message) Memory() int { return len(m.Topic) + len(m.Payload) + m.Properties.Memory() }

// Expired reports whether the message's expiry interval has passed. [MQTT-3.3.2-5]
func (m *Message) Expired(now time.Time) bool {
	return m.Properties.MessageExpirySeconds.Present && m.remaining(now) <= 0
}

// remaining is the rest of the expiry interval.
func (m *Message) remaining(now time.Time) time.Duration {
	return m.PublishedAt.Add(time.Duration(m.Properties.MessageExpirySeconds.Value) * time.Second).Sub(now)
}

// Position is a place in the log: everything at or below Sequence is behind it. The zero value is before the first message.
type Position struct {
	// Shard is the log shard; there is one, 0, until there are more.
	Shard uint16 `json:"shard,omitempty"`
	// Sequence is the log sequence.
	Sequence uint64 `json:"sequence"`
	// Time is when the message at Sequence was stored, the zero time when unknown. A log that was cut or made
	// anew is recognized by another time at the same sequence. Of what this node appended itself it is the time at which it
	// heard that the message is stored, so it may be off by TimeTolerance.
	Time time.Time `json:"time,omitzero"`
}

// TimeTolerance is by how much the time of a position may be off. A log that was cut and goes on is behind a restart of its
// server: what takes a sequence again is younger than that.
const TimeTolerance = 2 * time.Second

// SameTime reports whether a message that was stored at t may be the one of this position, whose time is known.
func (p Position) SameTime(t time.Time) bool {
	return p.Time.Sub(t).Abs() <= TimeTolerance
}

// Entry is one message in the log.
type Entry struct {
	Position
	// Message is nil for an entry which does not decode as an MQTT message: it takes a place and is never delivered.
	Message *Message
	// ID is the identity under which the message was stored (see PublishID), empty for most.
	ID string
	// QueuedAfter is how many further messages wait behind this one in the queue it was read from; only Queue.Fetch sets it.
	QueuedAfter uint64
}

// cloneWill copies a will out of the packet that it came in, which it outlives.
func cloneWill(w *mqttcodec.Will) *mqttcodec.Will {
	if w == nil {
		return nil
	}
	clone := *w
	clone.Topic, clone.Payload = strings.Clone(w.Topic), bytes.Clone(w.Payload)
	p := &clone.Properties
	p.ContentType.Value = strings.Clone(p.ContentType.Value)
	p.ResponseTopic, p.CorrelationData = strings.Clone(p.ResponseTopic), bytes.Clone(p.CorrelationData)
	p.UserProperties = slices.Clone(p.UserProperties)
	for i, u := range p.UserProperties {
		p.UserProperties[i] = mqttcodec.UserProperty{Key: strings.Clone(u.Key), Value: strings.Clone(u.Value)}
	}
	return &clone
}
