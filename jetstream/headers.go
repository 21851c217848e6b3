package jetstream

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// The headers in which the attributes of a message travel. A message at QoS 1 without properties has none.
const (
	headerQoS             = "Mqtt-Qos"
	headerRetain          = "Mqtt-Retain"
	headerPayloadFormat   = "Mqtt-Payload-Format"
	headerMessageExpiry   = "Mqtt-Message-Expiry"
	headerContentType     = "Mqtt-Content-Type"
	headerResponseTopic   = "Mqtt-Response-Topic"
	headerCorrelationData = "Mqtt-Correlation-Data"
	headerUserProperty    = "Mqtt-User-Property"
	headerPublisher       = "Mqtt-Publisher"

	// The retained bucket adds where the message stood in the log, and the topic when its key is hashed.
	headerLogSequence = "Mqtt-Log-Sequence"
	headerLogTime     = "Mqtt-Log-Time"
	headerTopic       = "Mqtt-Topic"

	headerClientID = "Dunlin-Client-Id"
)

// Headers of the server.
const (
	headerMessageID       = "Nats-Msg-Id"
	headerTTL             = "Nats-TTL"
	headerExpectedStream  = "Nats-Expected-Stream"
	headerExpectedSubject = "Nats-Expected-Last-Subject-Sequence"
	headerMarkerReason    = "Nats-Marker-Reason"
	headerKVOperation     = "KV-Operation"
	headerStatus          = "Status"
	// headerPullPending says in a status how many of the messages that were asked for the request was not given.
	headerPullPending = "Nats-Pending-Messages"
)

// reservedPrefixes begin the header names that mean something to NATS or to us; never a user property's plain copy.
var reservedPrefixes = []string{"nats-", "mqtt-", "kv-", "dunlin-"}

// encodeHeader is the header that carries a message's attributes; nil when there is nothing to say.
func encodeHeader(m *sessions.Message) nats.Header {
	var h nats.Header
	set := func(name, value string) {
		if h == nil {
			h = make(nats.Header, 4)
		}
		h[name] = append(h[name], value)
	}
	if m.QoS != 1 {
		set(headerQoS, strconv.Itoa(int(m.QoS)))
	}
	if m.Retain {
		set(headerRetain, "1")
	}
	if m.Publisher != "" {
		set(headerPublisher, escapeValue(m.Publisher))
	}
	p := &m.Properties
	if p.PayloadFormat.Present {
		set(headerPayloadFormat, strconv.Itoa(int(p.PayloadFormat.Value)))
	}
	if p.MessageExpirySeconds.Present {
		set(headerMessageExpiry, strconv.FormatUint(uint64(p.MessageExpirySeconds.Value), 10))
	}
	if p.ContentType.Present {
		set(headerContentType, escapeValue(p.ContentType.Value))
	}
	if p.ResponseTopic != "" {
		set(headerResponseTopic, escapeValue(p.ResponseTopic))
	}
	if p.CorrelationData != nil {
		set(headerCorrelationData, base64.StdEncoding.EncodeToString(p.CorrelationData))
	}
	for _, u := range p.UserProperties {
		set(headerUserProperty, escapeKey(u.Key)+"="+escapeValue(u.Value))
		if plainName(u.Key) && plainValue(u.Value) {
			set(u.Key, u.Value)
		}
	}
	return h
}

// decodeHeader sets m's attributes from a header that anybody may have written, and returns how many values it passed over
// because they make no sense.
func decodeHeader(h nats.Header, m *sessions.Message) (invalid uint64) {
	m.QoS = 1 // whoever publishes to the stream without a word wants it stored
	if len(h) == 0 {
		return 0
	}
	p := &m.Properties
	check := func(ok bool) bool {
		if !ok {
			invalid++
		}
		return ok
	}
	if v, ok := headerValue(h, headerQoS); ok && check(len(v) == 1 && '0' <= v[0] && v[0] <= '2') {
		m.QoS = mqttcodec.QoS(v[0] - '0')
	}
	if v, ok := headerValue(h, headerRetain); ok && check(v == "0" || v == "1") {
		m.Retain = v == "1"
	}
	if v, ok := headerValue(h, headerPayloadFormat); ok && check(v == "0" || v == "1") {
		p.PayloadFormat = mqttcodec.Some(v[0] - '0')
	}
	if v, ok := headerValue(h, headerMessageExpiry); ok {
		if seconds, err := strconv.ParseUint(v, 10, 32); check(err == nil) {
			p.MessageExpirySeconds = mqttcodec.Some(uint32(seconds))
		}
	}
	if v, ok := headerValue(h, headerContentType); ok {
		if s, valid := unescape(v); check(valid) {
			p.ContentType = mqttcodec.Some(s)
		}
	}
	if v, ok := headerValue(h, headerResponseTopic); ok {
		if s, valid := unescape(v); check(valid && validTopic(s)) { // [MQTT-3.3.2-14]
			p.ResponseTopic = s
		}
	}
	if v, ok := headerValue(h, headerCorrelationData); ok {
		if data, err := base64.StdEncoding.DecodeString(v); check(err == nil && len(data) <= maxString) {
			p.CorrelationData = data
		}
	}
	if v, ok := headerValue(h, headerPublisher); ok {
		if s, valid := unescape(v); check(valid) {
			m.Publisher = s
		}
	}
	for _, v := range h[headerUserProperty] {
		if u, ok := decodeUserProperty(v); check(ok) {
			p.UserProperties = append(p.UserProperties, u)
		}
	}
	return invalid + appendPlainHeaders(h, p)
}

// appendPlainHeaders makes user properties of what a NATS service put into plain headers, in name order. Those that only
// repeat a user property are copies of ours.
func appendPlainHeaders(h nats.Header, p *mqttcodec.MessageProperties) (invalid uint64) {
	var names []string
	for name := range h {
		if plainName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	listed := len(p.UserProperties)
	for _, name := range names {
		for _, v := range h[name] {
			u := mqttcodec.UserProperty{Key: name, Value: v}
			switch {
			case slices.Contains(p.UserProperties[:listed], u):
			case !validString(v):
				invalid++
			default:
				p.UserProperties = append(p.UserProperties, u)
			}
		}
	}
	return invalid
}

func headerValue(h nats.Header, name string) (string, bool) {
	if v := h[name]; len(v) > 0 {
		return v[0], true
	}
	return "", false
}

func decodeUserProperty(v string) (u mqttcodec.UserProperty, ok bool) {
	key, value, found := strings.Cut(v, "=")
	if !found {
		return u, false
	}
	var keyOK, valueOK bool
	u.Key, keyOK = unescape(key)
	u.Value, valueOK = unescape(value)
	return u, keyOK && valueOK
}

// plainName reports whether a user property's key may be a header name for NATS services to read.
func plainName(key string) bool {
	if key == "" || len(key) > 128 {
		return false
	}
	for i := range len(key) {
		if escapedInKey(key[i]) {
			return false
		}
	}
	for _, prefix := range reservedPrefixes {
		if len(key) >= len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
			return false
		}
	}
	// A client library takes these for the status of an answer.
	return !strings.EqualFold(key, "Status") && !strings.EqualFold(key, "Description")
}

// plainValue reports whether a value survives a header as it is.
func plainValue(v string) bool {
	for i := range len(v) {
		if escapedInValue(v, i) && v[i] != '%' {
			return false
		}
	}
	return true
}

// maxString is the longest UTF-8 string or binary datum in an MQTT packet. (1.5.4)
const maxString = 65535

// validString reports whether s may be a string in an MQTT packet. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
func validString(s string) bool {
	return len(s) <= maxString && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// escapedInValue reports whether the byte at i cannot stand in a header value: control characters end it, and blanks at
// its ends are trimmed on the way.
func escapedInValue(v string, i int) bool {
	c := v[i]
	return c < ' ' || c == 0x7f || c == '%' || c == ' ' && (i == 0 || i == len(v)-1)
}

// escapeValue makes a string into a header value; unescape reverses it.
func escapeValue(v string) string {
	return escape(v, func(i int) bool { return escapedInValue(v, i) })
}

// escapeKey makes a user property's key into what stands before "=" in a header value.
func escapeKey(v string) string {
	return escape(v, func(i int) bool { return escapedInValue(v, i) || v[i] == '=' })
}

func escape(v string, escaped func(i int) bool) string {
	for i := range len(v) {
		if escaped(i) {
			return escapeFrom(v, i, escaped)
		}
	}
	return v
}

func escapeFrom(v string, first int, escaped func(i int) bool) string {
	var b strings.Builder
	b.Grow(len(v) + 8)
	b.WriteString(v[:first])
	for i := first; i < len(v); i++ {
		if escaped(i) {
			b.WriteByte('%')
			b.WriteByte(upperHex[v[i]>>4])
			b.WriteByte(upperHex[v[i]&15])
		} else {
			b.WriteByte(v[i])
		}
	}
	return b.String()
}

// unescape reverses escapeValue and escapeKey, and reports whether the result may be a string in an MQTT packet.
func unescape(v string) (string, bool) {
	if strings.IndexByte(v, '%') < 0 {
		return v, validString(v)
	}
	b := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c == '%' {
			if i+2 >= len(v) {
				return "", false
			}
			high, low := strings.IndexByte(upperHex, v[i+1]), strings.IndexByte(upperHex, v[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			c = byte(high<<4 | low)
			i += 2
		}
		b = append(b, c)
	}
	s := string(b)
	return s, validString(s)
}
