package mqttcodec

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"
)

func TestFrameLength(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want int
	}{
		{nil, 0},
		{[]byte{0xC0}, 0},
		{[]byte{0xC0, 0}, 2},
		{[]byte{0x30, 0x7F}, 129},
		{[]byte{0x30, 0x80}, 0},
		{[]byte{0x30, 0x80, 0x01}, 131},
		{[]byte{0x30, 0xFF, 0xFF, 0xFF}, 0},
		{[]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 5 + maxVarint},
		{[]byte{0x30, 2, 0, 0, 0x30, 9}, 4}, // the next packet does not matter
	} {
		if got, err := FrameLength(c.b, 0); got != c.want || err != nil {
			t.Errorf("% x: got %d, %v", c.b, got, err)
		}
	}
}

func TestFrameLengthRefusesAtTheEarliestByte(t *testing.T) {
	for _, c := range []struct {
		claim  string
		b      []byte
		limit  int
		reason ReasonCode
		clause string
	}{
		{"reserved type 0", []byte{0x00}, 0, MalformedPacket, ""},
		{"CONNECT with flags", []byte{0x11}, 0, MalformedPacket, "MQTT-2.1.3-1"},
		{"AUTH with flags", []byte{0xF4}, 0, MalformedPacket, "MQTT-2.1.3-1"},
		{"SUBSCRIBE without flags", []byte{0x80}, 0, MalformedPacket, "MQTT-2.1.3-1"},
		{"PUBREL with flags 3", []byte{0x63}, 0, MalformedPacket, "MQTT-2.1.3-1"},
		{"PUBLISH with QoS 3", []byte{0x36}, 0, MalformedPacket, "MQTT-3.3.1-4"},
		{"Remaining Length of five bytes", []byte{0x30, 0x80, 0x80, 0x80, 0x80}, 0, MalformedPacket, "MQTT-1.5.5-1"},
		{"Remaining Length not minimal", []byte{0x30, 0x80, 0x00}, 0, MalformedPacket, "MQTT-1.5.5-1"},
		{"Remaining Length of 127 in four bytes", []byte{0x30, 0xFF, 0x80, 0x80, 0x00}, 0, MalformedPacket, "MQTT-1.5.5-1"},
		{"one byte above the limit", []byte{0x30, 99}, 100, PacketTooLarge, "MQTT-3.2.2-15"},
		{"100 MB", []byte{0x10, 0x80, 0xC2, 0xD7, 0x2F}, 1 << 20, PacketTooLarge, "MQTT-3.2.2-15"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			for n := range c.b {
				if _, err := FrameLength(c.b[:n], c.limit); err != nil {
					t.Errorf("after %d bytes: %v", n, err)
				}
			}
			_, err := FrameLength(c.b, c.limit)
			checkRefusal(t, err, c.reason, c.clause)
		})
	}
	if n, err := FrameLength([]byte{0x30, 98}, 100); n != 100 || err != nil {
		t.Errorf("at the limit: got %d, %v", n, err)
	}
}

func TestDecodeTakesExactlyOneFrame(t *testing.T) {
	for _, b := range [][]byte{nil, {0xC0}, {0x30, 3, 0, 1}, {0xC0, 0, 0}, {0xC0, 0, 0xC0, 0}} {
		_, err := Decode(V311, b)
		checkRefusal(t, err, MalformedPacket, "")
	}
}

// Many packets in one segment and one byte in each segment read the same. [case 24]
func TestReaderDoesNotDependOnSegments(t *testing.T) {
	var stream []byte
	var want []Packet
	for _, e := range corpus() {
		if e.v == V5 {
			stream = append(stream, e.frame...)
			want = append(want, e.packet)
		}
	}
	for _, source := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream)), iotest.DataErrReader(bytes.NewReader(stream))} {
		r := NewReader(source, V5, 0)
		for _, p := range want {
			got, err := r.ReadPacket()
			if err != nil || !reflect.DeepEqual(got, p) {
				t.Fatalf("got %+v, %v, want %+v", got, err, p)
			}
		}
		if _, err := r.ReadPacket(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestReaderTellsAnEndWithinAPacket(t *testing.T) {
	whole := []byte{0x30, 3, 0, 1, 'a'}
	for n := 1; n < len(whole); n++ {
		if _, err := NewReader(bytes.NewReader(whole[:n]), V311, 0).ReadPacket(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	broken := errors.New("broken")
	if _, err := NewReader(iotest.ErrReader(broken), V311, 0).ReadPacket(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestReaderRefusesBeforeTheBodyIsThere(t *testing.T) {
	_, err := NewReader(bytes.NewReader([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}), V311, 1<<20).ReadPacket()
	checkRefusal(t, err, PacketTooLarge, "MQTT-3.2.2-15")
}

func TestReaderChangesVersion(t *testing.T) {
	r := NewReader(bytes.NewReader(slices.Concat(frame(0x90, uint16(1), 0), frame(0x90, uint16(1), props(), 0))), V311, 0)
	for _, v := range []Version{V311, V5} {
		r.SetVersion(v)
		got, err := r.ReadPacket()
		if want := (&Suback{PacketID: 1, Reasons: []ReasonCode{0}}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}
