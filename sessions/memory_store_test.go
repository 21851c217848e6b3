package sessions

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// memoryStore is what is durable: the documents of one session, and the log.
type memoryStore struct {
	record, journal                 []byte
	recordRevision, journalRevision uint64
	revision                        uint64
	log                             []Entry
	// handed: entries up to there were handed out by the router.
	handed uint64
}

func (st *memoryStore) stored() Stored {
	return Stored{
		ClientID: "c", Record: st.record, RecordRevision: st.recordRevision, Journal: st.journal, JournalRevision: st.journalRevision,
	}
}

// save carries out a write of a document, if the document still has the revision that it replaces.
func (st *memoryStore) save(e Effect) (r Result) {
	switch e := e.(type) {
	case SaveRecord:
		r.Token = e.Token
		if r.Err = st.expect(e.Expect, st.recordRevision); r.Err == nil {
			st.record, st.recordRevision = e.Data, st.nextRevision()
			r.Sequence = st.recordRevision
		}
	case SaveJournal:
		r.Token = e.Token
		if r.Err = st.expect(e.Expect, st.journalRevision); r.Err == nil {
			st.journal, st.journalRevision = e.Data, st.nextRevision()
			r.Sequence = st.journalRevision
		}
	case Discard:
		r.Token = e.Token
		if r.Err = st.expect(e.Expect, st.recordRevision); r.Err == nil {
			st.record, st.journal = nil, nil
			st.recordRevision, st.journalRevision = st.nextRevision(), st.nextRevision()
			r.Sequence, r.JournalSequence = st.recordRevision, st.journalRevision
		}
	}
	return r
}

func (st *memoryStore) expect(expected, is uint64) error {
	if expected != is {
		return fmt.Errorf("revision %d is expected, %d is stored: %w", expected, is, ErrConflict)
	}
	return nil
}

func (st *memoryStore) nextRevision() uint64 {
	st.revision++
	return st.revision
}

// head is the last sequence of the log.
func (st *memoryStore) head() uint64 {
	if len(st.log) == 0 {
		return 0
	}
	return st.log[len(st.log)-1].Sequence
}

func (st *memoryStore) index(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(st.log, seq, func(e Entry, seq uint64) int {
		return int(e.Sequence) - int(seq)
	})
}

func (st *memoryStore) put(e Entry) {
	i, found := st.index(e.Sequence)
	if found {
		st.log[i] = e
		return
	}
	st.log = slices.Insert(st.log, i, e)
}

func (st *memoryStore) entry(seq uint64) (Entry, bool) {
	i, found := st.index(seq)
	if !found {
		return Entry{Position: at(seq)}, false
	}
	return st.log[i], true
}

func (st *memoryStore) after(seq uint64, limit int) []Entry {
	i, _ := st.index(seq + 1)
	rest := st.log[i:]
	return slices.Clone(rest[:min(limit, len(rest))])
}

func (st *memoryStore) trim(upTo uint64) {
	st.log = slices.DeleteFunc(st.log, func(e Entry) bool { return e.Sequence <= upTo })
}

// append stores a message at the end of the log, once if it has an identity.
func (st *memoryStore) append(e Persist, now time.Time) Result {
	for _, old := range st.log {
		if e.ID != "" && old.ID == e.ID {
			return Result{Token: e.Token, Sequence: old.Sequence, Duplicate: true}
		}
	}
	m := *e.Message
	m.PublishedAt = now
	at := at(st.head() + 1)
	st.put(Entry{Position: at, Message: &m, ID: e.ID})
	return Result{Token: e.Token, Sequence: at.Sequence}
}

// ids are the identities of messages that the log holds after a sequence.
func (st *memoryStore) ids(after uint64) (ids []string) {
	for _, e := range st.log {
		if e.ID != "" && e.Sequence > after {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// retained are the retained messages that match a filter, behind a topic, at most max.
func (st *memoryStore) retained(filter, after string, max int) (part RetainedPart) {
	levels := func(topic string) string { return strings.ReplaceAll(topic, "/", "\x00") }
	part.Entries = slices.DeleteFunc(st.allRetained(filter), func(e Entry) bool { return levels(e.Message.Topic) <= levels(after) })
	slices.SortFunc(part.Entries, func(a, b Entry) int { return strings.Compare(levels(a.Message.Topic), levels(b.Message.Topic)) })
	if part.More = len(part.Entries) > max; part.More {
		part.Entries = part.Entries[:max]
		part.UpTo = after
		if max > 0 {
			part.UpTo = part.Entries[max-1].Message.Topic
		}
	}
	return part
}

func (st *memoryStore) allRetained(filter string) (list []Entry) {
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
func (st *memoryStore) show(now time.Time) string {
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
	fmt.Fprintf(&b, "owner=%s incarnation=%s%s", r.Owner, r.Incarnation, optional(" principal", r.Principal))
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
		if sub.FormerQoS > 0 {
			fmt.Fprintf(&b, "(%d@%d)", sub.FormerQoS, sub.FormerUntil.Sequence)
		}
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
		if o.share != "" {
			b.WriteString(":" + o.share)
		}
	}
	for _, o := range j.owed {
		fmt.Fprintf(&b, " owed %s@%d", o.filter, o.at.Sequence)
		if o.after != "" {
			b.WriteString(":after=" + o.after)
		}
	}
	for _, in := range j.inbound {
		fmt.Fprintf(&b, " inbound %d/%d", in.packetID, in.generation)
		if in.stored {
			b.WriteString(":stored")
		}
	}
	return b.String()
}
