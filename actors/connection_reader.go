package actors

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math/bits"
	"strings"
	"sync"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

const (
	// frameGroup is how many bytes of packets are copied together.
	frameGroup = 4 << 10
	// idleReadBuffer is what a connection holds while nothing comes, if its socket cannot be read without.
	idleReadBuffer = 512
	// busyReadBuffer is what a reader grows to while its reads fill it; only a larger packet makes it larger.
	busyReadBuffer = 64 << 10
)

// lentBuffers lends the buffers that sockets are read into which are ready.
var lentBuffers = sync.Pool{New: func() any { b := make([]byte, busyReadBuffer); return &b }}

// read is the connection's reader: it decodes what comes and hands it to the session in batches, one for each read, until
// the connection ends. Started by the listener; ends with the socket.
func (c *connection) read() { newPacketReader(c).work() }

// work reads, and has another goroutine read on when run wants that.
func (r *packetReader) work() {
	err := r.run()
	if errors.Is(err, errRenewed) {
		go r.work()
		return
	}
	r.end(err)
}

// end ends the connection behind what was read.
func (r *packetReader) end(err error) {
	c := r.connection
	var fault *mqttcodec.ProtocolError
	if c.session.Load() == nil && r.handshake != nil && errors.As(err, &fault) {
		err = r.handshake.refuse(err)
	}
	if s := c.session.Load(); s != nil {
		s.post(&inbound{connection: c, err: err})
	}
	if c.closing.Load() && !c.left.Load() || errors.Is(err, errRefused) || c.session.Load() != nil && errors.As(err, &fault) {
		c.drain(r.buffer) // the client is still to be told why
	}
	if r.lender == nil {
		returnReadBuffer(r.buffer)
	}
	c.abort()
	c.broker.connectionEnded(c)
}

// drain throws away what comes on a connection that is being closed, until the client has closed too, or long enough.
func (c *connection) drain(waste []byte) {
	if len(waste) == 0 {
		waste = make([]byte, idleReadBuffer)
	}
	_ = c.socket.SetReadDeadline(time.Now().Add(lingerTimeout)) // fails on a closed socket only, as Read then does
	for {
		if _, err := c.socket.Read(waste); err != nil {
			return
		}
	}
}

// packetReader cuts the byte stream into packets. The bytes of complete packets are copied once, out of the read buffer
// into memory of their own, which the packets alias: so an idle connection pins nothing, and few copies are made. The copies
// are not large, since a message that stays in memory keeps all of its copy there.
type packetReader struct {
	connection *connection
	// lender is nil when the socket is read into the reader's own buffer. Else buffer is the one that was lent, or the
	// beginning of a packet, or nil.
	lender *lender
	lent   *[]byte
	buffer []byte
	filled int
	// brought is how much the last read brought; full: there was no room for more.
	brought int
	full    bool
	aliases inboundAliases
	opened  time.Time
	// reads counts up to settledReads; last is when the last one was.
	reads int
	last  time.Time
	// handshake is what stands between CONNECT and the session, nil before and behind it.
	handshake *handshake
}

func newPacketReader(c *connection) *packetReader {
	r := &packetReader{connection: c, lender: newLender(c.socket), opened: time.Now()}
	if r.lender == nil {
		r.buffer = make([]byte, idleReadBuffer)
	}
	return r
}

// read waits for more.
func (r *packetReader) read() (n int, err error) {
	if r.lender == nil {
		n, err = r.connection.socket.Read(r.buffer[r.filled:])
		r.filled += n
		r.brought, r.full = n, r.filled == len(r.buffer)
		return n, err
	}
	lent, n, err := r.lender.read()
	switch {
	case lent == nil:
	case r.filled == 0:
		r.lent, r.buffer, r.filled = lent, *lent, n
	default:
		r.buffer = append(r.buffer[:r.filled], (*lent)[:n]...)
		r.filled += n
		lentBuffers.Put(lent)
	}
	return n, err
}

// keep gives back what was lent, and keeps the beginning of a packet.
func (r *packetReader) keep() {
	switch {
	case r.filled == 0:
		r.buffer = nil
	case r.lent != nil || cap(r.buffer) > busyReadBuffer && r.filled < cap(r.buffer)/4:
		r.buffer = bytes.Clone(r.buffer[:r.filled])
	}
	if r.lent != nil {
		lentBuffers.Put(r.lent)
		r.lent = nil
	}
}

// run reads until the connection ends, or until another goroutine should read on: errRenewed.
func (r *packetReader) run() error {
	for {
		n, err := r.read()
		if r.connection.closing.Load() {
			return io.EOF
		}
		r.connection.broker.stats.bytesReceived.Add(uint64(n))
		if n > 0 {
			if err := r.take(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if !r.connection.inflow.wait() {
			return io.EOF
		}
		if r.renews() {
			return errRenewed
		}
	}
}

const (
	// settledReads is how many reads a new connection is taken for one that will be silent.
	settledReads = 4
	// rareReads is how far apart the reads of a silent connection are.
	rareReads = time.Second
)

// renews reports whether it is another goroutine that waits for more. What was read has made the stack grow, to several
// times what waiting takes, and it would stay so: a connection that is mostly silent waits on a new one.
func (r *packetReader) renews() bool {
	if r.lender == nil || r.filled > 0 {
		return false
	}
	now := time.Now()
	rare := now.Sub(r.last) >= rareReads
	r.last = now
	if r.reads < settledReads {
		r.reads++
		return true
	}
	return rare
}

// take hands on the complete packets in the buffer. A fault behind them is returned once they are handed on.
func (r *packetReader) take() error {
	c := r.connection
	limit := int(c.broker.cfg.Sessions.MaxPacketSize)
	end := 0
	var fault error
	need := 0
	for end < r.filled {
		n, err := mqttcodec.FrameLength(r.buffer[end:r.filled], limit)
		if err != nil {
			fault = err
			break
		}
		if n == 0 || end+n > r.filled {
			need = n
			break
		}
		if c.session.Load() == nil && end > 0 {
			break // CONNECT decides about what follows
		}
		end += n
		if c.session.Load() == nil {
			break
		}
	}
	if end > 0 {
		if err := r.decode(end); err != nil {
			return err
		}
		r.filled = copy(r.buffer, r.buffer[end:r.filled])
		if fault == nil && r.filled > 0 && need == 0 {
			return r.take() // behind CONNECT
		}
	}
	if fault != nil {
		return fault
	}
	r.resize(need)
	return nil
}

// resize makes room for the next read: large while much comes, and as large as the packet that is being read, but never
// more than twice what has arrived. When little comes it goes back step by step, so that clients which are mostly silent
// hold little.
func (r *packetReader) resize(need int) {
	if r.lender != nil {
		r.keep()
		return
	}
	size := len(r.buffer)
	switch {
	case r.filled == 0 && size > busyReadBuffer:
		size = idleReadBuffer
	case r.filled == 0 && size > idleReadBuffer && r.brought < size/4:
		size /= 2
	case r.full:
		size = min(2*size, max(need, busyReadBuffer))
		size = max(size, r.filled+1)
	}
	if size == len(r.buffer) {
		return
	}
	buffer := borrowReadBuffer(size)
	copy(buffer, r.buffer[:r.filled])
	returnReadBuffer(r.buffer)
	r.buffer = buffer
}

// readBuffers lends the read buffers between idleReadBuffer and busyReadBuffer, a pool for each power of two: sizes go up and
// down with the traffic.
var readBuffers [bits.UintSize]sync.Pool

// pooledReadBuffer reports whether buffers of a size are lent, and by which pool.
func pooledReadBuffer(size int) (pool *sync.Pool, ok bool) {
	power := bits.Len(uint(size)) - 1
	return &readBuffers[power], size > idleReadBuffer && size <= busyReadBuffer && size == 1<<power
}

func borrowReadBuffer(size int) []byte {
	if pool, ok := pooledReadBuffer(size); ok {
		if b, ok := pool.Get().(*[]byte); ok {
			return *b
		}
	}
	return make([]byte, size)
}

func returnReadBuffer(b []byte) {
	if pool, ok := pooledReadBuffer(len(b)); ok {
		pool.Put(&b)
	}
}

// decode hands the packets in the first end bytes to the session. A packet that does not decode ends the batch.
func (r *packetReader) decode(end int) error {
	c := r.connection
	if c.session.Load() == nil {
		return r.shakeHands(bytes.Clone(r.buffer[:end]))
	}
	m := inbounds.Get().(*inbound)
	var fault error
	var group []byte
	for rest := r.buffer[:end]; len(rest) > 0 && fault == nil; {
		n, err := mqttcodec.FrameLength(rest, 0)
		if err == nil {
			frame := rest[:n]
			switch {
			case mqttcodec.Plain(frame): // nothing of it is kept
				group = group[min(n, len(group)):]
			case len(group) < n:
				group = bytes.Clone(rest[:max(n, min(len(rest), frameGroup))])
				fallthrough
			default:
				frame, group = group[:n:n], group[n:]
			}
			var p mqttcodec.Packet
			if p, err = r.decodePacket(frame); err == nil {
				m.packets = append(m.packets, p)
			}
			rest = rest[n:]
		}
		fault = err
	}
	if len(m.packets) == 0 {
		m.recycle()
		return fault
	}
	if _, leaves := m.packets[len(m.packets)-1].(*mqttcodec.Disconnect); leaves && end == r.filled {
		if _, plain := c.socket.(*audible); plain {
			c.left.Store(true)
		}
	}
	c.pipelined.Store(true)
	c.inflow.add(len(m.packets), end)
	c.broker.stats.packetsReceived.Add(uint64(len(m.packets)))
	m.connection, m.bytes = c, end
	c.session.Load().post(m)
	return fault
}

// inbounds are messages to session actors, to be used again.
var inbounds = sync.Pool{New: func() any { return new(inbound) }}

// recycle makes m available to others. Its packets are done with.
func (m *inbound) recycle() {
	clear(m.packets)
	*m = inbound{packets: m.packets[:0]}
	inbounds.Put(m)
}

// decodePacket decodes one packet and holds it against what a client may send. A second CONNECT is not looked at: what may
// be wrong in it has answers of its own, which are not for DISCONNECT.
func (r *packetReader) decodePacket(frame []byte) (mqttcodec.Packet, error) {
	if frame[0]>>4 == byte(mqttcodec.TypeConnect) {
		return nil, errSecondConnect
	}
	p, err := mqttcodec.Decode(r.connection.version, frame)
	if err != nil {
		return nil, err
	}
	if err := mqttcodec.CheckFromClient(p); err != nil {
		return nil, err
	}
	if publish, ok := p.(*mqttcodec.Publish); ok && publish.TopicAlias != 0 {
		if err := r.aliases.resolve(publish, r.connection.broker.cfg.Sessions.TopicAliasMaximum); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// shakeHands takes a packet of a client that has no session yet.
func (r *packetReader) shakeHands(frame []byte) error {
	var err error
	if r.handshake == nil {
		err = r.connect(frame)
	} else {
		err = r.handshake.next(frame)
	}
	if r.connection.session.Load() != nil {
		r.handshake = nil
	}
	return err
}

// connect takes the first packet, which must be CONNECT. [MQTT-3.1.0-1]
func (r *packetReader) connect(frame []byte) error {
	c := r.connection
	if frame[0]>>4 != byte(mqttcodec.TypeConnect) {
		return errNotConnect
	}
	p, err := mqttcodec.Decode(0, frame)
	if err != nil {
		return c.refuseMalformed(frame, err)
	}
	packet, ok := p.(*mqttcodec.Connect)
	if !ok {
		return errNotConnect
	}
	c.version = packet.Version
	c.aliases.maximum = min(packet.Properties.TopicAliasMaximum, c.broker.cfg.Sessions.TopicAliasMaximum)
	c.aliases.maxPacket = packet.Properties.MaximumPacketSize
	packet.ClientID = strings.Clone(packet.ClientID) // it outlives the frame
	assigned := packet.ClientID == ""
	if assigned {
		if packet.Version == mqttcodec.V31 || packet.Version == mqttcodec.V311 && !packet.CleanStart {
			c.refuse(mqttcodec.ClientIdentifierNotValid) // [3.1.1 MQTT-3.1.3-8]
			return errRefused
		}
		c.assignedID = true
		packet.ClientID = "dunlin-" + rand.Text() // [MQTT-3.1.3-6]
	}
	address := c.socket.RemoteAddr().String()
	if !assigned && !c.broker.mayConnect(packet.ClientID, address) {
		c.refuse(mqttcodec.ConnectionRateExceeded)
		return errRefused
	}
	r.handshake = &handshake{
		connection: c, packet: packet, assigned: assigned, deadline: r.opened.Add(c.broker.cfg.ConnectTimeout),
		credentials: sessions.Credentials{
			ClientID: packet.ClientID, Username: packet.Username, Password: packet.Password, Version: packet.Version,
			RemoteAddress: address, Listener: c.listener,
		},
	}
	return r.handshake.begin()
}

// refuseMalformed answers a CONNECT that does not decode, if its protocol has a way to say so. [MQTT-3.1.4-1] [MQTT-3.1.2-2]
func (c *connection) refuseMalformed(frame []byte, err error) error {
	var fault *mqttcodec.ProtocolError
	version, ok := mqttcodec.ConnackVersion(frame)
	if !ok || !errors.As(err, &fault) {
		return err
	}
	c.version = version
	c.refuse(fault.Reason)
	return errRefused
}

var (
	errNotConnect    error = &mqttcodec.ProtocolError{Reason: mqttcodec.ProtocolErrorReason, Clause: "MQTT-3.1.0-1", Detail: "first packet is not CONNECT"}
	errSecondConnect error = &mqttcodec.ProtocolError{Reason: mqttcodec.ProtocolErrorReason, Clause: "MQTT-3.1.0-2", Detail: "second CONNECT"}
	errRefused             = errors.New("connection refused")
	errRenewed             = errors.New("another goroutine reads on")
)
