package scale

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// client is one connection without any goroutine or buffer of its own, so that a process can have many.
type client struct {
	conn net.Conn
}

var dials atomic.Uint32

// connect connects a client, which subscribes to filters at QoS 1.
func connect(address string, packet *mqttcodec.Connect, filters ...string) (*client, error) {
	// One address has ports for 28,000 connections.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+dials.Add(1)%24))}
	conn, err := (&net.Dialer{Timeout: harness.Patience, LocalAddr: from}).Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn}
	packets := []mqttcodec.Packet{packet}
	if len(filters) > 0 {
		subscribe := &mqttcodec.Subscribe{PacketID: 1}
		for _, f := range filters {
			subscribe.Requests = append(subscribe.Requests, harness.Filter(f, 1))
		}
		packets = append(packets, subscribe)
	}
	if err := c.exchange(packets, len(packets)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("client %s: %w", packet.ClientID, err)
	}
	return c, nil
}

// exchange sends packets and reads as many answers.
func (c *client) exchange(packets []mqttcodec.Packet, answers int) error {
	var b []byte
	for _, p := range packets {
		var err error
		if b, err = mqttcodec.Append(b, mqttcodec.V311, p); err != nil {
			return err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(harness.Patience)); err != nil {
		return err
	}
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	reader := mqttcodec.NewReader(c.conn, mqttcodec.V311, 0)
	for range answers {
		p, err := reader.ReadPacket()
		if err != nil {
			return err
		}
		if connack, ok := p.(*mqttcodec.Connack); ok && connack.Reason != mqttcodec.Success {
			return fmt.Errorf("refused: %#x", connack.Reason)
		}
	}
	return nil
}

// alive reports whether the broker answers the client.
func (c *client) alive() error { return c.exchange([]mqttcodec.Packet{&mqttcodec.Pingreq{}}, 1) }

// leave ends the connection with DISCONNECT.
func (c *client) leave() error {
	defer c.conn.Close()
	return c.exchange([]mqttcodec.Packet{&mqttcodec.Disconnect{}}, 0)
}

// inParallel does something for each i from first up to end, some at a time, until it fails or the time is over. It
// returns how far it came.
func inParallel(first, end int, limit time.Duration, do func(i int) error) (int, error) {
	const atATime = 32
	var (
		next    atomic.Int64
		failed  atomic.Pointer[error]
		workers sync.WaitGroup
	)
	next.Store(int64(first))
	stop := time.Now().Add(limit)
	for range atATime {
		workers.Go(func() {
			for failed.Load() == nil && time.Now().Before(stop) {
				i := int(next.Add(1)) - 1
				if i >= end {
					return
				}
				if err := do(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return min(int(next.Load()), end), nil
}

// publish publishes messages first up to end at QoS 1, retained or not, and waits for each acknowledgement.
func publish(address string, first, end int, message func(i int) *mqttcodec.Publish) error {
	const publishers, batch = 8, 128 // messages on the way for each publisher
	batches := make(chan int)
	failed := make(chan error, publishers)
	var workers sync.WaitGroup
	for range publishers {
		c, err := connect(address, harness.CleanConnect(mqttcodec.V311, ""))
		if err != nil {
			return err
		}
		workers.Go(func() {
			defer c.conn.Close()
			for from := range batches {
				if err := c.publishBatch(from, min(from+batch, end), message); err != nil {
					failed <- err
					for range batches { // the others go on
						continue
					}
				}
			}
		})
	}
	for from := first; from < end; from += batch {
		batches <- from
	}
	close(batches)
	workers.Wait()
	close(failed)
	return <-failed
}

func (c *client) publishBatch(from, end int, message func(i int) *mqttcodec.Publish) error {
	packets := make([]mqttcodec.Packet, 0, end-from)
	for i := from; i < end; i++ {
		m := message(i)
		m.QoS, m.PacketID = 1, uint16(i-from+1)
		packets = append(packets, m)
	}
	return c.exchange(packets, len(packets))
}
