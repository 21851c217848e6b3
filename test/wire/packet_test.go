package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dunlin/mqttcodec"
)

// newPackets makes a packet of each kind by its name.
var newPackets = map[string]func() mqttcodec.Packet{
	"CONNECT":     func() mqttcodec.Packet { return &mqttcodec.Connect{} },
	"CONNACK":     func() mqttcodec.Packet { return &mqttcodec.Connack{} },
	"PUBLISH":     func() mqttcodec.Packet { return &mqttcodec.Publish{} },
	"PUBACK":      func() mqttcodec.Packet { return &mqttcodec.Puback{} },
	"PUBREC":      func() mqttcodec.Packet { return &mqttcodec.Pubrec{} },
	"PUBREL":      func() mqttcodec.Packet { return &mqttcodec.Pubrel{} },
	"PUBCOMP":     func() mqttcodec.Packet { return &mqttcodec.Pubcomp{} },
	"SUBSCRIBE":   func() mqttcodec.Packet { return &mqttcodec.Subscribe{} },
	"SUBACK":      func() mqttcodec.Packet { return &mqttcodec.Suback{} },
	"UNSUBSCRIBE": func() mqttcodec.Packet { return &mqttcodec.Unsubscribe{} },
	"UNSUBACK":    func() mqttcodec.Packet { return &mqttcodec.Unsuback{} },
	"PINGREQ":     func() mqttcodec.Packet { return &mqttcodec.Pingreq{} },
	"PINGRESP":    func() mqttcodec.Packet { return &mqttcodec.Pingresp{} },
	"DISCONNECT":  func() mqttcodec.Packet { return &mqttcodec.Disconnect{} },
	"AUTH":        func() mqttcodec.Packet { return &mqttcodec.Auth{} },
}

// bytesOf are the bytes of packets separated by ";", in the order in which they stand.
func (p *player) bytesOf(c *connection, words []string) (all []byte, err error) {
	for len(words) > 0 {
		end := slices.Index(words, ";")
		if end < 0 {
			end = len(words)
		}
		one, err := p.bytesOfOne(c, words[:end])
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
		words = words[min(end+1, len(words)):]
	}
	return all, nil
}

func (p *player) bytesOfOne(c *connection, words []string) ([]byte, error) {
	switch {
	case len(words) == 0:
		return nil, errors.New("no packet")
	// hex 82 06 12 34 00 00 01 "p"
	case words[0] == "hex":
		return p.rawBytes(words[1:])
	// frame 10 s"MQTT" 05 02 00 3c {11 00 00 00 0a} s"$a": the Remaining Length is filled in
	case words[0] == "frame" && len(words) > 1:
		first, err := p.rawBytes(words[1:2])
		if err != nil {
			return nil, err
		}
		body, err := p.rawBytes(words[2:])
		return append(first, withLength(body)...), err
	}
	packet, err := p.packet(words, c.name)
	if err != nil {
		return nil, err
	}
	if connect, ok := packet.(*mqttcodec.Connect); ok {
		c.raw.Speak(connect.Version)
		c.version = connect.Version
	}
	return mqttcodec.Append(nil, c.version, packet)
}

// withLength puts the length of b before it, as a Variable Byte Integer.
func withLength(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

// rawBytes reads bytes: 0a, "text", s"text" with its length in two bytes before it, {…} with its length as a Variable Byte
// Integer before it; each may be repeated: 00*5.
func (p *player) rawBytes(words []string) (b []byte, err error) {
	text := strings.Join(words, " ")
	open := [][]byte{nil}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		inner := &open[len(open)-1]
		switch text[0] {
		case '{':
			open, text = append(open, nil), text[1:]
			continue
		case '}':
			if len(open) == 1 {
				return nil, errors.New("a } closes nothing")
			}
			outer := &open[len(open)-2]
			*outer = append(*outer, withLength(*inner)...)
			open, text = open[:len(open)-1], text[1:]
			continue
		}
		var one []byte
		if one, text, err = p.rawElement(text); err != nil {
			return nil, err
		}
		*inner = append(*inner, one...)
	}
	if len(open) > 1 {
		return nil, errors.New("a { is not closed")
	}
	return open[0], nil
}

// rawElement reads the first byte or string of a text.
func (p *player) rawElement(text string) (b []byte, rest string, err error) {
	prefixed := strings.HasPrefix(text, `s"`)
	if prefixed {
		text = text[1:]
	}
	if quoted, quotedErr := strconv.QuotedPrefix(text); quotedErr == nil {
		rest = text[len(quoted):]
		times := ""
		if found := rawTimes(rest); found != "" {
			times, rest = found, rest[len(found):]
		}
		s, err := p.text(quoted + times)
		if prefixed {
			b = binary.BigEndian.AppendUint16(nil, uint16(len(s)))
		}
		return append(b, s...), rest, err
	}
	if len(text) < 2 {
		return nil, "", fmt.Errorf("%q is no byte", text)
	}
	n, err := strconv.ParseUint(text[:2], 16, 8)
	if err != nil {
		return nil, "", fmt.Errorf("%q is no byte", text[:2])
	}
	b, rest = []byte{byte(n)}, text[2:]
	if times := rawTimes(rest); times != "" {
		count, err := strconv.Atoi(times[1:])
		if err != nil {
			return nil, "", err
		}
		b, rest = slices.Repeat(b, count), rest[len(times):]
	}
	return b, rest, nil
}

// rawTimes is the *N at the start of a text, or empty.
func rawTimes(text string) string {
	if !strings.HasPrefix(text, "*") {
		return ""
	}
	end := 1
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	return text[:end]
}

// packet makes the packet that words name. A CONNECT without a client identifier gets that of its connection, and the
// version that the script is played in.
func (p *player) packet(words []string, name string) (mqttcodec.Packet, error) {
	make, ok := newPackets[words[0]]
	if !ok {
		return nil, fmt.Errorf("unknown packet %q", words[0])
	}
	packet := make()
	if connect, ok := packet.(*mqttcodec.Connect); ok {
		connect.Version, connect.ClientID = p.version, name+p.unique
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "will-") }) {
			connect.Will = &mqttcodec.Will{}
		}
	}
	named := map[string]bool{}
	for _, word := range words[1:] {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			value = "true" // retain
		}
		f, err := fieldOf(packet, key)
		if err != nil {
			return nil, err
		}
		if err := p.set(f, value); err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
		named[key] = true
	}
	return packet, needsID(packet, named)
}

// needsID refuses a packet whose identifier was forgotten; id=0 is the one that is forbidden.
func needsID(packet mqttcodec.Packet, named map[string]bool) error {
	publish, ok := packet.(*mqttcodec.Publish)
	if _, err := fieldOf(packet, "id"); err == nil && !named["id"] && packet.Type() != mqttcodec.TypeConnect && (!ok || publish.QoS > 0) {
		return errors.New("the packet has no id")
	}
	return nil
}

func fieldOf(packet mqttcodec.Packet, name string) (field, error) {
	for _, f := range fieldsOf(packet) {
		if f.name == name {
			return f, nil
		}
	}
	return field{}, fmt.Errorf("%v has no field %q", packet.Type(), name)
}
