package mqttcodec

// RetainHandling says which retained messages a SUBSCRIBE asks for. (3.8.3.1)
type RetainHandling byte

// The retain handling options. (3.8.3.1)
const (
	RetainSend      RetainHandling = 0 // at each SUBSCRIBE
	RetainSendIfNew RetainHandling = 1 // only when the filter was not subscribed before
	RetainDoNotSend RetainHandling = 2
)

// SubscriptionOptions are the options byte of one topic filter. (3.8.3.1)
type SubscriptionOptions struct {
	QoS               QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    RetainHandling
}

// SubscriptionRequest is one topic filter of a SUBSCRIBE with its options.
type SubscriptionRequest struct {
	Filter  string
	Options SubscriptionOptions
}

// Subscribe asks for messages. (3.8)
type Subscribe struct {
	PacketID uint16
	Requests []SubscriptionRequest
	// SubscriptionIdentifier is 0 when absent.
	SubscriptionIdentifier uint32
	UserProperties         []UserProperty
}

// Suback answers Subscribe with one reason code for each filter. (3.9)
type Suback struct {
	PacketID   uint16
	Reasons    []ReasonCode
	Properties AckProperties
}

// The subscription options. (3.8.3.1)
const (
	optionQoS               = 0x03
	optionNoLocal           = 0x04
	optionRetainAsPublished = 0x08
	optionRetainHandling    = 0x30 // 2 bits
	optionReserved          = 0xC0
)

// subackFailure is the only failure that SUBACK knows in 3.1.1. (3.1.1: 3.9.3)
const subackFailure = byte(UnspecifiedError)

func (d *decoder) subscribe() *Subscribe {
	p := &Subscribe{PacketID: d.packetID()}
	if d.version == V5 {
		var s properties
		d.properties(&s, TypeSubscribe)
		if d.err == nil {
			p.SubscriptionIdentifier = s.number(propSubscriptionIdentifier)
			p.UserProperties = s.userProperties()
		}
	}
	if d.err == nil && len(d.rest) == 0 { // [3.1.1 MQTT-3.8.3-3]
		d.fail(forbidden("MQTT-3.8.3-2", "SUBSCRIBE without a topic filter"))
		return p
	}
	p.Requests = make([]SubscriptionRequest, 0, d.filters(1))
	for len(d.rest) > 0 {
		filter := d.filter()
		options := d.subscriptionOptions(filter)
		p.Requests = append(p.Requests, SubscriptionRequest{Filter: filter, Options: options})
	}
	return p
}

// filter reads a topic filter; where its wildcards stand is ValidateTopicFilter's. [MQTT-3.8.3-1] [MQTT-3.10.3-1]
func (d *decoder) filter() string {
	filter := d.string("topic filter")
	if filter == "" {
		d.fail(forbidden("MQTT-4.7.3-1", "topic filter is empty"))
	}
	return filter
}

// filters counts the filters, each followed by extra bytes, up to the first that is empty or cut off: a packet gets no
// more memory than its filters are long.
func (d *decoder) filters(extra int) (n int) {
	for rest := d.rest; len(rest) > 2; n++ {
		length := int(rest[0])<<8 | int(rest[1])
		if length == 0 || len(rest) < 2+length+extra {
			break
		}
		rest = rest[2+length+extra:]
	}
	return n
}

func (d *decoder) subscriptionOptions(filter string) SubscriptionOptions {
	b := d.byte("subscription options")
	o := SubscriptionOptions{
		QoS:               QoS(b & optionQoS),
		NoLocal:           b&optionNoLocal != 0,
		RetainAsPublished: b&optionRetainAsPublished != 0,
		RetainHandling:    RetainHandling(b & optionRetainHandling >> 4),
	}
	_, _, shared := SharedFilter(filter)
	switch {
	case d.version != V5 && b&^optionQoS != 0:
		d.fail(malformed("3.1.1 MQTT-3.8.3-4", "reserved bits beside the requested QoS"))
	case b&optionReserved != 0:
		d.fail(malformed("MQTT-3.8.3-5", "reserved subscription options"))
	case o.QoS > 2:
		d.fail(forbidden("", "requested QoS is 3")) // 3.8.3.1 [3.1.1 MQTT-3.8.3-4]
	case o.RetainHandling > RetainDoNotSend:
		d.fail(forbidden("", "Retain Handling is 3")) // 3.8.3.1
	case o.NoLocal && shared:
		d.fail(forbidden("MQTT-3.8.3-4", "No Local on a shared subscription"))
	}
	return o
}

func (w *writer) subscribe(p *Subscribe) {
	w.uint16(p.PacketID)
	w.properties(func() {
		w.nonZero(propSubscriptionIdentifier, p.SubscriptionIdentifier)
		w.userProperties(p.UserProperties)
	})
	for i := range p.Requests {
		w.string(p.Requests[i].Filter)
		w.byte(p.Requests[i].Options.encode(w.version))
	}
}

// encode is the options byte: before 5.0 just the QoS.
func (o SubscriptionOptions) encode(v Version) byte {
	b := byte(o.QoS)
	if v != V5 {
		return b
	}
	if o.NoLocal {
		b |= optionNoLocal
	}
	if o.RetainAsPublished {
		b |= optionRetainAsPublished
	}
	return b | byte(o.RetainHandling)<<4
}

func (d *decoder) suback() *Suback {
	p := &Suback{PacketID: d.packetID()}
	if d.version == V5 {
		p.Properties = d.ackProperties(TypeSuback)
	}
	p.Reasons = d.reasons(TypeSuback)
	for _, reason := range p.Reasons { // 3.1.1 has one failure, 3.1 none
		if d.version != V5 && reason > GrantedQoS2 && (d.version == V31 || reason != ReasonCode(subackFailure)) {
			d.fail(forbidden("3.1.1 MQTT-3.9.3-2", "return code is reserved"))
		}
	}
	return p
}

func (w *writer) suback(p *Suback) {
	w.uint16(p.PacketID)
	w.properties(func() { w.ackFields(&p.Properties) })
	for _, reason := range p.Reasons {
		w.byte(subackCode(w.version, reason))
	}
}

// subackCode is the reason as v has it. 3.1 cannot refuse: it is told that QoS 0 was granted. (3.1: section 3.9)
func subackCode(v Version, reason ReasonCode) byte {
	switch {
	case v == V5 || !reason.Failed():
		return byte(reason)
	case v == V31:
		return byte(GrantedQoS0)
	default:
		return subackFailure
	}
}
