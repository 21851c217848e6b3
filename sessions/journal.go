package sessions

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"dunlin/mqttcodec"
)

// journalFormat is the version of the journal's encoding.
const journalFormat = 1

// journal is the decoded journal of a session: where it is in the log and what is half done. Its encoding is binary,
// since QoS 2 writes it on the way of every message.
type journalState struct {
	incarnation string
	// boot is the node boot that wrote it: the one whose checkpoint may stand for the position.
	boot  string
	epoch uint64
	// live: the session was handed everything as it came, so that the node's checkpoint may stand for its position.
	live bool
	// position: everything up to there was looked at; what of it is unfinished is in outbound.
	position Position
	// nextPacketID is where the search for free packet identifiers goes on.
	nextPacketID uint16
	outbound     []outbound
	// generation counts the QoS 2 messages received by this incarnation.
	generation uint64
	inbound    []inboundEntry
	owed       []owedRetained
}

type inboundEntry struct {
	packetID   uint16
	generation uint64
	stored     bool
}

const (
	journalFlagLive = 1 << iota
	journalFlagOwed
)

const (
	outboundFlagRetained = 1 << iota
	outboundFlagRetainAsPublished
	outboundFlagSent
	outboundFlagShared
	outboundFlagIdentifiers
	outboundFlagTopic
	outboundFlagReplayed
)

// appendJournal appends the journal as it is now.
func (s *Session) appendJournal(b []byte) []byte {
	var flags byte
	if s.journalsLive() {
		flags |= journalFlagLive
	}
	if s.owesDurably() {
		flags |= journalFlagOwed
	}
	b = append(b, journalFormat, flags)
	b = appendText(b, s.incarnation)
	b = appendText(b, s.cfg.Boot)
	b = binary.AppendUvarint(b, s.epoch)
	b = appendPosition(b, s.position())
	b = binary.AppendUvarint(b, uint64(s.ids.nextID()))
	b = binary.AppendUvarint(b, uint64(len(s.inflight)))
	for i := range s.inflight {
		o := &s.inflight[i]
		var f byte
		if o.retained {
			f |= outboundFlagRetained
		}
		if o.retain {
			f |= outboundFlagRetainAsPublished
		}
		if o.sent {
			f |= outboundFlagSent
		}
		if o.replayed {
			f |= outboundFlagReplayed
		}
		if len(o.identifiers) > 0 {
			f |= outboundFlagIdentifiers
		}
		b = binary.AppendUvarint(b, uint64(o.packetID))
		if o.share != "" {
			f |= outboundFlagShared
		}
		topic := o.retainedTopic()
		if topic != "" {
			f |= outboundFlagTopic
		}
		b = append(b, byte(o.qos)<<4|byte(o.state), f)
		b = appendPosition(b, o.entry.Position)
		if o.share != "" {
			b = appendText(b, o.share)
		}
		if len(o.identifiers) > 0 {
			b = appendIdentifiers(b, o.identifiers)
		}
		if topic != "" {
			b = appendText(b, topic)
		}
	}
	b = binary.AppendUvarint(b, s.generation)
	b = binary.AppendUvarint(b, uint64(len(s.inbound)))
	for _, id := range s.inboundIDs() {
		in := s.inbound[id]
		b = binary.AppendUvarint(b, uint64(id))
		b = binary.AppendUvarint(b, in.generation)
		if in.stored {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	if flags&journalFlagOwed != 0 {
		b = s.appendOwed(b)
	}
	return b
}

func (s *Session) appendOwed(b []byte) []byte {
	n := 0
	for _, o := range s.owed {
		if !o.passing {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	for _, o := range s.owed {
		if !o.passing {
			b = appendText(appendPosition(appendText(b, o.filter), o.at), o.after)
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendPosition(b []byte, p Position) []byte {
	b = binary.AppendUvarint(b, uint64(p.Shard))
	b = binary.AppendUvarint(b, p.Sequence)
	if p.Time.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, p.Time.UnixNano())
}

func appendIdentifiers(b []byte, identifiers []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(identifiers)))
	for _, id := range identifiers {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

var errJournal = errors.New("session journal is damaged")

// journalReader reads a journal without trusting it; the first fault sticks.
type journalReader struct {
	b   []byte
	bad bool
}

func (r *journalReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *journalReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *journalReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// count reads the length of a list whose elements take at least size bytes each.
func (r *journalReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *journalReader) text() string {
	n := r.count(1)
	text := string(r.b[:n])
	r.b = r.b[n:]
	return text
}

func (r *journalReader) packetID() uint16 {
	v := r.uvarint()
	if v == 0 || v > 0xFFFF {
		r.bad = true
	}
	return uint16(v)
}

// maxSubscriptionIdentifier is the largest there is. (3.8.2.1.2)
const maxSubscriptionIdentifier = 268_435_455

// identifiers reads the subscription identifiers that a message carries.
func (r *journalReader) identifiers() (identifiers []uint32) {
	for range r.count(1) {
		id := r.uvarint()
		if id == 0 || id > maxSubscriptionIdentifier {
			r.bad = true
		}
		identifiers = append(identifiers, uint32(id))
	}
	return identifiers
}

func (r *journalReader) position() Position {
	p := Position{Shard: uint16(r.uvarint()), Sequence: r.uvarint()}
	if ns := r.varint(); ns != 0 {
		p.Time = time.Unix(0, ns).UTC()
	}
	return p
}

// WriterOf is the boot that wrote the journal of an incarnation, empty when that cannot be told, or it is another's.
func WriterOf(journal []byte, incarnation string) string {
	if j, err := decodeJournal(journal); err == nil && j.incarnation == incarnation {
		return j.boot
	}
	return ""
}

// decodeJournal reads a journal. It does not trust it.
func decodeJournal(b []byte) (*journalState, error) {
	r := journalReader{b: b}
	if f := r.byte(); f != journalFormat {
		return nil, fmt.Errorf("session journal has format %d, this version reads %d", f, journalFormat)
	}
	flags := r.byte()
	j := &journalState{live: flags&journalFlagLive != 0}
	j.incarnation, j.boot = r.text(), r.text()
	j.epoch = r.uvarint()
	j.position = r.position()
	j.nextPacketID = r.packetID()
	for range r.count(6) {
		o := outbound{packetID: r.packetID()}
		kind, flags := r.byte(), r.byte()
		o.qos, o.state = mqttcodec.QoS(kind>>4), outboundState(kind&0x0F)
		if o.qos < 1 || o.qos > 2 || o.state >= outboundStates {
			r.bad = true
		}
		o.retained = flags&outboundFlagRetained != 0
		o.retain = flags&outboundFlagRetainAsPublished != 0
		o.sent = flags&outboundFlagSent != 0
		o.replayed = flags&outboundFlagReplayed != 0
		o.entry.Position = r.position()
		if flags&outboundFlagShared != 0 {
			o.share = r.text()
		}
		if flags&outboundFlagIdentifiers != 0 {
			o.identifiers = r.identifiers()
		}
		if flags&outboundFlagTopic != 0 {
			o.topic = r.text()
		}
		j.outbound = append(j.outbound, o)
	}
	j.generation = r.uvarint()
	for range r.count(3) {
		j.inbound = append(j.inbound, inboundEntry{packetID: r.packetID(), generation: r.uvarint(), stored: r.byte() == 1})
	}
	if flags&journalFlagOwed != 0 {
		for range r.count(5) {
			o := owedRetained{filter: r.text(), at: r.position(), after: r.text()}
			o.read = o.after
			j.owed = append(j.owed, o)
		}
	}
	if r.bad || len(r.b) != 0 {
		return nil, errJournal
	}
	return j, nil
}

// LeftBehind reports whether the journal that is stored is that of an earlier session, so that one of the session which
// the stored record is of takes its place. A journal of the session itself is another owner's.
func LeftBehind(there, record, journal []byte) bool {
	r, err := DecodeRecord(record)
	return err == nil && journalIncarnation(journal) == r.Incarnation && journalIncarnation(there) != r.Incarnation
}

// journalIncarnation is the incarnation that a journal is of, "" when it is none that can be read.
func journalIncarnation(b []byte) string {
	r := journalReader{b: b}
	if r.byte() != journalFormat {
		return ""
	}
	r.byte() // the flags
	return r.text()
}
