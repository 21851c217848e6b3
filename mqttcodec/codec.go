package mqttcodec

import "slices"

// Plain reports whether a packet refers to nothing of the frame that it is decoded from, whatever the version: one that only
// acknowledges, without properties.
func Plain(frame []byte) bool {
	t := PacketType(frame[0] >> 4)
	return len(frame) == 4 && t >= TypePuback && t <= TypePubcomp
}

// Decode decodes one whole packet: frame holds exactly one, and its size is for the caller to limit (FrameLength).
//
// The packet's strings and byte slices alias frame. The caller must never write to frame again; the packet keeps it alive.
// CONNECT names its own version, so v does not matter for it. The error is a *ProtocolError.
func Decode(v Version, frame []byte) (Packet, error) {
	length, err := FrameLength(frame, 0)
	if err != nil {
		return nil, err
	}
	if length == 0 || length > len(frame) {
		return nil, malformed("", "packet is shorter than its Remaining Length")
	}
	if length < len(frame) {
		return nil, malformed("", "packet is longer than its Remaining Length")
	}
	_, size, _ := readVarint(frame[1:])
	d := decoder{version: v, rest: frame[1+size:]}
	p := d.packet(PacketType(frame[0]>>4), frame[0]&0x0F)
	if d.err == nil && len(d.rest) > 0 {
		d.fail(malformed("", "bytes left over at the end of "+p.Type().String()))
	}
	if d.err != nil {
		return nil, d.err
	}
	return p, nil
}

// packet reads the body of a packet whose first byte has passed checkFirstByte. After an error the result is unfinished.
func (d *decoder) packet(t PacketType, flags byte) Packet {
	if t != TypePublish && flags&0x08 != 0 && d.version != V31 { // only 3.1 repeats PUBREL, SUBSCRIBE, UNSUBSCRIBE with DUP
		d.fail(malformed("MQTT-2.1.3-1", t.String()+" with reserved flags"))
	}
	switch t {
	case TypeConnect:
		return d.connect()
	case TypeConnack:
		return d.connack()
	case TypePublish:
		return d.publish(flags)
	case TypePuback:
		id, reason, properties := d.ack(TypePuback)
		p := NewPuback()
		p.PacketID, p.Reason, p.Properties = id, reason, properties
		return p
	case TypePubrec:
		id, reason, properties := d.ack(TypePubrec)
		return &Pubrec{id, reason, properties}
	case TypePubrel:
		id, reason, properties := d.ack(TypePubrel)
		return &Pubrel{id, reason, properties}
	case TypePubcomp:
		id, reason, properties := d.ack(TypePubcomp)
		return &Pubcomp{id, reason, properties}
	case TypeSubscribe:
		return d.subscribe()
	case TypeSuback:
		return d.suback()
	case TypeUnsubscribe:
		return d.unsubscribe()
	case TypeUnsuback:
		return d.unsuback()
	case TypePingreq:
		return &Pingreq{}
	case TypePingresp:
		return &Pingresp{}
	case TypeDisconnect:
		return d.disconnect()
	case TypeAuth:
		return d.auth()
	default:
		panic("mqttcodec: type 0 passed the check of the first byte")
	}
}

// Append appends the encoded packet to dst and returns it, without allocating when dst has the capacity. CONNECT is
// written in its own Version, every other packet in v; properties and reason codes that v does not have are left out.
//
// The error is ErrNoForm for a packet that v cannot express (before 5.0: AUTH, DISCONNECT with a reason, CONNACK with a
// reason that no return code stands for: the connection is just closed then) and ErrTooLong; dst is then returned as it was. Lengths are all that is checked: a field that breaks the protocol's
// rules is written as it stands.
func Append(dst []byte, v Version, p Packet) ([]byte, error) {
	if shared, ok := p.(*SharedPublish); ok {
		return shared.appendTo(dst), nil
	}
	body, err := bodySize(v, p)
	if err != nil {
		return dst, err
	}
	w := writer{version: v, dst: slices.Grow(dst, 1+varintSize(body)+body)}
	w.byte(firstByte(p))
	w.varint(body)
	w.packet(p)
	return w.dst, nil
}

// Size is the exact number of bytes that Append would append, for the client's Maximum Packet Size. [MQTT-3.1.2-24]
func Size(v Version, p Packet) (int, error) {
	if shared, ok := p.(*SharedPublish); ok {
		return shared.Len(), nil
	}
	body, err := bodySize(v, p)
	if err != nil {
		return 0, err
	}
	return 1 + varintSize(body) + body, nil
}

// bodySize is the packet's Remaining Length.
func bodySize(v Version, p Packet) (int, error) {
	w := writer{version: v, counting: true}
	w.packet(p)
	if w.err == nil && w.n > maxVarint {
		w.err = ErrTooLong
	}
	return w.n, w.err
}

// firstByte is the packet's type and flags. (2.1.1)
func firstByte(p Packet) byte {
	first := byte(p.Type()) << 4
	switch p.Type() {
	case TypePublish:
		return first | p.(*Publish).flags()
	case TypePubrel, TypeSubscribe, TypeUnsubscribe: // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
		return first | 0x02
	default:
		return first
	}
}

// packet writes the packet's body. It is a switch and not a method of Packet, so that the writer stays on the stack.
func (w *writer) packet(p Packet) {
	switch p := p.(type) {
	case *Connect:
		w.connect(p)
	case *Connack:
		w.connack(p)
	case *Publish:
		w.publish(p)
	case *SharedPublish: // encoded already, see Append
	case *Puback:
		w.ack(p.PacketID, p.Reason, &p.Properties)
	case *Pubrec:
		w.ack(p.PacketID, p.Reason, &p.Properties)
	case *Pubrel:
		w.ack(p.PacketID, p.Reason, &p.Properties)
	case *Pubcomp:
		w.ack(p.PacketID, p.Reason, &p.Properties)
	case *Subscribe:
		w.subscribe(p)
	case *Suback:
		w.suback(p)
	case *Unsubscribe:
		w.unsubscribe(p)
	case *Unsuback:
		w.unsuback(p)
	case *Pingreq, *Pingresp: // no body
	case *Disconnect:
		w.disconnect(p)
	case *Auth:
		w.auth(p)
	}
}
