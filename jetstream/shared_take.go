package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
		if returns := u.returns.Load(); returns != u.confirmed {
			if err := u.awaitAcknowledged(ctx); err != nil {
				return nil, err
			}
			u.confirmed = returns
		}
		p, err := u.pull(ctx, most, maxBytes)
		if err != nil {
			u.Return(p.sequences()...)
			return nil, err
		}
		switch {
		case u.returns.Load() != u.confirmed && len(p.fresh) > 0:
			// Messages were returned meanwhile. These have overtaken them: they go behind.
			u.Return(sequencesOf(p.fresh)...)
			p.fresh = nil
			if len(p.again) == 0 {
				continue
			}
		case len(p.fresh) > 0 || p.exhausted:
			u.drained = u.confirmed
		}
		return p.entries(), nil
	}
}

// pull asks the server for messages. With an error it returns what came all the same.
//
// The server looks at the size of a message after it has taken it out, and puts one that is too large back behind all
// others that were returned. So while there may be such it is asked for as many as cannot be too large together.
func (u *SharedQueue) pull(ctx context.Context, most, maxBytes int) (*sharedPull, error) {
	p := &sharedPull{queue: u, batch: min(most, maxAnswers), bounded: u.drained == u.returns.Load(), left: max(maxBytes, 1)}
	if !p.bounded {
		p.batch = max(1, min(p.batch, maxBytes/u.largest))
	}
	began := time.Now()
	err := p.run(ctx)
	if err == nil && p.tooLarge && p.received == 0 { // one message that is larger than all may be together
		p.batch, p.bounded, p.tooLarge = 1, false, false
		err = p.run(ctx)
	}
	if err == nil && p.received == 0 && time.Since(began) < takePause {
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
	// again are messages that were taken before, fresh the others.
	again, fresh []sessions.Entry
	// exhausted: there were no more. tooLarge: the next one had not fitted into the bytes that were left.
	exhausted, tooLarge bool
	failure             error
}

func (p *sharedPull) run(ctx context.Context) error {
	// "no wait" with a time: wait for the first message, not for the whole batch.
	request := fmt.Appendf(nil, `{"batch":%d,"no_wait":true,"expires":%d`, p.batch, takeWait)
	if p.bounded {
		request = fmt.Appendf(request, `,"max_bytes":%d`, p.left)
	}
	log := p.queue.queues.log
	subject := "$JS.API.CONSUMER.MSG.NEXT." + p.queue.queues.config.Names.Stream + "." + p.queue.name
	err := log.inboxes.collect(ctx, takeWait+log.config.AckTimeout, subject, append(request, '}'), func(m *nats.Msg) bool {
		d, ok := parseDelivery(m.Reply)
		if !ok {
			p.end(ctx, m)
			return true
		}
		p.accept(d, m)
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
	u.largest = max(u.largest, len(m.Data))
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
	switch {
	case code == 404, code == 408:
		p.exhausted = description != "Requests Pending"
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
