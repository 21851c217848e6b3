package jetstream

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

const (
	// liveOutgoingMax and liveOutgoingBytes bound what waits to be published on the live plane; more is dropped.
	liveOutgoingMax   = 16 << 10
	liveOutgoingBytes = 16 << 20
)

// livePublication is a message on its way to NATS.
type livePublication struct {
	subject, reply string
	message        *sessions.Message
}

func (p *livePublication) size() int { return p.message.Memory() + 256 }

// liveOutgoing keeps whoever publishes from waiting for the connection. Safe for concurrent use.
type liveOutgoing struct {
	// wake has a token when the queue may have something.
	wake chan struct{}
	// mu guards the fields below it.
	mu    sync.Mutex
	queue []livePublication
	bytes int
}

// put queues a message, and returns how many were dropped: it, when there is no room.
func (q *liveOutgoing) put(p livePublication) (dropped uint64) {
	q.mu.Lock()
	if len(q.queue) >= liveOutgoingMax || q.bytes > 0 && q.bytes+p.size() > liveOutgoingBytes {
		q.mu.Unlock()
		return 1
	}
	q.queue = append(q.queue, p)
	q.bytes += p.size()
	first := len(q.queue) == 1
	q.mu.Unlock()
	if first {
		notify(q.wake)
	}
	return 0
}

// swap empties the queue into what the caller is through with.
func (q *liveOutgoing) swap(done []livePublication) []livePublication {
	clear(done)
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.queue
	q.queue, q.bytes = done[:0], 0
	if cap(taken) > liveOutgoingKept {
		q.queue = nil
	}
	return taken
}

// liveOutgoingKept is the largest buffer that is used again.
const liveOutgoingKept = 1024

// send publishes what is queued until ctx ends.
func (l *Live) send(ctx context.Context) {
	var batch []livePublication
	for {
		select {
		case <-l.outgoing.wake:
		case <-ctx.Done():
			return
		}
		batch = l.outgoing.swap(batch)
		for i := range batch {
			if err := l.sendOne(&batch[i]); err != nil {
				if n := l.stats.LiveUnsent.Add(1); telling(n, 1) {
					l.config.Logger.Warn("live plane: not published", "subject", batch[i].subject, "cause", err, "so_far", n)
				}
			}
		}
	}
}

func (l *Live) sendOne(p *livePublication) error {
	// On the live plane there is one QoS, so that is not said.
	header, data := encodeMessage(&sessions.Message{QoS: 1, Payload: p.message.Payload, Properties: p.message.Properties})
	switch {
	case header != nil:
		return l.nc.PublishMsg(&nats.Msg{Subject: p.subject, Reply: p.reply, Header: header, Data: data})
	case p.reply != "":
		return l.nc.PublishRequest(p.subject, p.reply, data)
	default:
		return l.nc.Publish(p.subject, data)
	}
}
