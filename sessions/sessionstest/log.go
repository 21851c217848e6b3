package sessionstest

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"time"

	"dunlin/sessions"
)

const (
	// duplicateWindow is how long an ID keeps a message from being stored again.
	duplicateWindow = 2 * time.Minute
	// tailBatch is how many entries Tail hands over at once.
	tailBatch = 1024
	// maxTopic is the longest topic that is taken, in bytes.
	maxTopic = 2048
)

// Log implements sessions.Log.
type Log struct{ s *Storage }

var _ sessions.Log = (*Log)(nil)

// logState is the log itself, under the storage's mu.
type logState struct {
	entries      []sessions.Entry
	last         sessions.Position
	created      time.Time
	ids          map[string]identity
	lastAppended uint64
	held         bool
	// generation counts how often the log was made anew.
	generation int
}

type identity struct {
	sequence uint64
	at       time.Time
}

// clock is the time of the next message: never twice the same.
func (l *logState) clock() time.Time {
	now := time.Now().UTC().Round(0)
	if !now.After(l.last.Time) {
		now = l.last.Time.Add(1)
	}
	return now
}

// after is the index of the first entry after a sequence.
func (l *logState) after(sequence uint64) int {
	return sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Sequence > sequence })
}

func (l *logState) find(sequence uint64) (sessions.Entry, bool) {
	if i := l.after(sequence) - 1; i >= 0 && l.entries[i].Sequence == sequence {
		return l.entries[i], true
	}
	return sessions.Entry{}, false
}

// first is the sequence of the oldest message, or of the one to come.
func (l *logState) first() uint64 {
	if len(l.entries) == 0 {
		return l.last.Sequence + 1
	}
	return l.entries[0].Sequence
}

// put adds a message, nil for one that does not decode.
func (l *logState) put(m *sessions.Message, id string) (sequence uint64, duplicate bool) {
	at := l.clock()
	if known, ok := l.ids[id]; ok && id != "" && at.Sub(known.at) < duplicateWindow {
		return known.sequence, true
	}
	l.last = sessions.Position{Sequence: l.last.Sequence + 1, Time: at}
	e := sessions.Entry{Position: l.last, ID: id}
	if m != nil {
		stored := *m
		stored.Payload = bytes.Clone(m.Payload)
		stored.PublishedAt = at
		e.Message = &stored
	}
	l.entries = append(l.entries, e)
	if id != "" {
		l.ids[id] = identity{l.last.Sequence, at}
	}
	return l.last.Sequence, false
}

// Append implements sessions.Log.
func (l *Log) Append(m *sessions.Message, id string, to sessions.Sink, token uint64) {
	l.s.submit(write{
		Operation: Operation{Kind: Append, Topic: m.Topic, ID: id}, to: to, token: token,
		apply: func() sessions.Result {
			if len(m.Topic) > maxTopic {
				return sessions.Result{Err: fmt.Errorf("%w: topic too long", sessions.ErrRejected)}
			}
			sequence, duplicate := l.s.log.put(m, id)
			l.s.log.lastAppended = max(l.s.log.lastAppended, sequence)
			l.s.notify()
			return sessions.Result{Sequence: sequence, Duplicate: duplicate}
		},
	})
}

// Put adds a message from elsewhere, at once; nil is one that does not decode. It returns its sequence.
func (l *Log) Put(m *sessions.Message) uint64 {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	sequence, _ := l.s.log.put(m, "")
	l.s.notify()
	return sequence
}

// LastAppended implements sessions.Log.
func (l *Log) LastAppended() uint64 {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.log.lastAppended
}

// Last implements sessions.Log.
func (l *Log) Last(ctx context.Context) (sessions.Position, error) {
	if err := l.read(ctx); err != nil {
		return sessions.Position{}, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.log.last, nil
}

// First implements sessions.Log.
func (l *Log) First(ctx context.Context) (uint64, error) {
	if err := l.read(ctx); err != nil {
		return 0, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.log.first(), nil
}

// Before implements sessions.Log.
func (l *Log) Before(ctx context.Context, t time.Time) (sessions.Position, error) {
	if err := l.read(ctx); err != nil {
		return sessions.Position{}, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for _, e := range l.s.log.entries {
		if !e.Time.Before(t) {
			return sessions.Position{Sequence: e.Sequence - 1}, nil
		}
	}
	return l.s.log.last, nil
}

func (l *Log) read(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
	}
	return l.s.read(Operation{Kind: Read})
}

// Tail implements sessions.Log.
func (l *Log) Tail(ctx context.Context, after uint64, deliver func([]sessions.Entry)) error {
	batch := make([]sessions.Entry, 0, tailBatch)
	generation := -1
	for {
		l.s.mu.Lock()
		if generation >= 0 && generation != l.s.log.generation {
			after = 0
		}
		generation = l.s.log.generation
		changed := l.s.changed
		batch = batch[:0]
		if !l.s.log.held && !l.s.dead {
			rest := l.s.log.entries[l.s.log.after(after):]
			batch = append(batch, rest[:min(len(rest), tailBatch)]...)
		}
		l.s.mu.Unlock()
		if len(batch) > 0 {
			after = batch[len(batch)-1].Sequence
			deliver(batch)
			clear(batch)
			if ctx.Err() == nil {
				continue
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Scan implements sessions.Log.
func (l *Log) Scan(ctx context.Context, after, upTo uint64, visit func(sessions.Entry)) error {
	if err := l.read(ctx); err != nil {
		return err
	}
	l.s.mu.Lock()
	from, to := l.s.log.after(after), l.s.log.after(upTo)
	var entries []sessions.Entry
	if from < to {
		entries = append(entries, l.s.log.entries[from:to]...)
	}
	l.s.mu.Unlock()
	for _, e := range entries {
		visit(e)
	}
	return nil
}

// Reader implements sessions.Log.
func (l *Log) Reader(after uint64) sessions.LogReader { return &logReader{l, after} }

// logReader implements sessions.LogReader.
type logReader struct {
	log   *Log
	after uint64
}

// Next implements sessions.LogReader.
func (r *logReader) Next(ctx context.Context, most int) ([]sessions.Entry, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", sessions.ErrUnavailable, ctx.Err())
	}
	s := r.log.s
	if err := s.read(Operation{Kind: ReadLog}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := s.log.entries[s.log.after(r.after):]
	entries := append([]sessions.Entry(nil), rest[:min(len(rest), most)]...)
	if n := len(entries); n > 0 {
		r.after = entries[n-1].Sequence
	}
	return entries, nil
}

// Close implements sessions.LogReader.
func (r *logReader) Close() {}

// Load implements sessions.Log.
func (l *Log) Load(ctx context.Context, sequences []uint64) ([]sessions.Entry, error) {
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	var entries []sessions.Entry
	for _, sequence := range sequences {
		if e, ok := l.s.log.find(sequence); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Resolve implements sessions.Log.
func (l *Log) Resolve(ctx context.Context, p sessions.Position) (now sessions.Position, moved bool, err error) {
	if p.Sequence == 0 {
		return p, false, nil
	}
	if err := l.read(ctx); err != nil {
		return p, false, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.log.holds(p) {
		return p, false, nil
	}
	return l.s.log.findByTime(p.Time), true, nil
}

// holds reports whether the message at a position is the one that was there, as far as that can be told.
func (l *logState) holds(p sessions.Position) bool {
	if p.Sequence > l.last.Sequence {
		return false
	}
	if p.Time.IsZero() {
		return true
	}
	if e, ok := l.find(p.Sequence); ok {
		return p.SameTime(e.Time)
	}
	if l.created.After(p.Time) {
		return false
	}
	i := l.after(p.Sequence)
	return i == len(l.entries) || !l.entries[i].Time.Before(p.Time.Add(-sessions.TimeTolerance))
}

// findByTime is the position before the first message that may be younger than a time, the start of the log for the zero time.
func (l *logState) findByTime(t time.Time) sessions.Position {
	if t.IsZero() {
		return sessions.Position{Sequence: l.first() - 1}
	}
	t = t.Add(-sessions.TimeTolerance)
	for _, e := range l.entries {
		if e.Time.After(t) {
			before, _ := l.find(e.Sequence - 1)
			return sessions.Position{Sequence: e.Sequence - 1, Time: before.Time}
		}
	}
	return l.last
}
