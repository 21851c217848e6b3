package clients

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// The other side of a scenario is a raw 5.0 client: what it sends and sees is exact.

// publisher publishes messages and waits for their acknowledgements.
type publisher struct{ raw *harness.Raw }

func (s *subject) publisher() publisher {
	s.t.Helper()
	return publisher{s.broker.ConnectRaw(s.t, harness.CleanConnect(mqttcodec.V5, s.peerID()))}
}

func (p publisher) publish(messages ...message) {
	var packets []mqttcodec.Publish
	for _, m := range messages {
		packets = append(packets, packet(m))
	}
	p.raw.PublishAll(packets)
}

// peerID is a client identifier that no other client has.
func (s *subject) peerID() string { return fmt.Sprintf("%s-peer%d", s.id, clientNumber.Add(1)) }

// packet is a message as PUBLISH carries it.
func packet(m message) mqttcodec.Publish {
	p := mqttcodec.Publish{Topic: m.Topic, QoS: mqttcodec.QoS(m.QoS), Retain: m.Retain, Payload: []byte(m.Payload)}
	if m.ContentType != "" {
		p.Properties.ContentType = mqttcodec.Some(m.ContentType)
	}
	p.Properties.ResponseTopic = m.ResponseTopic
	if m.CorrelationData != "" {
		p.Properties.CorrelationData = []byte(m.CorrelationData)
	}
	if m.Format != 0 {
		p.Properties.PayloadFormat = mqttcodec.Some(m.Format)
	}
	if m.ExpirySeconds != 0 {
		p.Properties.MessageExpirySeconds = mqttcodec.Some(m.ExpirySeconds)
	}
	for _, u := range m.User {
		p.Properties.UserProperties = append(p.Properties.UserProperties, mqttcodec.UserProperty{Key: u[0], Value: u[1]})
	}
	return p
}

// observer sees what others publish.
type observer struct {
	t    testing.TB
	raw  *harness.Raw
	next []message // received, and not asked for yet
}

// observer subscribes at QoS 2.
func (s *subject) observer(filters ...string) *observer {
	s.t.Helper()
	return s.observe(harness.CleanConnect(mqttcodec.V5, s.peerID()), filters...)
}

func (s *subject) observe(c *mqttcodec.Connect, filters ...string) *observer {
	s.t.Helper()
	o := &observer{t: s.t, raw: s.broker.ConnectRaw(s.t, c)}
	for _, f := range filters {
		if early := o.raw.Subscribe(harness.Filter(f, 2)); len(early) > 0 {
			s.t.Fatalf("%d messages before SUBACK", len(early))
		}
	}
	return o
}

// receive waits for n messages, and until no QoS 2 exchange is open.
func (o *observer) receive(n int) []message {
	o.t.Helper()
	for open := 0; len(o.next) < n || open > 0; {
		p := o.raw.Read()
		o.raw.Answer(p)
		switch p := p.(type) {
		case *mqttcodec.Publish:
			o.next = append(o.next, shown(p))
			if p.QoS == 2 {
				open++
			}
		case *mqttcodec.Pubrel:
			open--
		default:
			o.t.Fatalf("waiting for messages, got %T %+v", p, p)
		}
	}
	received := o.next[:n]
	o.next = o.next[n:]
	return received
}

// expect waits for messages, which must be these.
func (o *observer) expect(want ...message) {
	o.t.Helper()
	for i, got := range o.receive(len(want)) {
		compare(o.t, i, got, want[i])
	}
}

// shown is what a PUBLISH says, as the clients under test show it.
func shown(p *mqttcodec.Publish) message {
	m := message{Topic: p.Topic, QoS: byte(p.QoS), Retain: p.Retain, Payload: string(p.Payload), Identifiers: p.SubscriptionIdentifiers}
	m.ContentType = p.Properties.ContentType.Value
	m.ResponseTopic, m.CorrelationData = p.Properties.ResponseTopic, string(p.Properties.CorrelationData)
	m.Format, m.ExpirySeconds = p.Properties.PayloadFormat.Value, p.Properties.MessageExpirySeconds.Value
	for _, u := range p.Properties.UserProperties {
		m.User = append(m.User, [2]string{u.Key, u.Value})
	}
	return m
}
