package mqttcodec

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// corpus is every example of every packet.
func corpus() []example {
	return slices.Concat(connectExamples, connackExamples, publishExamples, ackExamples, subscribeExamples, connectionExamples)
}

func TestEveryPacketComesBackAsItWent(t *testing.T) {
	for _, v := range versions {
		eachKind(t, v, func(t *rapid.T, p Packet) {
			b, err := Append(nil, v, p)
			if err != nil {
				t.Fatal(err)
			}
			if size, err := Size(v, p); size != len(b) || err != nil {
				t.Fatalf("Size is %d, %v; Append wrote %d", size, err, len(b))
			}
			if n, err := FrameLength(b, len(b)); n != len(b) || err != nil {
				t.Fatalf("FrameLength is %d, %v, want %d", n, err, len(b))
			}
			got, err := Decode(v, b)
			if err != nil || !reflect.DeepEqual(got, p) {
				t.Fatalf("%v\n got %+v\nwant %+v", err, got, p)
			}
		})
	}
}

// Whatever the bytes, Decode returns; what it accepts is written again as a packet that reads the same.
func checkStable(t *testing.T, v Version, b []byte) {
	t.Helper()
	p, err := Decode(v, b)
	if err != nil {
		var refused *ProtocolError
		if !errors.As(err, &refused) || !refused.Reason.Failed() || refused.Detail == "" {
			t.Fatalf("% x: %#v", b, err)
		}
		return
	}
	again, err := Append(nil, v, p)
	if err != nil {
		t.Fatalf("% x: %+v is not written: %v", b, p, err)
	}
	got, err := Decode(v, again)
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Fatalf("% x, then % x: %v\n got %+v\nwant %+v", b, again, err, got, p)
	}
}

var versions = []Version{V31, V311, V5}

// Cut anywhere, with the Remaining Length as it was and with one that fits. [case 95]
func TestTruncatedPacketsAreRefused(t *testing.T) {
	for _, e := range corpus() {
		body := e.frame[2:]
		for n := range e.frame {
			if _, err := Decode(e.v, e.frame[:n]); err == nil {
				t.Errorf("%s: the first %d bytes decode", e.claim, n)
			}
		}
		for n := range body {
			for _, v := range versions {
				checkStable(t, v, frame(e.frame[0], body[:n]))
			}
		}
	}
}

func TestFlippedBytesAreHarmless(t *testing.T) {
	for _, e := range corpus() {
		for i := range e.frame {
			for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0x7F, 0xFF} {
				b := slices.Clone(e.frame)
				b[i] ^= flip
				for _, v := range versions {
					checkStable(t, v, b)
				}
			}
		}
	}
}

func TestTooLongIsNotWritten(t *testing.T) {
	long := strings.Repeat("x", math.MaxUint16+1)
	payload := make([]byte, maxVarint) // never touched, so never resident
	if size, err := Size(V311, &Publish{Topic: "a", Payload: payload[:maxVarint-3]}); size != maxVarint+5 || err != nil {
		t.Errorf("the greatest packet: %d, %v", size, err)
	}
	for _, p := range []Packet{
		&Publish{Topic: long},
		&Publish{Topic: "a", Properties: MessageProperties{CorrelationData: []byte(long)}},
		&Publish{Topic: "a", SubscriptionIdentifiers: []uint32{maxVarint + 1}},
		&Publish{Topic: "a", Payload: payload[:maxVarint-3]}, // and a property length of one byte
		&Connect{Version: V5, Will: &Will{Topic: "a", Payload: []byte(long)}},
		&Puback{PacketID: 1, Properties: AckProperties{ReasonString: long}},
		&Subscribe{PacketID: 1, Requests: []SubscriptionRequest{{Filter: long}}},
	} {
		if b, err := Append([]byte("before"), V5, p); !errors.Is(err, ErrTooLong) || string(b) != "before" {
			t.Errorf("%T: %d bytes, %v", p, len(b), err)
		}
	}
}

// A decoded packet has slices that cannot grow into the bytes behind them.
func TestDecodedSlicesDoNotOverlapWhenAppendedTo(t *testing.T) {
	p, err := Decode(V5, frame(0x10, "MQTT", 5, 0x44, uint16(0), props(0x15, "m", 0x16, "d"), "c", props(), "w", "will", "pass"))
	if err != nil {
		t.Fatal(err)
	}
	connect := p.(*Connect)
	_ = append(connect.Will.Payload, 'x', 'x', 'x')
	_ = append(connect.Properties.AuthenticationData, 'x', 'x', 'x')
	if string(connect.Password) != "pass" || connect.ClientID != "c" {
		t.Errorf("got %+v", connect)
	}
}

func TestManyUserPropertiesTakeOneAllocation(t *testing.T) {
	const count = 5000
	p := &Connect{Version: V5, ClientID: strings.Repeat("c", 65535)}
	for i := range count {
		p.Properties.UserProperties = append(p.Properties.UserProperties, UserProperty{Key: fmt.Sprint("k", i), Value: "v"})
	}
	b, err := Append(nil, V5, p)
	if err != nil {
		t.Fatal(err)
	}
	testDecodes(t, V5, b, p)
	if allocs := testing.AllocsPerRun(10, func() { _, _ = Decode(V5, b) }); allocs > 2 { // the packet, the slice
		t.Errorf("%v allocations", allocs)
	}
}

// A SUBSCRIBE gets memory for the filters it has, not for those its first bytes promise.
func TestFiltersTakeOneAllocation(t *testing.T) {
	p := &Subscribe{PacketID: 1}
	for i := range 1000 {
		p.Requests = append(p.Requests, SubscriptionRequest{Filter: fmt.Sprint(i)})
	}
	for _, v := range versions {
		b, err := Append(nil, v, p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(v, b)
		if err != nil || cap(got.(*Subscribe).Requests) != 1000 {
			t.Errorf("%d: room for %d filters, %v", v, cap(got.(*Subscribe).Requests), err)
		}
		if allocs := testing.AllocsPerRun(10, func() { _, _ = Decode(v, b) }); allocs > 2 {
			t.Errorf("%d: %v allocations", v, allocs)
		}
	}
}
