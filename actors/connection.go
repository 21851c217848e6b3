package actors

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// connection is one network connection: the connection actor, which encodes and writes, and its reader, a goroutine that
// reads and decodes. It knows bytes and packets; what they mean is the session's business.
type connection struct {
	id     sessions.ConnectionID
	broker *Broker
	socket net.Conn
	// listener is the name of the listener that it came in by.
	listener string
	inflow   *inflow
	mailbox  mailbox
	// again is how the client may authenticate again, nil without an authentication method. Set before there is a session,
	// owned by the session actor then.
	again   *authenticateAgain
	aliases outboundAliases

	// unsent is how many bytes wait to be written: added to by the session actor, taken off by the connection actor.
	unsent atomic.Int64
	// answers is how many of the packets that wait are not PUBLISH.
	answers atomic.Int64
	// session is who gets the packets, nil before CONNECT.
	session atomic.Pointer[sessionRef]
	timeout *connectTimeout
	// answered: CONNACK is on its way, so the connect timeout is over.
	answered atomic.Bool
	// congested: the session was told to hold back and waits for decongested.
	congested atomic.Bool
	closing   atomic.Bool
	// pipelined: the client sent more behind CONNECT, which is carried out also when it has gone meanwhile.
	pipelined atomic.Bool
	// left: the client has sent DISCONNECT and nothing behind it, on a socket that needs no farewell.
	left atomic.Bool
	// unread: the connection is given up since the client does not read.
	unread atomic.Bool

	// version is set by the reader before the first packet goes to a session, as assignedID is: the client identifier was made
	// by us.
	version    mqttcodec.Version
	assignedID bool
	// accepted: CONNACK was sent, and the end of the connection has not been told. principal is who the client then was, will
	// whether it had one. Owned by the session actor.
	accepted, will bool
	principal      string

	// Owned by the connection actor.
	buffer    *[]byte
	deadline  time.Time
	broken    bool
	closeOnce sync.Once
}

// writeBuffers lends the buffers in which packets are encoded, so that an idle connection has none.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const (
	// writeChunk is how much is gathered before it is written without waiting for Idle.
	writeChunk = 64 << 10
	// pooledBuffer is the largest write buffer that is kept.
	pooledBuffer = 256 << 10
	// maxAnswers is how many packets other than PUBLISH may wait to be written: answers are not held back, so a client that
	// asks for more of them and does not read is given up.
	maxAnswers = 1 << 16
	// lingerTimeout is how long a closed connection waits for the client to read the last packets.
	lingerTimeout = 2 * time.Second
)

// The mailbox invokes the connection itself: the runtime would keep a process, a context, a name and a place in its registry
// for an actor that nobody looks up and nobody watches, together more than all else that an idle connection takes.
var _ actor.MessageInvoker = (*connection)(nil)

// stopConnection ends the connection actor: what still waits was to be written to a socket that is closed.
var stopConnection = &actor.Stop{}

// start lets the connection actor run.
func (c *connection) start() {
	c.mailbox.RegisterHandlers(c, c.broker.workers)
	c.mailbox.Start()
}

// InvokeUserMessage implements actor.MessageInvoker.
func (c *connection) InvokeUserMessage(message any) {
	switch m := message.(type) {
	case *outbound:
		c.encode(m)
	case *Idle:
		c.flush()
		c.returnBuffer()
	}
}

// InvokeSystemMessage implements actor.MessageInvoker. The only one is stopConnection, which closes the mailbox.
func (c *connection) InvokeSystemMessage(any) { c.returnBuffer() }

// EscalateFailure implements actor.MessageInvoker: who panics writes nothing any more, and its connection ends.
func (c *connection) EscalateFailure(reason, _ any) {
	c.broken = true
	defer c.abort()
	c.broker.actorFailed(fmt.Sprintf("connection/%d", c.id), reason)
}

// encode gathers packets; a close behind them writes them first.
func (c *connection) encode(m *outbound) {
	if !c.broken {
		if c.buffer == nil {
			c.buffer = writeBuffers.Get().(*[]byte)
		}
		for _, p := range m.packets {
			if publish, ok := p.(*mqttcodec.Publish); ok && c.aliases.maximum > 0 {
				c.aliases.shorten(publish) // it was made for this connection, and nobody else has it
			}
			b, err := mqttcodec.Append(*c.buffer, c.version, p)
			if errors.Is(err, mqttcodec.ErrNoForm) {
				continue // an older client is told by closing
			}
			if err != nil {
				c.broker.log.Error("packet does not encode", "connection", c.id, "packet", fmt.Sprintf("%T", p), "err", err)
				continue
			}
			*c.buffer = b
			if len(b) >= writeChunk {
				c.flush()
			}
		}
	}
	if m.close {
		c.flush()
		c.linger()
	}
	c.answers.Add(int64(m.publishes - len(m.packets)))
	left := c.unsent.Add(-m.bytes)
	if left < int64(c.broker.cfg.OutboundBytes/2) && c.congested.Swap(false) {
		if s := c.session.Load(); s != nil {
			s.post(&decongested{c})
		}
	}
	m.recycle()
}

// flush writes what was gathered. A client that takes nothing for the write timeout is given up.
func (c *connection) flush() {
	if c.buffer == nil || len(*c.buffer) == 0 {
		return
	}
	if !c.broken {
		now := time.Now()
		// Moving the deadline costs, so it is moved when it has come near.
		if timeout := c.broker.cfg.WriteTimeout; c.deadline.Sub(now) < timeout*3/4 {
			c.deadline = now.Add(timeout)
			_ = c.socket.SetWriteDeadline(c.deadline) // fails on a closed socket only, as Write then does
		}
		c.broker.workers.block()
		n, err := c.socket.Write(*c.buffer)
		c.broker.workers.unblock()
		c.broker.stats.bytesSent.Add(uint64(n))
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.broken = true
			c.unread.Store(true)
			c.broker.stats.writeTimeouts.Add(1)
			c.abort()
		default: // the client has closed; what it sent before is still to be read, DISCONNECT above all [MQTT-3.14.4-3]
			c.broken = true
			_ = c.socket.SetReadDeadline(now.Add(lingerTimeout)) // fails on a closed socket only, as Read then does
		}
	}
	*c.buffer = (*c.buffer)[:0]
}

func (c *connection) returnBuffer() {
	if c.buffer == nil {
		return
	}
	if cap(*c.buffer) <= pooledBuffer {
		*c.buffer = (*c.buffer)[:0] // after a panic there is something in it
		writeBuffers.Put(c.buffer)
	}
	c.buffer = nil
}

// linger ends the connection so that what was written reaches the client: closing a socket with unread bytes in it would
// reset it and take the last packets along. The reader throws away what still comes, and closes.
func (c *connection) linger() {
	if c.closing.Swap(true) {
		return
	}
	c.inflow.close()
	if c.left.Load() { // there is nothing unread, and nobody to read on
		c.closeSocket()
		return
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.socket.SetReadDeadline(time.Now().Add(lingerTimeout))
		return
	}
	c.closeSocket()
}

// abort ends the connection at once. Anybody may call it.
func (c *connection) abort() {
	c.closing.Store(true)
	c.inflow.close()
	c.closeSocket()
}

func (c *connection) closeSocket() {
	c.closeOnce.Do(func() { _ = c.socket.Close() })
}

// send hands packets, publishes of them PUBLISH, to the connection actor, which owns them then. Called by the session actor, and before there is
// one by the reader. It reports whether more waits to be written than should: the session then holds back until it gets
// decongested.
func (c *connection) send(packets []mqttcodec.Packet, publishes int, bytes int64, closeAfter bool) (congested bool) {
	waiting := c.unsent.Add(bytes)
	if answers := c.answers.Add(int64(len(packets) - publishes)); answers > maxAnswers {
		c.unread.Store(true)
		c.broker.stats.overflowed.Add(1)
		c.broker.log.Warn("connection closed: the client sends, but does not read the answers", "connection", c.id, "answers", answers)
		c.abort()
	}
	if waiting > int64(c.broker.cfg.OutboundBytes) {
		congested = true
		c.congested.Store(true)
	}
	m := outbounds.Get().(*outbound)
	m.packets, m.publishes, m.bytes, m.close = append(m.packets, packets...), publishes, bytes, closeAfter
	c.mailbox.PostUserMessage(m)
	return congested
}

// outbounds are messages to connection actors, to be used again.
var outbounds = sync.Pool{New: func() any { return new(outbound) }}

// recycle makes m and its packets available to others.
func (m *outbound) recycle() {
	for i, p := range m.packets {
		mqttcodec.Recycle(p)
		m.packets[i] = nil
	}
	*m = outbound{packets: m.packets[:0]}
	outbounds.Put(m)
}

// timerFired implements timerTarget: the connection was heard long enough.
func (c *connection) timerFired(uint8, uint32) { c.heardOut() }

// refuse answers a CONNECT that leads to no session, and closes.
func (c *connection) refuse(reason mqttcodec.ReasonCode) {
	c.refuseWith(&mqttcodec.Connack{Reason: reason})
}

// refuseWith is refuse with a CONNACK that says more, if the client takes it, or any at all. [MQTT-3.1.2-24]
func (c *connection) refuseWith(ack *mqttcodec.Connack) {
	c.answer()
	if !c.fits(ack) {
		ack = &mqttcodec.Connack{Reason: ack.Reason}
	}
	var packets []mqttcodec.Packet
	if c.fits(ack) {
		packets = append(packets, ack)
	}
	c.send(packets, 0, 0, true)
}

// fits reports whether the client takes a packet of this size. For packets before there is a session, which sees to it else.
func (c *connection) fits(p mqttcodec.Packet) bool {
	limit := c.aliases.maxPacket
	if limit == 0 {
		return true
	}
	n, err := mqttcodec.Size(c.version, p)
	return err == nil && n <= int(limit)
}
