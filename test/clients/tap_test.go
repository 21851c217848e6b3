package clients

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"dunlin/mqttcodec"
)

// tap stands between a client and the broker. It passes bytes on, keeps the packets that it sees in them, and can cut
// the wire.
type tap struct {
	address  string
	listener net.Listener
	broker   string
	version  mqttcodec.Version
	flows    sync.WaitGroup

	mu         sync.Mutex
	conns      []net.Conn         // guarded by mu
	closed     bool               // guarded by mu
	fromClient []mqttcodec.Packet // guarded by mu
	fromBroker []mqttcodec.Packet // guarded by mu
}

// newTap is a tap which lasts as long as the test.
func newTap(t testing.TB, broker string, v mqttcodec.Version) *tap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp := &tap{address: listener.Addr().String(), listener: listener, broker: broker, version: v}
	tp.flows.Go(tp.accept)
	t.Cleanup(func() {
		tp.close()
		tp.flows.Wait()
	})
	return tp
}

func (tp *tap) accept() {
	for {
		client, err := tp.listener.Accept()
		if err != nil {
			return // closed
		}
		broker, err := net.Dial("tcp", tp.broker)
		if err != nil {
			client.Close()
			continue
		}
		if !tp.keep(client, broker) {
			return
		}
		tp.flows.Go(func() { tp.flow(broker, client, &tp.fromClient) })
		tp.flows.Go(func() {
			tp.flow(client, broker, &tp.fromBroker)
			tp.release(client, broker)
		})
	}
}

// keep remembers a connection that cut is to close, and closes it when that is due already.
func (tp *tap) keep(conns ...net.Conn) bool {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.conns = append(tp.conns, conns...)
	if tp.closed {
		tp.closeAll()
	}
	return !tp.closed
}

// release closes connections.
func (tp *tap) release(conns ...net.Conn) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	tp.conns = slices.DeleteFunc(tp.conns, func(c net.Conn) bool { return slices.Contains(conns, c) })
}

// flow passes on what from sends, and its end. A packet is seen before it is passed on: what the other side knows of, the
// tap has.
func (tp *tap) flow(to, from net.Conn, seen *[]mqttcodec.Packet) {
	defer to.(*net.TCPConn).CloseWrite() //nolint:errcheck // fails only when the connection is gone
	var frames []byte                    // what has been read, from the first packet on that is incomplete
	for chunk := make([]byte, 64<<10); ; {
		n, err := from.Read(chunk)
		if err != nil {
			return
		}
		if frames, err = tp.see(append(frames, chunk[:n]...), seen); err != nil {
			return
		}
		if _, err := to.Write(chunk[:n]); err != nil {
			return
		}
	}
}

// see adds the packets in frames to what was seen, and returns what is left.
func (tp *tap) see(frames []byte, seen *[]mqttcodec.Packet) (rest []byte, err error) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for {
		n, err := mqttcodec.FrameLength(frames, 0)
		if err != nil || n == 0 || n > len(frames) {
			return frames, err
		}
		p, err := mqttcodec.Decode(tp.version, slices.Clone(frames[:n]))
		if err != nil {
			return frames, err
		}
		*seen = append(*seen, p)
		frames = frames[n:]
	}
}

// settled is nil when each QoS 1 and 2 exchange that the broker has begun is complete.
func (tp *tap) settled() error {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	open := map[uint16]int{}
	for _, p := range tp.fromBroker {
		if p, ok := p.(*mqttcodec.Publish); ok && p.QoS > 0 && !p.Duplicate {
			open[p.PacketID]++
		}
	}
	for _, p := range tp.fromClient {
		switch p := p.(type) {
		case *mqttcodec.Puback:
			open[p.PacketID]--
		case *mqttcodec.Pubcomp:
			open[p.PacketID]--
		}
	}
	for id, n := range open {
		if n > 0 {
			return fmt.Errorf("the exchange of packet identifier %d is open", id)
		}
	}
	return nil
}

// idle is nil when the broker has closed all connections.
func (tp *tap) idle() error {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if len(tp.conns) > 0 {
		return errors.New("the broker has not closed the connection")
	}
	return nil
}

// cut closes the connections; the client may come back.
func (tp *tap) cut() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.closeAll()
}

// close closes the connections for good.
func (tp *tap) close() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.closed = true
	tp.listener.Close()
	tp.closeAll()
}

// closeAll needs mu.
func (tp *tap) closeAll() {
	for _, c := range tp.conns {
		c.Close()
	}
	tp.conns = nil
}

// published are the PUBLISH packets that a tap saw from the client or from the broker.
func published(tp *tap, seen *[]mqttcodec.Packet) []*mqttcodec.Publish {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	var list []*mqttcodec.Publish
	for _, p := range *seen {
		if p, ok := p.(*mqttcodec.Publish); ok {
			list = append(list, p)
		}
	}
	return slices.Clip(list)
}
