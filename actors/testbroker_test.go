package actors

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/sessions/sessionstest"
)

// bubble runs a test in virtual time. It waits, at its end, for the timers that the actor runtime leaves behind.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { elapse(time.Minute) })
		f(t)
	})
}

// pipeListener is a listener without sockets: its connections are pipes, which hold nothing.
type pipeListener struct {
	sockets chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{sockets: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case s := <-l.sockets:
		return s, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.sockets <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// testBroker is a broker on memory storage, with the way to it.
type testBroker struct {
	*Broker
	t       testing.TB
	storage *sessionstest.Storage
	dial    func() (net.Conn, error)
	logged  *logBuffer
	ended   bool
	// mortal is what ends with the node, of one of several.
	mortal *mortal
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu  sync.Mutex // guards out
	out bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.out.String(), s)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// brokerStorage is what the broker gets of memory storage.
func brokerStorage(s *sessionstest.Storage) Storage {
	return Storage{
		Log: s.Log(), Store: s.Store(), Queues: s.Queues(), Retained: s.Retained(), Shared: s.Shared(), Events: s.Events(), Live: s.Live(),
		Delayed: s.Delayed(),
	}
}

// startOnPipes starts a broker whose clients come over pipes: the kind for a bubble. It ends with the test.
func startOnPipes(t testing.TB, storage *sessionstest.Storage, boot string, change ...func(*Config)) *testBroker {
	t.Helper()
	listener := newPipeListener()
	return startTestBroker(t, storage, boot, listeners{mqtt: listener}, listener.dial, change)
}

// startOnSockets starts a broker whose clients come over the loopback network. It ends with the test.
func startOnSockets(t testing.TB, storage *sessionstest.Storage, boot string, change ...func(*Config)) *testBroker {
	t.Helper()
	listener, err := listen("MQTT", "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (net.Conn, error) { return net.Dial("tcp", listener.Addr().String()) }
	return startTestBroker(t, storage, boot, listeners{mqtt: listener}, dial, change)
}

func startTestBroker(
	t testing.TB, storage *sessionstest.Storage, boot string, open listeners, dial func() (net.Conn, error), change []func(*Config),
) *testBroker {
	t.Helper()
	return startWith(t, storage, brokerStorage(storage), boot, open, dial, change)
}

// startKeepingPresence is startOnPipes with presence kept.
func startKeepingPresence(t testing.TB, storage *sessionstest.Storage, boot string, change ...func(*Config)) *testBroker {
	t.Helper()
	listener := newPipeListener()
	parts := brokerStorage(storage)
	parts.Presence = storage.Presence()
	return startWith(t, storage, parts, boot, listeners{mqtt: listener}, listener.dial, change)
}

func startWith(
	t testing.TB, storage *sessionstest.Storage, parts Storage, boot string, open listeners, dial func() (net.Conn, error),
	change []func(*Config),
) *testBroker {
	t.Helper()
	cfg := DefaultConfig(boot)
	for _, c := range change {
		c(&cfg)
	}
	b := &testBroker{t: t, storage: storage, dial: dial, logged: &logBuffer{}}
	var err error
	log := slog.New(slog.NewTextHandler(b.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if b.Broker, err = start(testContext(t), cfg, parts, log, open); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !b.ended {
			b.shutdown()
		}
		if t.Failed() {
			t.Logf("broker %s logged:\n%s", boot, b.logged)
		}
	})
	return b
}

// testContext ends long after the test should have.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// shutdown stops the broker in good order.
func (b *testBroker) shutdown() {
	b.t.Helper()
	b.ended = true
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		b.t.Errorf("shutdown: %v", err)
	}
}

// crash ends the broker as kill -9 would, and returns what its storage then holds.
func (b *testBroker) crash() *sessionstest.Storage {
	b.t.Helper()
	b.ended = true
	after := b.storage.Crash()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.Shutdown(ctx) // it can store nothing any more
	return after
}

// eventually waits for a condition that nothing announces: in virtual time in a bubble, beside real sockets in real time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// elapse lets virtual time pass. It panics outside of a bubble.
func elapse(d time.Duration) { sessionstest.Elapse(d) }
