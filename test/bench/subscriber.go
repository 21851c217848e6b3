package main

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
)

// stream is what one subscriber has seen of one topic.
type stream struct {
	t              *Topic
	bits           []uint64
	next           uint64
	n              int64 // distinct messages
	dup, ooo, gaps int64
	batch          int64
}

// add notes a message and reports whether it is new.
func (s *stream) add(seq uint64) bool {
	w := seq >> 6
	for w >= uint64(len(s.bits)) {
		s.bits = append(s.bits, make([]uint64, 64+len(s.bits))...)
	}
	m := uint64(1) << (seq & 63)
	if s.bits[w]&m != 0 {
		s.dup++
		return false
	}
	s.bits[w] |= m
	s.n++
	switch {
	case seq == s.next:
		s.next++
	case seq > s.next:
		s.gaps++
		s.next = seq + 1
	default:
		s.ooo++
	}
	return true
}

// has reports whether a message has arrived.
func (s *stream) has(seq uint64) bool {
	w := seq >> 6
	return w < uint64(len(s.bits)) && s.bits[w]&(1<<(seq&63)) != 0
}

// Sub is the receiving side of one client; used by one read loop at a time.
type Sub struct {
	id      string
	streams map[uint32]*stream
	last    *stream
	active  []*stream
	hist    *Hist
	got     atomic.Int64
	lastNs  atomic.Int64
	batch   int64
	resent  int64 // QoS 2 PUBLISH packets seen again with the same packet id
	foreign int64
	sample  string
}

// newSub makes a subscriber that must receive these topics.
func newSub(id string, ts ...*Topic) *Sub {
	s := &Sub{id: id, streams: map[uint32]*stream{}, hist: &Hist{}}
	for _, t := range ts {
		s.streams[t.id] = &stream{t: t}
	}
	return s
}

// bad counts a message that must not have come.
func (s *Sub) bad(pk *Packet, why string) {
	s.foreign++
	if s.sample == "" {
		s.sample = fmt.Sprintf("%s (topic %q, %d bytes)", why, pk.topic, len(pk.payload))
	}
}

// onMsg checks a message against what was sent.
func (s *Sub) onMsg(pk *Packet, now int64) {
	if s == nil {
		connErrs.add("?", fmt.Errorf("PUBLISH on %q for a client without subscription", pk.topic))
		return
	}
	p := pk.payload
	if len(p) < hdrLen || binary.BigEndian.Uint32(p) != magic || binary.BigEndian.Uint32(p[4:]) != runID {
		s.bad(pk, "message which is not from this run")
		return
	}
	id := binary.BigEndian.Uint32(p[8:])
	st := s.last
	if st == nil || st.t.id != id {
		if st = s.streams[id]; st == nil {
			s.bad(pk, "message which this client did not subscribe to")
			return
		}
		s.last = st
	}
	if string(pk.topic) != st.t.name || len(p) != st.t.size || p[len(p)-1] != tailByte {
		s.bad(pk, "message with altered topic or payload")
		return
	}
	seq := binary.BigEndian.Uint64(p[16:])
	if seq > 1<<34 {
		s.bad(pk, "message with impossible sequence number")
		return
	}
	if !st.add(seq) {
		return
	}
	s.batch++
	if measuring.Load() {
		s.hist.add(now - int64(binary.BigEndian.Uint64(p[24:])))
	}
	if st.t.ring != nil {
		if st.t.ring[seq%ringSize].Add(1) == st.t.fan {
			st.t.pub.completed(1)
		}
		return
	}
	if st.batch == 0 {
		s.active = append(s.active, st)
	}
	st.batch++
}

// endBatch tells the publishers what one read brought.
func (s *Sub) endBatch(now int64) {
	if s.batch == 0 {
		return
	}
	for _, st := range s.active {
		st.t.pub.completed(st.batch)
		st.batch = 0
	}
	s.active = s.active[:0]
	s.got.Add(s.batch)
	s.batch = 0
	s.lastNs.Store(now)
}

// errList gathers unexpected connection errors.
type errList struct {
	mu   sync.Mutex
	n    int
	some []string
}

func (e *errList) add(id string, err error) {
	e.mu.Lock()
	e.n++
	if len(e.some) < 5 {
		e.some = append(e.some, fmt.Sprintf("%s: %v", id, err))
	}
	e.mu.Unlock()
}

func (e *errList) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n
}

var (
	connErrs  errList
	measuring atomic.Bool
	runID     uint32
)
