package mqttcodec

// AckProperties are the properties that acknowledgements share. (3.4.2.2)
type AckProperties struct {
	ReasonString   string
	UserProperties []UserProperty
}

// Puback ends the delivery of a QoS 1 message. (3.4)
type Puback struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// Pubrec is the first answer to a QoS 2 message. (3.5)
type Pubrec struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// Pubrel answers Pubrec. (3.6)
type Pubrel struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// Pubcomp ends the delivery of a QoS 2 message. (3.7)
type Pubcomp struct {
	PacketID   uint16
	Reason     ReasonCode
	Properties AckProperties
}

// ack reads the body that PUBACK, PUBREC, PUBREL and PUBCOMP have in common. (3.4.2)
func (d *decoder) ack(t PacketType) (id uint16, reason ReasonCode, properties AckProperties) {
	id = d.packetID()
	if d.version == V5 && len(d.rest) > 0 { // neither reason nor properties: success (3.4.2.1)
		reason = d.reason(t)
		if len(d.rest) > 0 { // no property length: no properties (3.4.2.2.1)
			properties = d.ackProperties(t)
		}
	}
	return id, reason, properties
}

// ackProperties reads the properties that acknowledgements share.
func (d *decoder) ackProperties(t PacketType) AckProperties {
	section := d.propertySection()
	if len(section) == 0 {
		return AckProperties{}
	}
	var s properties
	if d.section(&s, t, section); d.err != nil {
		return AckProperties{}
	}
	return AckProperties{ReasonString: s.text(propReasonString), UserProperties: s.userProperties()}
}

func (p *AckProperties) empty() bool { return p.ReasonString == "" && len(p.UserProperties) == 0 }

// ack writes an acknowledgement in the shortest form that its version has. (3.4.2.1, 3.4.2.2.1)
func (w *writer) ack(id uint16, reason ReasonCode, properties *AckProperties) {
	w.uint16(id)
	if w.version != V5 || reason == Success && properties.empty() {
		return
	}
	w.byte(byte(reason))
	if !properties.empty() {
		w.properties(func() { w.ackFields(properties) })
	}
}

func (w *writer) ackFields(p *AckProperties) {
	w.text(propReasonString, p.ReasonString)
	w.userProperties(p.UserProperties)
}
