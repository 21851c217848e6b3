package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"dunlin/sessions"
)

// Delayed keeps delayed messages in a stream of their own: $delayed/60/a/b is subject mqtt_delayed.60.a.b, and is due 60
// seconds after the time at which the stream took it. So a NATS service delays a message by publishing there. Safe for
// concurrent use.
type Delayed struct {
	config    *Config
	js        natsjs.JetStream
	publisher writer
	reader    streamReader
	clock     *logClock
	stats     *Stats
}

var _ sessions.Delayed = (*Delayed)(nil)

// delayedStream is the stream of delayed messages. Full, it takes no more: what it holds was acknowledged.
func delayedStream(c *Config, base natsjs.StreamConfig) natsjs.StreamConfig {
	base.Name, base.Subjects, base.Metadata = c.Names.DelayedStream, []string{c.Names.DelayedSubjects + ".*.>"}, metadata(kindDelayed, "")
	base.Description = "MQTT messages to be published later: in 60 seconds to topic a/b is subject " + c.Names.DelayedSubjects + ".60.a.b"
	base.Discard, base.MaxMsgs, base.MaxBytes = natsjs.DiscardNew, int64(c.MaxDelayed), c.MaxDelayedBytes
	return base
}

// Put implements sessions.Delayed.
func (d *Delayed) Put(m *sessions.Message, delay time.Duration, id string, to sessions.Sink, token uint64) {
	w := write{stream: d.config.Names.DelayedStream, to: to, token: token}
	w.header, w.data = encodeMessage(m)
	if id != "" {
		if w.header == nil {
			w.header = make(nats.Header, 1)
		}
		w.header[headerMessageID] = []string{id}
	}
	subject, err := d.config.Mapping.stored(m.Topic)
	if err != nil {
		d.publisher.refuse(w, fmt.Errorf("%w: %w", sessions.ErrRejected, err))
		return
	}
	w.subject = d.config.Names.DelayedSubjects + "." + strconv.FormatInt(int64(delay/time.Second), 10) + "." + subject
	d.publisher.publish(w)
}

// parse is the delay and the topic that a subject stands for.
func (d *Delayed) parse(subject string) (delay time.Duration, topic string, ok bool) {
	rest, ours := strings.CutPrefix(subject, d.config.Names.DelayedSubjects+".")
	text, rest, _ := strings.Cut(rest, ".")
	seconds, err := strconv.ParseUint(text, 10, 32)
	delay = time.Duration(seconds) * time.Second
	topic, decodes := d.config.Mapping.Topic(rest)
	if !ours || !decodes || err != nil || delay > sessions.MaxDelay {
		return 0, "", false
	}
	return delay, topic, true
}

// entry is what is known of a message without its payload. What is no delayed message is due at once, so that it does not
// stay: Load leaves it out.
func (d *Delayed) entry(subject string, sequence uint64, at time.Time, header nats.Header) sessions.DelayedEntry {
	delay, _, _ := d.parse(subject)
	e := sessions.DelayedEntry{Sequence: sequence, Due: d.clock.ours(at).Add(delay), ID: d.id(sequence, at, header)}
	if size, ok := headerValue(header, headerSizeOnly); ok {
		e.Bytes, _ = strconv.Atoi(size) // 0 when it makes no sense
	}
	e.Bytes += headerSize(header)
	return e
}

// id is the identity that a message has in the log: that which a session gave it, so that a session whose node died finds it
// there too; else one that is made of its place here.
func (d *Delayed) id(sequence uint64, at time.Time, header nats.Header) string {
	_, published := headerValue(header, headerPublisher)
	_, carried := headerValue(header, headerProperties)
	if id, _ := headerValue(header, headerMessageID); (published || carried) && sessions.IncarnationOf(id) != "" {
		return id
	}
	return "delayed-" + strconv.FormatUint(sequence, 10) + "-" + strconv.FormatInt(at.UnixNano(), 36)
}

// headerSizeOnly says, in what a consumer brings without payload, how large that is.
const headerSizeOnly = "Nats-Msg-Size"

// Each implements sessions.Delayed.
func (d *Delayed) Each(ctx context.Context, visit func(sessions.DelayedEntry)) error {
	last := uint64(0)
	for {
		// An empty answer of a consumer is no proof, and what is read may be removed meanwhile: only the stream knows.
		if _, err := d.reader.get(ctx, getRequest{Sequence: last + 1, NextFor: ">"}); errors.Is(err, sessions.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		err := d.read(ctx, last, 0, func(e sessions.DelayedEntry) {
			visit(e)
			last = e.Sequence
		})
		if err != nil {
			return err
		}
	}
}

// followWait is how long one request waits for messages. Heartbeats tell meanwhile that the consumer is there.
const followWait = 30 * time.Second

// Follow implements sessions.Delayed.
func (d *Delayed) Follow(ctx context.Context, after uint64, deliver func(sessions.DelayedEntry)) error {
	for failures := 0; ctx.Err() == nil; failures++ {
		err := d.read(ctx, after, followWait, func(e sessions.DelayedEntry) {
			after, failures = e.Sequence, 0
			deliver(e)
		})
		if failures == 1 && ctx.Err() == nil { // the first may be a consumer that ended with its server
			d.config.Logger.Warn("delayed messages cannot be followed; trying again", "err", err)
		}
		select {
		case <-time.After(min(time.Duration(failures)*100*time.Millisecond, d.config.Heartbeat)):
		case <-ctx.Done():
		}
	}
	return nil
}

// read visits what comes after a sequence, by a consumer of its own that brings no payloads: until nothing has come for a
// while, without wait nothing is there, or something is wrong with it.
func (d *Delayed) read(ctx context.Context, after uint64, wait time.Duration, visit func(sessions.DelayedEntry)) error {
	name := "dunlin-d-" + rand.Text()
	limited, cancel := context.WithTimeout(ctx, d.config.AckTimeout) // a request that is lost is not answered at all
	defer cancel()
	_, err := d.js.CreateConsumer(limited, d.config.Names.DelayedStream, natsjs.ConsumerConfig{
		Name: name, Description: "when delayed messages are due",
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: after + 1, HeadersOnly: true,
		AckPolicy: natsjs.AckNonePolicy, InactiveThreshold: followWait + 10*d.config.Heartbeat, MemoryStorage: true, Replicas: 1,
		Metadata: metadata("reader", ""),
	})
	if err != nil {
		return clientErr(err)
	}
	in, err := d.reader.inboxes.open(maxAnswers)
	if err != nil {
		return err
	}
	defer in.close()
	defer func() { // it ends itself when the server does not hear of this
		_ = d.reader.inboxes.nc.Publish(d.config.api()+"CONSUMER.DELETE."+d.config.Names.DelayedStream+"."+name, nil)
	}()
	request, timeout := fmt.Appendf(nil, `{"batch":%d,"no_wait":true}`, maxAnswers), d.config.AckTimeout
	if wait > 0 {
		request = fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d}`, maxAnswers, wait, d.config.Heartbeat)
		timeout = 3 * d.config.Heartbeat
	}
	for sequence := uint64(1); ; {
		received := 0
		var failure error
		err := d.reader.inboxes.exchange(ctx, in, timeout, d.config.api()+"CONSUMER.MSG.NEXT."+d.config.Names.DelayedStream+"."+name, request,
			func(m *nats.Msg) (done bool) {
				delivery, ok := parseDelivery(m.Reply)
				if !ok && status(m) == 100 { // a heartbeat
					return false
				}
				if !ok {
					failure = pullEnd(m)
					return true
				}
				if delivery.consumerSequence != sequence {
					failure = errGap
					return true
				}
				sequence++
				received++
				visit(d.entry(m.Subject, delivery.streamSequence, delivery.time, m.Header))
				return received == maxAnswers
			})
		switch {
		case err != nil:
			return err
		case failure != nil:
			return failure
		case received == 0 && wait == 0:
			return nil
		}
	}
}

// Load implements sessions.Delayed. What was stored together is often due together: then it is read together.
func (d *Delayed) Load(ctx context.Context, sequences []uint64) (map[uint64]sessions.DelayedMessage, error) {
	found := make(map[uint64]sessions.DelayedMessage, len(sequences))
	take := func(stored storedMessage) {
		if m := d.message(stored); m != nil {
			found[stored.sequence] = sessions.DelayedMessage{Message: m, ID: d.id(stored.sequence, stored.time, stored.header)}
		}
	}
	if n := len(sequences); n > 1 {
		sorted := slices.Sorted(slices.Values(sequences))
		if first, last := sorted[0], sorted[n-1]; last-first < uint64(2*n) {
			return found, d.reader.scan(ctx, ">", first, last, func(stored storedMessage) error {
				if _, wanted := slices.BinarySearch(sorted, stored.sequence); wanted {
					take(stored)
				}
				return nil
			})
		}
	}
	var mu sync.Mutex // guards found
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrentLoads)
	for _, sequence := range sequences {
		group.Go(func() error {
			stored, err := d.reader.get(ctx, getRequest{Sequence: sequence})
			if errors.Is(err, sessions.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			take(stored)
			return nil
		})
	}
	return found, group.Wait()
}

// message is a stored message, nil for what is none.
func (d *Delayed) message(stored storedMessage) *sessions.Message {
	_, topic, ok := d.parse(stored.subject)
	if !ok {
		if n := d.stats.Undecodable.Add(1); telling(n, 1) {
			d.config.Logger.Warn("what should be a delayed message is none; it is removed", "subject", stored.subject, "so_far", n)
		}
		return nil
	}
	m := &sessions.Message{Topic: topic}
	if invalid := decodeMessage(stored.header, stored.data, m); invalid > 0 {
		if n := d.stats.InvalidHeaders.Add(invalid); telling(n, invalid) {
			d.config.Logger.Warn("headers of a delayed message make no sense; they are passed over", "topic", topic, "so_far", n)
		}
	}
	return m
}

// Remove implements sessions.Delayed.
func (d *Delayed) Remove(ctx context.Context, sequences []uint64) ([]uint64, error) {
	var mu sync.Mutex // guards removed
	removed := make([]uint64, 0, len(sequences))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrentLoads)
	for _, sequence := range sequences {
		group.Go(func() error {
			existed, err := d.remove(ctx, sequence)
			mu.Lock()
			defer mu.Unlock()
			if existed {
				removed = append(removed, sequence)
			}
			return err
		})
	}
	return removed, group.Wait()
}

func (d *Delayed) remove(ctx context.Context, sequence uint64) (existed bool, err error) {
	request := fmt.Appendf(nil, `{"seq":%d,"no_erase":true}`, sequence)
	var answer struct {
		Success bool      `json:"success"`
		Error   *apiError `json:"error"`
	}
	var failure error
	err = d.reader.inboxes.request(ctx, d.config.api()+"STREAM.MSG.DELETE."+d.config.Names.DelayedStream, request, func(m *nats.Msg) bool {
		failure = json.Unmarshal(m.Data, &answer)
		return true
	})
	switch {
	case err != nil:
		return false, err
	case failure != nil:
		return false, fmt.Errorf("%w: remove delayed message: %w", sessions.ErrUnavailable, failure)
	case answer.Error == nil:
		return answer.Success, nil
	}
	// The server has several codes, and no code of its own, for that there is no such message.
	if _, err := d.reader.get(ctx, getRequest{Sequence: sequence}); errors.Is(err, sessions.ErrNotFound) {
		return false, nil
	}
	return false, answer.Error.err()
}
