package actors

import "sync"

// inflow bounds what one connection has sent and the broker is not through with: packets waiting for their session and
// messages waiting for storage. Overflow policy: the reader waits, so that the client's socket fills up.
type inflow struct {
	maxMessages, maxBytes int

	// mu guards the fields below it.
	mu       sync.Mutex
	messages int
	bytes    int
	closed   bool
	waiting  bool
	room     sync.Cond // signalled when there is room again, and on close
}

func newInflow(maxMessages, maxBytes int) *inflow {
	f := &inflow{maxMessages: maxMessages, maxBytes: maxBytes}
	f.room.L = &f.mu
	return f
}

// add takes what was read into account. It never waits: the bound is held by not reading on.
func (f *inflow) add(messages, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages += messages
	f.bytes += bytes
}

// release gives back what the broker is through with.
func (f *inflow) release(messages, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages -= messages
	f.bytes -= bytes
	if f.waiting && f.hasRoom() {
		f.room.Broadcast()
	}
}

func (f *inflow) hasRoom() bool { return f.messages < f.maxMessages && f.bytes < f.maxBytes }

// wait blocks until there is room, and reports false when the connection was closed meanwhile.
func (f *inflow) wait() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.hasRoom() && !f.closed {
		f.waiting = true
		f.room.Wait()
	}
	f.waiting = false
	return !f.closed
}

// withheld reports whether the reader is waiting, so that the client cannot be heard.
func (f *inflow) withheld() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting
}

// close ends all waiting.
func (f *inflow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.room.Broadcast()
}
