package mqttcodec

import (
	"encoding/binary"
	"sync/atomic"
)

// Shared is what clients that get the same message have in common: the encoded PUBLISH, made once in each form by whoever
// needs it first. The zero value has none yet. Safe for concurrent use.
type Shared struct {
	// forms are by the bits of formIndex: 5.0 or before, QoS, retain flag.
	forms [2 * 3 * 2]atomic.Pointer[SharedPublish]
}

func formIndex(v Version, qos QoS, retain bool) int {
	i := int(qos) * 4
	if v == V5 {
		i += 2
	}
	if retain {
		i++
	}
	return i
}

// Form is the form of these attributes, nil when nobody has made it.
func (s *Shared) Form(v Version, qos QoS, retain bool) *SharedPublish {
	return s.forms[formIndex(v, qos, retain)].Load()
}

// Make makes a form out of a PUBLISH, which has nothing in it that belongs to one client: no DUP, topic alias or subscription
// identifier. Its packet identifier does not matter. The PUBLISH is not kept.
func (s *Shared) Make(v Version, p *Publish) (*SharedPublish, error) {
	encoded, err := Append(nil, v, p)
	if err != nil {
		return nil, err
	}
	form := &SharedPublish{encoded: encoded}
	if p.QoS > 0 {
		_, size, _ := readVarint(encoded[1:])
		form.idAt = 1 + size + 2 + len(p.Topic)
	}
	s.forms[formIndex(v, p.QoS, p.Retain)].Store(form)
	return form, nil
}

// SharedPublish is a PUBLISH whose encoding many clients share. It is written for the version that it was made for, whatever
// the version that Append is asked for; it is never read. Immutable.
type SharedPublish struct {
	encoded []byte
	// idAt is where its packet identifier stands, 0 without.
	idAt int
	id   uint16
}

// WithID is the same PUBLISH with a packet identifier. [MQTT-2.2.1-4]
func (p *SharedPublish) WithID(id uint16) *SharedPublish {
	return &SharedPublish{encoded: p.encoded, idAt: p.idAt, id: id}
}

// Len is its size in bytes.
func (p *SharedPublish) Len() int { return len(p.encoded) }

func (p *SharedPublish) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, p.encoded...)
	if p.idAt > 0 {
		binary.BigEndian.PutUint16(dst[start+p.idAt:], p.id)
	}
	return dst
}

// Type implements Packet.
func (*SharedPublish) Type() PacketType { return TypePublish }

func (*SharedPublish) packet() {}
