package main

import (
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
)

// noLimit is the limit of a topic that is published to until the time is over.
const noLimit = ^uint64(0)

// Pub is the publishing side of one client. Three things bound it: window, the
// messages which the broker has not acknowledged (QoS 1 and 2); outstanding,
// the messages which have not reached every subscriber; and each topic's limit.
type Pub struct {
	id          string
	mu          sync.Mutex
	c           *Client
	qos         byte
	retain      bool
	v5          bool
	window      int
	outstanding int64
	topics      []*Topic
	rr          int
	sent        atomic.Int64
	done        atomic.Int64 // messages which reached all their subscribers
	inflight    int
	ackedN      atomic.Int64
	state       []uint8 // by packet id: 0 free, 1 PUBLISH sent, 2 PUBREL sent
	lastPid     uint16
	stopAt      int64
	stopped     bool // no further new messages
	buf         []byte
	wake        chan struct{}
	badAcks     int64
	refused     int64
	keep        bool
	infl        map[uint16]inflight
	order       uint64
	dropped     int64
}

// inflight is a message that is not acknowledged, kept to be sent again.
type inflight struct {
	t     *Topic
	seq   uint64
	order uint64
}

// newPub makes a publisher without connection; outstanding 0 is no bound.
func newPub(id string, qos byte, window int, outstanding int64, v5 bool) *Pub {
	p := &Pub{id: id, qos: qos, window: window, outstanding: outstanding, v5: v5, wake: make(chan struct{}, 1)}
	if p.outstanding <= 0 {
		p.outstanding = 1 << 60
	}
	if qos > 0 {
		p.state = make([]uint8, 65536)
	}
	go func() {
		for range p.wake {
			p.pump()
		}
	}()
	return p
}

// topic adds a topic whose messages must reach fan subscribers each.
func (p *Pub) topic(id uint32, name string, size, fan int) *Topic {
	if size < hdrLen+1 {
		size = hdrLen + 1
	}
	t := &Topic{id: id, name: name, size: size, fan: int32(fan), pub: p}
	if fan > 1 && p.outstanding < 1<<59 {
		t.ring = make([]atomic.Int32, ringSize)
	}
	rl := 2 + len(name) + size
	if p.qos > 0 {
		rl += 2
	}
	if p.v5 {
		rl++
	}
	f := byte(tPUBLISH<<4) | p.qos<<1
	if p.retain {
		f |= 1
	}
	b := putRL([]byte{f}, rl)
	b = putStr(b, name)
	if p.qos > 0 {
		t.oPid = len(b)
		b = append(b, 0, 0)
	}
	if p.v5 {
		b = append(b, 0)
	}
	t.oHdr = len(b)
	pl := make([]byte, size)
	for i := range pl {
		pl[i] = byte(i*7 + 13)
	}
	pl[size-1] = tailByte
	t.tmpl = append(b, pl...)
	p.topics = append(p.topics, t)
	return t
}

// attach binds a connection which is not started yet.
func (p *Pub) attach(c *Client) {
	p.mu.Lock()
	p.c = c
	c.pub = p
	if p.window > c.recvMax {
		p.window = c.recvMax
	}
	p.mu.Unlock()
}

// nextTopic takes the topics in turn, nil when all are at their limits.
func (p *Pub) nextTopic() *Topic {
	for range p.topics {
		t := p.topics[p.rr]
		p.rr++
		if p.rr == len(p.topics) {
			p.rr = 0
		}
		if t.seq < t.limit {
			return t
		}
	}
	return nil
}

// encode appends the PUBLISH of a message.
func (p *Pub) encode(b []byte, t *Topic, seq uint64, pid uint16, dup bool, now int64) []byte {
	n := len(b)
	b = append(b, t.tmpl...)
	x := b[n:]
	if dup {
		x[0] |= 8
	}
	if t.oPid > 0 {
		x[t.oPid], x[t.oPid+1] = byte(pid>>8), byte(pid)
	}
	putHdr(x[t.oHdr:], runID, t.id, seq, now)
	return b
}

// pump sends as much as the bounds allow.
func (p *Pub) pump() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.c != nil && !p.stopped {
		now := nowNs()
		if p.stopAt != 0 && now >= p.stopAt {
			p.stopped = true
			return
		}
		out := p.sent.Load() - p.done.Load()
		room := p.outstanding - out
		if p.qos > 0 {
			if r := int64(p.window - p.inflight); r < room {
				room = r
			}
		} else if room > 4096 {
			room = 4096
		}
		if room <= 0 {
			return
		}
		b := p.buf[:0]
		n := int64(0)
		for room > 0 && len(b) < 128<<10 {
			t := p.nextTopic()
			if t == nil {
				break
			}
			var pid uint16
			if p.qos > 0 {
				pid = p.lastPid + 1
				for pid == 0 || p.state[pid] != 0 {
					pid++
				}
				p.lastPid = pid
				p.state[pid] = 1
				p.inflight++
				if p.keep {
					p.order++
					p.infl[pid] = inflight{t, t.seq, p.order}
				}
			}
			b = p.encode(b, t, t.seq, pid, false, now)
			t.seq++
			room--
			n++
		}
		p.buf = b
		if n == 0 {
			return
		}
		p.sent.Add(n)
		if _, err := p.c.nc.Write(b); err != nil {
			if !p.c.closing.Load() {
				connErrs.add(p.id, fmt.Errorf("publishing: %w", err))
			}
			p.c = nil
			return
		}
		if p.qos > 0 {
			return
		}
	}
}

// completed is called when n messages have reached all their subscribers.
func (p *Pub) completed(n int64) {
	d := p.done.Add(n)
	if p.outstanding >= 1<<59 {
		return
	}
	if p.sent.Load()-d <= p.outstanding/2 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// onAck takes an acknowledgement to its message, or counts one that has none.
func (p *Pub) onAck(c *Client, pk *Packet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := &p.state[pk.pid]
	fin := false
	switch pk.typ {
	case tPUBACK:
		if *st != 1 || p.qos != 1 {
			p.badAcks++
			return nil
		}
		fin = true
	case tPUBREC:
		if p.qos != 2 {
			p.badAcks++
			return nil
		}
		if *st == 0 {
			// A PUBREC for an identifier which is not in use any more; answer it.
			p.badAcks++
			c.ack(tPUBREL, pk.pid)
			return nil
		}
		if pk.code >= 0x80 {
			fin = true
			break
		}
		*st = 2
		c.ack(tPUBREL, pk.pid)
	case tPUBCOMP:
		if *st != 2 || p.qos != 2 {
			p.badAcks++
			return nil
		}
		fin = true
	}
	if !fin {
		return nil
	}
	*st = 0
	p.inflight--
	if pk.code >= 0x80 {
		p.refused++
	} else {
		p.ackedN.Add(1)
	}
	if p.keep {
		e := p.infl[pk.pid]
		delete(p.infl, pk.pid)
		if pk.code < 0x80 {
			w := e.seq >> 6
			for w >= uint64(len(e.t.acked)) {
				e.t.acked = append(e.t.acked, make([]uint64, 64)...)
			}
			e.t.acked[w] |= 1 << (e.seq & 63)
		}
	}
	return nil
}

// resume sends again what the previous connection left unacknowledged (the
// broker still has the session), or forgets it (the broker has lost it).
func (p *Pub) resume(c *Client, present bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.c = c
	c.pub = p
	if !present {
		p.dropped += int64(len(p.infl))
		for pid := range p.infl {
			p.state[pid] = 0
		}
		clear(p.infl)
		p.inflight = 0
		return
	}
	pids := make([]uint16, 0, len(p.infl))
	for pid := range p.infl {
		pids = append(pids, pid)
	}
	sort.Slice(pids, func(i, j int) bool { return p.infl[pids[i]].order < p.infl[pids[j]].order })
	var b []byte
	now := nowNs()
	for _, pid := range pids {
		e := p.infl[pid]
		if p.state[pid] == 2 {
			b = append(b, tPUBREL<<4|2, 2, byte(pid>>8), byte(pid))
		} else {
			b = p.encode(b, e.t, e.seq, pid, true, now)
		}
	}
	if len(b) > 0 {
		_, _ = c.nc.Write(b) // the read loop sees a connection that failed
	}
}

// set opens the publisher: limit new messages for each topic (0 without limit).
func (p *Pub) set(perTopic uint64, stopAt int64) {
	p.mu.Lock()
	for _, t := range p.topics {
		if perTopic == 0 {
			t.limit = noLimit
		} else {
			t.limit = t.seq + perTopic
		}
	}
	p.stopAt = stopAt
	p.stopped = false
	p.mu.Unlock()
	p.pump()
}

// allow lets a connected publisher publish n more messages for each topic, unless it is a whole window behind.
func (p *Pub) allow(n, window uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c == nil {
		return
	}
	for _, t := range p.topics {
		if t.limit < t.seq+window {
			t.limit += n
		}
	}
}

// finished reports whether all that was to be sent is sent and acknowledged.
func (p *Pub) finished() (sentAll bool, ackedAll bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sentAll = true
	if !p.stopped {
		for _, t := range p.topics {
			if t.seq < t.limit {
				sentAll = false
			}
		}
	}
	return sentAll, p.inflight == 0
}

// stop ends the sending of new messages.
func (p *Pub) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
}

// expected is how many deliveries the messages sent so far amount to.
func (p *Pub) expected() (sent, deliveries int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.topics {
		sent += int64(t.seq)
		deliveries += int64(t.seq) * int64(t.fan)
	}
	return
}

// Topic is one stream of numbered messages from one publisher.
type Topic struct {
	id    uint32
	name  string
	size  int
	fan   int32  // how many subscribers each message must reach
	seq   uint64 // messages sent (guarded by Pub.mu)
	limit uint64
	tmpl  []byte
	oPid  int
	oHdr  int
	ring  []atomic.Int32 // with fan > 1: deliveries of each recent message
	pub   *Pub
	acked []uint64 // with keep: bit set of acknowledged messages
}

// ringSize bounds how far the receivers of a fan-out may be apart.
const ringSize = 1 << 16
