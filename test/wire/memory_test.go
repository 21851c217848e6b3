package wire

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// tooLarge is the fixed header of a packet of 100 MB.
func tooLarge(first byte) []byte { return []byte{first, 0x80, 0xC2, 0xD7, 0x2F} }

// firstBytes are the valid first bytes of the packet types.
var firstBytes = []byte{0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0}

// memoryAllowed is how much more memory the broker may have with hundreds of connections, which need some themselves: far
// from what they announce.
const memoryAllowed = 48 << 20

// A packet of 100 MB is refused at its fixed header, before CONNECT and behind it: no memory is reserved for what is
// announced. [MQTT-3.1.0-1] [case 35] [case 93]
func TestAnnouncedLengthReservesNothing(t *testing.T) {
	const each = 20 // connections for each type, before and behind CONNECT
	b := harness.Start(t)
	traffic := startBystander(t, b)
	before := rss(t, b)
	for range each {
		for _, first := range firstBytes {
			stranger := b.Dial(t, mqttcodec.V5)
			stranger.SendBytes(tooLarge(first)...)
			expectRefusal(t, stranger, first, false)

			client := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, ""))
			client.SendBytes(tooLarge(first)...)
			expectRefusal(t, client, first, true)

			older := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, ""))
			older.SendBytes(tooLarge(first)...)
			expectRefusal(t, older, first, false)
		}
	}
	if grown := rss(t, b) - before; grown > memoryAllowed {
		t.Errorf("RSS grew by %d MiB", grown>>20)
	}
	traffic.finish()
}

// expectRefusal reads the connection to its end; told: DISCONNECT 0x95 comes first.
func expectRefusal(t *testing.T, r *harness.Raw, first byte, told bool) {
	t.Helper()
	defer r.Drop()
	last := r.ExpectClosed()
	switch {
	case !told && len(last) > 0:
		t.Fatalf("first byte %#02x: got %s before the close", first, describe(last[0]))
	case told && len(last) != 1:
		t.Fatalf("first byte %#02x: got %d packets before the close", first, len(last))
	case told:
		if d, ok := last[0].(*mqttcodec.Disconnect); !ok || d.Reason != mqttcodec.PacketTooLarge {
			t.Fatalf("first byte %#02x: got %s before the close", first, describe(last[0]))
		}
	}
}

// Hundreds of clients that announce the largest packet there may be, and then send little, cost little. [case 35]
func TestHalfSentPacketsReserveNothing(t *testing.T) {
	const connections = 400
	b := harness.Start(t)
	traffic := startBystander(t, b)
	before := rss(t, b)
	largest := func(first byte) []byte { return []byte{first, 0xF0, 0xFF, 0x3F} } // 1 MiB less 16
	for i := range connections {
		stranger := b.Dial(t, mqttcodec.V5)
		stranger.SendBytes(append(largest(0x10), 0, 4, 'M', 'Q', 'T', 'T', 5)...)
		client := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, fmt.Sprint("half", i)))
		client.SendBytes(append(largest(0x30), 0, 1, 'a', 0, 'x')...)
	}
	traffic.finish()
	if grown := rss(t, b) - before; grown > memoryAllowed {
		t.Errorf("RSS grew by %d MiB with %d half-sent packets of 1 MiB", grown>>20, 2*connections)
	}
}

func rss(t *testing.T, b *harness.Broker) int64 {
	t.Helper()
	rss, err := b.RSS()
	if err != nil {
		harness.Missing(t, fmt.Sprintf("the broker's memory: %v", err))
	}
	return rss
}
