package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// attack is what one connection sends before it is closed.
type attack struct {
	name    string
	version mqttcodec.Version
	// connect comes first, and is answered; nil when the bytes are a CONNECT themselves.
	connect *mqttcodec.Connect
	bytes   []byte
	// half: the client closes its side, for the broker is left waiting; otherwise the broker is the one to close.
	half bool
}

// attackers is how many attack at once.
const attackers = 24

// attackAll lets each attack have a connection; each must end, and whatever the broker says on it must be whole packets. A
// bystander must not notice.
func attackAll(t *testing.T, attacks func(v mqttcodec.Version, yield func(attack))) {
	t.Helper()
	b := harness.Start(t)
	traffic := startBystander(t, b)
	begin := time.Now()
	queue := make(chan attack)
	var done sync.WaitGroup
	for range attackers {
		done.Go(func() {
			for a := range queue {
				if err := a.run(t, b.MQTT); err != nil {
					t.Errorf("%s: %v\n\tsent %s", a.name, err, dump(a.bytes))
				}
			}
		})
	}
	n := 0
	for _, v := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
		attacks(v, func(a attack) {
			n++
			queue <- a
		})
	}
	close(queue)
	done.Wait()
	t.Logf("%d connections in %v", n, time.Since(begin).Round(time.Millisecond))
	traffic.finish()
}

func (a *attack) run(t *testing.T, address string) error {
	raw, err := harness.DialRaw(t, address, a.version)
	if err != nil {
		return err
	}
	defer raw.Drop()
	if a.connect != nil {
		if err := connected(raw, a.connect); err != nil {
			return err
		}
	}
	if err := unlessClosed(raw.TrySendBytes(a.bytes)); err != nil {
		return err
	}
	if a.half {
		return raw.DropNoticed()
	}
	for {
		frame, _, err := raw.TryReadFrame()
		switch {
		case err == nil:
		case frame != nil && a.connect == nil: // the version of a broken CONNECT is anybody's guess
		case harness.Closed(err) && !errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		default:
			return err
		}
	}
}

// attackOn is an attack with these bytes in place of a valid packet.
func attackOn(valid validPacket, bytes []byte, what string) attack {
	a := attack{name: fmt.Sprintf("%s, %s, %s", harness.VersionName(valid.version), valid.line, what), version: valid.version, bytes: bytes}
	if valid.packet.Type() != mqttcodec.TypeConnect {
		a.connect = harness.CleanConnect(valid.version, "") // an identifier of its own
		if valid.version == mqttcodec.V31 {
			a.connect.ClientID = fmt.Sprintf("attacker%d", runs.Add(1))
		}
	}
	return a
}

// The tests here and in memory_test.go have the machine for themselves: beside them scripts about time would not come out.

// Every valid packet, cut off at every byte by the client's leaving, harms nobody. [MQTT-3.1.4-1] [case 13] [case 95]
func TestTruncatedPacketsHarmNobody(t *testing.T) {
	attackAll(t, func(v mqttcodec.Version, yield func(attack)) {
		for _, valid := range eachValidPacket(t, v) {
			for n := range valid.bytes {
				a := attackOn(valid, valid.bytes[:n], fmt.Sprintf("the first %d bytes", n))
				a.half = true
				yield(a)
			}
		}
	})
}

// Every valid packet with any bit of any byte flipped, or all bits of one, harms nobody. [case 94] [case 95]
func TestFlippedBytesHarmNobody(t *testing.T) {
	attackAll(t, func(v mqttcodec.Version, yield func(attack)) {
		for _, valid := range eachValidPacket(t, v) {
			for i := range valid.bytes {
				for _, mask := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
					broken := bytes.Clone(valid.bytes)
					broken[i] ^= mask
					yield(attackOn(valid, ended(broken), fmt.Sprintf("byte %d ^ %#02x", i, mask)))
				}
			}
		}
	})
}

// ended is a stream filled up to the end of its last packet, and then a byte that no packet starts with: the broker has
// to close whatever it took the bytes for.
func ended(stream []byte) []byte {
	for at := 0; at < len(stream); {
		n, err := mqttcodec.FrameLength(stream[at:], 1<<20)
		if err != nil {
			return stream // as good an end
		}
		if missing := at + n - len(stream); missing > 0 {
			stream = append(stream, make([]byte, missing)...)
		}
		if n == 0 { // only a part of a fixed header
			stream = append(stream, 0)
			continue
		}
		at += n
	}
	return append(stream, 0, 0)
}
