package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"dunlin/mqttcodec"
)

// maxPacket bounds what a raw client reads; no test sends more.
const maxPacket = 4 << 20

// Raw is a client that sends and reads single packets and answers nothing by itself. One goroutine may use it.
type Raw struct {
	// Connack is the broker's answer to CONNECT.
	Connack *mqttcodec.Connack
	// Patience is how long a read waits.
	Patience time.Duration

	t       testing.TB
	conn    net.Conn
	version mqttcodec.Version
	reader  *mqttcodec.Reader
	buffer  []byte
	// byteByByte: each byte is written by itself; unsent is what TrySendFirst left for TrySendRest.
	byteByByte bool
	unsent     []byte
}

// Dial opens a connection to the broker and sends nothing yet.
func (b *Broker) Dial(t testing.TB, v mqttcodec.Version) *Raw {
	t.Helper()
	r, err := DialRaw(t, b.MQTT, v)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.conn.Close() })
	return r
}

// DialRaw opens a connection to an address; unlike the methods it leaves errors to the caller.
func DialRaw(t testing.TB, address string, v mqttcodec.Version) (*Raw, error) {
	conn, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		return nil, err
	}
	return &Raw{Patience: Patience, t: t, conn: conn, version: v, reader: mqttcodec.NewReader(conn, v, maxPacket)}, nil
}

// PersistentConnect asks for a session that outlives the connection.
func PersistentConnect(v mqttcodec.Version, clientID string) *mqttcodec.Connect {
	c := &mqttcodec.Connect{Version: v, ClientID: clientID}
	if v == mqttcodec.V5 {
		c.Properties.SessionExpirySeconds = mqttcodec.Some[uint32](3600)
	}
	return c
}

// CleanConnect asks for a new session that ends with the connection.
func CleanConnect(v mqttcodec.Version, clientID string) *mqttcodec.Connect {
	return &mqttcodec.Connect{Version: v, ClientID: clientID, CleanStart: true}
}

// ConnectRaw connects a raw client; the broker must accept it.
func (b *Broker) ConnectRaw(t testing.TB, c *mqttcodec.Connect) *Raw {
	t.Helper()
	r := b.Dial(t, c.Version)
	r.Send(c)
	r.Connack = Expect[*mqttcodec.Connack](r)
	if r.Connack.Reason != mqttcodec.Success {
		t.Fatalf("CONNECT %q refused: %#x", c.ClientID, r.Connack.Reason)
	}
	return r
}

// Resume connects a raw client to a session that must be there.
func (b *Broker) Resume(t testing.TB, v mqttcodec.Version, clientID string) *Raw {
	t.Helper()
	r := b.ConnectRaw(t, PersistentConnect(v, clientID))
	if !r.Connack.SessionPresent {
		t.Fatalf("session present is 0 for %q, whose session must be there", clientID)
	}
	return r
}

// Send writes packets in one segment.
func (r *Raw) Send(packets ...mqttcodec.Packet) {
	r.t.Helper()
	if err := r.TrySend(packets...); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

// TrySend is Send for a connection that may be gone.
func (r *Raw) TrySend(packets ...mqttcodec.Packet) error {
	r.buffer = r.buffer[:0]
	for _, p := range packets {
		var err error
		if r.buffer, err = mqttcodec.Append(r.buffer, r.version, p); err != nil {
			return err
		}
	}
	return r.TrySendBytes(r.buffer)
}

// TryRead reads the next packet.
func (r *Raw) TryRead() (mqttcodec.Packet, error) {
	_, p, err := r.TryReadFrame()
	return p, err
}

// Read reads the next packet, which must come.
func (r *Raw) Read() mqttcodec.Packet {
	r.t.Helper()
	p, err := r.TryRead()
	if err != nil {
		r.t.Fatalf("read the next packet: %v", err)
	}
	return p
}

// Expect reads the next packet, which must be a P.
func Expect[P mqttcodec.Packet](r *Raw) P {
	r.t.Helper()
	next := r.Read()
	p, ok := next.(P)
	if !ok {
		r.t.Fatalf("got %T %+v, want %T", next, next, p)
	}
	return p
}

// ExpectClosed reads until the broker closes the connection and returns the packets that came before.
func (r *Raw) ExpectClosed() []mqttcodec.Packet {
	r.t.Helper()
	var before []mqttcodec.Packet
	for {
		p, err := r.TryRead()
		switch {
		case err == nil:
			before = append(before, p)
		case Closed(err):
			return before
		default:
			r.t.Fatalf("the connection was not closed: %v", err)
		}
	}
}

// Closed reports whether a read failed because the other side has closed.
func Closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)
}

// Silent reports whether nothing comes for a while. It is for what must not happen at a time when no later event
// could prove that it did not; everywhere else send a marker message behind it.
func (r *Raw) Silent(d time.Duration) bool {
	r.t.Helper()
	if err := r.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		r.t.Fatal(err)
	}
	p, err := r.reader.ReadPacket()
	if err == nil {
		r.t.Logf("not silent: %T %+v", p, p)
		return false
	}
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// Subscribe subscribes and waits for SUBACK. Messages that come before it are returned.
func (r *Raw) Subscribe(requests ...mqttcodec.SubscriptionRequest) []*mqttcodec.Publish {
	r.t.Helper()
	return r.SubscribePacket(&mqttcodec.Subscribe{PacketID: 60_000, Requests: requests})
}

// SubscribePacket is Subscribe with the whole packet. All filters must be granted as asked.
func (r *Raw) SubscribePacket(s *mqttcodec.Subscribe) []*mqttcodec.Publish {
	r.t.Helper()
	early, err := r.TrySubscribePacket(s)
	if err != nil {
		r.t.Fatal(err)
	}
	return early
}

// TrySubscribePacket is SubscribePacket for a connection that may be gone.
func (r *Raw) TrySubscribePacket(s *mqttcodec.Subscribe) (early []*mqttcodec.Publish, err error) {
	if err := r.TrySend(s); err != nil {
		return nil, err
	}
	for {
		p, err := r.TryRead()
		if err != nil {
			return early, fmt.Errorf("waiting for SUBACK: %w", err)
		}
		switch p := p.(type) {
		case *mqttcodec.Publish:
			early = append(early, p)
		case *mqttcodec.Suback:
			if p.PacketID != s.PacketID || len(p.Reasons) != len(s.Requests) {
				return early, fmt.Errorf("SUBACK %+v for SUBSCRIBE %d of %d filters [MQTT-3.8.4-2][MQTT-3.8.4-5]", p, s.PacketID, len(s.Requests))
			}
			for i, reason := range p.Reasons {
				if byte(reason) != byte(s.Requests[i].Options.QoS) {
					return early, fmt.Errorf("filter %q asked for QoS %d, SUBACK %#x", s.Requests[i].Filter, s.Requests[i].Options.QoS, reason)
				}
			}
			return early, nil
		default:
			return early, fmt.Errorf("waiting for SUBACK, got %T %+v", p, p)
		}
	}
}

// Filter is a subscription request without options.
func Filter(filter string, qos mqttcodec.QoS) mqttcodec.SubscriptionRequest {
	return mqttcodec.SubscriptionRequest{Filter: filter, Options: mqttcodec.SubscriptionOptions{QoS: qos}}
}

// Disconnect implements Connection: DISCONNECT, then reads until the broker closes.
func (r *Raw) Disconnect() {
	r.t.Helper()
	if err := r.TryDisconnect(); err != nil {
		r.t.Fatalf("disconnect: %v", err)
	}
}

// TryDisconnect is Disconnect for a broker that may be gone.
func (r *Raw) TryDisconnect() error {
	defer r.conn.Close()
	if err := r.TrySend(&mqttcodec.Disconnect{}); err != nil {
		return err
	}
	for {
		if _, err := r.TryRead(); Closed(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Drop implements Connection.
func (r *Raw) Drop() { r.conn.Close() }

var _ Connection = (*Raw)(nil)
