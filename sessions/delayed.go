package sessions

import (
	"context"
	"strconv"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// delayedPrefix begins a topic that is published to later: "$delayed/{seconds}/{topic}".
const delayedPrefix = "$delayed/"

// MaxDelay is the longest delay that can be configured: the longest that clients of other brokers know.
const MaxDelay = 4_294_967 * time.Second

// Delayed keeps the messages that are to be published later. A message is due when its delay has passed since it was
// stored. All methods are safe for concurrent use.
type Delayed interface {
	// Put stores a message until it is due, in whole seconds. Like Log.Append it keeps the order of calls of one goroutine,
	// sends the result, once, to the sink, and stores an id that is not empty once within the duplicate window. When the
	// store is full the result is ErrRejected.
	Put(m *Message, delay time.Duration, id string, to Sink, token uint64)
	// Each visits what is stored, in the order in which it was, without the messages.
	Each(ctx context.Context, visit func(DelayedEntry)) error
	// Follow hands over what was stored after a sequence, whoever has stored it, and what comes, until ctx ends; then it
	// returns nil. It survives a loss of the storage connection; deliver may see an entry again.
	Follow(ctx context.Context, after uint64, deliver func(DelayedEntry)) error
	// Load reads messages. Those that are gone, or are none, are left out of the result.
	Load(ctx context.Context, sequences []uint64) (map[uint64]DelayedMessage, error)
	// Remove forgets messages, and returns those that were there. With an error, others may have been removed too.
	Remove(ctx context.Context, sequences []uint64) (removed []uint64, err error)
}

// DelayedEntry says when a message is due.
type DelayedEntry struct {
	// Sequence is the order in which messages were stored.
	Sequence uint64
	Due      time.Time
	// Bytes is about what the message takes in memory.
	Bytes int
	// ID is the identity under which the message goes into the log: that under which it was stored, else one that no other
	// message has.
	ID string
}

// DelayedMessage is a message with its DelayedEntry.ID.
type DelayedMessage struct {
	Message *Message
	ID      string
}

// cutDelay takes the delay out of the topic of a message that a client publishes: 0 for none. It is not ok when the topic
// asks for a delay that nobody can have.
func (s *Session) cutDelay(m *Message) (delay time.Duration, ok bool) {
	rest, asks := strings.CutPrefix(m.Topic, delayedPrefix)
	if !asks {
		return 0, true
	}
	text, topic, _ := strings.Cut(rest, "/")
	seconds, err := strconv.ParseUint(text, 10, 32)
	delay = time.Duration(seconds) * time.Second
	if err != nil || s.cfg.MaxDelay == 0 || delay > s.cfg.MaxDelay || topic == "" || strings.HasPrefix(topic, delayedPrefix) {
		return 0, false
	}
	m.Topic = topic
	if delay > 0 {
		m.Publisher = s.clientID // subscriptions without its own messages may come until then
	}
	return delay, true
}

// admitPublish is how long a message is to be delayed, and why a client may not publish it, as publishRefusal.
func (s *Session) admitPublish(who *Identity, m *Message) (time.Duration, mqttcodec.ReasonCode, DropReason) {
	delay, ok := s.cutDelay(m)
	if !ok || delay > 0 && !s.cfg.TopicFits(m.Topic, true) {
		return 0, mqttcodec.TopicNameInvalid, DropRefused
	}
	reason, drop := s.publishRefusal(who, m)
	return delay, reason, drop
}
