package sessions

import (
	"math"
	"math/bits"
	"slices"
)

const (
	// maxPacketID is also how many packet identifiers there are: 0 is none. [MQTT-2.2.1-3]
	maxPacketID = math.MaxUint16
	// packetIDListMax is how many identifiers in use are kept as a list. More become a bitmap, half of it a list again.
	packetIDListMax = 64
	// packetIDListKept is the largest list buffer that is kept when no identifier is in use.
	packetIDListKept = 16
)

// packetIDs tells which packet identifiers a session has in use for its outbound messages, and picks unused ones from
// a moving cursor, so that an identifier which became free is used again as late as possible. The zero value has none
// in use, and holds no memory. Owned by the session.
//
// Invariant: an identifier in use is never handed out. [MQTT-2.2.1-4]
type packetIDs struct {
	// last is where the cursor is: behind the identifier handed out last, 0 at first.
	last uint16
	// count is how many are in use.
	count uint16
	// list holds those in use in ascending order; it is empty while bitmap is set.
	list []uint16
	// bitmap has one bit for each identifier, and that of 0 set for good.
	bitmap *packetIDBitmap
}

type packetIDBitmap [(maxPacketID + 1) / 64]uint64

// allocate takes the first unused identifier after the cursor and moves the cursor there.
// It returns false when all are in use.
func (p *packetIDs) allocate() (uint16, bool) {
	if p.count == maxPacketID {
		return 0, false
	}
	id := p.firstUnused(p.nextID())
	p.insert(id)
	p.last = id
	return id, true
}

// take puts one identifier in use, as when a session is loaded. It returns false when that is 0 or in use already.
func (p *packetIDs) take(id uint16) bool {
	if id == 0 || p.inUse(id) {
		return false
	}
	p.insert(id)
	return true
}

// release ends the use of an identifier. It returns false when it was not in use.
func (p *packetIDs) release(id uint16) bool {
	if id == 0 || !p.inUse(id) {
		return false
	}
	p.remove(id)
	return true
}

// inUse reports whether an identifier is in use.
func (p *packetIDs) inUse(id uint16) bool {
	if p.bitmap != nil {
		return id != 0 && p.bitmap[id/64]&(1<<(id%64)) != 0
	}
	_, found := slices.BinarySearch(p.list, id)
	return found
}

// len is how many identifiers are in use.
func (p *packetIDs) len() int { return int(p.count) }

// nextID is the identifier that allocate tries first.
func (p *packetIDs) nextID() uint16 {
	if p.last == maxPacketID {
		return 1
	}
	return p.last + 1
}

// setNext makes id the one that allocate tries first. 0 counts as 1.
func (p *packetIDs) setNext(id uint16) { p.last = max(id, 1) - 1 }

// skipAhead moves the cursor on by n identifiers, in use or not, so that an acknowledgement of what was sent before
// a crash and never written down does not end the delivery of another message.
func (p *packetIDs) skipAhead(n uint16) {
	at := (int(p.nextID()) - 1 + int(n)) % maxPacketID // counted from 0, as 0 is no identifier
	p.setNext(uint16(at) + 1)
}

// firstUnused is the first identifier not in use from one on, past the last one to the first. There must be one.
func (p *packetIDs) firstUnused(from uint16) uint16 {
	if p.bitmap != nil {
		return p.bitmap.firstClear(from)
	}
	i, found := slices.BinarySearch(p.list, from)
	if !found {
		return from
	}
	for ; i < len(p.list) && p.list[i] == from; i++ {
		if from == maxPacketID {
			return p.firstUnused(1)
		}
		from++
	}
	return from
}

func (p *packetIDs) insert(id uint16) {
	if p.bitmap == nil && p.count == packetIDListMax {
		p.bitmap = newPacketIDBitmap(p.list)
		p.list = nil
	}
	p.count++
	if p.bitmap != nil {
		p.bitmap[id/64] |= 1 << (id % 64)
		return
	}
	at, _ := slices.BinarySearch(p.list, id)
	p.list = slices.Insert(p.list, at, id)
}

func (p *packetIDs) remove(id uint16) {
	p.count--
	if p.bitmap == nil {
		at, _ := slices.BinarySearch(p.list, id)
		p.list = slices.Delete(p.list, at, at+1)
		if p.count == 0 && cap(p.list) > packetIDListKept {
			p.list = nil
		}
		return
	}
	p.bitmap[id/64] &^= 1 << (id % 64)
	if p.count == packetIDListMax/2 {
		p.list = p.bitmap.list(p.len())
		p.bitmap = nil
	}
}

func newPacketIDBitmap(list []uint16) *packetIDBitmap {
	b := &packetIDBitmap{1}
	for _, id := range list {
		b[id/64] |= 1 << (id % 64)
	}
	return b
}

// firstClear is the first identifier whose bit is clear from one on, past the last one to the first.
func (b *packetIDBitmap) firstClear(from uint16) uint16 {
	word := int(from / 64)
	unused := ^b[word] >> (from % 64) << (from % 64)
	for unused == 0 {
		word = (word + 1) % len(b)
		unused = ^b[word]
	}
	return uint16(word*64 + bits.TrailingZeros64(unused))
}

// list is all identifiers whose bit is set; there are count.
func (b *packetIDBitmap) list(count int) []uint16 {
	list := make([]uint16, 0, count)
	for i, word := range b {
		if i == 0 {
			word &^= 1
		}
		for ; word != 0; word &= word - 1 {
			list = append(list, uint16(i*64+bits.TrailingZeros64(word)))
		}
	}
	return list
}
