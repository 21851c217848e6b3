package mqttcodec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
	"unsafe"
)

// maxVarint is the greatest Variable Byte Integer. (1.5.5)
const maxVarint = 268_435_455

// ErrTooLong is returned for a packet that has a field or a whole longer than MQTT can express.
var ErrTooLong = errors.New("mqttcodec: too long to encode")

// ErrNoForm is returned for a packet which does not exist, or not with these contents, in the version asked for.
var ErrNoForm = errors.New("mqttcodec: packet has no form in this version")

// malformed is the error for bytes that cannot be read as MQTT. (4.13.1)
func malformed(clause, detail string) *ProtocolError {
	return &ProtocolError{Reason: MalformedPacket, Clause: clause, Detail: detail}
}

// forbidden is the error for a value that can be read and must not be sent. (4.13.1)
func forbidden(clause, detail string) *ProtocolError {
	return &ProtocolError{Reason: ProtocolErrorReason, Clause: clause, Detail: detail}
}

// decoder reads the body of one packet, front to back.
//
// Invariant: the first error stays, and rest is empty from then on, so that every later read returns zero values and
// every loop over rest ends.
type decoder struct {
	version Version
	rest    []byte
	err     *ProtocolError
}

func (d *decoder) fail(err *ProtocolError) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

// take is the next n bytes. They alias the frame, with no room to append into the bytes that follow.
func (d *decoder) take(n int, what string) []byte {
	if n > len(d.rest) {
		d.fail(malformed("", fmt.Sprintf("%s runs past the end: %d bytes of %d are there", what, len(d.rest), n)))
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte(what string) byte {
	if b := d.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16(what string) uint16 {
	if b := d.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32(what string) uint32 {
	if b := d.take(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a Variable Byte Integer.
func (d *decoder) varint(what string) uint32 {
	value, size, err := readVarint(d.rest)
	switch {
	case err != nil:
		d.fail(err)
		return 0
	case size == 0:
		d.fail(malformed("", what+" runs past the end"))
		return 0
	}
	d.rest = d.rest[size:]
	return value
}

// packetID reads a packet identifier. [MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1]
func (d *decoder) packetID() uint16 {
	id := d.uint16("packet identifier")
	if id == 0 {
		d.fail(forbidden("MQTT-2.2.1-3", "packet identifier is 0"))
	}
	return id
}

// binary reads Binary Data; it is never nil unless reading failed. (1.5.6)
func (d *decoder) binary(what string) []byte {
	return d.take(int(d.uint16(what)), what)
}

// string reads a UTF-8 Encoded String. (1.5.4)
func (d *decoder) string(what string) string {
	b := d.binary(what)
	if err := checkText(b, what); err != nil {
		d.fail(err)
		return ""
	}
	return alias(b)
}

// checkText reports ill-formed UTF-8 (overlong forms and surrogates included) and U+0000. All other characters are
// allowed, control characters too, and U+FEFF is kept. [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3]
func checkText(b []byte, what string) *ProtocolError {
	if !utf8.Valid(b) {
		return malformed("MQTT-1.5.4-1", what+" is not UTF-8")
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return malformed("MQTT-1.5.4-2", what+" contains U+0000")
	}
	return nil
}

// alias is b as a string without a copy. This is the package's one use of unsafe. It is sound because nobody writes to
// a frame after Decode: that is Decode's contract with its caller, and the codec itself only reads. The string keeps
// the frame's memory alive.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// readVarint reads the Variable Byte Integer at the start of b; size 0 means that b ends within it.
func readVarint(b []byte) (value uint32, size int, err *ProtocolError) {
	for i := range min(len(b), 4) {
		value |= uint32(b[i]&0x7F) << (7 * i)
		if b[i]&0x80 != 0 {
			continue
		}
		if b[i] == 0 && i > 0 {
			return 0, 0, malformed("MQTT-1.5.5-1", "variable byte integer is longer than need be")
		}
		return value, i + 1, nil
	}
	if len(b) >= 4 {
		return 0, 0, malformed("MQTT-1.5.5-1", "variable byte integer of more than four bytes")
	}
	return 0, 0, nil
}

// varintSize is the number of bytes that n takes as a Variable Byte Integer.
func varintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	default:
		return 4
	}
}

// writer writes the body of one packet, or only counts its bytes. The packets write through it once to count and once
// to append, so that a length can never disagree with what follows it.
type writer struct {
	version  Version
	counting bool
	// n is the number of bytes counted.
	n int
	// dst grows while counting is off.
	dst []byte
	err error
}

func (w *writer) byte(b byte) {
	if w.counting {
		w.n++
		return
	}
	w.dst = append(w.dst, b)
}

func (w *writer) uint16(n uint16) {
	if w.counting {
		w.n += 2
		return
	}
	w.dst = binary.BigEndian.AppendUint16(w.dst, n)
}

func (w *writer) uint32(n uint32) {
	if w.counting {
		w.n += 4
		return
	}
	w.dst = binary.BigEndian.AppendUint32(w.dst, n)
}

func (w *writer) varint(n int) {
	if n > maxVarint {
		w.err = ErrTooLong
	}
	if w.counting {
		w.n += varintSize(n)
		return
	}
	for n >= 0x80 {
		w.dst = append(w.dst, byte(n)|0x80)
		n >>= 7
	}
	w.dst = append(w.dst, byte(n))
}

// string writes a UTF-8 Encoded String.
func (w *writer) string(s string) {
	if len(s) > math.MaxUint16 {
		w.err = ErrTooLong
	}
	w.uint16(uint16(len(s)))
	if w.counting {
		w.n += len(s)
		return
	}
	w.dst = append(w.dst, s...)
}

// binary writes Binary Data.
func (w *writer) binary(b []byte) {
	if len(b) > math.MaxUint16 {
		w.err = ErrTooLong
	}
	w.uint16(uint16(len(b)))
	w.bytes(b)
}

// bytes writes b with no length.
func (w *writer) bytes(b []byte) {
	if w.counting {
		w.n += len(b)
		return
	}
	w.dst = append(w.dst, b...)
}
