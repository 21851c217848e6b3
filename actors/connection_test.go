package actors

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"

	"pgregory.net/rapid"
)

// chunks is a socket that brings bytes in pieces, then ends. buffer, if set, is told what the reader's buffer has left.
type chunks struct {
	net.Conn
	rest   []byte
	sizes  func() int
	buffer func(size int)
	before func(received int)
	read   int
}

func (s *chunks) Read(b []byte) (int, error) {
	s.before(s.read)
	if s.buffer != nil {
		s.buffer(len(b))
	}
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.rest[:min(len(s.rest), s.sizes())])
	s.rest = s.rest[n:]
	s.read += n
	return n, nil
}

// readAll runs a packet reader over a socket, behind CONNECT, and returns the packets that reached the session.
func readAll(t failer, socket *chunks, limit uint32) ([]mqttcodec.Packet, error) {
	t.Helper()
	cfg := DefaultConfig("boot")
	cfg.Sessions.MaxPacketSize = limit
	c := &connection{broker: &Broker{cfg: cfg, workers: newWorkers()}, socket: socket, inflow: newInflow(1<<20, 1<<30), version: mqttcodec.V5}
	ref := &sessionRef{mailbox: &mailbox{}}
	c.session.Store(ref)
	r := packetReader{connection: c, buffer: make([]byte, idleReadBuffer)}
	socket.before = func(received int) {
		if most := max(idleReadBuffer, 2*received+1); len(r.buffer) > most {
			t.Fatalf("after %d bytes the buffer has %d", received, len(r.buffer))
		}
	}
	err := r.run()
	var packets []mqttcodec.Packet
	bytes := 0
	for _, m := range ref.mailbox.user {
		in := m.(*inbound)
		packets = append(packets, in.packets...)
		bytes += in.bytes
	}
	if c.inflow.messages != len(packets) || c.inflow.bytes != bytes {
		t.Fatalf("%d packets of %d bytes count as %d of %d", len(packets), bytes, c.inflow.messages, c.inflow.bytes)
	}
	return packets, err
}

// failer is a test, of rapid or not.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func drawPacket(t *rapid.T) mqttcodec.Packet {
	id := uint16(rapid.IntRange(1, 65535).Draw(t, "id"))
	switch rapid.IntRange(0, 5).Draw(t, "packet") {
	case 0:
		return &mqttcodec.Pingreq{}
	case 1:
		return &mqttcodec.Puback{PacketID: id}
	case 2:
		return &mqttcodec.Subscribe{PacketID: id, Requests: []mqttcodec.SubscriptionRequest{{Filter: strings.Repeat("f/", rapid.IntRange(1, 200).Draw(t, "levels"))}}}
	case 3:
		return &mqttcodec.Publish{Topic: "large", Payload: make([]byte, rapid.IntRange(1000, 200_000).Draw(t, "size"))}
	}
	return &mqttcodec.Publish{
		QoS: 1, PacketID: id, Topic: rapid.StringMatching("[a-z]{1,8}").Draw(t, "topic"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "payload"),
	}
}

func encodeAll(t failer, packets []mqttcodec.Packet) (b []byte) {
	t.Helper()
	for _, p := range packets {
		var err error
		if b, err = mqttcodec.Append(b, mqttcodec.V5, p); err != nil {
			t.Fatalf("%v", err)
		}
	}
	return b
}

// However the network cuts the stream: the packets are what was sent, and the buffer is never more than twice what came.
// [case 24]
func TestReaderFindsThePacketsHoweverTheStreamIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		packets := rapid.SliceOfN(rapid.Custom(drawPacket), 0, 20).Draw(t, "packets")
		sent := encodeAll(t, packets)
		size := rapid.SampledFrom([]int{1, 2, 7, 511, 512, 1500, 64 << 10, 1 << 20}).Draw(t, "cut")
		if size < 7 && len(sent) > 20_000 {
			size = 7
		}
		got, err := readAll(t, &chunks{rest: sent, sizes: func() int { return size }}, 1<<20)
		if !errors.Is(err, io.EOF) {
			t.Fatalf("reading ended with %v", err)
		}
		if len(got) != len(packets) || !bytes.Equal(encodeAll(t, got), sent) {
			t.Fatalf("%d packets came of %d", len(got), len(packets))
		}
	})
}

// A reader takes much at once while much comes; a client that has become silent but for its pings does not hold what it needed while it was busy.
func TestReadBufferGrowsWhileMuchComesAndGoesBack(t *testing.T) {
	var packets []mqttcodec.Packet
	for range 10_000 {
		packets = append(packets, &mqttcodec.Publish{Topic: "a", Payload: make([]byte, 50)})
	}
	busy := encodeAll(t, packets)
	pings := encodeAll(t, slices.Repeat([]mqttcodec.Packet{&mqttcodec.Pingreq{}}, 10))
	var largest, last int
	socket := &chunks{rest: append(bytes.Clone(busy), pings...)}
	socket.sizes = func() int {
		if len(socket.rest) <= len(pings) {
			return 2
		}
		return len(socket.rest) - len(pings)
	}
	socket.buffer = func(size int) { largest, last = max(largest, size), size }
	if got, err := readAll(t, socket, 1<<20); len(got) != 10_010 || !errors.Is(err, io.EOF) {
		t.Fatalf("%d packets came, then %v", len(got), err)
	}
	if largest < busyReadBuffer/2 || last > 2*idleReadBuffer {
		t.Fatalf("the buffer had %d bytes while much came, and %d after that", largest, last)
	}
}

// A packet above the limit is refused when its header has come, before memory is reserved for it. [MQTT-3.2.2-15] [case 35]
func TestTooLargePacketIsRefusedByItsHeader(t *testing.T) {
	sent := append(encodeAll(t, []mqttcodec.Packet{&mqttcodec.Pingreq{}}), 0x30, 0xFF, 0xFF, 0xFF, 0x7F)
	got, err := readAll(t, &chunks{rest: sent, sizes: func() int { return 3 }}, 1<<20)
	var fault *mqttcodec.ProtocolError
	if !errors.As(err, &fault) || fault.Reason != mqttcodec.PacketTooLarge {
		t.Fatalf("reading ended with %v", err)
	}
	if len(got) != 1 {
		t.Fatalf("%d packets came before it", len(got))
	}
}

// What came before a fault is handed on.
func TestPacketsBeforeAFaultAreHandedOn(t *testing.T) {
	sent := encodeAll(t, []mqttcodec.Packet{&mqttcodec.Pingreq{}, &mqttcodec.Publish{Topic: "a"}})
	for _, fault := range [][]byte{{0x00}, {0x36}, {0x30, 0x02, 0x00, 0x05}, {0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}} {
		got, err := readAll(t, &chunks{rest: append(bytes.Clone(sent), fault...), sizes: func() int { return 1000 }}, 1<<20)
		var protocol *mqttcodec.ProtocolError
		if !errors.As(err, &protocol) || len(got) != 2 {
			t.Fatalf("%x: %d packets came, then %v", fault, len(got), err)
		}
	}
}

// A client need not wait for CONNACK, nor the network keep packets together. [MQTT-3.1.4-5] [case 23]
func TestPacketsBehindConnectAreTaken(t *testing.T) {
	for _, cut := range []int{1, 13, 1 << 20} {
		bubble(t, func(t *testing.T) {
			b := startOnPipes(t, sessionstest.New(), "boot")
			c := b.client(mqttcodec.V5)
			sent := c.encode(
				connectPacket(mqttcodec.V5, "c"),
				&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "a", Options: mqttcodec.SubscriptionOptions{QoS: 1}}}},
				&mqttcodec.Pingreq{},
			)
			for len(sent) > 0 {
				n := min(cut, len(sent))
				c.write(sent[:n])
				sent = sent[n:]
			}
			expect[*mqttcodec.Connack](c)
			var pong, suback bool
			for range 2 {
				switch p := c.next().(type) {
				case *mqttcodec.Pingresp:
					pong = true
				case *mqttcodec.Suback:
					suback = true
				default:
					t.Fatalf("got %#v", p)
				}
			}
			if !pong || !suback {
				t.Fatal("not everything was answered")
			}
		})
	}
}

// faults of a client, what it is told, and at which point it commits them.
var faults = []struct {
	name      string
	connected bool
	send      func(*testClient)
	want      mqttcodec.ReasonCode
}{
	{"malformed packet", true, func(c *testClient) { c.write([]byte{0x36, 0x00}) }, mqttcodec.MalformedPacket},
	{"too large packet", true, func(c *testClient) { c.write([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 1, 2, 3}) }, mqttcodec.PacketTooLarge},
	{"topic alias", true, func(c *testClient) { c.send(&mqttcodec.Publish{Topic: "a", TopicAlias: 33}) }, mqttcodec.TopicAliasInvalid},
	{"second CONNECT", true, func(c *testClient) { c.send(connectPacket(mqttcodec.V5, "c")) }, mqttcodec.ProtocolErrorReason},
	{"authentication method", false, func(c *testClient) {
		c.send(connectPacket(mqttcodec.V5, "c", func(p *mqttcodec.Connect) {
			p.Properties.AuthenticationMethod = mqttcodec.Some("unknown")
		}))
	}, mqttcodec.BadAuthenticationMethod},
	{"client identifier", false, func(c *testClient) {
		c.send(&mqttcodec.Connect{Version: mqttcodec.V311})
	}, mqttcodec.ClientIdentifierNotValid},
}

// TestClientIsToldItsFaultBeforeTheSocketCloses goes over real sockets, with bytes behind the fault that nobody will read:
// the kind of close that takes the last packet with it if it comes too early.
func TestClientIsToldItsFaultBeforeTheSocketCloses(t *testing.T) {
	b := startOnSockets(t, sessionstest.New(), "boot")
	for range 20 {
		for _, fault := range faults {
			version := mqttcodec.V5
			if fault.name == "client identifier" {
				version = mqttcodec.V311
			}
			c := b.client(version)
			if fault.connected {
				c.send(connectPacket(mqttcodec.V5, "c", clean))
				expect[*mqttcodec.Connack](c)
			}
			fault.send(c)
			_, _ = c.socket.Write(make([]byte, 4096))
			var reason mqttcodec.ReasonCode
			switch p := c.next().(type) {
			case *mqttcodec.Disconnect:
				reason = p.Reason
			case *mqttcodec.Connack:
				reason = p.Reason
			default:
				t.Fatalf("%s: got %#v", fault.name, p)
			}
			if reason != fault.want {
				t.Fatalf("%s: the reason is %#x, want %#x", fault.name, reason, fault.want)
			}
			c.wantEnd()
			c.close()
		}
	}
	eventually(t, "all connections are gone", func() bool { return b.Stats().Connections() == 0 })
}

func TestConnectionWithoutConnectIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		silent, half := b.client(mqttcodec.V5), b.client(mqttcodec.V5)
		half.write(half.encode(connectPacket(mqttcodec.V5, "c"))[:5])
		start := time.Now()
		silent.wantEnd()
		half.wantEnd()
		if took := time.Since(start); took < b.cfg.ConnectTimeout || took > b.cfg.ConnectTimeout+time.Second {
			t.Fatalf("it took %v", took)
		}
		if n := b.stats.connectTimeouts.Load(); n != 2 {
			t.Fatalf("%d time-outs are counted", n)
		}
	})
}

func TestPacketBeforeConnectEndsTheConnectionInSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		c := b.client(mqttcodec.V5)
		c.send(&mqttcodec.Pingreq{}) // [MQTT-3.1.0-1]
		c.wantEnd()
	})
}

// A client that takes nothing is given up after the write timeout, and its session goes on without it.
func TestClientThatDoesNotReadIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		c := b.connected("c")
		c.subscribe(1, "a")
		c.pause()
		c.send(&mqttcodec.Pingreq{}) // answered into the read that is under way
		synctest.Wait()
		start := time.Now()
		b.connected("publisher", clean).publish1("a", "1")
		eventually(t, "the session is let go", func() bool { return b.directory.parked("c") })
		if took := time.Since(start); took < b.cfg.WriteTimeout/2 || took > b.cfg.WriteTimeout+time.Second {
			t.Fatalf("it took %v", took)
		}
		if n := b.stats.writeTimeouts.Load(); n != 1 {
			t.Fatalf("%d time-outs are counted", n)
		}
		c = b.connected("c")
		if p := c.take1(); string(p.Payload) != "1" || !p.Duplicate {
			t.Fatalf("got %+v", p)
		}
	})
}

// A slow client costs bounded memory, and gets everything in its order when it reads again; QoS 0 is dropped meanwhile, and
// counted. [MQTT-4.6.0-5] [MQTT-4.6.0-6] [case 145] [case 156]
func TestSlowReaderCatchesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		b := startOnPipes(t, storage, "boot", func(cfg *Config) {
			cfg.RingBytes = 100 * entryOverhead
			cfg.OutboundBytes = 10_000
			cfg.WriteTimeout = time.Hour
		})
		slow, zero, publisher := b.connected("slow"), b.connected("zero", clean), b.connected("publisher")
		slow.subscribe(1, "a")
		zero.subscribe(0, "a")
		slow.pause()
		zero.pause()
		slow.send(&mqttcodec.Pingreq{})
		zero.send(&mqttcodec.Pingreq{})
		synctest.Wait()
		const n = 2000
		for i := range n {
			publisher.publish1("a", string(rune('a'+i%26))+strings.Repeat("x", 200))
			if i%100 == 0 {
				elapse(50 * time.Millisecond)
			}
		}
		synctest.Wait()
		b.connections.each(func(c *connection) {
			if unsent := c.unsent.Load(); unsent > 2*int64(b.cfg.OutboundBytes)+int64(b.cfg.Sessions.SendWindow)*300 {
				t.Errorf("%d bytes wait for one client", unsent)
			}
		})
		slow.resume()
		expect[*mqttcodec.Pingresp](slow)
		for i := range n {
			if p := slow.take1(); p.Payload[0] != byte('a'+i%26) || p.QoS != 1 {
				t.Fatalf("message %d is %q at QoS %d", i, p.Payload[0], p.QoS)
			}
		}
		publisher.publish1("a", "live")
		slow.takeAll("live")
		eventually(t, "its queue is removed", func() bool { return len(storage.QueueNames()) == 0 })
		if b.Stats().Drops()["slow_consumer"] == 0 {
			t.Error("no QoS 0 message was dropped for the other client")
		}
	})
}

// Congestion is told to the session once, and its end once enough was written. Each message that is not sent is counted.
// [case 156]
func TestCongestionComesAndGoes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot", func(cfg *Config) { cfg.OutboundBytes = 5000 })
		c := b.connected("c", clean)
		c.subscribe(0, "a")
		publisher := b.connected("publisher")
		c.pause()
		c.send(&mqttcodec.Pingreq{})
		synctest.Wait()
		const n = 1000
		for range n {
			publisher.send(&mqttcodec.Publish{Topic: "a", Payload: make([]byte, 200)})
		}
		synctest.Wait()
		dropped := b.Stats().Drops()["slow_consumer"]
		if dropped < n-2*flushEvery-busyReadBuffer/200 || dropped == n { // what one read has brought is handed over together
			t.Fatalf("%d of %d messages were dropped", dropped, n)
		}
		c.resume()
		synctest.Wait()
		if got := c.received(); len(got) != n+1-int(dropped) {
			t.Fatalf("%d packets came, %d messages were dropped", len(got), dropped)
		}
		publisher.send(&mqttcodec.Publish{Topic: "a", Payload: []byte("again")})
		c.takeAll("again")
	})
}

// gone is the socket of a client that has closed: what it sent before can be read, nothing can be written.
type gone struct {
	net.Conn
	writeErr error
	closed   bool
	deadline time.Time
}

func (s *gone) Write([]byte) (int, error)         { return 0, s.writeErr }
func (s *gone) SetWriteDeadline(time.Time) error  { return nil }
func (s *gone) SetReadDeadline(t time.Time) error { s.deadline = t; return nil }
func (s *gone) Close() error                      { s.closed = true; return nil }

// What a client sent before it closed is read also when the broker notices by writing: it may be DISCONNECT. A client that
// takes nothing is given up. [MQTT-3.14.4-3] [case 51]
func TestFailedWriteLeavesReading(t *testing.T) {
	for _, c := range []struct {
		err    error
		closed bool
	}{
		{syscall.EPIPE, false},
		{syscall.ECONNRESET, false},
		{os.ErrDeadlineExceeded, true},
	} {
		socket := &gone{writeErr: c.err}
		cn := &connection{broker: &Broker{cfg: DefaultConfig("boot"), workers: newWorkers()}, socket: socket, inflow: newInflow(1, 1), version: mqttcodec.V5}
		cn.encode(&outbound{packets: []mqttcodec.Packet{&mqttcodec.Pingresp{}}})
		cn.flush()
		if socket.closed != c.closed || cn.closing.Load() != c.closed {
			t.Errorf("%v: closed %v, want %v", c.err, socket.closed, c.closed)
		}
		if !c.closed && socket.deadline.IsZero() {
			t.Errorf("%v: the reader may wait for ever", c.err)
		}
	}
}
