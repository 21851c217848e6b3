package mqttcodec

// Publish carries an application message. (3.3)
type Publish struct {
	Duplicate bool
	QoS       QoS
	Retain    bool
	// PacketID is 0 at QoS 0.
	PacketID uint16
	Topic    string
	Payload  []byte
	// Properties travel with the message; the two below belong to one connection.
	Properties MessageProperties
	// TopicAlias is 0 when absent; present and 0 is a protocol error. [MQTT-3.3.2-8]
	TopicAlias              uint16
	SubscriptionIdentifiers []uint32
}

// The flags in the fixed header of PUBLISH. (3.3.1)
const (
	publishRetain    = 0x01
	publishQoS       = 0x06 // 2 bits
	publishDuplicate = 0x08
)

func (d *decoder) publish(flags byte) *Publish {
	p := NewPublish()
	p.Duplicate, p.QoS, p.Retain = flags&publishDuplicate != 0, QoS(flags&publishQoS>>1), flags&publishRetain != 0
	p.Topic = d.string("topic name")
	if p.QoS > 0 { // [MQTT-2.2.1-2]
		p.PacketID = d.packetID()
	} else if p.Duplicate {
		d.fail(malformed("MQTT-3.3.1-2", "DUP at QoS 0"))
	}
	if d.version == V5 {
		if section := d.propertySection(); len(section) > 0 {
			d.publishProperties(p, section)
		}
	}
	if p.Topic != "" || p.TopicAlias == 0 {
		d.topicName(p.Topic)
	}
	p.Payload = d.take(len(d.rest), "payload")
	return p
}

// publishProperties reads a property section that is not empty, as it is in most PUBLISHes.
func (d *decoder) publishProperties(p *Publish, section []byte) {
	var s properties
	d.section(&s, TypePublish, section)
	if d.err != nil {
		return
	}
	p.Properties = d.message(&s)
	p.TopicAlias = uint16(s.number(propTopicAlias))
	p.SubscriptionIdentifiers = s.subscriptionIdentifiers()
}

// topicName checks a topic that is UTF-8 already. [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1]
func (d *decoder) topicName(topic string) {
	switch {
	case topic == "":
		d.fail(forbidden("MQTT-4.7.3-1", "topic name is empty")) // in PUBLISH also 3.3.2.1
	case hasWildcard(topic):
		d.fail(wildcardInTopic())
	}
}

func (p *Publish) flags() byte {
	flags := byte(p.QoS) << 1 & publishQoS
	if p.Duplicate {
		flags |= publishDuplicate
	}
	if p.Retain {
		flags |= publishRetain
	}
	return flags
}

func (w *writer) publish(p *Publish) {
	w.string(p.Topic)
	if p.QoS > 0 {
		w.uint16(p.PacketID)
	}
	w.properties(func() {
		w.nonZero(propTopicAlias, uint32(p.TopicAlias))
		w.message(&p.Properties)
		for _, id := range p.SubscriptionIdentifiers {
			w.number(propSubscriptionIdentifier, id)
		}
	})
	w.bytes(p.Payload)
}
