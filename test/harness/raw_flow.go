package harness

import (
	"fmt"

	"dunlin/mqttcodec"
)

// window is how many messages PublishAll has unacknowledged at most, if the broker's Receive Maximum allows it.
const window = 64

// window is the send window of this connection. [MQTT-4.9.0-2]
func (r *Raw) window() int {
	if r.Connack != nil && r.Connack.Properties.ReceiveMaximum != 0 {
		return min(window, int(r.Connack.Properties.ReceiveMaximum))
	}
	return window
}

// Publish publishes one message and waits until the exchange is complete. The connection must not receive messages.
func (r *Raw) Publish(m mqttcodec.Publish) {
	r.t.Helper()
	r.PublishAll([]mqttcodec.Publish{m})
}

// PublishAll publishes messages in order and returns when all are acknowledged in full. It gives them packet
// identifiers from 1 on. The connection must not receive messages meanwhile.
func (r *Raw) PublishAll(messages []mqttcodec.Publish) {
	r.t.Helper()
	if err := r.TryPublishAll(messages); err != nil {
		r.t.Fatal(err)
	}
}

// TryPublishAll is PublishAll for a broker that may go away.
func (r *Raw) TryPublishAll(messages []mqttcodec.Publish) error {
	unfinished := map[uint16]mqttcodec.QoS{}
	next, id := 0, uint16(0)
	for next < len(messages) || len(unfinished) > 0 {
		var batch []mqttcodec.Packet
		for ; next < len(messages) && len(unfinished) < r.window(); next++ {
			m := messages[next]
			if m.QoS > 0 {
				id++
				m.PacketID = id
				unfinished[id] = m.QoS
			}
			batch = append(batch, &m)
		}
		if err := r.TrySend(batch...); err != nil {
			return err
		}
		if len(unfinished) == 0 {
			continue
		}
		p, err := r.TryRead()
		if err != nil {
			return fmt.Errorf("waiting for acknowledgements: %w", err)
		}
		if err := r.settle(p, unfinished); err != nil {
			return err
		}
	}
	return nil
}

// settle takes one acknowledgement of a publish.
func (r *Raw) settle(p mqttcodec.Packet, unfinished map[uint16]mqttcodec.QoS) error {
	switch p := p.(type) {
	case *mqttcodec.Puback:
		if unfinished[p.PacketID] != 1 || p.Reason.Failed() {
			return fmt.Errorf("PUBACK %+v", p)
		}
		delete(unfinished, p.PacketID)
	case *mqttcodec.Pubrec:
		if unfinished[p.PacketID] != 2 || p.Reason.Failed() {
			return fmt.Errorf("PUBREC %+v", p)
		}
		return r.TrySend(&mqttcodec.Pubrel{PacketID: p.PacketID})
	case *mqttcodec.Pubcomp:
		if unfinished[p.PacketID] != 2 || p.Reason.Failed() {
			return fmt.Errorf("PUBCOMP %+v", p)
		}
		delete(unfinished, p.PacketID)
	default:
		return fmt.Errorf("waiting for acknowledgements, got %T %+v", p, p)
	}
	return nil
}

// Messages are n messages on a topic with the payloads prefix0, prefix1 and so on.
func Messages(topic string, qos mqttcodec.QoS, prefix string, n int) []mqttcodec.Publish {
	messages := make([]mqttcodec.Publish, n)
	for i := range messages {
		messages[i] = mqttcodec.Publish{Topic: topic, QoS: qos, Payload: fmt.Appendf(nil, "%s%d", prefix, i)}
	}
	return messages
}

// Answer sends what acknowledges p, if anything does.
func (r *Raw) Answer(p mqttcodec.Packet) {
	r.t.Helper()
	switch p := p.(type) {
	case *mqttcodec.Publish:
		switch p.QoS {
		case 1:
			r.Send(&mqttcodec.Puback{PacketID: p.PacketID})
		case 2:
			r.Send(&mqttcodec.Pubrec{PacketID: p.PacketID})
		}
	case *mqttcodec.Pubrel:
		r.Send(&mqttcodec.Pubcomp{PacketID: p.PacketID})
	}
}

// ReceiveUntil reads and answers packets until a message on the marker topic has come and no QoS 2 exchange is
// open; it returns the messages before the marker.
func (r *Raw) ReceiveUntil(marker string) []*mqttcodec.Publish {
	r.t.Helper()
	var received []*mqttcodec.Publish
	open, seen := map[uint16]bool{}, false
	for !seen || len(open) > 0 {
		p := r.Read()
		r.Answer(p)
		switch p := p.(type) {
		case *mqttcodec.Publish:
			if p.QoS == 2 {
				open[p.PacketID] = true
			}
			if p.Topic == marker {
				seen = true
			} else {
				received = append(received, p)
			}
		case *mqttcodec.Pubrel:
			delete(open, p.PacketID)
		default:
			r.t.Fatalf("waiting for messages, got %T %+v", p, p)
		}
	}
	return received
}
