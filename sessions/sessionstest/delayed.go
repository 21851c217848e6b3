package sessionstest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"dunlin/sessions"
)

// Delayed implements sessions.Delayed.
type Delayed struct{ s *Storage }

var _ sessions.Delayed = (*Delayed)(nil)

// delayedState are the delayed messages, under the storage's mu.
type delayedState struct {
	last uint64
	// messages by sequence.
	messages map[uint64]delayedMessage
	ids      map[string]identity
}

type delayedMessage struct {
	entry   sessions.DelayedEntry
	message *sessions.Message
}

// MaxDelayed is how many messages the store takes.
const MaxDelayed = 1000

// Put implements sessions.Delayed.
func (d *Delayed) Put(m *sessions.Message, delay time.Duration, id string, to sessions.Sink, token uint64) {
	stored := *m
	stored.Payload, stored.PublishedAt = bytes.Clone(m.Payload), time.Time{}
	d.s.submit(write{
		Operation: Operation{Kind: PutDelayed, Topic: m.Topic, ID: id}, to: to, token: token,
		apply: func() sessions.Result { return d.s.delayed.put(&stored, delay, id, d.s.notify) },
	})
}

func (d *delayedState) put(m *sessions.Message, delay time.Duration, id string, notify func()) sessions.Result {
	now := time.Now()
	if known, ok := d.ids[id]; ok && id != "" && now.Sub(known.at) < duplicateWindow {
		return sessions.Result{Sequence: known.sequence, Duplicate: true}
	}
	if len(d.messages) >= MaxDelayed {
		return sessions.Result{Err: fmt.Errorf("%w: full", sessions.ErrRejected)}
	}
	d.last++
	e := sessions.DelayedEntry{Sequence: d.last, Due: now.Add(delay), Bytes: len(m.Payload), ID: id}
	if id == "" {
		e.ID = "delayed-" + strconv.FormatUint(d.last, 10)
	} else {
		d.ids[id] = identity{d.last, now}
	}
	d.messages[d.last] = delayedMessage{e, m}
	notify()
	return sessions.Result{Sequence: d.last}
}

// after are the messages stored after a sequence, in order.
func (d *delayedState) after(sequence uint64) (list []sessions.DelayedEntry) {
	for _, at := range slices.Sorted(maps.Keys(d.messages)) {
		if at > sequence {
			list = append(list, d.messages[at].entry)
		}
	}
	return list
}

// Each implements sessions.Delayed.
func (d *Delayed) Each(_ context.Context, visit func(sessions.DelayedEntry)) error {
	if err := d.s.read(Operation{Kind: Read}); err != nil {
		return err
	}
	d.s.mu.Lock()
	list := d.s.delayed.after(0)
	d.s.mu.Unlock()
	for _, e := range list {
		visit(e)
	}
	return nil
}

// Follow implements sessions.Delayed.
func (d *Delayed) Follow(ctx context.Context, after uint64, deliver func(sessions.DelayedEntry)) error {
	for {
		d.s.mu.Lock()
		changed := d.s.changed
		var list []sessions.DelayedEntry
		if !d.s.dead {
			list = d.s.delayed.after(after)
		}
		d.s.mu.Unlock()
		for _, e := range list {
			after = e.Sequence
			deliver(e)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Load implements sessions.Delayed.
func (d *Delayed) Load(_ context.Context, sequences []uint64) (map[uint64]sessions.DelayedMessage, error) {
	if err := d.s.read(Operation{Kind: Read}); err != nil {
		return nil, err
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	found := map[uint64]sessions.DelayedMessage{}
	for _, sequence := range sequences {
		if m, ok := d.s.delayed.messages[sequence]; ok {
			message := *m.message
			found[sequence] = sessions.DelayedMessage{Message: &message, ID: m.entry.ID}
		}
	}
	return found, nil
}

// Remove implements sessions.Delayed.
func (d *Delayed) Remove(_ context.Context, sequences []uint64) (removed []uint64, err error) {
	for _, sequence := range sequences {
		if err := d.s.read(Operation{Kind: RemoveDelayed}); err != nil {
			return removed, err
		}
		d.s.mu.Lock()
		if _, ok := d.s.delayed.messages[sequence]; ok && !d.s.dead {
			delete(d.s.delayed.messages, sequence)
			removed = append(removed, sequence)
		}
		d.s.mu.Unlock()
	}
	return removed, nil
}

// DelayedMessages are the delayed messages that are stored, in the order in which they were.
func (s *Storage) DelayedMessages() (list []*sessions.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.delayed.after(0) {
		list = append(list, s.delayed.messages[e.Sequence].message)
	}
	return list
}
