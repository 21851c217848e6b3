package jetstream

import (
	"context"
	"crypto/rand"
	"fmt"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

// logWindows reads the log by a pull consumer of its own, which ends itself when nobody asks it any more. That costs a
// third less than to get the messages by their sequence, and brings no header where none was stored.
type logWindows struct {
	queue  Queue
	opened bool
}

var _ sessions.LogReader = (*logWindows)(nil)

// Reader implements sessions.Log.
func (l *Log) Reader(after uint64) sessions.LogReader {
	return &logWindows{queue: Queue{
		queues: &Queues{config: l.config, js: l.js, log: l}, subjects: []string{">"},
		temporary: true, position: after, largest: fetchBytes / maxAnswers,
	}}
}

// Next implements sessions.LogReader.
func (r *logWindows) Next(ctx context.Context, most int) ([]sessions.Entry, error) {
	if !r.opened {
		if err := r.queue.open(ctx, r.queue.position); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		r.opened = true
	}
	return r.queue.Fetch(ctx, most)
}

// Close implements sessions.LogReader. The consumer ends itself when the server does not hear of this.
func (r *logWindows) Close() {
	if r.opened {
		q := r.queue.queues
		_ = q.log.nc.Publish(q.config.api()+"CONSUMER.DELETE."+q.config.Names.Stream+"."+r.queue.name, nil)
	}
}

// readerPrefix begins the names of consumers that end themselves.
const readerPrefix = "dunlin-r-"

// openTemporary makes a consumer that ends itself, right behind a sequence.
func (u *Queue) openTemporary(ctx context.Context, after uint64) error {
	c := u.queues.config
	u.name = readerPrefix + rand.Text()
	_, err := u.queues.js.CreateConsumer(ctx, c.Names.Stream, natsjs.ConsumerConfig{
		Name:              u.name,
		Description:       "reader of the log for sessions that are behind",
		DeliverPolicy:     natsjs.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		AckPolicy:         natsjs.AckNonePolicy,
		InactiveThreshold: 10 * c.Heartbeat,
		MemoryStorage:     true,
		Replicas:          1,
		Metadata:          metadata("reader", ""),
	})
	if err != nil {
		return clientErr(err)
	}
	u.position, u.fetched, u.lost = after, 0, false
	return nil
}
