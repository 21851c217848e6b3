package sessions

import (
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// Identity is who a client has proved to be, and what it may do. The zero value is an anonymous client that may do everything.
type Identity struct {
	// Principal is the name that the client has proved to have, empty for an anonymous client. Its session belongs to that name.
	Principal string
	// Permissions is what it may do; nil: everything.
	Permissions Permissions
}

// Permissions says what a client may do. It is asked for every message, by many sessions at a time: its methods must be
// safe for concurrent use and must not wait for anything. Its answers may change; the next message is then treated by
// the new ones.
type Permissions interface {
	// MayPublish reports whether the client may publish to a topic, as a message or a will.
	MayPublish(topic string, qos mqttcodec.QoS, retain bool) bool
	// MaySubscribe reports whether the client may subscribe to a topic filter: of a shared subscription, the filter in it.
	MaySubscribe(filter string, qos mqttcodec.QoS) bool
	// MayReceive reports whether the client may be sent messages of a topic, whatever it is subscribed to.
	MayReceive(topic string) bool
}

// MayAnswer reports whether an answer to a request of the client may be published to the topic that it asked for.
func (i *Identity) MayAnswer(m *Message) bool { return i.mayPublish(m) }

func (i *Identity) mayPublish(m *Message) bool {
	return i.Permissions == nil || i.Permissions.MayPublish(m.Topic, m.QoS, m.Retain)
}

func (i *Identity) maySubscribe(r mqttcodec.SubscriptionRequest) bool {
	if i.Permissions == nil {
		return true
	}
	filter := r.Filter
	if _, shared, ok := mqttcodec.SharedFilter(filter); ok {
		filter = shared
	}
	if asked, ok := RequestFilter(filter); ok {
		filter = asked
	} else if AnswersOnly(filter) {
		return true // only the session itself is answered there
	}
	return i.Permissions.MaySubscribe(filter, r.Options.QoS)
}

func (i *Identity) mayReceive(topic string) bool {
	if i.Permissions == nil {
		return true
	}
	if strings.HasPrefix(topic, replyPrefix) {
		asked, ok := askedTopic(topic)
		if !ok {
			return true // an answer to the client's own request
		}
		topic = asked
	}
	return i.Permissions.MayReceive(topic)
}

// BelongsToAnother reports whether there is a session, and a principal may not have it. What an anonymous client left
// belongs to nobody: anybody could have taken it, so whoever has a name may, and then owns it.
func (s *Session) BelongsToAnother(now time.Time, principal string) bool {
	switch s.state {
	case stateAbsent, stateEnding, stateFenced:
		return false
	case stateDetached:
		if s.expired(now) {
			return false
		}
	case stateConnecting, stateConnected:
	}
	return s.identity.Principal != "" && s.identity.Principal != principal
}
