package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dunlin/sessions"
)

// confirmingWriter writes records, journals, checkpoints and retained messages. It finds out what became of a write that
// expects a revision and was not answered. While the servers are away such writes wait, and sessions with them, instead of
// being given up.
//
// A write that was not answered may be stored already, or be stored a little later. So what is there now decides: our own
// document is the result; the expected revision means that the write has to be sent again, and a conflict of the second
// with the first is looked into in the same way; anything else is another owner's. In a cluster every conflict is looked into:
// there a leader also refuses what comes while the write before it is on its way to the replicas.
//
// Overflow policy: none is needed, since a session has one write of each document under way.
type confirmingWriter struct {
	writer
	config *Config
	// reader is that of a stream, by name.
	reader func(stream string) streamReader
	ctx    context.Context // ends with close
	cancel context.CancelFunc

	mu      sync.Mutex
	unknown []write // without a result; guarded by mu
	running bool    // guarded by mu: a goroutine works them off
	closed  bool    // guarded by mu
	done    sync.WaitGroup
}

const (
	// firstConfirm and lastConfirm are how long it waits before it asks, each time twice as long.
	firstConfirm = 5 * time.Millisecond
	lastConfirm  = time.Second
	// confirmAtOnce is how many writes are asked about at a time.
	confirmAtOnce = 16
)

func newConfirmingWriter(w writer, config *Config, reader func(string) streamReader) *confirmingWriter {
	c := &confirmingWriter{writer: w, config: config, reader: reader}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// publish implements writer.
func (c *confirmingWriter) publish(w write) {
	if w.expects {
		c.send(w, false)
		return
	}
	w.subject = c.config.wire(w.subject)
	c.writer.publish(w)
}

// send sends a write, again or for the first time.
func (c *confirmingWriter) send(w write, again bool) {
	sent := w
	sent.subject = c.config.wire(w.subject)
	sent.to = &confirmation{c, w, again}
	c.writer.publish(sent)
}

// confirmation takes the result of a write that was sent, again or for the first time.
type confirmation struct {
	writer *confirmingWriter
	write  write
	again  bool
}

// Stored implements sessions.Sink.
func (s *confirmation) Stored(r sessions.Result) {
	c := s.writer
	refused := errors.Is(r.Err, sessions.ErrConflict) && (s.again || c.reader(s.write.stream).clustered)
	if !refused && !errors.Is(r.Err, sessions.ErrUnavailable) || c.ctx.Err() != nil {
		s.write.to.Stored(r)
		return
	}
	c.wait(s.write)
}

// wait puts a write with those that have no result.
func (c *confirmingWriter) wait(u write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		go u.to.Stored(sessions.Result{Token: u.token, Err: errClosed})
		return
	}
	c.unknown = append(c.unknown, u)
	if !c.running {
		c.running = true
		c.done.Add(1)
		go c.run()
	}
}

// take empties the list, or ends the run when it is empty.
func (c *confirmingWriter) take() []write {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.unknown
	c.unknown = nil
	c.running = len(taken) > 0
	return taken
}

// run asks about the writes without result until there are none.
func (c *confirmingWriter) run() {
	defer c.done.Done()
	pause := firstConfirm
	for {
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
		}
		taken := c.take()
		if len(taken) == 0 {
			return
		}
		left := c.confirm(taken)
		if len(left) == len(taken) {
			pause = min(2*pause, lastConfirm)
		} else {
			pause = firstConfirm
		}
		for _, u := range left {
			c.wait(u)
		}
	}
}

// confirm asks about writes and returns those of which nothing is known still.
func (c *confirmingWriter) confirm(taken []write) []write {
	var group errgroup.Group
	group.SetLimit(confirmAtOnce)
	unanswered := make([]bool, len(taken))
	for i := range taken {
		group.Go(func() error {
			unanswered[i] = !c.settle(taken[i])
			return nil
		})
	}
	_ = group.Wait() // none fails
	left := taken[:0]
	for i, u := range taken {
		if unanswered[i] {
			left = append(left, u)
		}
	}
	return left
}

// settle finds out what became of a write, and reports whether it could.
func (c *confirmingWriter) settle(u write) bool {
	if c.ctx.Err() != nil {
		u.to.Stored(sessions.Result{Token: u.token, Err: errClosed})
		return true
	}
	reader := c.reader(u.stream)
	m, err := reader.get(c.ctx, getRequest{LastFor: u.subject})
	if errors.Is(err, sessions.ErrNotFound) {
		m, err = storedMessage{}, nil
	}
	_, deletes := headerValue(u.header, headerKVOperation)
	switch {
	case err != nil:
		return false
	case m.sequence == u.expect:
		c.send(u, true)
	case m.sequence > u.expect && m.deleted() == deletes && bytes.Equal(m.data, u.data):
		u.to.Stored(sessions.Result{Token: u.token, Sequence: m.sequence})
	default:
		u.to.Stored(sessions.Result{Token: u.token, Err: fmt.Errorf("%w: %s has revision %d, expected %d", sessions.ErrConflict, u.subject, m.sequence, u.expect)})
	}
	return true
}

// close implements writer. What has no result by now gets none.
func (c *confirmingWriter) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.done.Wait()
	c.writer.close()
}
