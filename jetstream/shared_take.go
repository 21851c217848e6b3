package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

const (
	// takeWait is how long Take waits for the first message: a shared subscription without any costs one request in it.
	takeWait = 5 * time.Second
	// takePause is how long Take waits before it returns nothing when the server has not made it wait.
	takePause = 100 * time.Millisecond
	// unknownSize is taken for the size of messages that nobody has seen.
	unknownSize = 64 << 10
)

// Take implements sessions.SharedQueue.
func (u *SharedQueue) Take(ctx context.Context, most, maxBytes int) ([]sessions.Entry, error) {
	for {
		returns, err := u.prepare(ctx, maxBytes)
		if err != nil {
			return nil, err
		}
		p, err := u.pull(ctx, most, maxBytes, takeWait)
		if err != nil {
			u.Return(p.sequences()...)
			u.disordered = true // what was under way when it failed is back before these
			return nil, err
		}
		if u.undisturbed(returns, len(p.fresh) > 0 || p.exhausted) {
			return p.entries(), nil
		}
		// Messages were returned meanwhile, and what is fresh has overtaken them: it goes behind.
		u.disordered = p.expired || p.tooLarge
		u.Return(sequencesOf(p.fresh)...)
		if p.fresh = nil; len(p.again) > 0 {
			return p.entries(), nil
		}
	}
}

// undisturbed reports whether nothing was returned since there were so many returns. drained: then nothing is left of them.
func (u *SharedQueue) undisturbed(returns uint64, drained bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.returns != returns {
		return false
	}
	if drained {
		u.drained, u.highest, u.unsorted = returns, 0, false
	}
	return true
}

// prepare makes sure that the server knows of all that was returned, and has it in the order of the log. It returns how
// many returns that were.
func (u *SharedQueue) prepare(ctx context.Context, maxBytes int) (returns uint64, err error) {
	for {
		u.mu.Lock()
		returns = u.returns
		u.disordered, u.unsorted = u.disordered || u.unsorted, false
		u.mu.Unlock()
		if returns != u.confirmed {
			if err := u.awaitAcknowledged(ctx); err != nil {
				return returns, err
			}
			u.confirmed = returns
		}
		if !u.disordered {
			return returns, nil
		}
		if err := u.reorder(ctx, maxBytes, returns); err != nil {
			return returns, err
		}
	}
}

// reorder takes out all that was returned and returns it in order. The server has it in the order in which it came back,
// and puts a message that it could not deliver after all behind the others: when the request turned out to have ended, or
// to allow no message of that size.
func (u *SharedQueue) reorder(ctx context.Context, maxBytes int, returns uint64) error {
	var out []uint64
	defer func() {
		u.mu.Lock()
		u.highest = 0
		u.mu.Unlock()
		u.Return(out...)
	}()
	for {
		p, err := u.pull(ctx, maxAnswers, maxBytes, 0)
		out = append(out, p.sequences()...)
		if err != nil {
			return err
		}
		if len(p.fresh) > 0 || p.received == 0 {
			u.disordered = !u.undisturbed(returns, false)
			return nil
		}
	}
}

// pull asks the server for messages, and to wait for the first. With an error it returns what came all the same.
//
// While there may be returned messages it is asked for as many as cannot be too large together; see reorder.
func (u *SharedQueue) pull(ctx context.Context, most, maxBytes int, wait time.Duration) (*sharedPull, error) {
	p := &sharedPull{queue: u, batch: min(most, maxAnswers), left: max(maxBytes, 1)}
	if p.bounded = u.undisturbed(u.drained, false); !p.bounded {
		p.batch = max(1, min(p.batch, maxBytes/u.largest))
	}
	began := time.Now()
	err := p.run(ctx, wait)
	if err == nil && p.tooLarge && p.received == 0 { // one message that is larger than all may be together
		p.batch, p.bounded, p.tooLarge = 1, false, false
		err = p.run(ctx, wait)
	}
	if err == nil && p.received == 0 && time.Since(began) < min(takePause, wait) {
		p.pause(ctx) // other nodes wait for more than there is
	}
	return p, err
}

// sharedPull is one request for messages.
type sharedPull struct {
	queue *SharedQueue
	batch int
	// left is how many bytes more may come, if bounded.
	left    int
	bounded bool

	received int
	// due is how many messages the request was given, known when the server has said that it is done. Where the consumer has
	// replicas it says so before they all have come.
	due   int
	ended bool
	// again are messages that were taken before, fresh the others.
	again, fresh []sessions.Entry
	// exhausted: there were no more. expired: it was so until the time was up. tooLarge: the next one had not fitted into
	// the bytes that were left.
	exhausted, expired, tooLarge bool
	failure                      error
}

func (p *sharedPull) run(ctx context.Context, wait time.Duration) error {
	p.due, p.ended = 0, false
	request := fmt.Appendf(nil, `{"batch":%d,"no_wait":true`, p.batch)
	if wait > 0 { // "no wait" with a time: wait for the first message, not for the whole batch
		request = fmt.Appendf(request, `,"expires":%d`, wait)
	}
	if p.bounded {
		request = fmt.Appendf(request, `,"max_bytes":%d`, p.left)
	}
	log := p.queue.queues.log
	subject := p.queue.queues.config.api() + "CONSUMER.MSG.NEXT." + p.queue.queues.config.Names.Stream + "." + p.queue.name
	err := log.inboxes.collect(ctx, wait+log.config.AckTimeout, subject, append(request, '}'), func(m *nats.Msg) bool {
		d, ok := parseDelivery(m.Reply)
		if !ok {
			p.end(ctx, m)
			return p.received >= p.due
		}
		p.accept(d, m)
		if p.ended {
			return p.received >= p.due
		}
		if p.bounded { // the server says when it is done, but not when it is done to the byte
			return p.left <= 0
		}
		return p.received == p.batch
	})
	if err == nil {
		err = p.failure
	}
	return err
}

// accept takes one message in.
func (p *sharedPull) accept(d delivery, m *nats.Msg) {
	u := p.queue
	u.delivered.Store(d.consumerSequence)
	u.largest = max(u.largest, m.Size())
	p.received++
	p.left -= m.Size()
	e := sessions.Entry{Position: sessions.Position{Sequence: d.streamSequence, Time: d.time}}
	u.queues.log.fill(&e, m.Subject, m.Header, m.Data)
	switch {
	case e.Message == nil:
		u.Settle(e.Sequence) // nobody can ever have it
	case d.redelivered:
		p.again = append(p.again, e)
	default:
		p.fresh = append(p.fresh, e)
	}
}

// end is what the status at the end of the answers means.
func (p *sharedPull) end(ctx context.Context, m *nats.Msg) {
	code, description := status(m), m.Header.Get("Description")
	p.ended = true
	if left, err := strconv.Atoi(m.Header.Get(headerPullPending)); err == nil && code == 409 {
		p.due = p.batch - left
	}
	switch {
	case code == 404:
		p.exhausted = true
	case code == 408:
		p.exhausted = description != "Requests Pending"
		p.expired = p.exhausted
	case code == 409 && description == "Batch Completed":
	case code == 409 && strings.HasPrefix(description, "Message Size Exceeds"):
		p.tooLarge = true
	case code == 409 && description == "Consumer Deleted":
		p.failure = fmt.Errorf("%w: consumer %s was deleted", sessions.ErrNotFound, p.queue.name)
	case code == 503:
		p.failure = p.queue.absent(ctx)
	default:
		p.failure = fmt.Errorf("%w: consumer answered %d %s", sessions.ErrUnavailable, code, description)
	}
}

func (p *sharedPull) pause(ctx context.Context) {
	timer := time.NewTimer(takePause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// entries are the messages, in the order in which they are to be had.
func (p *sharedPull) entries() []sessions.Entry {
	if len(p.again) == 0 {
		return p.fresh
	}
	slices.SortFunc(p.again, func(a, b sessions.Entry) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return append(p.again, p.fresh...)
}

func (p *sharedPull) sequences() []uint64 { return sequencesOf(p.entries()) }

func sequencesOf(entries []sessions.Entry) []uint64 {
	sequences := make([]uint64, len(entries))
	for i, e := range entries {
		sequences[i] = e.Sequence
	}
	return sequences
}
