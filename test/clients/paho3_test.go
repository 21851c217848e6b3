package clients

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"dunlin/test/harness"
)

// paho3 is paho.mqtt.golang with its ordered memory store. Its file store panics when it is written to after the test,
// and with it the test's directory, has ended: the library has no way to be waited for.
type paho3 struct {
	store    mqtt3.Store
	received chan message
	client   mqtt3.Client
	exactly  map[uint16]message // at QoS 2, by packet identifier
}

func newPaho3() client {
	return &paho3{store: mqtt3.NewOrderedMemoryStore(), received: inbox(), exactly: map[uint16]message{}}
}

// arrived does what the library leaves to its user: it shows a message at QoS 2 again when it is sent again because its
// PUBREC was lost.
func (c *paho3) arrived(_ mqtt3.Client, got mqtt3.Message) {
	m := message{Topic: got.Topic(), Payload: string(got.Payload()), QoS: got.Qos(), Retain: got.Retained()}
	if m.QoS == 2 {
		if same := got.Duplicate() && reflect.DeepEqual(c.exactly[got.MessageID()], m); same {
			return
		}
		c.exactly[got.MessageID()] = m
	}
	c.received <- m
}

func (c *paho3) connect(o options) (sessionPresent bool, err error) {
	config := mqtt3.NewClientOptions().
		AddBroker(strings.Replace(o.URL, "mqtt://", "tcp://", 1)).
		SetClientID(o.ID).
		SetCleanSession(!o.Persistent).
		SetProtocolVersion(uint(o.Version)).
		SetStore(c.store).
		SetKeepAlive(time.Minute).
		SetMaxReconnectInterval(50 * time.Millisecond).
		SetDefaultPublishHandler(c.arrived)
	if o.Will != nil {
		config.SetWill(o.Will.Topic, o.Will.Payload, o.Will.QoS, o.Will.Retain)
	}
	c.client = mqtt3.NewClient(config)
	token := c.client.Connect().(*mqtt3.ConnectToken)
	if err := await(token); err != nil || len(o.Filters) == 0 {
		return token.SessionPresent(), err
	}
	filters := map[string]byte{}
	for _, f := range o.Filters {
		filters[f] = o.QoS
	}
	subscribed := c.client.SubscribeMultiple(filters, nil).(*mqtt3.SubscribeToken)
	if err := await(subscribed); err != nil {
		return false, err
	}
	for f, code := range subscribed.Result() {
		if code != o.QoS {
			return false, fmt.Errorf("filter %q asked for QoS %d, SUBACK %#x", f, o.QoS, code)
		}
	}
	return token.SessionPresent(), nil
}

// await waits for the answer that completes a token.
func await(token mqtt3.Token) error {
	if !token.WaitTimeout(harness.Patience) {
		return fmt.Errorf("no answer within %v", harness.Patience)
	}
	return token.Error()
}

func (c *paho3) start(messages []message) []mqtt3.Token {
	var tokens []mqtt3.Token
	for _, m := range messages {
		tokens = append(tokens, c.client.Publish(m.Topic, m.QoS, m.Retain, m.Payload))
	}
	return tokens
}

func (c *paho3) publish(messages []message) error {
	var errs []error
	for _, token := range c.start(messages) {
		errs = append(errs, await(token))
	}
	return errors.Join(errs...)
}

func (c *paho3) send(messages []message) error {
	c.start(messages)
	return nil
}

func (c *paho3) messages() <-chan message { return c.received }

func (c *paho3) disconnect() error {
	c.client.Disconnect(250)
	return nil
}

func (c *paho3) abandon() {
	if c.client != nil {
		c.client.Disconnect(0)
	}
}
