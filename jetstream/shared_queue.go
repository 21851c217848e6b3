package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// SharedQueues are the durable consumers of shared subscriptions. Safe for concurrent use.
//
// They are pull consumers on disk that want every message acknowledged: the place in the log that all members move
// together, and what is taken and not settled, are known to the consumer alone. kill -9 takes the last 100 ms of it, so
// that messages come again.
type SharedQueues struct {
	config *Config
	js     natsjs.JetStream
	log    *Log
}

var _ sessions.SharedQueues = (*SharedQueues)(nil)

func (q *SharedQueues) name(share string) string { return groupName(q.config, share) }

// groupName is how a shared subscription is called in NATS.
func groupName(c *Config, share string) string {
	sum := sha256.Sum256([]byte(share))
	return c.Names.GroupPrefix + hex.EncodeToString(sum[:16])
}

// maxTakers is how many nodes may wait at one queue, with some left over for those that went away.
const maxTakers = 256

// Open implements sessions.SharedQueues.
func (q *SharedQueues) Open(ctx context.Context, share string) (sessions.SharedQueue, error) {
	_, filter, ok := mqttcodec.SharedFilter(share)
	if !ok {
		return nil, fmt.Errorf("%w: %q is no shared subscription", sessions.ErrRejected, share)
	}
	subjects := q.config.Mapping.Subjects(filter) // of one filter, none is a subset of another
	for i := range subjects {
		subjects[i] = q.log.prefix + subjects[i]
	}
	info, err := q.ensure(ctx, share, natsjs.ConsumerConfig{
		Durable:        q.name(share),
		Description:    "queue of a shared MQTT subscription",
		DeliverPolicy:  natsjs.DeliverNewPolicy,
		AckPolicy:      natsjs.AckExplicitPolicy,
		AckWait:        q.config.RenewWithin,
		MaxDeliver:     -1,
		MaxAckPending:  sessions.MaxTaken,
		MaxWaiting:     maxTakers,
		FilterSubjects: subjects,
		Metadata:       metadata(kindShared, share),
	})
	if err != nil {
		return nil, fmt.Errorf("open queue of %q: %w", share, clientErr(err))
	}
	u := &SharedQueue{
		queues: q, name: info.Name, subjects: subjects, largest: 1,
		acks: "$JS.ACK." + q.config.Names.Stream + "." + info.Name + ".1.",
	}
	u.delivered.Store(info.Delivered.Consumer)
	if info.NumAckPending > 0 { // somebody took messages before, and may have returned them
		u.returns = 1
		u.largest = unknownSize
	}
	return u, nil
}

// ensure makes the consumer, or finds it as it was left. How it is now only a question tells: the first answer to a creation may tell how
// it was when its server started, before that had read what it has.
func (q *SharedQueues) ensure(ctx context.Context, share string, config natsjs.ConsumerConfig) (*natsjs.ConsumerInfo, error) {
	info, err := q.create(ctx, share, config)
	if err != nil {
		return nil, err
	}
	return infoOf(q.js.Consumer(ctx, q.config.Names.Stream, info.Name))
}

func (q *SharedQueues) create(ctx context.Context, share string, config natsjs.ConsumerConfig) (*natsjs.ConsumerInfo, error) {
	stream := q.config.Names.Stream
	consumer, err := q.js.CreateConsumer(ctx, stream, config)
	if !errors.Is(err, natsjs.ErrConsumerExists) {
		return infoOf(consumer, err)
	}
	// It has other settings than we would give it: somebody else's, or made by another version of ours.
	info, err := infoOf(q.js.Consumer(ctx, stream, config.Durable))
	if err == nil {
		err = checkOurs(info, kindShared, share)
	}
	if err != nil {
		return nil, err
	}
	return infoOf(q.js.UpdateConsumer(ctx, stream, config))
}

func infoOf(consumer natsjs.Consumer, err error) (*natsjs.ConsumerInfo, error) {
	if err != nil {
		return nil, err
	}
	return consumer.CachedInfo(), nil
}

// Remove implements sessions.SharedQueues.
func (q *SharedQueues) Remove(ctx context.Context, share string) error {
	return removeConsumer(ctx, q.js, q.config.Names.Stream, q.name(share), kindShared, share)
}

// Each implements sessions.SharedQueues.
func (q *SharedQueues) Each(ctx context.Context, visit func(share string)) error {
	stream, err := q.js.Stream(ctx, q.config.Names.Stream)
	if err != nil {
		return clientErr(err)
	}
	names := stream.ConsumerNames(ctx) // of all consumers: most are those of sessions, so that their names are enough
	for name := range names.Name() {
		if !strings.HasPrefix(name, q.config.Names.GroupPrefix) {
			continue
		}
		info, err := infoOf(stream.Consumer(ctx, name))
		if errors.Is(err, natsjs.ErrConsumerNotFound) {
			continue
		}
		if err != nil {
			return clientErr(err)
		}
		if share := info.Config.Metadata[metadataShare]; checkOurs(info, kindShared, share) == nil {
			visit(share)
		}
	}
	return clientErr(names.Err())
}

// SharedQueue is the queue of one shared subscription, opened. Safe for concurrent use, but for Take.
type SharedQueue struct {
	queues   *SharedQueues
	name     string
	subjects []string
	// acks begins the subjects of acknowledgements.
	acks string

	// delivered is the consumer's own number of the last delivery that we know of.
	delivered atomic.Uint64
	// mu is held while the server is told of one Return, so that Take sees all of it or nothing.
	mu      sync.Mutex
	returns uint64 // guarded by mu: calls of Return
	// highest is the highest sequence that was returned since nothing was left of the returns before. unsorted: a lower one
	// was returned after it. Guarded by mu.
	highest  uint64
	unsorted bool
	// The server has noticed the first confirmed returns, and nothing is left of the first drained. Owned by Take.
	confirmed, drained uint64
	// disordered: what was returned may wait in another order than that of the log. Owned by Take.
	disordered bool
	// largest is the size of the largest message that came, at least 1. Owned by Take, and by Reclaim before.
	largest int
}

var _ sessions.SharedQueue = (*SharedQueue)(nil)

// What an acknowledgement may say; nothing at all settles the message.
var (
	ackReturn = []byte("-NAK")
	ackRenew  = []byte("+WPI")
)

// Settle implements sessions.SharedQueue.
func (u *SharedQueue) Settle(sequences ...uint64) { u.acknowledge(nil, sequences) }

// Renew implements sessions.SharedQueue.
func (u *SharedQueue) Renew(sequences ...uint64) { u.acknowledge(ackRenew, sequences) }

// Return implements sessions.SharedQueue.
func (u *SharedQueue) Return(sequences ...uint64) {
	if len(sequences) == 0 {
		return
	}
	if !slices.IsSorted(sequences) { // the server keeps the order in which it is told
		sequences = slices.Sorted(slices.Values(sequences))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.unsorted = u.unsorted || sequences[0] < u.highest
	u.highest = max(u.highest, sequences[len(sequences)-1])
	u.acknowledge(ackReturn, sequences)
	u.returns++
}

// acknowledge tells the server something about messages. What it is told of messages that are not taken it passes over.
func (u *SharedQueue) acknowledge(what []byte, sequences []uint64) {
	for i, sequence := range sequences {
		if err := u.queues.log.nc.Publish(u.ackSubject(sequence), what); err != nil {
			u.queues.log.stats.UnsentSettlements.Add(uint64(len(sequences) - i))
			return
		}
	}
}

// ackSubject is where a message is acknowledged. Of all that a delivery's reply subject says the server uses two things: the
// sequence in the stream, and for a return the consumer's own number, which must lie between that of the oldest message
// that is taken and the last that it gave. The last one we know of does for all messages that were taken by then.
func (u *SharedQueue) ackSubject(sequence uint64) string {
	b := make([]byte, 0, len(u.acks)+2*20+len("..0.0"))
	b = append(b, u.acks...)
	b = strconv.AppendUint(b, sequence, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, u.delivered.Load(), 10)
	return string(append(b, ".0.0"...))
}

// awaitAcknowledged returns when the server has noticed all that it was told before. It keeps what it is told apart from
// requests for messages: one that was sent later may be served first.
func (u *SharedQueue) awaitAcknowledged(ctx context.Context) error {
	var failure error
	const nobodys = math.MaxInt64 // sequence
	err := u.queues.log.inboxes.request(ctx, u.ackSubject(nobodys), ackRenew, func(m *nats.Msg) bool {
		if status(m) == 503 {
			failure = u.absent(ctx)
		}
		return true
	})
	if err == nil {
		err = failure
	}
	return err
}

// absent finds out why nobody answers for the consumer.
func (u *SharedQueue) absent(ctx context.Context) error {
	if _, err := u.queues.js.Consumer(ctx, u.queues.config.Names.Stream, u.name); err != nil {
		return clientErr(err)
	}
	return fmt.Errorf("%w: consumer %s does not answer", sessions.ErrUnavailable, u.name)
}

// reclaimWindow is how many sequences of the log are looked at together: what Reclaim holds in memory.
const reclaimWindow = 65_536

// Reclaim implements sessions.SharedQueue. The consumer does not tell which messages are taken, only between which two
// sequences they lie; to return one that is settled does nothing.
func (u *SharedQueue) Reclaim(ctx context.Context, keep func(sequence uint64) bool) error {
	info, err := infoOf(u.queues.js.Consumer(ctx, u.queues.config.Names.Stream, u.name))
	if err != nil {
		return clientErr(err)
	}
	if info.NumAckPending == 0 {
		return nil
	}
	u.delivered.Store(info.Delivered.Consumer) // nothing was taken by us
	first, err := u.queues.log.First(ctx)
	if err != nil {
		return err
	}
	last := info.Delivered.Stream
	for from := max(first, info.AckFloor.Stream+1); from <= last; from += reclaimWindow {
		if err := u.reclaim(ctx, from, min(last, from+reclaimWindow-1), keep); err != nil {
			return err
		}
	}
	return nil
}

func (u *SharedQueue) reclaim(ctx context.Context, from, upTo uint64, keep func(sequence uint64) bool) error {
	var kept, lost []uint64
	for _, subject := range u.subjects {
		err := u.queues.log.reader.scan(ctx, subject, from, upTo, func(m storedMessage) error {
			u.largest = max(u.largest, len(m.data))
			if keep(m.sequence) {
				kept = append(kept, m.sequence)
			} else {
				lost = append(lost, m.sequence)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	// Some may wait to be taken again already; to be returned after a while takes them away from there.
	u.acknowledge(fmt.Appendf(nil, "-NAK %s", u.queues.config.RenewWithin), kept)
	u.Return(lost...)
	return u.awaitAcknowledged(ctx)
}
