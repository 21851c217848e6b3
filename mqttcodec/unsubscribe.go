package mqttcodec

// Unsubscribe ends subscriptions. (3.10)
type Unsubscribe struct {
	PacketID       uint16
	Filters        []string
	UserProperties []UserProperty
}

// Unsuback answers Unsubscribe; only 5.0 writes the reason codes. (3.11)
type Unsuback struct {
	PacketID   uint16
	Reasons    []ReasonCode
	Properties AckProperties
}

func (d *decoder) unsubscribe() *Unsubscribe {
	p := &Unsubscribe{PacketID: d.packetID()}
	if d.version == V5 {
		var s properties
		d.properties(&s, TypeUnsubscribe)
		if d.err == nil {
			p.UserProperties = s.userProperties()
		}
	}
	if d.err == nil && len(d.rest) == 0 { // [3.1.1 MQTT-3.10.3-2]
		d.fail(forbidden("MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter"))
		return p
	}
	p.Filters = make([]string, 0, d.filters(0))
	for len(d.rest) > 0 {
		p.Filters = append(p.Filters, d.filter())
	}
	return p
}

func (w *writer) unsubscribe(p *Unsubscribe) {
	w.uint16(p.PacketID)
	w.properties(func() { w.userProperties(p.UserProperties) })
	for _, filter := range p.Filters {
		w.string(filter)
	}
}

func (d *decoder) unsuback() *Unsuback {
	p := &Unsuback{PacketID: d.packetID()}
	if d.version == V5 {
		p.Properties = d.ackProperties(TypeUnsuback)
		p.Reasons = d.reasons(TypeUnsuback)
	}
	return p
}

func (w *writer) unsuback(p *Unsuback) {
	w.uint16(p.PacketID)
	w.properties(func() { w.ackFields(&p.Properties) })
	if w.version != V5 {
		return
	}
	for _, reason := range p.Reasons {
		w.byte(byte(reason))
	}
}
