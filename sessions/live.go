package sessions

import "context"

// Live is the live plane: the way of messages at QoS 0 between the clients of this node and everybody else, other nodes and
// services without MQTT. Nothing on it is stored, and what cannot be handed on at once is dropped and counted. All methods
// are safe for concurrent use and wait for nothing.
type Live interface {
	// Listen asks for what others publish to the topics of a filter, or, for a shared subscription, to be one of the nodes that
	// take turns. Forget ends it. One call of each for a filter that is not listened to, or is.
	Listen(filter string)
	Forget(filter string)
	// Effective has f called, from another goroutine, as soon as everything that Listen was asked for before is so: what is
	// published from then on comes. It is called too when that cannot be found out. It must not block.
	Effective(f func())
	// Elsewhere reports whether messages of a topic have to be published, since there may be somebody else for them. Members of
	// shared subscriptions on this node are then served by Run, as those on all others, and else by nobody but their node.
	Elsewhere(topic string) bool
	// Publish sends a message to everybody else. With a token it is a request, whose answer comes with that token.
	Publish(m *Message, token string)
	// Answer sends an answer to who has asked: reply is that of the request.
	Answer(reply string, m *Message)
	// Run hands over what others publish until ctx ends; then it returns nil. Messages of one publisher come in order. receive
	// owns the batch until it returns, the messages for good.
	Run(ctx context.Context, receive func(batch []LiveMessage)) error
}

// LiveMessage is a message that somebody else has published. It is at QoS 0, without retain flag.
type LiveMessage struct {
	// Message is nil for an answer that says that nobody is there to answer.
	Message *Message
	// Reply is where an answer goes, empty when none is asked for. It is for Answer alone.
	Reply string
	// Share is the shared subscription that it came by, and is for; empty: it is for everybody but those.
	Share string
	// Token is that of the request which it answers, empty for other messages. Answers have no topic.
	Token string
}
