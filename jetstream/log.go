package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"dunlin/sessions"
)

// Log is the log of messages: one stream. Safe for concurrent use.
type Log struct {
	config    *Config
	nc        *nats.Conn
	js        natsjs.JetStream
	publisher writer
	inboxes   *inboxes
	reader    streamReader
	stats     *Stats
	prefix    string // of subjects, with the dot
	mapping   Mapping
	own       *ownEntries
	subjects  *subjectCache

	lastAppended atomic.Uint64
	clock        logClock
	// created is when the stream was made, nil while no tail has looked.
	created atomic.Pointer[time.Time]
}

var _ sessions.Log = (*Log)(nil)

// Append implements sessions.Log.
func (l *Log) Append(m *sessions.Message, id string, to sessions.Sink, token uint64) {
	w := write{stream: l.config.Names.Stream, to: to, token: token, message: m, id: id}
	w.header, w.data = encodeMessage(m)
	subject, err := l.subjects.subject(m.Topic)
	if err != nil {
		l.publisher.refuse(w, fmt.Errorf("%w: %w", sessions.ErrRejected, err))
		return
	}
	w.subject = subject
	if id != "" {
		if w.header == nil {
			w.header = make(nats.Header, 1)
		}
		w.header[headerMessageID] = []string{id}
	}
	l.publisher.publish(w)
}

// LastAppended implements sessions.Log.
func (l *Log) LastAppended() uint64 { return l.lastAppended.Load() }

// appended notes what was acknowledged, and hands it to the tail. Only the publisher's goroutine calls it.
func (l *Log) appended(done []settled) {
	last := l.lastAppended.Load()
	for i := range done {
		if r := &done[i].result; r.Err == nil {
			last = max(last, r.Sequence)
		}
		if e := &done[i].entry; e.Message != nil {
			e.Time = l.clock.at(e.Time)
		}
	}
	l.lastAppended.Store(last)
	l.own.put(done)
}

// Last implements sessions.Log.
func (l *Log) Last(ctx context.Context) (sessions.Position, error) {
	info, err := l.info(ctx)
	if err != nil {
		return sessions.Position{}, err
	}
	return lastPosition(info), nil
}

func lastPosition(info *natsjs.StreamInfo) sessions.Position {
	p := sessions.Position{Sequence: info.State.LastSeq}
	if p.Sequence > 0 {
		p.Time = info.State.LastTime.UTC()
	}
	return p
}

// First implements sessions.Log. In an empty log it is the sequence that the next message gets.
func (l *Log) First(ctx context.Context) (uint64, error) {
	info, err := l.info(ctx)
	if err != nil {
		return 0, err
	}
	return max(info.State.FirstSeq, 1), nil
}

// Before implements sessions.Log.
func (l *Log) Before(ctx context.Context, t time.Time) (sessions.Position, error) {
	m, err := l.reader.get(ctx, getRequest{StartTime: &t, NextFor: ">"})
	if errors.Is(err, sessions.ErrNotFound) {
		return l.Last(ctx)
	}
	if err != nil {
		return sessions.Position{}, err
	}
	return sessions.Position{Sequence: m.sequence - 1}, nil
}

func (l *Log) info(ctx context.Context) (*natsjs.StreamInfo, error) {
	asked := time.Now()
	stream, err := l.js.Stream(ctx, l.config.Names.Stream)
	if err != nil {
		return nil, clientErr(err)
	}
	info := stream.CachedInfo()
	if created, err := time.Parse(time.RFC3339Nano, info.Config.Metadata[metadataCreated]); err == nil {
		info.Created = created // when its messages began
	}
	if ahead, telling := l.clock.set(info.TimeStamp, asked, time.Now()); telling {
		l.config.Logger.Warn("the NATS server's clock differs from ours: synchronize them, or messages expire too early or too late", "ahead_of_ours", ahead)
	}
	return info, nil
}

// takesBatches reports whether the server takes fast batches of messages, and whether the log has replicas. Of a stream with replicas, or one that is not ours and
// does not allow them, it takes each message alone.
func (l *Log) takesBatches(ctx context.Context) (batches, replicated bool, err error) {
	info, err := l.info(ctx)
	if err != nil {
		return false, false, err
	}
	replicated = info.Config.Replicas > 1
	return info.Config.AllowBatchPublish && !replicated, replicated, nil
}

// Scan implements sessions.Log.
func (l *Log) Scan(ctx context.Context, after, upTo uint64, visit func(sessions.Entry)) error {
	return l.reader.scan(ctx, ">", after+1, upTo, func(m storedMessage) error {
		visit(l.entry(m))
		return nil
	})
}

// maxConcurrentLoads bounds the requests of one Load.
const maxConcurrentLoads = 16

// Load implements sessions.Log. Entries come in the order of sequences.
func (l *Log) Load(ctx context.Context, sequences []uint64) ([]sessions.Entry, error) {
	found := make([]sessions.Entry, len(sequences))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrentLoads)
	for i, sequence := range sequences {
		group.Go(func() error {
			m, err := l.reader.get(ctx, getRequest{Sequence: sequence})
			if errors.Is(err, sessions.ErrNotFound) {
				return nil
			}
			if err == nil {
				found[i] = l.entry(m)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	entries := found[:0]
	for _, e := range found {
		if e.Sequence != 0 {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Resolve implements sessions.Log.
func (l *Log) Resolve(ctx context.Context, p sessions.Position) (sessions.Position, bool, error) {
	if p.Sequence == 0 {
		return p, false, nil
	}
	if !p.Time.IsZero() && !l.madeAfter(p.Time) { // the usual case: the message is there, and no other
		m, err := l.reader.get(ctx, getRequest{Sequence: p.Sequence})
		if err == nil && p.SameTime(m.time) {
			return p, false, nil
		}
		if err != nil && !errors.Is(err, sessions.ErrNotFound) {
			return p, false, err
		}
		if err == nil {
			return l.move(ctx, p)
		}
	}
	info, err := l.info(ctx)
	if err != nil {
		return p, false, err
	}
	if p.Sequence > info.State.LastSeq || info.Created.After(p.Time) && !p.Time.IsZero() {
		return l.move(ctx, p)
	}
	if p.Time.IsZero() {
		return p, false, nil
	}
	// Its message is trimmed. What follows must not be older.
	m, err := l.reader.get(ctx, getRequest{Sequence: p.Sequence, NextFor: ">"})
	switch {
	case errors.Is(err, sessions.ErrNotFound):
		return p, false, nil
	case err != nil:
		return p, false, err
	case m.time.Before(p.Time.Add(-sessions.TimeTolerance)):
		return l.move(ctx, p)
	}
	return p, false, nil
}

// madeAfter reports whether the log, as the tail last saw it, was made after a time.
func (l *Log) madeAfter(t time.Time) bool {
	created := l.created.Load()
	return created != nil && created.After(t)
}

// move finds by time the position that p now means, and says so.
func (l *Log) move(ctx context.Context, p sessions.Position) (sessions.Position, bool, error) {
	info, err := l.info(ctx)
	if err != nil {
		return p, false, err
	}
	now, err := l.findByTime(ctx, p, info)
	if err != nil {
		return p, false, err
	}
	l.stats.LogReplacements.Add(1)
	l.config.Logger.Error("a position in the log does not mean what it meant: the log was cut, restored or made anew",
		"sequence", p.Sequence, "time", p.Time, "new_sequence", now.Sequence, "log_created", info.Created, "log_last", info.State.LastSeq)
	return now, true, nil
}

// findByTime is the position before the first message that is younger than p. When p's time is unknown it is the start
// of the log: to repeat messages is better than to lose them.
func (l *Log) findByTime(ctx context.Context, p sessions.Position, info *natsjs.StreamInfo) (sessions.Position, error) {
	if p.Time.IsZero() {
		return sessions.Position{Sequence: max(info.State.FirstSeq, 1) - 1}, nil
	}
	after := p.Time.Add(1 - sessions.TimeTolerance) // to repeat is better than to lose
	m, err := l.reader.get(ctx, getRequest{StartTime: &after, NextFor: ">"})
	if errors.Is(err, sessions.ErrNotFound) {
		return lastPosition(info), nil
	}
	if err != nil {
		return p, err
	}
	now := sessions.Position{Sequence: m.sequence - 1}
	if before, err := l.reader.get(ctx, getRequest{Sequence: now.Sequence}); now.Sequence > 0 && err == nil {
		now.Time = before.time.UTC()
	}
	return now, nil
}

// entry is a stored message as an entry of the log.
func (l *Log) entry(m storedMessage) sessions.Entry {
	e := sessions.Entry{Position: sessions.Position{Sequence: m.sequence, Time: m.time.UTC()}}
	l.fill(&e, m.subject, m.header, m.data)
	return e
}

// fill decodes a message into an entry that has its position.
func (l *Log) fill(e *sessions.Entry, subject string, header nats.Header, data []byte) {
	rest, ours := strings.CutPrefix(subject, l.prefix)
	topic, ok := l.mapping.Topic(rest)
	if !ours || !ok || sessions.ExchangeTopic(topic) { // requests and answers are not stored, and nobody may forge them
		if n := l.stats.Undecodable.Add(1); telling(n, 1) {
			l.config.Logger.Warn("the subject of a log entry is no topic; it is passed over", "subject", subject, "sequence", e.Sequence, "so_far", n)
		}
		return
	}
	m := &sessions.Message{Topic: topic, PublishedAt: e.Time}
	if invalid := decodeMessage(header, data, m); invalid > 0 {
		l.invalidHeaders(e.Sequence, topic, invalid)
	}
	e.Message = m
	e.ID, _ = headerValue(header, headerMessageID)
}

// invalidHeaders counts header values of an entry that make no sense.
func (l *Log) invalidHeaders(sequence uint64, topic string, invalid uint64) {
	if n := l.stats.InvalidHeaders.Add(invalid); telling(n, invalid) {
		l.config.Logger.Warn("headers of a log entry make no sense; they are passed over", "topic", topic, "sequence", sequence, "so_far", n)
	}
}

// delivery is what the reply subject of a message from a consumer says about it.
type delivery struct {
	streamSequence, consumerSequence, pending uint64
	time                                      time.Time
	// redelivered: it was delivered before.
	redelivered bool
}

// parseDelivery reads a reply subject, of either form that servers write:
// $JS.ACK.<stream>.<consumer>.<tries>.<stream seq>.<consumer seq>.<time>.<pending>, or with domain and account in between.
func parseDelivery(reply string) (d delivery, ok bool) {
	const prefix = "$JS.ACK."
	if !strings.HasPrefix(reply, prefix) {
		return d, false
	}
	var tokens [12]string
	n := 0
	for token := range strings.SplitSeq(reply[len(prefix):], ".") {
		if n < len(tokens) {
			tokens[n] = token
		}
		n++
	}
	tries, numbers := tokens[2], tokens[3:]
	switch {
	case n >= 9: // domain, account, then as below, maybe more behind
		tries, numbers = tokens[4], tokens[5:]
	case n != 7:
		return d, false
	}
	var errs [4]error
	var nanos uint64
	d.streamSequence, errs[0] = strconv.ParseUint(numbers[0], 10, 64)
	d.consumerSequence, errs[1] = strconv.ParseUint(numbers[1], 10, 64)
	nanos, errs[2] = strconv.ParseUint(numbers[2], 10, 63)
	d.pending, errs[3] = strconv.ParseUint(numbers[3], 10, 64)
	d.time = time.Unix(0, int64(nanos)).UTC()
	d.redelivered = tries != "1"
	return d, errs == [4]error{}
}
