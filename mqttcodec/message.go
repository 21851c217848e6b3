package mqttcodec

// MessageProperties are the properties that belong to an application message and travel with it
// unaltered from publisher to subscriber, in PUBLISH and in a will. (3.3.2.3, 3.1.3.2)
type MessageProperties struct {
	// PayloadFormat is 0 (bytes) or 1 (UTF-8).
	PayloadFormat Optional[byte]
	// MessageExpirySeconds is the lifetime of the message from publication on.
	MessageExpirySeconds Optional[uint32]
	ContentType          Optional[string]
	// ResponseTopic is empty when absent; it cannot be present and empty.
	ResponseTopic string
	// CorrelationData is nil when absent.
	CorrelationData []byte
	UserProperties  []UserProperty
}

// userPropertyMemory is what a user property takes beside its strings.
const userPropertyMemory = 32

// Memory is about how many bytes the properties take in memory: for bounds. Each user property counts, also an empty one.
func (p *MessageProperties) Memory() int {
	n := len(p.ContentType.Value) + len(p.ResponseTopic) + len(p.CorrelationData) + len(p.UserProperties)*userPropertyMemory
	for i := range p.UserProperties {
		n += len(p.UserProperties[i].Key) + len(p.UserProperties[i].Value)
	}
	return n
}

// message is what the section says of the application message. Response Topic is a topic name. [MQTT-3.3.2-13] [MQTT-3.3.2-14]
func (d *decoder) message(s *properties) MessageProperties {
	m := MessageProperties{
		PayloadFormat:        s.optionalByte(propPayloadFormat),
		MessageExpirySeconds: s.optionalUint32(propMessageExpiry),
		ContentType:          s.optionalText(propContentType),
		ResponseTopic:        s.text(propResponseTopic),
		CorrelationData:      s.binary(propCorrelationData),
		UserProperties:       s.userProperties(),
	}
	if s.at[propResponseTopic] != 0 && (m.ResponseTopic == "" || hasWildcard(m.ResponseTopic)) {
		d.fail(forbidden("MQTT-3.3.2-14", "Response Topic is empty or has a wildcard"))
	}
	return m
}

func (w *writer) message(m *MessageProperties) {
	optional(w, propPayloadFormat, m.PayloadFormat)
	optional(w, propMessageExpiry, m.MessageExpirySeconds)
	w.optionalText(propContentType, m.ContentType)
	w.text(propResponseTopic, m.ResponseTopic)
	w.data(propCorrelationData, m.CorrelationData)
	w.userProperties(m.UserProperties)
}
