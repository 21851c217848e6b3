package mqttcodec

import (
	"bytes"
	"fmt"
	"testing"
)

// hotPublishes are the packets that make up the traffic.
var hotPublishes = []struct {
	name   string
	v      Version
	packet *Publish
}{
	{"v311-qos0", V311, &Publish{Topic: "site/7/line/3/temperature", Payload: make([]byte, 256)}},
	{"v311-qos1", V311, &Publish{QoS: 1, PacketID: 1, Topic: "site/7/line/3/temperature", Payload: make([]byte, 256)}},
	{"v5-qos0", V5, &Publish{Topic: "site/7/line/3/temperature", Payload: make([]byte, 256)}},
	{"v5-qos1", V5, &Publish{QoS: 1, PacketID: 1, Topic: "site/7/line/3/temperature", Payload: make([]byte, 256)}},
	{"v5-properties", V5, &Publish{
		QoS: 1, PacketID: 1, Topic: "site/7/line/3/temperature", Payload: make([]byte, 256), TopicAlias: 3,
		Properties: MessageProperties{
			PayloadFormat: Some(byte(1)), MessageExpirySeconds: Some(uint32(60)), ContentType: Some("text/plain"),
			ResponseTopic: "answers/7", CorrelationData: []byte("12345678"),
		},
	}},
}

func TestPublishAllocations(t *testing.T) {
	for _, c := range hotPublishes {
		b, err := Append(nil, c.v, c.packet)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = Decode(c.v, b) }); n > 1 {
			t.Errorf("%s: Decode makes %v allocations", c.name, n)
		}
		dst := make([]byte, 0, len(b))
		if n := testing.AllocsPerRun(100, func() { _, _ = Append(dst, c.v, c.packet) }); n > 0 {
			t.Errorf("%s: Append makes %v allocations into a buffer with room", c.name, n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = Size(c.v, c.packet) }); n > 0 {
			t.Errorf("%s: Size makes %v allocations", c.name, n)
		}
	}
}

func TestAckAllocations(t *testing.T) {
	for _, e := range append(ackExamples[:6:6], connectionExamples[:3]...) {
		if n := testing.AllocsPerRun(100, func() { _, _ = Decode(e.v, e.frame) }); n > 1 {
			t.Errorf("%s: Decode makes %v allocations", e.claim, n)
		}
		dst := make([]byte, 0, len(e.frame))
		if n := testing.AllocsPerRun(100, func() { _, _ = Append(dst, e.v, e.packet) }); n > 0 {
			t.Errorf("%s: Append makes %v allocations", e.claim, n)
		}
	}
}

func TestMatchTopicDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { MatchTopic("site/+/line/#", "site/7/line/3/temperature") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecodePublish(b *testing.B) {
	for _, c := range hotPublishes {
		b.Run(c.name, func(b *testing.B) {
			frame, err := Append(nil, c.v, c.packet)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				if _, err := Decode(c.v, frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	for _, c := range hotPublishes {
		b.Run(c.name, func(b *testing.B) {
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = Append(dst[:0], c.v, c.packet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadPublish(b *testing.B) {
	frame, err := Append(nil, V311, hotPublishes[1].packet)
	if err != nil {
		b.Fatal(err)
	}
	stream := bytes.NewReader(nil)
	r := NewReader(stream, V311, 0)
	b.ReportAllocs()
	for b.Loop() {
		stream.Reset(frame)
		if _, err := r.ReadPacket(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePuback(b *testing.B) {
	for _, v := range []Version{V311, V5} {
		b.Run(fmt.Sprint("v", v), func(b *testing.B) {
			frame, err := Append(nil, v, &Puback{PacketID: 7})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(v, frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPuback(b *testing.B) {
	for _, v := range []Version{V311, V5} {
		b.Run(fmt.Sprint("v", v), func(b *testing.B) {
			var dst []byte
			puback := &Puback{PacketID: 7}
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = Append(dst[:0], v, puback); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
