package clients

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/autopaho/queue/memory"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/extensions/topicaliases"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"

	"dunlin/test/harness"
)

// autopahoClient is paho.golang with its connection manager and its queue.
type autopahoClient struct {
	session  session.SessionManager
	queue    *memory.Queue
	aliases  *topicaliases.TAHandler // of the broker, on this connection
	allowed  uint16                  // how many those may be
	aliased  map[uint16]string       // our own aliases, on this connection
	received chan message
	manager  *autopaho.ConnectionManager
	end      context.CancelFunc
}

func newAutopaho() client {
	return &autopahoClient{session: state.NewInMemory(), queue: memory.New(), received: inbox()}
}

func (c *autopahoClient) connect(o options) (sessionPresent bool, err error) {
	server, err := url.Parse(o.URL)
	if err != nil {
		return false, err
	}
	c.aliases, c.allowed, c.aliased = topicaliases.NewTAHandler(o.Aliases), o.Aliases, map[uint16]string{}
	up := make(chan bool, 100)
	config := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{server},
		KeepAlive:                     60,
		CleanStartOnInitialConnection: !o.Persistent,
		ReconnectBackoff:              autopaho.NewConstantBackoff(50 * time.Millisecond),
		Queue:                         c.queue,
		OnConnectionUp:                func(_ *autopaho.ConnectionManager, connack *paho.Connack) { up <- connack.SessionPresent },
		ConnectPacketBuilder: func(p *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			if p.Properties == nil {
				p.Properties = &paho.ConnectProperties{}
			}
			p.Properties.TopicAliasMaximum = &o.Aliases
			return p, nil
		},
		ClientConfig: paho.ClientConfig{
			ClientID:          o.ID,
			Session:           c.session,
			PacketTimeout:     harness.Patience,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){c.receive},
		},
	}
	if o.Persistent {
		config.SessionExpiryInterval = sessionExpirySeconds
	}
	if o.Will != nil {
		config.WillMessage = &paho.WillMessage{Topic: o.Will.Topic, Payload: []byte(o.Will.Payload), QoS: o.Will.QoS, Retain: o.Will.Retain}
		config.WillProperties = willProperties(o.Will)
	}
	var ctx context.Context
	ctx, c.end = context.WithCancel(context.Background())
	if c.manager, err = autopaho.NewConnection(ctx, config); err != nil {
		return false, err
	}
	select {
	case sessionPresent = <-up:
		return sessionPresent, c.subscribe(o)
	case <-time.After(harness.Patience):
		return false, fmt.Errorf("no connection within %v", harness.Patience)
	}
}

func (c *autopahoClient) subscribe(o options) error {
	if len(o.Filters) == 0 {
		return nil
	}
	s := &paho.Subscribe{}
	for _, f := range o.Filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: o.QoS})
	}
	if o.Identifier != 0 {
		identifier := int(o.Identifier)
		s.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &identifier}
	}
	suback, err := c.manager.Subscribe(context.Background(), s)
	if err != nil {
		return err
	}
	return granted(suback.Reasons, o)
}

// granted compares what SUBACK granted with what was asked for.
func granted(codes []byte, o options) error {
	for i, f := range o.Filters {
		if i >= len(codes) || codes[i] != o.QoS {
			return fmt.Errorf("filter %q asked for QoS %d, SUBACK %v", f, o.QoS, codes)
		}
	}
	return nil
}

// receive resolves topic aliases as well: the library leaves that to its user, and has a table for it.
func (c *autopahoClient) receive(r paho.PublishReceived) (bool, error) {
	m := message{Topic: r.Packet.Topic, Payload: string(r.Packet.Payload), QoS: r.Packet.QoS, Retain: r.Packet.Retain}
	if p := r.Packet.Properties; p != nil {
		switch {
		case p.TopicAlias == nil:
		case *p.TopicAlias > c.allowed: // the table has no place for it, and would panic
			m.Topic = fmt.Sprintf("topic alias %d of %d", *p.TopicAlias, c.allowed)
		case m.Topic == "":
			m.Topic = c.aliases.GetTopic(*p.TopicAlias)
		default:
			c.aliases.ResetAlias(m.Topic, *p.TopicAlias)
		}
		m.ContentType, m.ResponseTopic, m.CorrelationData = p.ContentType, p.ResponseTopic, string(p.CorrelationData)
		if p.PayloadFormat != nil {
			m.Format = *p.PayloadFormat
		}
		if p.MessageExpiry != nil {
			m.ExpirySeconds = *p.MessageExpiry
		}
		if p.SubscriptionIdentifier != nil {
			m.Identifiers = []uint32{uint32(*p.SubscriptionIdentifier)}
		}
		for _, u := range p.User {
			m.User = append(m.User, [2]string{u.Key, u.Value})
		}
	}
	c.received <- m
	return true, nil
}

func (c *autopahoClient) publish(messages []message) error {
	for _, m := range messages {
		p := pahoPublish(m)
		if m.Alias != 0 && c.aliased[m.Alias] == m.Topic {
			p.Topic = ""
		} else if m.Alias != 0 {
			c.aliased[m.Alias] = m.Topic
		}
		if _, err := c.manager.Publish(context.Background(), p); err != nil {
			return err
		}
	}
	return nil
}

func (c *autopahoClient) send(messages []message) error {
	for _, m := range messages {
		if err := c.manager.PublishViaQueue(context.Background(), &autopaho.QueuePublish{Publish: pahoPublish(m)}); err != nil {
			return err
		}
	}
	return nil
}

// pahoPublish is a message as the library takes it.
func pahoPublish(m message) *paho.Publish {
	p := &paho.PublishProperties{ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, User: pahoUser(m.User)}
	if m.CorrelationData != "" {
		p.CorrelationData = []byte(m.CorrelationData)
	}
	if m.Format != 0 {
		p.PayloadFormat = &m.Format
	}
	if m.ExpirySeconds != 0 {
		p.MessageExpiry = &m.ExpirySeconds
	}
	if m.Alias != 0 {
		p.TopicAlias = &m.Alias
	}
	return &paho.Publish{Topic: m.Topic, Payload: []byte(m.Payload), QoS: m.QoS, Retain: m.Retain, Properties: p}
}

func willProperties(m *message) *paho.WillProperties {
	p := pahoPublish(*m).Properties
	return &paho.WillProperties{
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData,
		PayloadFormat: p.PayloadFormat, MessageExpiry: p.MessageExpiry, User: p.User,
	}
}

func pahoUser(list [][2]string) (user paho.UserProperties) {
	for _, u := range list {
		user = append(user, paho.UserProperty{Key: u[0], Value: u[1]})
	}
	return user
}

func (c *autopahoClient) messages() <-chan message { return c.received }

func (c *autopahoClient) disconnect() error {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	return c.manager.Disconnect(ctx)
}

// abandon says DISCONNECT when there still is a connection: the library has no other way to let go of it.
func (c *autopahoClient) abandon() {
	if c.manager != nil {
		c.end()
		<-c.manager.Done()
	}
}
