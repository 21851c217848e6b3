package harness

import (
	"errors"
	"fmt"
	"net"
	"time"

	"dunlin/mqttcodec"
)

// Speak makes the client write and read packets of version v from now on.
func (r *Raw) Speak(v mqttcodec.Version) {
	r.version = v
	r.reader.SetVersion(v)
}

// byteByByteLimit is how many bytes of one write go out by themselves, the last ones; those before them go together.
const byteByByteLimit = 1000

// ByteByByte makes every byte that is written from now on a segment of its own, save the beginning of much.
func (r *Raw) ByteByByte() { r.byteByByte = true }

// SendBytes writes what the codec would not.
func (r *Raw) SendBytes(bytes ...byte) {
	r.t.Helper()
	if err := r.TrySendBytes(bytes); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

// TrySendBytes is SendBytes for a connection that may be gone.
func (r *Raw) TrySendBytes(bytes []byte) error {
	if !r.byteByByte {
		_, err := r.conn.Write(bytes)
		return err
	}
	for len(bytes) > 0 { // the socket has TCP_NODELAY, as Go sets it
		n := 1
		if len(bytes) > byteByByteLimit {
			n = len(bytes) - byteByByteLimit
		}
		if _, err := r.conn.Write(bytes[:n]); err != nil {
			return err
		}
		bytes = bytes[n:]
	}
	return nil
}

// TrySendFirst writes the first n bytes and keeps the others for TrySendRest.
func (r *Raw) TrySendFirst(n int, bytes []byte) error {
	if n < 0 || n > len(bytes) {
		return fmt.Errorf("the first %d of %d bytes", n, len(bytes))
	}
	r.unsent = append(r.unsent[:0], bytes[n:]...)
	return r.TrySendBytes(bytes[:n])
}

// TrySendRest writes what TrySendFirst kept.
func (r *Raw) TrySendRest() error {
	if len(r.unsent) == 0 {
		return errors.New("nothing was kept back")
	}
	err := r.TrySendBytes(r.unsent)
	r.unsent = nil
	return err
}

// HalfSent reports whether the rest of a packet is still to be sent.
func (r *Raw) HalfSent() bool { return len(r.unsent) > 0 }

// TryReadFrame reads the next packet and the bytes it came in; the bytes are there also when they are no packet.
func (r *Raw) TryReadFrame() ([]byte, mqttcodec.Packet, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.Patience)); err != nil {
		return nil, nil, err
	}
	frame, err := r.reader.ReadFrame()
	if err != nil {
		return nil, nil, err
	}
	p, err := mqttcodec.Decode(r.version, frame)
	return frame, p, err
}

// Reset closes the connection with RST, as a client's machine does when the client has crashed.
func (r *Raw) Reset() {
	if tcp, ok := r.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on a closed socket only
	}
	r.conn.Close()
}

// DropNoticed ends the connection without a word and returns when the broker has noticed: from then on the session has
// no connection.
func (r *Raw) DropNoticed() error {
	defer r.conn.Close()
	if tcp, ok := r.conn.(*net.TCPConn); ok {
		if err := tcp.CloseWrite(); err != nil && !Closed(err) {
			return err
		}
	}
	for {
		frame, _, err := r.TryReadFrame()
		switch {
		case frame != nil: // whatever it is
		case Closed(err):
			return nil
		default:
			return fmt.Errorf("the broker did not close: %w", err)
		}
	}
}
