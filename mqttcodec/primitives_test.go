package mqttcodec

import (
	"math"
	"slices"
	"testing"
)

// The bounds of table 1-1. (1.5.5)
func TestVarintIsAsShortAsItCanBe(t *testing.T) {
	for _, c := range []struct {
		n    int
		want []byte
	}{
		{0, []byte{0x00}},
		{127, []byte{0x7F}},
		{128, []byte{0x80, 0x01}},
		{16_383, []byte{0xFF, 0x7F}},
		{16_384, []byte{0x80, 0x80, 0x01}},
		{2_097_151, []byte{0xFF, 0xFF, 0x7F}},
		{2_097_152, []byte{0x80, 0x80, 0x80, 0x01}},
		{268_435_455, []byte{0xFF, 0xFF, 0xFF, 0x7F}},
	} {
		var w writer
		w.varint(c.n)
		if !slices.Equal(w.dst, c.want) || varintSize(c.n) != len(c.want) {
			t.Errorf("%d: % x, size %d, want % x", c.n, w.dst, varintSize(c.n), c.want)
		}
		if n, size, err := readVarint(append(w.dst, 0x80)); int(n) != c.n || size != len(c.want) || err != nil {
			t.Errorf("% x: got %d of %d bytes, %v", c.want, n, size, err)
		}
	}
}

func TestLongestFieldsAreWritten(t *testing.T) {
	longest := make([]byte, math.MaxUint16)
	p := &Connect{Version: V5, ClientID: string(slices.Repeat([]byte("c"), math.MaxUint16)), Password: longest}
	b, err := Append(nil, V5, p)
	if err != nil {
		t.Fatal(err)
	}
	testDecodes(t, V5, b, p)
}
