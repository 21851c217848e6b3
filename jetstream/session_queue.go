package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

// Queues are the durable consumers of sessions. Safe for concurrent use.
//
// They are pull consumers in memory that take no acks: the journal knows what was delivered, and what a consumer knows
// does not survive the server anyway. So num_pending is what has not been fetched: the length of the queue.
type Queues struct {
	config *Config
	js     natsjs.JetStream
	log    *Log
}

var _ sessions.Queues = (*Queues)(nil)

func (q *Queues) name(clientID string) string {
	return q.config.Names.QueuePrefix + EncodeToken(clientID)
}

// Open implements sessions.Queues.
func (q *Queues) Open(ctx context.Context, clientID string, filters []string, after uint64) (sessions.Queue, error) {
	if len(filters) == 0 {
		return nil, fmt.Errorf("%w: queue of %q without a filter", sessions.ErrRejected, clientID)
	}
	subjects := q.config.Mapping.queueSubjects(filters)
	for i := range subjects {
		subjects[i] = q.log.prefix + subjects[i]
	}
	queue := &Queue{queues: q, clientID: clientID, subjects: subjects, name: q.name(clientID), largest: fetchBytes / 64}
	if err := queue.open(ctx, after); err != nil {
		return nil, fmt.Errorf("open queue of %q: %w", clientID, err)
	}
	return queue, nil
}

// Remove implements sessions.Queues.
func (q *Queues) Remove(ctx context.Context, clientID string) error {
	return removeConsumer(ctx, q.js, q.config.Names.Stream, q.name(clientID), kindQueue, clientID)
}

// Queue is one session's durable consumer, opened. One goroutine at a time may use it.
type Queue struct {
	queues   *Queues
	clientID string
	name     string
	// subjects are its filters.
	subjects []string
	// temporary: the consumer is for one reader of the whole log.
	temporary bool

	// position is the log sequence up to which everything was fetched.
	position uint64
	// fetched is how many messages came since the consumer was reset: the consumer's own numbering.
	fetched uint64
	// largest is the size of the largest message of the last fetch.
	largest int
	// lost: messages may have been taken out that did not reach us; the consumer is to be reset to position.
	lost bool
}

// open makes the consumer, or finds it, and puts it right after a sequence. Made for one sequence it could never be put
// before it, so it is made to deliver everything and then reset.
func (u *Queue) open(ctx context.Context, after uint64) error {
	q := u.queues
	// A reset of a consumer that went away meanwhile is not answered at all.
	ctx, cancel := context.WithTimeout(ctx, q.config.AckTimeout)
	defer cancel()
	if u.temporary {
		return u.openTemporary(ctx, after)
	}
	config := natsjs.ConsumerConfig{
		Durable:        u.name,
		Description:    "offline queue of an MQTT session",
		DeliverPolicy:  natsjs.DeliverAllPolicy,
		AckPolicy:      natsjs.AckNonePolicy,
		FilterSubjects: u.subjects,
		MemoryStorage:  true,
		Replicas:       1,
		Metadata:       metadata(kindQueue, u.clientID),
	}
	_, err := q.js.CreateConsumer(ctx, q.config.Names.Stream, config)
	if errors.Is(err, natsjs.ErrConsumerExists) {
		err = u.update(ctx, config)
	}
	if err != nil {
		return clientErr(err)
	}
	return u.reset(ctx, after)
}

// update gives a consumer that exists our configuration, if it is ours.
func (u *Queue) update(ctx context.Context, config natsjs.ConsumerConfig) error {
	q := u.queues
	consumer, err := q.js.Consumer(ctx, q.config.Names.Stream, u.name)
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	if err := checkOurs(info, kindQueue, u.clientID); err != nil {
		return err
	}
	have := info.Config
	if have.DeliverPolicy == config.DeliverPolicy && have.AckPolicy == config.AckPolicy && have.MemoryStorage == config.MemoryStorage {
		_, err = q.js.UpdateConsumer(ctx, q.config.Names.Stream, config)
		return err
	}
	// Another version of ours has made it in a way that cannot be changed. It holds nothing.
	if err := q.js.DeleteConsumer(ctx, q.config.Names.Stream, u.name); err != nil {
		return err
	}
	_, err = q.js.CreateConsumer(ctx, q.config.Names.Stream, config)
	return err
}

// reset puts the consumer right after a sequence.
func (u *Queue) reset(ctx context.Context, after uint64) error {
	// 0 would mean the ack floor; after+1 never is.
	if _, err := u.queues.js.ResetConsumerToSequence(ctx, u.queues.config.Names.Stream, u.name, after+1); err != nil {
		return clientErr(err)
	}
	u.position, u.fetched, u.lost = after, 0, false
	return nil
}

// Count implements sessions.Queue. It reads the queue to its end and puts it back.
func (u *Queue) Count(ctx context.Context, counts func(sessions.Entry) bool) (n uint64, err error) {
	position := u.position
	for {
		entries, err := u.Fetch(ctx, maxAnswers)
		if err != nil {
			return 0, err
		}
		if len(entries) == 0 {
			return n, u.open(ctx, position)
		}
		for _, e := range entries {
			if counts(e) {
				n++
			}
		}
	}
}

// fetchBytes is about how much one fetch may bring: many may run at a time, over one connection.
const fetchBytes = 4 << 20

// Fetch implements sessions.Queue.
//
// An empty answer of the consumer is no proof: it counts what waits behind the log's back, and may answer before it has
// noticed the last messages. So the log itself is asked for a message that matches; when it has one, the consumer is asked
// again, in the way that makes it look.
func (u *Queue) Fetch(ctx context.Context, most int) ([]sessions.Entry, error) {
	wait := time.Duration(0)
	for {
		if u.lost {
			u.queues.log.stats.QueueResets.Add(1)
			if err := u.open(ctx, u.position); err != nil {
				return nil, err
			}
		}
		entries, err := u.pull(ctx, min(most, maxAnswers, max(1, fetchBytes/u.largest)), wait)
		switch {
		case len(entries) > 0:
			return entries, nil // an error, if there was one, has set lost
		case errors.Is(err, errConsumerGone):
			u.lost = true
		case err != nil:
			return nil, err
		case !u.lost:
			if empty, err := u.provenEmpty(ctx); empty || err != nil {
				return nil, err
			}
			u.lost = wait > 0 // it has looked, so somebody else has taken what is left
		}
		wait = 100 * time.Millisecond
	}
}

var errConsumerGone = fmt.Errorf("%w: consumer is gone", sessions.ErrUnavailable)

// pull asks for messages; wait is how long to wait for the first.
func (u *Queue) pull(ctx context.Context, batch int, wait time.Duration) ([]sessions.Entry, error) {
	request := fmt.Appendf(nil, `{"batch":%d,"no_wait":true,"expires":%d}`, batch, wait)
	if wait == 0 {
		request = fmt.Appendf(nil, `{"batch":%d,"no_wait":true}`, batch)
	}
	var entries []sessions.Entry
	if u.temporary { // else there may be few
		entries = make([]sessions.Entry, 0, batch)
	}
	var failure error
	received, largest := 0, 1
	inboxes := u.queues.log.inboxes
	err := inboxes.collect(ctx, inboxes.timeout, u.queues.config.api()+"CONSUMER.MSG.NEXT."+u.queues.config.Names.Stream+"."+u.name, request,
		func(m *nats.Msg) (done bool) {
			d, ok := parseDelivery(m.Reply)
			if !ok {
				failure = pullEnd(m)
				return true
			}
			if received++; d.consumerSequence != u.fetched+1 {
				u.lost = true // somebody else pulls from it, or an answer was lost
			}
			if !u.lost {
				u.fetched++
				largest = max(largest, len(m.Data))
				u.position = d.streamSequence
				e := sessions.Entry{Position: sessions.Position{Sequence: d.streamSequence, Time: d.time}, QueuedAfter: d.pending}
				u.queues.log.fill(&e, m.Subject, m.Header, m.Data)
				entries = append(entries, e)
			}
			return received == batch
		})
	if len(entries) > 0 {
		u.largest = largest
	}
	if err != nil {
		u.lost = true // what is still under way will not reach us
		return entries, err
	}
	return entries, failure
}

// pullEnd is what a status at the end of a pull means.
func pullEnd(m *nats.Msg) error {
	switch code := status(m); code {
	case 404, 408:
		return nil
	case 503, 409: // nobody is there, or our server has not heard yet who is; or it was deleted under the request, or the server shuts down
		return errConsumerGone
	default:
		return fmt.Errorf("%w: consumer answered %d %s", sessions.ErrUnavailable, code, m.Header.Get("Description"))
	}
}

// provenEmpty reports whether no message after position matches.
func (u *Queue) provenEmpty(ctx context.Context) (bool, error) {
	for _, subject := range u.subjects {
		_, err := u.queues.log.reader.get(ctx, getRequest{Sequence: u.position + 1, NextFor: subject})
		if !errors.Is(err, sessions.ErrNotFound) {
			return false, err
		}
	}
	return true, nil
}
