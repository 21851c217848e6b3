package clients

// client is one MQTT client, of a library or a program. Its methods return when the broker has answered.
type client interface {
	// connect connects and subscribes, and tells what CONNACK said of the session. A client that was connected before
	// brings what its library keeps of the session.
	connect(o options) (sessionPresent bool, err error)
	// publish publishes messages, which are acknowledged in full when it returns.
	publish(messages []message) error
	// send hands messages over to the library, connected or not, and waits for nothing.
	send(messages []message) error
	// messages is what has arrived, in order.
	messages() <-chan message
	// disconnect ends the connection the orderly way.
	disconnect() error
	// abandon ends the client without a word to the broker. It may be called at any time, and again.
	abandon()
}

// options are what a client connects with, as the programs take them too.
type options struct {
	URL        string   `json:"url"`
	Version    byte     `json:"version"` // the protocol level: 3, 4 or 5
	ID         string   `json:"id"`
	Persistent bool     `json:"persistent"` // in 5.0: with an expiry of an hour
	Filters    []string `json:"filters"`
	QoS        byte     `json:"qos"` // asked for, and to be granted, for all filters
	Will       *message `json:"will"`
	Identifier uint32   `json:"identifier"` // of the subscriptions; 0 is none
	Aliases    uint16   `json:"aliases"`    // how many topic aliases the broker may use
}

// sessionExpirySeconds is the expiry of a persistent session in 5.0.
const sessionExpirySeconds = 3600

// message is an application message, as the programs write and read it too.
type message struct {
	Topic   string `json:"topic"`
	Payload string `json:"payload"`
	QoS     byte   `json:"qos"`
	Retain  bool   `json:"retain"`
	// What follows is 5.0 only, and empty or 0 when absent.
	ContentType     string      `json:"contentType,omitempty"`
	ResponseTopic   string      `json:"responseTopic,omitempty"`
	CorrelationData string      `json:"correlationData,omitempty"`
	Format          byte        `json:"format,omitempty"`
	ExpirySeconds   uint32      `json:"expirySeconds,omitempty"`
	User            [][2]string `json:"user,omitempty"`
	// Alias is the topic alias to publish with. A message whose alias has its topic already goes without the topic.
	Alias uint16 `json:"alias,omitempty"`
	// Identifiers are those of the subscriptions, in a message received.
	Identifiers []uint32 `json:"identifiers,omitempty"`
}

// inbox is room for what a client receives. It is larger than what any test sends, so that no library waits for a test.
func inbox() chan message { return make(chan message, 10_000) }
