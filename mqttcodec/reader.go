package mqttcodec

import (
	"bufio"
	"errors"
	"io"
)

// FrameLength returns the whole length in bytes of the packet that starts at b[0], or 0 when b does not hold the whole
// fixed header yet. It reports a *ProtocolError for a packet that is not worth waiting for: a reserved type, bad flags,
// a Remaining Length that is not one, a length above limit (0: none). It allocates nothing but errors.
func FrameLength(b []byte, limit int) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := checkFirstByte(b[0]); err != nil {
		return 0, err
	}
	remaining, size, err := readVarint(b[1:])
	if err != nil {
		return 0, err
	}
	if size == 0 {
		return 0, nil
	}
	length := 1 + size + int(remaining)
	if limit > 0 && length > limit {
		return 0, &ProtocolError{Reason: PacketTooLarge, Clause: "MQTT-3.2.2-15", Detail: "packet is larger than the maximum packet size"}
	}
	return length, nil
}

// checkFirstByte reports a type or flags that no version has. [MQTT-2.1.3-1]
func checkFirstByte(first byte) *ProtocolError {
	t, flags := PacketType(first>>4), first&0x0F
	switch t {
	case 0:
		return malformed("", "control packet type 0 is reserved")
	case TypePublish:
		if flags&0x06 == 0x06 {
			return malformed("MQTT-3.3.1-4", "PUBLISH with QoS 3")
		}
		return nil
	case TypePubrel, TypeSubscribe, TypeUnsubscribe: // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
		flags &^= 0x08 // 3.1 has DUP here; Decode knows the version
		if flags == 0x02 {
			return nil
		}
	default:
		if flags == 0 { // [MQTT-3.14.1-1] [MQTT-3.15.1-1] and the rest of table 2-2
			return nil
		}
	}
	return malformed("MQTT-2.1.3-1", t.String()+" with reserved flags")
}

// Reader reads packets from a byte stream. It is owned by one goroutine.
type Reader struct {
	r       *bufio.Reader
	version Version
	limit   int
}

// NewReader reads packets of version v (see SetVersion) and of at most limit bytes (0: no limit) from r.
func NewReader(r io.Reader, v Version, limit int) *Reader {
	return &Reader{r: bufio.NewReader(r), version: v, limit: limit}
}

// SetVersion makes the following packets be read as version v: a server calls it after CONNECT, which names its own.
func (r *Reader) SetVersion(v Version) { r.version = v }

// ReadPacket reads the next packet, which is the caller's to keep. The packet's size is checked before memory is
// reserved for it. At the end of the stream the error is io.EOF, within a packet io.ErrUnexpectedEOF.
func (r *Reader) ReadPacket() (Packet, error) {
	frame, err := r.ReadFrame()
	if err != nil {
		return nil, err
	}
	return Decode(r.version, frame)
}

// ReadFrame is ReadPacket for who wants to see the bytes too: it reads the frame of the next packet and leaves it to
// Decode.
func (r *Reader) ReadFrame() ([]byte, error) {
	length, err := r.frameLength()
	if err != nil {
		return nil, err
	}
	frame := make([]byte, length)
	if _, err := io.ReadFull(r.r, frame); err != nil {
		return nil, unexpected(err)
	}
	return frame, nil
}

// frameLength looks at the next packet's fixed header without waiting for a byte more than it has.
func (r *Reader) frameLength() (int, error) {
	for n := 1; ; n++ {
		header, err := r.r.Peek(n)
		if err != nil && len(header) > 0 {
			err = unexpected(err)
		}
		if err != nil {
			return 0, err
		}
		if length, err := FrameLength(header, r.limit); err != nil || length > 0 {
			return length, err
		}
	}
}

// unexpected is err for a stream that ended within a packet.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
