package jetstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

const (
	// minGathered is the number of writes from which a batch costs less than an answer to each of them, maxGathered the most
	// that a batch has: a client's acknowledgement waits for that of the batch.
	minGathered = 4
	maxGathered = 128
	// pauseTicks is how many ticks of a publisher pass without batches when one was not taken as hoped.
	pauseTicks = 4
	// batchFlow is how many messages of a batch the server may take without an answer: a whole one.
	batchFlow = "65535"
)

// batching is what a publisher knows of its batches. An answer for each message is a third of what a message costs the server
// and us, so messages to the log that come while an answer is awaited are gathered, and sent as one of the server's fast
// batches: each is stored as it comes, as it would be alone, and only the last is answered, with how many were stored.
//
// The server stores nothing of a batch behind what it could not store, so that answer covers all. What it does not tell is
// where the others are: when the sequence has gone on by just their number since the last answer, they follow each other;
// else somebody has written in between, and the log must tell.
type batching struct {
	// last is the sequence of the last answer, 0 when a write has failed since.
	last uint64
	// pause is for how many ticks writes go alone.
	pause int
}

// errBatchGap: messages of a batch are missing, and nothing else was said.
var errBatchGap = errors.New("messages are missing")

// place notes where the last write was stored. mu is held.
func (p *publisher) place(r *sessions.Result) {
	if p.last = max(p.last, r.Sequence); r.Err != nil {
		p.last = 0
	}
}

// resume brings batches back after a while.
func (p *publisher) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = max(p.pause-1, 0)
}

// batchable reports whether a write may go in a batch: it is just a message that is to be stored.
func (w *write) batchable() bool {
	return w.message != nil && w.message.QoS == 1 && !w.message.Retain && w.id == ""
}

// gathers reports whether a write waits for others to go with it. Then there will be an answer that sends it. mu is held.
func (p *publisher) gathers(w *write) bool {
	return p.batches && p.last > 0 && p.pause == 0 && len(p.free) < len(p.slots) && w.batchable()
}

// together is how many of the writes in queue, for the first of which there is room, are sent next: at once when they are
// minGathered or more, none when they wait for others. mu is held.
func (p *publisher) together(queue []write) int {
	if !p.batches || p.last == 0 || p.pause > 0 || !queue[0].batchable() {
		return 1
	}
	n, bytes := 0, p.bytes
	for n < min(len(queue), maxGathered, len(p.slots)-p.unanswered) && queue[n].batchable() {
		if bytes += queue[n].size(); n > 0 && bytes > p.windowBytes {
			break
		}
		n++
	}
	if n < maxGathered && len(p.free) < len(p.slots) {
		return 0
	}
	return n
}

// sendBatch sends writes as one batch. mu is held.
func (p *publisher) sendBatch(writes []write) {
	i := p.free[len(p.free)-1]
	s := &p.slots[i]
	last := len(writes) - 1
	for k := range writes {
		w := &writes[k]
		m := nats.Msg{Subject: w.subject, Header: w.header, Data: w.data}
		if k == last {
			m.Reply = p.batchReply(i, k, "2")
		} else {
			if k == len(s.appends) {
				operation := "1"
				if k == 0 {
					operation = "0"
				}
				s.appends = append(s.appends, p.batchReply(i, k, operation))
			}
			m.Reply = s.appends[k]
		}
		if err := p.nc.PublishMsg(&m); err != nil {
			for k := range writes { // those before it may be stored
				p.fail(writes[k], clientErr(err))
			}
			s.renew()
			p.last = 0
			return
		}
	}
	s.writes = append(s.writes, writes...)
	s.batch = true
	p.take(i)
}

// batchReply is the reply subject of a message in a batch, which tells the server all about it. The name of the batch is used
// again when it was answered.
func (p *publisher) batchReply(slot, index int, operation string) string {
	s := &p.slots[slot]
	unique := strings.TrimSuffix(p.prefix, ".")
	unique = unique[strings.LastIndexByte(unique, '.')+1:]
	b := make([]byte, 0, 128)
	b = append(b, p.prefix...)
	b = append(b, unique...)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(slot), 36)
	b = append(b, '-')
	b = strconv.AppendUint(b, s.generation, 36)
	b = append(b, "."+batchFlow+".fail."...)
	b = strconv.AppendUint(b, uint64(index)+1, 10)
	b = append(b, '.')
	b = append(b, operation...)
	b = append(b, ".$FI"...)
	return string(b)
}

// batchOf is the slot whose present batch an answer's subject names, and whether it is the answer to its last message. mu is held.
func (p *publisher) batchOf(subject string) (slot int, last, ok bool) {
	reply, ok := strings.CutSuffix(subject, ".$FI")
	if !ok {
		return 0, false, false
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(reply, p.prefix), ".")
	_, id, _ = strings.Cut(id, "-")
	index, generation, _ := strings.Cut(id, "-")
	slot, ok = p.busySlot(index, generation)
	return slot, strings.HasSuffix(reply, ".2"), ok && p.slots[slot].batch
}

// batchAnswer is what the server answers to the messages of a batch: how it goes on, what went wrong, and in the end how many
// were stored.
type batchAnswer struct {
	pubAck
	Type  string `json:"type"`
	Batch string `json:"batch"`
	Count int    `json:"count"`
}

// parseBatchAnswer reads an answer. Each batch has one that only says that it has begun.
func parseBatchAnswer(data []byte) (a batchAnswer, err error) {
	if bytes.HasPrefix(data, []byte(`{"type":"ack"`)) {
		a.Type = "ack"
		return a, nil
	}
	err = json.Unmarshal(data, &a)
	return a, err
}

// settleBatch takes an answer to a message of a batch. mu is held.
func (p *publisher) settleBatch(i int, m *nats.Msg, last bool, now time.Time, done []settled) []settled {
	s := &p.slots[i]
	a, err := parseBatchAnswer(m.Data)
	switch {
	case err == nil && a.Type == "ack":
		return done
	case status(m) == 503:
		s.refused = nats.ErrNoResponders
	case err == nil && a.Error != nil:
		s.refused = a.Error.err()
	case err == nil && a.Type == "gap":
		s.refused = errBatchGap
	case err != nil || a.Stream != s.writes[0].stream || a.Sequence == 0 || a.Batch == "":
		p.stats.ForeignReplies.Add(1)
		return done
	case a.Count != len(s.writes) && s.refused == nil:
		s.refused = errBatchGap
	}
	stored := a.Batch != "" && a.Sequence > 0
	if !stored && !last {
		return done // it is told in the end how many are stored
	}
	n := uint64(len(s.writes))
	if s.refused == nil && a.Sequence < p.last+n {
		s.refused = errBatchGap
	}
	if s.refused != nil {
		why := s.refused.Error()
		p.pause = pauseTicks
		p.stats.RefusedBatches.Add(1)
		p.logger.Warn("a batch of messages was not stored as a whole; they are sent again one by one", "count", n, "cause", why)
		return p.giveUp(i, fmt.Errorf("%w: batch not stored as a whole: %s", sessions.ErrUnavailable, why), done)
	}
	placed := a.Sequence == p.last+n
	if !placed {
		p.pause = pauseTicks // others write, too
	}
	p.last = a.Sequence
	for k := range s.writes {
		w := &s.writes[k]
		result := sessions.Result{Token: w.token, Sequence: a.Sequence}
		if behind := n - 1 - uint64(k); placed {
			result.Sequence -= behind
		} else if behind > 0 {
			done = append(done, settled{to: w.to, result: result, unplaced: true})
			continue
		}
		done = append(done, w.settled(result, s.sent, now))
	}
	p.release(i)
	return done
}
