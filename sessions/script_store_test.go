package sessions

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
)

// scriptStore is the storage of a script: what is durable.
type scriptStore struct {
	record, journal                 []byte
	recordRevision, journalRevision uint64
	revision                        uint64
	log                             []Entry
	// handed: entries up to there were handed out by the router.
	handed uint64
}

func (st *scriptStore) stored() Stored {
	return Stored{
		ClientID: "c", Record: st.record, RecordRevision: st.recordRevision, Journal: st.journal, JournalRevision: st.journalRevision,
	}
}

func (st *scriptStore) saveRecord(t *testing.T, e SaveRecord) uint64 {
	if e.Expect != st.recordRevision {
		t.Errorf("record replaces revision %d, stored is %d", e.Expect, st.recordRevision)
	}
	st.revision++
	st.record, st.recordRevision = e.Data, st.revision
	return st.revision
}

func (st *scriptStore) saveJournal(t *testing.T, e SaveJournal) uint64 {
	if e.Expect != st.journalRevision {
		t.Errorf("journal replaces revision %d, stored is %d", e.Expect, st.journalRevision)
	}
	st.revision++
	st.journal, st.journalRevision = e.Data, st.revision
	return st.revision
}

func (st *scriptStore) discard(t *testing.T, e Discard) (record, journal uint64) {
	if e.Expect != st.recordRevision {
		t.Errorf("discard replaces revision %d, stored is %d", e.Expect, st.recordRevision)
	}
	st.revision += 2
	st.record, st.journal = nil, nil
	st.recordRevision, st.journalRevision = st.revision-1, st.revision
	return st.recordRevision, st.journalRevision
}

// head is the last sequence of the log.
func (st *scriptStore) head() uint64 {
	if len(st.log) == 0 {
		return 0
	}
	return st.log[len(st.log)-1].Sequence
}

func (st *scriptStore) index(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(st.log, seq, func(e Entry, seq uint64) int {
		return int(e.Sequence) - int(seq)
	})
}

func (st *scriptStore) put(e Entry) {
	i, found := st.index(e.Sequence)
	if found {
		st.log[i] = e
		return
	}
	st.log = slices.Insert(st.log, i, e)
}

func (st *scriptStore) entry(seq uint64) (Entry, bool) {
	i, found := st.index(seq)
	if !found {
		return Entry{Position: at(seq)}, false
	}
	return st.log[i], true
}

func (st *scriptStore) after(seq uint64, limit int) []Entry {
	i, _ := st.index(seq + 1)
	rest := st.log[i:]
	return slices.Clone(rest[:min(limit, len(rest))])
}

func (st *scriptStore) trim(upTo uint64) {
	st.log = slices.DeleteFunc(st.log, func(e Entry) bool { return e.Sequence <= upTo })
}

// append stores a message at the end of the log, once if it has an identity.
func (st *scriptStore) append(e Persist, now time.Time) (seq uint64, duplicate bool) {
	for _, old := range st.log {
		if e.ID != "" && old.ID == e.ID {
			return old.Sequence, true
		}
	}
	m := *e.Message
	m.PublishedAt = now
	seq = st.head() + 1
	st.put(Entry{Position: at(seq), Message: &m, ID: e.ID})
	return seq, false
}

// ids are the identities of messages that the log holds.
func (st *scriptStore) ids() (ids []string) {
	for _, e := range st.log {
		if e.ID != "" {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// retained are the retained messages that match a filter.
func (st *scriptStore) retained(filter string) (list []Entry) {
	for _, e := range st.log {
		if e.Message == nil || !e.Message.Retain || e.Sequence > st.handed {
			continue
		}
		list = slices.DeleteFunc(list, func(old Entry) bool { return old.Message.Topic == e.Message.Topic })
		if len(e.Message.Payload) > 0 && mqttcodec.MatchTopic(filter, e.Message.Topic) {
			list = append(list, e)
		}
	}
	return list
}

// show prints what is durable, as a reader of the documents finds it.
func (st *scriptStore) show(now time.Time) string {
	var b strings.Builder
	if st.record == nil {
		b.WriteString("no record\n")
	} else {
		b.WriteString("record " + showRecord(st.record, now) + "\n")
	}
	if st.journal == nil {
		b.WriteString("no journal")
	} else {
		j, _ := decodeJournal(st.journal)
		b.WriteString("journal incarnation=" + j.incarnation + " " + showJournal(st.journal))
	}
	return b.String()
}

func showRecord(data []byte, now time.Time) string {
	r, err := DecodeRecord(data)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "owner=%s incarnation=%s", r.Owner, r.Incarnation)
	if r.ExpirySeconds == math.MaxUint32 {
		b.WriteString(" expiry=never")
	} else {
		fmt.Fprintf(&b, " expiry=%d", r.ExpirySeconds)
	}
	if r.DetachedAt != nil {
		b.WriteString(" detached")
		if ago := now.Sub(*r.DetachedAt); ago != 0 {
			fmt.Fprintf(&b, "=-%v", ago)
		}
	}
	for _, sub := range r.Subscriptions {
		fmt.Fprintf(&b, " %s:%d", sub.Filter, sub.QoS)
		for _, o := range []struct {
			set  bool
			name string
		}{{sub.NoLocal, "nl"}, {sub.RetainAsPublished, "rap"}, {sub.RetainHandling > 0, fmt.Sprint("rh", sub.RetainHandling)}} {
			if o.set {
				b.WriteString(":" + o.name)
			}
		}
		fmt.Fprintf(&b, "@%d", sub.Since.Sequence)
		if sub.Identifier > 0 {
			fmt.Fprintf(&b, "#%d", sub.Identifier)
		}
	}
	if r.Will != nil {
		fmt.Fprintf(&b, " will=%s", r.Will.Topic)
	}
	return b.String()
}

var outboundStateNames = [outboundStates]string{"assigned", "awaiting-puback", "awaiting-pubrec", "pubrec-seen", "awaiting-pubcomp"}

func showJournal(data []byte) string {
	j, err := decodeJournal(data)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "position=%d", j.position.Sequence)
	if j.live {
		b.WriteString(" live")
	}
	for _, o := range j.outbound {
		fmt.Fprintf(&b, " outbound %d@%d:%s", o.packetID, o.entry.Sequence, outboundStateNames[o.state])
	}
	for _, in := range j.inbound {
		fmt.Fprintf(&b, " inbound %d/%d", in.packetID, in.generation)
		if in.stored {
			b.WriteString(":stored")
		}
	}
	return b.String()
}
