package actors

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// Idle tells an actor that its mailbox has run dry: the moment to write out what it has gathered. From: its mailbox.
//
// It comes on the actor's own goroutine, after at least one user message, and not before the queue was seen empty.
// It may not come at all: an actor that stops gets no Idle after its last message (a PoisonPill that is the last in
// the queue stops the actor before the queue is seen empty), and one that failed gets none either. So what must not
// be lost is written out on *actor.Stopping too.
type Idle struct{}

var idle = &Idle{}

const (
	// mailboxKeptSlots is the largest queue buffer, in messages, that an actor with nothing to do keeps.
	mailboxKeptSlots = 4
	// mailboxReusedSlots is the largest queue buffer that is used again while the actor is busy.
	mailboxReusedSlots = 4096
)

// mailbox is the queue in front of one actor. It takes messages out in batches, at one lock for each batch, and runs
// the actor on a goroutine that exists only while there is something to do.
//
// User messages arrive in the order in which each sender posted them. System messages overtake them. A panic in
// Receive loses the one message it was about; the rest waits, in order, for what the supervisor decides. Posting
// never blocks: senders that can be slowed look at UserMessageCount. What is queued when the actor stops, or posted
// later, is dropped without a dead letter. A message that is nil is dropped too.
//
// Invariant: running is true exactly while one goroutine is, or is about to be, in run.
type mailbox struct {
	// mu guards user, system, started, running and closed, and the writing of suspended. It is held for a few
	// instructions only, never while a message is handled.
	mu     sync.Mutex
	user   []any
	system []any
	// started: handlers are registered and *actor.Started is queued. Nothing runs before, so that a message which
	// somebody posts to the name of an actor that is just being spawned waits its turn.
	started bool
	running bool
	// closed: the actor has stopped.
	closed bool
	// suspended: only system messages are handled. Written by the running goroutine alone, which may thus read it
	// without mu.
	suspended bool
	// owesIdle: a user message was handled since the last Idle. Owned by the running goroutine.
	owesIdle bool

	// systemWaiting is true while system is not empty. It is written under mu.
	systemWaiting atomic.Bool
	// userCount is the number of user messages posted and not yet handed to the actor.
	userCount atomic.Int32

	// Immutable after RegisterHandlers.
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
	runFunc    func()
}

var _ actor.Mailbox = (*mailbox)(nil)

// newMailbox makes an empty mailbox. It is an actor.MailboxProducer.
func newMailbox() actor.Mailbox { return &mailbox{} }

// RegisterHandlers implements actor.Mailbox. The actor is not run before Start.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.invoker, m.dispatcher, m.runFunc = invoker, dispatcher, m.run
}

// Start implements actor.Mailbox: it lets the actor run.
func (m *mailbox) Start() {
	m.mu.Lock()
	m.started = true
	m.wakeAndUnlock()
}

// UserMessageCount is the number of user messages that wait. Anybody may ask.
func (m *mailbox) UserMessageCount() int { return int(m.userCount.Load()) }

// PostUserMessage queues a message. It never blocks and is safe for concurrent use.
func (m *mailbox) PostUserMessage(message any) {
	if message == nil {
		return
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.user = append(m.user, message)
	m.userCount.Add(1)
	if m.suspended {
		m.mu.Unlock()
		return
	}
	m.wakeAndUnlock()
}

// PostSystemMessage queues a message of the actor runtime. It never blocks and is safe for concurrent use.
func (m *mailbox) PostSystemMessage(message any) {
	if message == nil {
		return
	}
	m.mu.Lock()
	m.system = append(m.system, message)
	m.systemWaiting.Store(true)
	m.wakeAndUnlock()
}

// wakeAndUnlock makes the actor run if it does not. The dispatcher is called without mu, for it may run the actor on
// this very goroutine.
func (m *mailbox) wakeAndUnlock() {
	wake := m.started && !m.running
	m.running = m.running || wake
	m.mu.Unlock()
	if wake {
		m.dispatcher.Schedule(m.runFunc)
	}
}

// taken is what the running goroutine took out of the queue and has not handled yet.
type taken struct {
	system []any
	user   []any
	next   int // user[:next] is handled
	// current is the message being handled.
	current any
	handled int // since the goroutine last let others run
}

// run handles messages until the mailbox is parked.
func (m *mailbox) run() {
	var t taken
	for !m.drain(&t) {
	}
}

// drain handles messages until the mailbox is parked (true) or the actor panics (false: to be called again).
func (m *mailbox) drain(t *taken) (parked bool) {
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(reason, t.current) // posts SuspendMailbox to us
		}
	}()
	for {
		switch {
		case len(t.system) > 0 || m.systemWaiting.Load():
			m.handleSystem(t)
		case t.next < len(t.user) && !m.suspended:
			m.handleUser(t)
		case !m.refill(t):
			return true
		}
	}
}

// handleUser hands the next user message to the actor.
func (m *mailbox) handleUser(t *taken) {
	if t.handled++; t.handled > m.dispatcher.Throughput() {
		t.handled = 0
		runtime.Gosched()
	}
	t.current = t.user[t.next]
	t.user[t.next] = nil // the queue must not keep what the actor has dropped
	t.next++
	m.userCount.Add(-1)
	m.owesIdle = true
	m.invoker.InvokeUserMessage(t.current)
	t.current = nil
}

// handleSystem handles the next system message.
func (m *mailbox) handleSystem(t *taken) {
	if len(t.system) == 0 {
		m.mu.Lock()
		t.system, m.system = m.system, nil
		m.systemWaiting.Store(false)
		m.mu.Unlock()
	}
	t.current, t.system = t.system[0], t.system[1:]
	switch t.current.(type) {
	case *actor.SuspendMailbox:
		m.setSuspended(true)
	case *actor.ResumeMailbox:
		m.setSuspended(false)
	case *actor.Stop:
		m.invoker.InvokeSystemMessage(t.current)
		m.close(t) // not when it panicked: then the supervisor has the last word
	default:
		m.invoker.InvokeSystemMessage(t.current)
	}
	t.current = nil
}

func (m *mailbox) setSuspended(suspended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.suspended = suspended
}

// close drops what is queued, and whatever will be posted: a stopped actor, suspended or not, holds no message.
func (m *mailbox) close(t *taken) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.owesIdle = true, false
	m.user, t.user, t.next = nil, nil, 0
	m.userCount.Store(0)
}

// refill takes the next batch of user messages, or hands out Idle, or parks the mailbox and returns false.
// All system messages are handled by then, apart from those posted this moment.
func (m *mailbox) refill(t *taken) bool {
	m.mu.Lock()
	switch {
	case len(m.system) > 0:
		m.mu.Unlock()
	case m.suspended:
		m.user = append(t.user[t.next:], m.user...) // the rest of the batch stays in front
		m.running = false
		m.mu.Unlock()
		return false
	case len(m.user) > 0:
		spare := t.user[:0]
		if cap(spare) > mailboxReusedSlots {
			spare = nil
		}
		t.user, t.next, m.user = m.user, 0, spare
		m.mu.Unlock()
	case m.owesIdle:
		m.owesIdle = false
		m.mu.Unlock()
		t.current = idle
		m.invoker.InvokeUserMessage(idle)
		t.current = nil
	default:
		if cap(m.user) == 0 {
			m.user = t.user[:0]
		}
		if cap(m.user) > mailboxKeptSlots {
			m.user = nil
		}
		m.running = false
		m.mu.Unlock()
		return false
	}
	return true
}
