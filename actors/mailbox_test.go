package actors

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// recorder is the actor's side of a mailbox: it writes down what it is handed.
type recorder struct {
	got      []any
	failures []any // the messages that panicked
	onUser   func(message any)
}

func (r *recorder) InvokeSystemMessage(message any) { r.got = append(r.got, message) }

func (r *recorder) InvokeUserMessage(message any) {
	r.got = append(r.got, message)
	if r.onUser != nil {
		r.onUser(message)
	}
}

func (r *recorder) EscalateFailure(_, message any) { r.failures = append(r.failures, message) }

// stepper is a dispatcher whose runs wait until the test lets them go.
type stepper struct{ runs []func() }

func (s *stepper) Schedule(run func()) { s.runs = append(s.runs, run) }
func (s *stepper) Throughput() int     { return 300 }

// runAll runs what is scheduled, and reports how many runs that were.
func (s *stepper) runAll() int {
	n := 0
	for len(s.runs) > 0 {
		run := s.runs[0]
		s.runs = s.runs[1:]
		run()
		n++
	}
	return n
}

// startedMailbox is a mailbox ready to run under a stepper.
func startedMailbox() (*mailbox, *recorder, *stepper) {
	m, r, s := &mailbox{}, &recorder{}, &stepper{}
	m.RegisterHandlers(r, s)
	m.Start()
	s.runAll()
	return m, r, s
}

func wantGot(t *testing.T, r *recorder, want ...any) {
	t.Helper()
	if !slices.Equal(r.got, want) {
		t.Fatalf("handled %v, want %v", r.got, want)
	}
}

func TestMailboxHandsOutABatchThenIdle(t *testing.T) {
	m, r, s := startedMailbox()
	for i := range 3 {
		m.PostUserMessage(i)
	}
	if n := s.runAll(); n != 1 {
		t.Fatalf("3 messages took %d runs, want 1", n)
	}
	wantGot(t, r, 0, 1, 2, idle)
}

func TestIdleComesOnlyAfterUserMessages(t *testing.T) {
	m, r, s := startedMailbox()
	watch := &actor.Watch{}
	m.PostSystemMessage(watch)
	s.runAll()
	wantGot(t, r, watch)
}

func TestIdleWaitsForMessagesPostedMeanwhile(t *testing.T) {
	m, r, s := startedMailbox()
	r.onUser = func(message any) {
		if message == "first" {
			m.PostUserMessage("second")
		}
	}
	m.PostUserMessage("first")
	s.runAll()
	wantGot(t, r, "first", "second", idle)
}

func TestMessagePostedFromIdleIsHandled(t *testing.T) {
	m, r, s := startedMailbox()
	r.onUser = func(message any) {
		if message == idle && len(r.got) == 2 {
			m.PostUserMessage("more")
		}
	}
	m.PostUserMessage("first")
	s.runAll()
	wantGot(t, r, "first", idle, "more", idle)
}

func TestMessagesPostedWhileSpawningWaitForStarted(t *testing.T) {
	m, r, s := &mailbox{}, &recorder{}, &stepper{}
	started := &actor.Started{}
	m.PostUserMessage("before handlers")
	m.RegisterHandlers(r, s)
	m.PostUserMessage("before started")
	m.PostSystemMessage(started)
	if s.runAll() != 0 {
		t.Fatal("the actor ran before Start")
	}
	m.Start()
	s.runAll()
	wantGot(t, r, started, "before handlers", "before started", idle)
}

func TestNilMessagesAreDropped(t *testing.T) {
	m, r, s := startedMailbox()
	m.PostUserMessage(nil)
	m.PostSystemMessage(nil)
	if s.runAll() != 0 || m.UserMessageCount() != 0 {
		t.Fatal("a nil message was queued")
	}
	wantGot(t, r)
}

func TestSystemMessagesOvertakeInsideABatch(t *testing.T) {
	m, r, s := startedMailbox()
	watch := &actor.Watch{}
	r.onUser = func(message any) {
		if message == 0 {
			m.PostSystemMessage(watch)
		}
	}
	for i := range 3 {
		m.PostUserMessage(i)
	}
	s.runAll()
	wantGot(t, r, 0, watch, 1, 2, idle)
}

func TestSuspendedMailboxHoldsUserMessagesInOrder(t *testing.T) {
	m, r, s := startedMailbox()
	r.onUser = func(message any) {
		if message == 0 {
			m.PostSystemMessage(&actor.SuspendMailbox{})
			m.PostUserMessage(3)
		}
	}
	for i := range 3 {
		m.PostUserMessage(i)
	}
	s.runAll()
	m.PostUserMessage(4)
	if s.runAll() != 0 {
		t.Fatal("a user message woke a suspended mailbox")
	}
	wantGot(t, r, 0)
	if n := m.UserMessageCount(); n != 4 {
		t.Fatalf("%d messages wait, want 4", n)
	}
	watch := &actor.Watch{}
	m.PostSystemMessage(watch)
	s.runAll()
	wantGot(t, r, 0, watch)
	m.PostSystemMessage(&actor.ResumeMailbox{})
	s.runAll()
	wantGot(t, r, 0, watch, 1, 2, 3, 4, idle)
}

func TestPanicLosesOneMessageAndKeepsTheOrder(t *testing.T) {
	m, r, s := startedMailbox()
	r.onUser = func(message any) {
		if message == 1 {
			panic("boom")
		}
	}
	for i := range 4 {
		m.PostUserMessage(i)
	}
	s.runAll()
	wantGot(t, r, 0, 1, 2, 3, idle)
	if !slices.Equal(r.failures, []any{1}) {
		t.Fatalf("escalated for %v, want for 1", r.failures)
	}
}

func TestStopDropsWhatIsQueued(t *testing.T) {
	m, r, s := startedMailbox()
	stop := &actor.Stop{}
	r.onUser = func(message any) {
		if message == 0 {
			m.PostSystemMessage(&actor.SuspendMailbox{})
			m.PostSystemMessage(stop)
			m.PostUserMessage(2)
		}
	}
	m.PostUserMessage(0)
	m.PostUserMessage(1)
	s.runAll()
	m.PostUserMessage(3)
	s.runAll()
	wantGot(t, r, 0, stop)
	if n := m.UserMessageCount(); n != 0 || m.user != nil {
		t.Fatalf("the stopped actor's mailbox counts %d messages and holds %v", n, m.user)
	}
}

func TestUserMessageCountIsWhatWaits(t *testing.T) {
	m, r, s := startedMailbox()
	var counts []int
	r.onUser = func(any) { counts = append(counts, m.UserMessageCount()) }
	for i := range 3 {
		m.PostUserMessage(i)
	}
	if n := m.UserMessageCount(); n != 3 {
		t.Fatalf("%d messages wait, want 3", n)
	}
	s.runAll()
	if want := []int{2, 1, 0, 0}; !slices.Equal(counts, want) {
		t.Fatalf("counts while handling were %v, want %v", counts, want)
	}
}

func TestMailboxWithNothingToDoKeepsNoBigBuffer(t *testing.T) {
	m, r, s := startedMailbox()
	if m.user != nil || m.system != nil {
		t.Fatal("a new mailbox has buffers")
	}
	for range 3 { // more than one batch: both buffers get big
		for i := range 2 * mailboxReusedSlots {
			m.PostUserMessage(i)
		}
		s.runAll()
	}
	if c := cap(m.user) + cap(m.system); c > mailboxKeptSlots {
		t.Fatalf("the idle mailbox keeps %d slots", c)
	}
	r.got = nil
	m.PostUserMessage("one")
	s.runAll()
	if cap(m.user) == 0 {
		t.Fatal("a small buffer is not kept for the next message")
	}
	if first := m.user[:1][0]; first != nil {
		t.Fatalf("the buffer still refers to %v", first)
	}
}

// testSystem is an actor system that logs nothing.
func testSystem() *actor.ActorSystem { return newActorSystem(slog.New(slog.DiscardHandler)) }

// TestMailboxUnderLoad has several producers, an actor that panics now and then and is started anew, and a buffer
// that Receive and Idle share without a lock: the race detector sees any overlap.
func TestMailboxUnderLoad(t *testing.T) {
	const producers, messages = 4, 5000
	system := testSystem()
	var (
		last      [producers]int
		handled   int
		buffer    []byte
		written   int
		afterIdle bool
	)
	receive := func(c actor.Context) {
		switch m := c.Message().(type) {
		case [2]int:
			if m[1] != last[m[0]]+1 {
				t.Errorf("producer %d: message %d after %d", m[0], m[1], last[m[0]])
			}
			last[m[0]] = m[1]
			buffer, afterIdle = append(buffer, 'x'), false
			if handled++; handled%1000 == 0 {
				panic("every thousandth")
			}
		case *Idle, *actor.Stopping:
			if _, ok := m.(*Idle); ok && afterIdle {
				t.Error("Idle twice with no message between")
			}
			written, buffer, afterIdle = written+len(buffer), buffer[:0], true
		}
	}
	pid := system.Root.Spawn(actor.PropsFromFunc(receive, actor.WithMailbox(newMailbox), actor.WithGuardian(actor.NewRestartingStrategy())))
	var posting sync.WaitGroup
	for p := range producers {
		posting.Go(func() {
			for i := range messages {
				system.Root.Send(pid, [2]int{p, i + 1})
			}
		})
	}
	posting.Wait()
	if err := system.Root.PoisonFuture(pid).Wait(); err != nil {
		t.Fatal(err)
	}
	if want := producers * messages; handled != want || written != want {
		t.Fatalf("handled %d and wrote %d, want %d", handled, written, want)
	}
}

// TestSendByNameWhileSpawning sends to names that are just being taken: nothing may be lost, and nobody may panic.
func TestSendByNameWhileSpawning(t *testing.T) {
	system := testSystem()
	for i := range 300 {
		name := fmt.Sprint("racer/", i)
		sent, got := make(chan struct{}), make(chan string, 4)
		go func() {
			defer close(sent)
			for _, spawned := system.ProcessRegistry.GetLocal(name); !spawned; _, spawned = system.ProcessRegistry.GetLocal(name) {
			}
			system.Root.Send(system.NewLocalPID(name), "hello")
		}()
		props := actor.PropsFromFunc(func(c actor.Context) {
			switch c.Message().(type) {
			case *actor.Started:
				got <- "started"
			case string:
				got <- "hello"
			}
		}, actor.WithMailbox(newMailbox), actor.WithOnInit(func(actor.Context) {
			if i%3 == 0 {
				<-sent // the name is taken, the handlers are not registered
			}
		}))
		pid, err := system.Root.SpawnNamed(props, name)
		if err != nil {
			t.Fatal(err)
		}
		<-sent
		if first, second := receiveSoon(t, got), receiveSoon(t, got); first != "started" || second != "hello" {
			t.Fatalf("the actor got %q, then %q", first, second)
		}
		system.Root.Stop(pid)
	}
}

// TestPoisonPillAsLastMessageBringsNoIdle pins down what Idle's comment warns of.
func TestPoisonPillAsLastMessageBringsNoIdle(t *testing.T) {
	system := testSystem()
	var got []string
	stopped := make(chan struct{})
	pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch m := c.Message().(type) {
		case string:
			got = append(got, m)
			c.Poison(c.Self()) // in the queue before it can run dry
		case *Idle:
			got = append(got, "idle")
		case *actor.Stopping:
			got = append(got, "stopping")
		case *actor.Stopped:
			close(stopped)
		}
	}, actor.WithMailbox(newMailbox)))
	system.Root.Send(pid, "last")
	receiveSoon(t, stopped)
	if want := []string{"last", "stopping"}; !slices.Equal(got, want) {
		t.Fatalf("the actor got %v, want %v", got, want)
	}
}

// receiveSoon takes from a channel, and fails the test when nothing comes.
func receiveSoon[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came within 10 s")
		panic("not reached")
	}
}

// nothing is an actor that handles what it gets in no time, and says when it has handled n messages.
type nothing struct {
	left int
	done chan struct{}
}

func (a *nothing) Receive(c actor.Context) {
	if _, ok := c.Message().(*nothing); ok {
		if a.left--; a.left == 0 {
			a.done <- struct{}{}
		}
	}
}

func BenchmarkMailboxTell(b *testing.B) {
	for _, producers := range []int{1, 8} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			system := testSystem()
			each := b.N/producers + 1
			a := &nothing{left: each * producers, done: make(chan struct{}, 1)}
			pid := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return a }, actor.WithMailbox(newMailbox)))
			b.ReportAllocs()
			b.ResetTimer()
			for range producers {
				go func() {
					for range each {
						system.Root.Send(pid, a)
					}
				}()
			}
			<-a.done
		})
	}
}

func BenchmarkMailboxWake(b *testing.B) {
	system := testSystem()
	a := &nothing{left: -1, done: make(chan struct{}, 1)}
	pid := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return a }, actor.WithMailbox(newMailbox)))
	b.ReportAllocs()
	for b.Loop() {
		a.left = 1 // the actor is idle: it has answered
		system.Root.Send(pid, a)
		<-a.done
	}
}

func BenchmarkIdleActorMemory(b *testing.B) {
	system := testSystem()
	props := actor.PropsFromProducer(func() actor.Actor { return &nothing{} }, actor.WithMailbox(newMailbox), actor.WithGuardian(newGuardian(nil)))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range b.N {
		if _, err := system.Root.SpawnNamed(props, "idle/"+strconv.Itoa(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "heap-B/actor")
	runtime.KeepAlive(system)
}
