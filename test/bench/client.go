package main

import (
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Session is the client's side of a persistent session: it outlives connections.
type Session struct {
	q2in *[1024]uint64 // packet ids of QoS 2 messages received and not yet released
}

// q2seen notes a QoS 2 packet identifier and reports whether it was in use.
func (s *Session) q2seen(pid uint16) bool {
	if s.q2in == nil {
		s.q2in = new([1024]uint64)
	}
	m := uint64(1) << (pid & 63)
	if s.q2in[pid>>6]&m != 0 {
		return true
	}
	s.q2in[pid>>6] |= m
	return false
}

// q2release frees the identifier, on PUBREL.
func (s *Session) q2release(pid uint16) {
	if s.q2in != nil {
		s.q2in[pid>>6] &^= uint64(1) << (pid & 63)
	}
}

// Client is one MQTT connection with a minimum of machinery: one read loop parses every complete packet in its buffer,
// gathers the acknowledgements and writes them with one system call.
type Client struct {
	nc      *net.TCPConn
	v5      bool
	id      string
	rb      []byte
	rs, re  int
	ab      []byte // acknowledgements gathered by the read loop
	sess    *Session
	sub     *Sub
	pub     *Pub
	recvMax int
	closing atomic.Bool
	done    chan struct{}
	err     error
	nowB    int64 // the time at which the current batch was read
	looping bool
}

// dialOpts says how to connect; a timeout of 0 is 30 s, a buffer of 0 is 32 KiB.
type dialOpts struct {
	addr    string
	id      string
	clean   bool
	v5      bool
	bufSize int
	timeout time.Duration
}

// dialTCP opens a TCP connection from one of several loopback addresses, so
// that a run with many short connections does not exhaust one address's ports.
func dialTCP(addr string, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() && ip.To4() != nil {
		n := dialSeq.Add(1)
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%24))}
		d.Control = func(_, _ string, c syscall.RawConn) error {
			// IP_BIND_ADDRESS_NO_PORT: choose the port at connect time
			return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 24, 1) })
		}
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return nc.(*net.TCPConn), nil
}

// connect dials and performs CONNECT/CONNACK; it reports session present.
func connect(o dialOpts, sess *Session) (*Client, bool, error) {
	if o.timeout == 0 {
		o.timeout = 30 * time.Second
	}
	if o.bufSize == 0 {
		o.bufSize = 32 << 10
	}
	nc, err := dialTCP(o.addr, o.timeout)
	if err != nil {
		return nil, false, err
	}
	if sess == nil {
		sess = &Session{}
	}
	c := &Client{nc: nc, v5: o.v5, id: o.id, sess: sess, done: make(chan struct{}), rb: make([]byte, o.bufSize), recvMax: 65535}
	_ = nc.SetDeadline(time.Now().Add(o.timeout))
	if _, err = nc.Write(encConnect(nil, o.id, o.clean, 600, o.v5)); err != nil {
		nc.Close()
		return nil, false, err
	}
	var pk Packet
	if err = c.readOne(&pk); err != nil {
		nc.Close()
		return nil, false, fmt.Errorf("waiting for CONNACK: %w", err)
	}
	if pk.typ != tCONNACK || pk.code != 0 {
		nc.Close()
		return nil, false, fmt.Errorf("CONNACK: packet type %d, code %d", pk.typ, pk.code)
	}
	if pk.recvMax > 0 {
		c.recvMax = pk.recvMax
	}
	_ = nc.SetDeadline(time.Time{})
	return c, pk.sp, nil
}

// readOne waits for one packet.
func (c *Client) readOne(pk *Packet) error {
	for {
		ok, err := c.next(pk)
		if err != nil || ok {
			return err
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// fill reads once; the buffer grows when it holds a packet that is longer.
func (c *Client) fill() error {
	if c.rs == c.re {
		c.rs, c.re = 0, 0
	} else if c.re == len(c.rb) {
		if c.rs > 0 {
			copy(c.rb, c.rb[c.rs:c.re])
			c.re -= c.rs
			c.rs = 0
		} else {
			nb := make([]byte, 2*len(c.rb))
			copy(nb, c.rb[:c.re])
			c.rb = nb
		}
	}
	n, err := c.nc.Read(c.rb[c.re:])
	c.re += n
	if n > 0 {
		return nil
	}
	return err
}

// subscribe sends SUBSCRIBE and waits for SUBACK; to be used before start().
func (c *Client) subscribe(qos byte, filters ...string) error {
	_ = c.nc.SetDeadline(time.Now().Add(30 * time.Second))
	defer func() { _ = c.nc.SetDeadline(time.Time{}) }()
	if _, err := c.nc.Write(encSubscribe(nil, 1, c.v5, qos, filters...)); err != nil {
		return err
	}
	var pk Packet
	for {
		if err := c.readOne(&pk); err != nil {
			return fmt.Errorf("waiting for SUBACK: %w", err)
		}
		if pk.typ != tSUBACK {
			c.nowB = nowNs()
			if err := c.handle(&pk); err != nil {
				return err
			}
			continue
		}
		if len(pk.codes) != len(filters) {
			return fmt.Errorf("SUBACK carries %d codes for %d filters", len(pk.codes), len(filters))
		}
		for _, x := range pk.codes {
			if x != qos {
				return fmt.Errorf("SUBACK code 0x%02x for a subscription at QoS %d", x, qos)
			}
		}
		return nil
	}
}

// disconnect sends DISCONNECT and waits for the broker to close the connection.
func (c *Client) disconnect() {
	c.closing.Store(true)
	_, _ = c.nc.Write([]byte{tDISCONNECT << 4, 0}) // who is gone need not be told
	if c.looping {
		select {
		case <-c.done:
		case <-time.After(2 * time.Second):
		}
		c.nc.Close()
		<-c.done
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(2 * time.Second))
	var tmp [256]byte
	for {
		if _, err := c.nc.Read(tmp[:]); err != nil {
			break
		}
	}
	c.nc.Close()
}

// abort closes the connection without DISCONNECT.
func (c *Client) abort() {
	c.closing.Store(true)
	c.nc.Close()
	if c.looping {
		<-c.done
	}
}

// start begins the read loop.
func (c *Client) start() {
	c.looping = true
	go c.loop()
}

// loop runs until the connection ends, which is an error unless we closed it.
func (c *Client) loop() {
	defer close(c.done)
	err := c.run()
	if !c.closing.Load() {
		c.err = err
		connErrs.add(c.id, err)
	}
}

// run handles what each read brought, then acknowledges and publishes at once.
func (c *Client) run() error {
	var pk Packet
	for {
		c.nowB = nowNs()
		any := false
		for {
			ok, err := c.next(&pk)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			any = true
			if err := c.handle(&pk); err != nil {
				return err
			}
		}
		if any {
			if c.sub != nil {
				c.sub.endBatch(c.nowB)
			}
			if len(c.ab) > 0 {
				if _, err := c.nc.Write(c.ab); err != nil {
					return err
				}
				c.ab = c.ab[:0]
			}
			if c.pub != nil {
				c.pub.pump()
			}
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// ack gathers an acknowledgement for the next write.
func (c *Client) ack(typ byte, pid uint16) {
	b := typ << 4
	if typ == tPUBREL {
		b |= 2
	}
	c.ab = append(c.ab, b, 2, byte(pid>>8), byte(pid))
}

// handle does what the protocol asks of the receiver of a packet.
func (c *Client) handle(pk *Packet) error {
	switch pk.typ {
	case tPUBLISH:
		switch pk.flags & 6 {
		case 0:
			c.sub.onMsg(pk, c.nowB)
		case 2:
			c.sub.onMsg(pk, c.nowB)
			c.ack(tPUBACK, pk.pid)
		case 4:
			if !c.sess.q2seen(pk.pid) {
				c.sub.onMsg(pk, c.nowB)
			} else {
				c.sub.resent++
			}
			c.ack(tPUBREC, pk.pid)
		default:
			return errProto
		}
	case tPUBREL:
		c.sess.q2release(pk.pid)
		c.ack(tPUBCOMP, pk.pid)
	case tPUBACK, tPUBREC, tPUBCOMP:
		if c.pub == nil {
			return fmt.Errorf("acknowledgement type %d for a client which publishes nothing", pk.typ)
		}
		return c.pub.onAck(c, pk)
	case tDISCONNECT:
		return fmt.Errorf("the broker sent DISCONNECT, reason 0x%02x", pk.code)
	case tPINGRESP, tSUBACK:
	default:
		return fmt.Errorf("packet type %d from the broker", pk.typ)
	}
	return nil
}

var (
	base    = time.Now()
	dialSeq atomic.Uint32
)

// nowNs is the monotonic time since the start of the program.
func nowNs() int64 { return int64(time.Since(base)) }
