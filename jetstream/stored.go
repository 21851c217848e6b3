package jetstream

import (
	"context"
	"encoding/json"
	"errors"
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

// ended reports whether the message marks what has ended with its TTL.
func (m *storedMessage) ended() bool { return len(m.header[headerMarkerReason]) > 0 }

// streamReader reads messages of one stream. Safe for concurrent use. A read sees every write that was acknowledged before it:
// on one server that is what the direct get API does; in a cluster any replica answers there, which may be behind, so that
// single messages are read at the stream's leader, and what a replica has no more of is asked of the leader.
type streamReader struct {
	inboxes *inboxes
	stream  string
	api     string
	// clustered: the stream may have replicas.
	clustered bool
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
	subject, parse := r.directGet(), r.parse
	if r.clustered {
		subject, parse = r.api+"STREAM.MSG.GET."+r.stream, r.parseLeader
	}
	err := r.ask(ctx, nil, subject, req, func(m *nats.Msg) bool {
		found, failure = parse(m)
		return true
	})
	if err == nil {
		err = failure
	}
	return found, err
}

func (r *streamReader) directGet() string { return r.api + "DIRECT.GET." + r.stream }

// ask sends a request, for answers on one of the inboxes that are kept, or on in.
func (r *streamReader) ask(ctx context.Context, in *inbox, subject string, req getRequest, visit func(*nats.Msg) bool) error {
	data, err := json.Marshal(req)
	if err != nil {
		panic(err) // cannot fail: plain fields only
	}
	if in != nil {
		return r.inboxes.ask(ctx, in, subject, data, visit)
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
			if !r.clustered || from > upTo {
				return nil
			}
			next, err := r.get(ctx, getRequest{Sequence: from, NextFor: subject})
			switch {
			case errors.Is(err, sessions.ErrNotFound):
				return nil
			case err != nil:
				return err
			case next.sequence > upTo:
				return nil
			}
			if err := visit(next); err != nil { // the replica did not have it
				return err
			}
			from = next.sequence + 1
			continue
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
	err = r.ask(ctx, in, r.directGet(), req, func(m *nats.Msg) bool {
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

// leaderAnswer is the answer of a stream's leader to a request for one message.
type leaderAnswer struct {
	Error   *apiError `json:"error"`
	Message *struct {
		Subject  string    `json:"subject"`
		Sequence uint64    `json:"seq"`
		Header   []byte    `json:"hdrs"`
		Data     []byte    `json:"data"`
		Time     time.Time `json:"time"`
	} `json:"message"`
}

// parseLeader reads the answer of a stream's leader.
func (r *streamReader) parseLeader(m *nats.Msg) (found storedMessage, err error) {
	if status(m) == 503 {
		return found, fmt.Errorf("%w: stream %s: %w", sessions.ErrUnavailable, r.stream, nats.ErrNoResponders)
	}
	var answer leaderAnswer
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return found, fmt.Errorf("%w: answer of stream %s: %w", sessions.ErrUnavailable, r.stream, err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrCode == codeNoMessage:
		return found, fmt.Errorf("%w: in stream %s", sessions.ErrNotFound, r.stream)
	case answer.Error != nil:
		return found, fmt.Errorf("%w: stream %s answered %s", sessions.ErrUnavailable, r.stream, answer.Error.Description)
	case answer.Message == nil:
		return found, fmt.Errorf("%w: stream %s answered without a message", sessions.ErrUnavailable, r.stream)
	}
	stored := answer.Message
	found = storedMessage{subject: stored.Subject, sequence: stored.Sequence, time: stored.Time, data: stored.Data}
	if len(stored.Header) > 0 {
		if found.header, err = nats.DecodeHeadersMsg(stored.Header); err != nil {
			return found, fmt.Errorf("%w: header of message %d of stream %s: %w", sessions.ErrUnavailable, stored.Sequence, r.stream, err)
		}
	}
	return found, nil
}

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
