package jetstream

import (
	"sync"

	"github.com/nats-io/nats.go"
)

const (
	// liveArrivals is how many messages may be on their way from the connections to the queue, which is what one read of a socket can
	// bring at once; they are queued as fast as they come.
	liveArrivals = 8192
	// liveIncomingMax and liveIncomingBytes bound what waits to be handed over, and is being handed over; more is dropped.
	liveIncomingMax   = 8192
	liveIncomingBytes = 64 << 20
)

// liveIncoming keeps messages of others until they are handed over: the channels of the client library count messages, whatever
// they weigh. Safe for concurrent use.
type liveIncoming struct {
	// wake has a token when the queue may have something.
	wake chan struct{}
	// mu guards the fields below it.
	mu sync.Mutex
	// queue has a nil where filters that are forgotten may be left.
	queue []*nats.Msg
	// messages and bytes are those of the queue and of what was taken and is not done.
	messages, bytes int
}

// put queues messages, and returns how many were dropped for want of room.
func (q *liveIncoming) put(list []*nats.Msg) (dropped uint64) {
	q.mu.Lock()
	for _, m := range list {
		size := m.Size()
		if q.messages >= liveIncomingMax || q.messages > 0 && q.bytes+size > liveIncomingBytes {
			dropped++
			continue
		}
		q.queue = append(q.queue, m)
		q.messages++
		q.bytes += size
	}
	q.mu.Unlock()
	notify(q.wake)
	return dropped
}

// mark puts a mark behind what is queued.
func (q *liveIncoming) mark() {
	q.mu.Lock()
	q.queue = append(q.queue, nil)
	q.mu.Unlock()
	notify(q.wake)
}

// take moves the next messages into a list, up to its capacity.
func (q *liveIncoming) take(list []*nats.Msg) []*nats.Msg {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.queue), cap(list))
	list = append(list[:0], q.queue[:n]...)
	clear(q.queue[:n])
	if q.queue = q.queue[n:]; len(q.queue) == 0 {
		q.queue = nil
	}
	return list
}

// done gives room back, and wakes who takes if there is more.
func (q *liveIncoming) done(list []*nats.Msg) {
	q.mu.Lock()
	for _, m := range list {
		if m != nil {
			q.messages--
			q.bytes -= m.Size()
		}
	}
	more := len(q.queue) > 0
	q.mu.Unlock()
	if more {
		notify(q.wake)
	}
}
