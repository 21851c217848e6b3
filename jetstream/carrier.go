package jetstream

import (
	"strconv"

	"github.com/nats-io/nats.go"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// headerProperties says how many bytes before the payload hold the properties, as an MQTT 5.0 PUBLISH packet: JetStream
// takes no header of more than 64 KiB, and the properties of an MQTT message may be as large as its packet.
const headerProperties = "Mqtt-Properties"

// headerMax is the size from which on a header is too large for JetStream, with what writers add to it.
const headerMax = 56 << 10

// encodeMessage is what is stored of a message: its attributes in the header, or, when they are too large for it, before
// the payload.
func encodeMessage(m *sessions.Message) (h nats.Header, data []byte) {
	if h = encodeHeader(m); headerSize(h) <= headerMax {
		return h, m.Payload
	}
	h = encodeHeader(&sessions.Message{QoS: m.QoS, Retain: m.Retain})
	if h == nil {
		h = make(nats.Header, 2)
	}
	// The publisher has no place in a packet of its own: it comes before the user properties.
	carrier := mqttcodec.Publish{Topic: headerProperties, Properties: m.Properties}
	carrier.Properties.UserProperties = append([]mqttcodec.UserProperty{{Key: headerPublisher, Value: m.Publisher}}, m.Properties.UserProperties...)
	size, err := mqttcodec.Size(mqttcodec.V5, &carrier)
	if err == nil {
		data, err = mqttcodec.Append(make([]byte, 0, size+len(m.Payload)), mqttcodec.V5, &carrier)
	}
	if err != nil {
		return encodeHeader(m), m.Payload // JetStream refuses it
	}
	h[headerProperties] = []string{strconv.Itoa(len(data))}
	return h, append(data, m.Payload...)
}

func headerSize(h nats.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

// decodeMessage reverses encodeMessage on what anybody may have written: it sets m's payload and attributes, and returns
// how many values it passed over because they make no sense.
func decodeMessage(h nats.Header, data []byte, m *sessions.Message) (invalid uint64) {
	m.Payload = data
	invalid = decodeHeader(h, m)
	v, ok := headerValue(h, headerProperties)
	if !ok {
		return invalid
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > len(data) {
		return invalid + 1
	}
	packet, err := mqttcodec.Decode(mqttcodec.V5, data[:n])
	carrier, ok := packet.(*mqttcodec.Publish)
	if err != nil || !ok {
		return invalid + 1
	}
	m.Payload, m.Properties = data[n:], carrier.Properties
	if list := m.Properties.UserProperties; len(list) > 0 && list[0].Key == headerPublisher {
		m.Publisher, m.Properties.UserProperties = list[0].Value, list[1:]
		if len(list) == 1 {
			m.Properties.UserProperties = nil
		}
	}
	return invalid
}
