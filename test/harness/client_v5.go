package harness

import (
	"context"
	"net"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"

	"dunlin/mqttcodec"
)

// client5 is a connection of paho.golang, the 5.0 library.
type client5 struct {
	client *paho.Client
	conn   net.Conn
}

func (c *Client) connect5(d *Device, address string, mode Mode) error {
	conn, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		return err
	}
	l := &client5{conn: packets.NewThreadSafeConn(conn)}
	l.client = paho.NewClient(paho.ClientConfig{
		Conn:          l.conn,
		Session:       &acknowledging{d.session5, c.messages},
		PacketTimeout: Patience,
	})
	c.library = l
	expiry := mode.expirySeconds()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	connack, err := l.client.Connect(ctx, &paho.Connect{
		ClientID:   d.ID,
		CleanStart: mode.clean(),
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
	})
	if err != nil {
		conn.Close()
		return err
	}
	c.SessionPresent, c.ExpirySeconds = connack.SessionPresent, expiry
	if connack.Properties != nil && connack.Properties.SessionExpiryInterval != nil {
		c.ExpirySeconds = *connack.Properties.SessionExpiryInterval
	}
	return nil
}

// acknowledging shows the test a message that is acknowledged: it may disconnect then.
type acknowledging struct {
	session.SessionManager
	messages chan<- Message
}

// Ack implements session.SessionManager.
func (s *acknowledging) Ack(p *packets.Publish) error {
	err := s.SessionManager.Ack(p)
	s.messages <- message5(paho.PublishFromPacketPublish(p))
	return err
}

// message5 copies a message out of the library.
func message5(p *paho.Publish) Message {
	m := Message{Topic: p.Topic, Payload: string(p.Payload), QoS: p.QoS, Retain: p.Retain}
	if p.Properties == nil {
		return m
	}
	m.ContentType, m.ResponseTopic = p.Properties.ContentType, p.Properties.ResponseTopic
	m.CorrelationData = string(p.Properties.CorrelationData)
	if p.Properties.MessageExpiry != nil {
		m.ExpirySeconds = *p.Properties.MessageExpiry
	}
	for _, u := range p.Properties.User {
		m.UserProperties = append(m.UserProperties, mqttcodec.UserProperty{Key: u.Key, Value: u.Value})
	}
	return m
}

func (l *client5) subscribe(filter string, qos byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	suback, err := l.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
	if err != nil {
		return err
	}
	return granted(suback.Reasons[0], qos)
}

func (l *client5) unsubscribe(filter string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	_, err := l.client.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{filter}})
	return err
}

func (l *client5) publish(topic string, qos byte, retain bool, payload string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	_, err := l.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: qos, Retain: retain, Payload: []byte(payload)})
	return err
}

func (l *client5) disconnect() error { return l.client.Disconnect(&paho.Disconnect{}) }

func (l *client5) drop() {
	l.conn.Close()
	<-l.client.Done()
}
