package mqttcodec

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
)

// FuzzDecode: no body makes Decode panic, and what it accepts is written again as a packet that reads the same.
func FuzzDecode(f *testing.F) {
	for _, e := range corpus() {
		f.Add(byte(e.v), e.frame[0], e.frame[2:])
	}
	f.Fuzz(func(t *testing.T, v, first byte, body []byte) {
		checkStable(t, Version(v), frame(first, body))
	})
}

// FuzzReader: a stream gives the same packets and ends the same way, in whatever pieces it arrives.
func FuzzReader(f *testing.F) {
	for _, e := range corpus() {
		f.Add(byte(e.v), byte(1), append(bytes.Clone(e.frame), 0xC0, 0))
	}
	f.Fuzz(func(t *testing.T, v, chunk byte, stream []byte) {
		const limit = 1 << 16
		whole := NewReader(bytes.NewReader(stream), Version(v), limit)
		pieces := NewReader(&chunkReader{rest: stream, size: int(chunk%16) + 1}, Version(v), limit)
		for rest := stream; ; {
			want, wantErr := whole.ReadPacket()
			got, gotErr := pieces.ReadPacket()
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotErr, wantErr) {
				t.Fatalf("in pieces: %+v, %v; as a whole: %+v, %v", got, gotErr, want, wantErr)
			}
			if wantErr != nil {
				if errors.Is(wantErr, io.EOF) && len(rest) > 0 {
					t.Fatalf("end of stream with % x left over", rest)
				}
				return
			}
			n, err := FrameLength(rest, limit)
			if n == 0 || err != nil || n > len(rest) {
				t.Fatalf("a packet was read and FrameLength of % x is %d, %v", rest, n, err)
			}
			rest = rest[n:]
		}
	})
}

// chunkReader gives at most size bytes at a time.
type chunkReader struct {
	rest []byte
	size int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest[:min(r.size, len(r.rest))])
	r.rest = r.rest[n:]
	return n, nil
}
