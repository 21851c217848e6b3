package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// storedMessage is one message of a stream.
type storedMessage struct {
	subject  string
	sequence uint64
	time     time.Time
	header   nats.Header
	data     []byte
}

// deleted reports whether the message marks the absence of its key.
func (m *storedMessage) deleted() bool {
	return len(m.header[headerKVOperation]) > 0 || len(m.header[headerMarkerReason]) > 0
}

// streamReader reads messages of one stream by direct get. Safe for concurrent use. On a stream with one replica, which
// is all we use, such a read sees every write that was acknowledged before it.
type streamReader struct {
	inboxes *inboxes
	stream  string
}

// getRequest is the request of the direct get API.
type getRequest struct {
	Sequence  uint64     `json:"seq,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// get reads the one message that is asked for, or returns ErrNotFound.
func (r *streamReader) get(ctx context.Context, req getRequest) (storedMessage, error) {
	var found storedMessage
	var failure error
	err := r.ask(ctx, nil, req, func(m *nats.Msg) bool {
		found, failure = r.parse(m)
		return true
	})
	if err == nil {
		err = failure
	}
	return found, err
}

// ask sends a request, for answers on one of the inboxes that are kept, or on in.
func (r *streamReader) ask(ctx context.Context, in *inbox, req getRequest, visit func(*nats.Msg) bool) error {
	data, err := json.Marshal(req)
	if err != nil {
		panic(err) // cannot fail: plain fields only
	}
	subject := "$JS.API.DIRECT.GET." + r.stream
	if in != nil {
		return r.inboxes.exchange(ctx, in, r.inboxes.timeout, subject, data, visit)
	}
	return r.inboxes.request(ctx, subject, data, visit)
}

// scan visits the messages that match subject and whose sequence is in [from, upTo], in order. It stops at the first error
// of visit and returns it.
func (r *streamReader) scan(ctx context.Context, subject string, from, upTo uint64, visit func(storedMessage) error) error {
	var in *inbox
	size := uint64(maxAnswers)
	for from <= upTo {
		req := getRequest{Sequence: from, NextFor: subject, Batch: int(min(size, upTo-from+1)), MaxBytes: 8 << 20}
		batch, more, err := r.batch(ctx, in, req)
		if err != nil {
			return err
		}
		for _, m := range batch {
			if m.sequence > upTo {
				return nil
			}
			if err := visit(m); err != nil {
				return err
			}
			from = m.sequence + 1
		}
		if !more {
			return nil
		}
		if in == nil && from <= upTo { // there is much
			if in, err = r.inboxes.open(bulkAnswers); err != nil {
				return err
			}
			defer in.close()
			size = bulkAnswers
		}
	}
	return nil
}

// bulkAnswers is how many messages are read at once where there is much to read: for each request the server looks through
// all subjects of the stream.
const bulkAnswers = 16 << 10

// batch reads one batch, and whether there are messages after it.
func (r *streamReader) batch(ctx context.Context, in *inbox, req getRequest) (batch []storedMessage, more bool, err error) {
	var failure error
	err = r.ask(ctx, in, req, func(m *nats.Msg) bool {
		if _, message := m.Header["Nats-Sequence"]; !message && status(m) == 204 { // end of batch
			pending, _ := headerValue(m.Header, "Nats-Num-Pending")
			more = pending != "0" && len(batch) > 0
			return true
		}
		found, parseErr := r.parse(m)
		if parseErr != nil {
			if status(m) != 404 {
				failure = parseErr
			}
			return true
		}
		batch = append(batch, found)
		return false
	})
	if err == nil {
		err = failure
	}
	return batch, more, err
}

// everything is an upper bound for scan.
const everything = math.MaxUint64 - 1

// parse reads an answer of the direct get API.
func (r *streamReader) parse(m *nats.Msg) (storedMessage, error) {
	sequence, ok := headerValue(m.Header, "Nats-Sequence")
	if !ok {
		switch code := status(m); code {
		case 404:
			return storedMessage{}, fmt.Errorf("%w: in stream %s", sessions.ErrNotFound, r.stream)
		default:
			return storedMessage{}, fmt.Errorf("%w: stream %s answered %d %s", sessions.ErrUnavailable, r.stream, code, m.Header.Get("Description"))
		}
	}
	// A header of that name which the publisher wrote stands before the server's: the last one is the truth.
	last := func(name string) string {
		if v := m.Header[name]; len(v) > 0 {
			return v[len(v)-1]
		}
		return ""
	}
	found := storedMessage{subject: last("Nats-Subject"), header: m.Header, data: m.Data}
	var err error
	if found.sequence, err = strconv.ParseUint(last("Nats-Sequence"), 10, 64); err != nil {
		return found, fmt.Errorf("%w: sequence %q: %w", sessions.ErrUnavailable, sequence, err)
	}
	if found.time, err = time.Parse(time.RFC3339Nano, last("Nats-Time-Stamp")); err != nil {
		return found, fmt.Errorf("%w: time stamp: %w", sessions.ErrUnavailable, err)
	}
	return found, nil
}
