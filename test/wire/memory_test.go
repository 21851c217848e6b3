package wire

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// tooLarge is the fixed header of a packet of 100 MB.
func tooLarge(first byte) []byte { return []byte{first, 0x80, 0xC2, 0xD7, 0x2F} }

// firstBytes are the valid first bytes of the packet types.
var firstBytes = []byte{0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0}

// How much more memory the broker may have with hundreds of connections, which need some themselves: far from what they
// announce. Memory that is reserved, and not used yet, does not count as resident.
const (
	residentAllowed = 48 << 20
	reservedAllowed = 256 << 20
)

// memoryBefore is what the broker has before a test's connections come.
type memoryBefore struct{ resident, reserved int64 }

func measure(t *testing.T, b *harness.Broker) (m memoryBefore) {
	t.Helper()
	var err error
	if m.resident, err = b.RSS(); err == nil {
		m.reserved, err = b.Reserved()
	}
	if err != nil {
		harness.Missing(t, fmt.Sprintf("the broker's memory: %v", err))
	}
	return m
}

// expectLittleMore fails the test when much was added since.
func (m memoryBefore) expectLittleMore(t *testing.T, b *harness.Broker) {
	t.Helper()
	now := measure(t, b)
	resident, reserved := now.resident-m.resident, now.reserved-m.reserved
	t.Logf("%d MiB resident and %d MiB reserved more than before", resident>>20, reserved>>20)
	if resident > residentAllowed*harness.RaceFactor() || reserved > reservedAllowed*harness.RaceFactor() {
		t.Error("that is too much")
	}
}

// atOnce does something n times, some of them at the same time.
func atOnce(n int, do func(i int)) {
	var workers sync.WaitGroup
	next := make(chan int)
	for range attackers {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

// A packet of 100 MB is refused at its fixed header, before CONNECT and behind it: no memory is reserved for what is
// announced. [MQTT-3.1.0-1] [MQTT-3.2.2-15] [case 35] [case 93]
func TestAnnouncedLengthReservesNothing(t *testing.T) {
	const each = 8 // connections for each type, before and behind CONNECT
	b := harness.Start(t)
	traffic := startBystander(t, b)
	before := measure(t, b)
	atOnce(each*len(firstBytes), func(i int) {
		first := firstBytes[i%len(firstBytes)]
		for _, connect := range []*mqttcodec.Connect{nil, harness.CleanConnect(mqttcodec.V5, ""), harness.CleanConnect(mqttcodec.V311, "")} {
			if err := sendTooLarge(t, b.MQTT, connect, first); err != nil {
				t.Errorf("first byte %#02x, behind %+v: %v", first, connect, err)
			}
		}
	})
	before.expectLittleMore(t, b)
	traffic.finish()
}

// sendTooLarge sends the header of a packet of 100 MB, after a CONNECT if there is one. The broker must close, and tell a
// client of 5.0 why.
func sendTooLarge(t *testing.T, address string, connect *mqttcodec.Connect, first byte) error {
	version := mqttcodec.V5
	if connect != nil {
		version = connect.Version
	}
	r, err := harness.DialRaw(t, address, version)
	if err != nil {
		return err
	}
	defer r.Drop()
	if connect != nil {
		if err := connected(r, connect); err != nil {
			return err
		}
	}
	if err := r.TrySendBytes(tooLarge(first)); err != nil {
		return err
	}
	if connect != nil && version == mqttcodec.V5 {
		p, err := r.TryRead()
		if err != nil {
			return err
		}
		if d, ok := p.(*mqttcodec.Disconnect); !ok || d.Reason != mqttcodec.PacketTooLarge {
			return fmt.Errorf("got %s", describe(p))
		}
	}
	if p, err := r.TryRead(); !harness.Closed(err) {
		return fmt.Errorf("in place of the close: %v, %w", p, err)
	}
	return nil
}

// connected sends CONNECT and reads CONNACK.
func connected(r *harness.Raw, connect *mqttcodec.Connect) error {
	if err := r.TrySend(connect); err != nil {
		return err
	}
	if p, err := r.TryRead(); err != nil || p.Type() != mqttcodec.TypeConnack {
		return fmt.Errorf("in place of CONNACK: %v, %w", p, err)
	}
	return nil
}

// Hundreds of clients that announce the largest packet there may be, and then send little, cost little. [case 35]
func TestHalfSentPacketsReserveNothing(t *testing.T) {
	const connections = 400
	b := harness.Start(t)
	traffic := startBystander(t, b)
	before := measure(t, b)
	largest := func(first byte) []byte { return []byte{first, 0xF0, 0xFF, 0x3F} } // 1 MiB less 16
	for range connections {
		stranger := b.Dial(t, mqttcodec.V5)
		stranger.SendBytes(append(largest(0x10), 0, 4, 'M', 'Q', 'T', 'T', 5)...)
		client := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, ""))
		client.SendBytes(append(largest(0x30), 0, 1, 'a', 0, 'x')...)
	}
	traffic.finish()
	before.expectLittleMore(t, b)
}

// flood is how much TestNothingAClientSendsStopsOthers lets loose.
type flood struct {
	idle, deaf, flooding int
	lasts                time.Duration
	allowed              int64 // a MiB waits for each of the deaf
}

// floodSize is that of each run, or the larger one that DUNLIN_FLOOD=full asks for (make flood).
func floodSize(t *testing.T) flood {
	switch size := os.Getenv("DUNLIN_FLOOD"); size {
	case "":
		return flood{idle: 2000, deaf: 200, flooding: 4, lasts: 1500 * time.Millisecond, allowed: 512 << 20}
	case "full":
		return flood{idle: 10_000, deaf: 1000, flooding: 4, lasts: 20 * time.Second, allowed: 2 << 30}
	default:
		t.Fatalf("DUNLIN_FLOOD is %q, not full", size)
		return flood{}
	}
}

// Thousands of idle connections, hundreds of subscribers that read nothing, and clients that publish to them as fast as
// they can, do not stop others, and cost bounded memory. [case 180]
func TestNothingAClientSendsStopsOthers(t *testing.T) {
	size := floodSize(t)
	b := harness.Start(t)
	traffic := startBystander(t, b)
	before := measure(t, b)
	atOnce(size.idle, func(int) {
		if r, err := harness.DialRaw(t, b.MQTT, mqttcodec.V5); err != nil {
			t.Error(err)
		} else {
			t.Cleanup(r.Drop)
			if err := connected(r, harness.CleanConnect(mqttcodec.V5, "")); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range size.deaf {
		b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "")).Subscribe(harness.Filter("flood/#", mqttcodec.QoS(i%2)))
	}
	flooding := make([]*harness.Raw, size.flooding)
	for i := range flooding {
		flooding[i] = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, ""))
	}
	const payload = 16 << 10
	var floods sync.WaitGroup
	var sent atomic.Int64
	for i, r := range flooding {
		floods.Go(func() {
			m := &mqttcodec.Publish{Topic: fmt.Sprint("flood/", i), Payload: make([]byte, payload)}
			for end := time.Now().Add(size.lasts); time.Now().Before(end); sent.Add(payload) {
				if err := r.TrySend(m); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	floods.Wait()
	grown := measure(t, b).resident - before.resident
	traffic.finish()
	t.Logf("%.0f MB/s; RSS grew by %d MiB", float64(sent.Load())/1e6/size.lasts.Seconds(), grown>>20)
	if grown > size.allowed*harness.RaceFactor() {
		t.Errorf("RSS grew by %d MiB", grown>>20)
	}
}
