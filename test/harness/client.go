package harness

import (
	"fmt"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"dunlin/mqttcodec"
)

// Message is an application message as a client library handed it over.
type Message struct {
	Topic, Payload string
	QoS            byte
	Retain         bool
	// UserProperties, ContentType and so on are 5.0 only.
	ContentType, ResponseTopic string
	CorrelationData            string
	ExpirySeconds              uint32
	UserProperties             []mqttcodec.UserProperty
}

// Mode is what kind of session a client asks for.
type Mode int

// The modes.
const (
	Persistent      Mode = iota // clean start 0, and in 5.0 an expiry of an hour
	CleanPersistent             // 5.0: clean start 1 with an expiry of an hour; 3.1.1 has no such thing
	Ephemeral                   // clean start 1, expiry 0
	Passing                     // 5.0: clean start 0, expiry 0; 3.1.1 has no such thing
)

// clean is the clean start flag, or "clean session".
func (m Mode) clean() bool { return m == CleanPersistent || m == Ephemeral }

// expirySeconds is the session expiry interval.
func (m Mode) expirySeconds() uint32 {
	if m == Persistent || m == CleanPersistent {
		return 3600
	}
	return 0
}

// Device is the client's side of a session: what a Paho library remembers from one connection to the next.
type Device struct {
	ID      string
	Version mqttcodec.Version

	session5 session.SessionManager
	store3   mqtt3.Store
}

// NewDevice is a device that has never been connected.
func NewDevice(v mqttcodec.Version, clientID string) *Device {
	return &Device{ID: clientID, Version: v, session5: state.NewInMemory(), store3: mqtt3.NewMemoryStore()}
}

// Client is one connection of a device through the Paho library of its version.
type Client struct {
	// SessionPresent is the flag in CONNACK.
	SessionPresent bool
	// ExpirySeconds is the session expiry in CONNACK, the one asked for when CONNACK has none. 5.0 only.
	ExpirySeconds uint32

	t        testing.TB
	id       string
	library  library
	messages chan Message
}

// library is what the two Paho libraries have in common. Its methods wait for the broker's answer.
type library interface {
	subscribe(filter string, qos byte) error
	unsubscribe(filter string) error
	publish(topic string, qos byte, retain bool, payload string) error
	disconnect() error
	drop()
}

// granted compares a SUBACK code with the QoS that was asked for.
func granted(code, asked byte) error {
	if code != asked {
		return fmt.Errorf("asked for QoS %d, SUBACK %#x", asked, code)
	}
	return nil
}

// Connect connects the device; the broker must accept it.
func (d *Device) Connect(b *Broker, mode Mode) *Client {
	b.t.Helper()
	// The queue is larger than what any test sends, so that a library never waits for the test.
	c := &Client{t: b.t, id: d.ID, messages: make(chan Message, 1<<15)}
	var err error
	if d.Version == mqttcodec.V5 {
		err = c.connect5(d, b.MQTT, mode)
	} else {
		err = c.connect3(d, b.MQTT, mode)
	}
	if err != nil {
		b.t.Fatalf("connect %q: %v", d.ID, err)
	}
	b.t.Cleanup(c.library.drop)
	return c
}

// Resume connects the device to its session, which must be there.
func (d *Device) Resume(b *Broker) *Client {
	b.t.Helper()
	c := d.Connect(b, Persistent)
	if !c.SessionPresent {
		b.t.Fatalf("session present is 0 for %q, whose session must be there", d.ID)
	}
	return c
}

// Subscribe subscribes to a filter, which must be granted.
func (c *Client) Subscribe(filter string, qos byte) {
	c.t.Helper()
	c.must("subscribe to "+filter, c.library.subscribe(filter, qos))
}

// Unsubscribe ends a subscription.
func (c *Client) Unsubscribe(filter string) {
	c.t.Helper()
	c.must("unsubscribe from "+filter, c.library.unsubscribe(filter))
}

// Publish publishes a message and waits until it is acknowledged in full.
func (c *Client) Publish(topic string, qos byte, payload string) {
	c.t.Helper()
	c.must("publish to "+topic, c.library.publish(topic, qos, false, payload))
}

// PublishRetained is Publish with the retain flag.
func (c *Client) PublishRetained(topic string, qos byte, payload string) {
	c.t.Helper()
	c.must("publish retained to "+topic, c.library.publish(topic, qos, true, payload))
}

// Disconnect implements Connection.
func (c *Client) Disconnect() {
	c.t.Helper()
	c.must("disconnect", c.library.disconnect())
}

// Drop implements Connection.
func (c *Client) Drop() { c.library.drop() }

func (c *Client) must(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("client %q: %s: %v", c.id, what, err)
	}
}

// Receive waits for the next message.
func (c *Client) Receive() Message {
	c.t.Helper()
	return c.ReceiveWithin(Patience)
}

// ReceiveWithin is Receive for what may take longer.
func (c *Client) ReceiveWithin(patience time.Duration) Message {
	c.t.Helper()
	select {
	case m := <-c.messages:
		return m
	case <-time.After(patience):
		c.t.Fatalf("client %q: no message within %v", c.id, patience)
		return Message{}
	}
}

// ReceiveUntil collects messages until one on the marker topic comes.
func (c *Client) ReceiveUntil(marker string) []Message {
	c.t.Helper()
	var received []Message
	for {
		m := c.Receive()
		if m.Topic == marker {
			return received
		}
		received = append(received, m)
	}
}

// ExpectPayloads receives messages, which must carry these payloads in this order.
func (c *Client) ExpectPayloads(want ...string) {
	c.t.Helper()
	for i, payload := range want {
		if m := c.Receive(); m.Payload != payload {
			c.t.Fatalf("client %q: message %d is %+v, want payload %q", c.id, i, m, payload)
		}
	}
}

// Payloads are the payloads of messages.
func Payloads(messages []Message) []string {
	payloads := make([]string, len(messages))
	for i, m := range messages {
		payloads[i] = m.Payload
	}
	return payloads
}

// Numbered are the payloads that Messages makes, from first on.
func Numbered(prefix string, first, n int) []string {
	payloads := make([]string, n)
	for i := range payloads {
		payloads[i] = fmt.Sprint(prefix, first+i)
	}
	return payloads
}

var _ Connection = (*Client)(nil)
