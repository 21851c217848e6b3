package actors

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// failureLog is where a test's guardian counts failures.
type failureLog struct {
	mu      sync.Mutex // guards the fields below
	pids    []string
	reasons []any
	stacks  []string
}

func (l *failureLog) add(pid *actor.PID, reason any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pids, l.reasons, l.stacks = append(l.pids, pid.Id), append(l.reasons, reason), append(l.stacks, string(debug.Stack()))
}

func (l *failureLog) want(t *testing.T, reasons ...any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.reasons, reasons) {
		t.Fatalf("failures counted: %v, want %v", l.reasons, reasons)
	}
}

// fragile is an actor that writes down its life and panics at the word of it.
type fragile struct {
	life      chan string
	onFailure func(*actor.PID, any)
	unguarded bool // breaks the rule of recoverStopping
	dieIn     string
}

var errFragile = errors.New("fragile")

func (f *fragile) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		f.enter("started")
	case *actor.Stopping:
		f.last(c.Self(), "stopping")
	case *actor.Stopped:
		f.last(c.Self(), "stopped")
	case string:
		f.enter(m)
	}
}

func (f *fragile) last(self *actor.PID, stage string) {
	if !f.unguarded {
		defer recoverStopping(self, f.onFailure)
	}
	f.enter(stage)
}

func (f *fragile) enter(stage string) {
	f.life <- stage
	if stage == f.dieIn {
		explode()
	}
}

func explode() { panic(errFragile) }

func (f *fragile) wantLife(t *testing.T, stages ...string) {
	t.Helper()
	for _, want := range stages {
		if got := receiveSoon(t, f.life); got != want {
			t.Fatalf("the actor entered %q, want %q", got, want)
		}
	}
}

// spawnFragile spawns an actor that dies in a stage, under the guardian.
func spawnFragile(t *testing.T, system *actor.ActorSystem, guardian actor.SupervisorStrategy, f *fragile, name string) *actor.PID {
	t.Helper()
	f.life = make(chan string, 100)
	producer := func() actor.Actor { return f }
	pid, err := system.Root.SpawnNamed(actor.PropsFromProducer(producer, actor.WithMailbox(newMailbox), actor.WithGuardian(guardian)), name)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// watch spawns an actor that passes on the Terminated of another.
func watch(system *actor.ActorSystem, pid *actor.PID) <-chan *actor.Terminated {
	terminated := make(chan *actor.Terminated, 2)
	system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch m := c.Message().(type) {
		case *actor.Started:
			c.Watch(pid)
		case *actor.Terminated:
			terminated <- m
		}
	}, actor.WithMailbox(newMailbox)))
	return terminated
}

func registered(system *actor.ActorSystem, pid *actor.PID) bool {
	_, ok := system.ProcessRegistry.GetLocal(pid.Id)
	return ok
}

func TestPanickingActorIsStoppedAndOthersLiveOn(t *testing.T) {
	system, failures := testSystem(), &failureLog{}
	guardian := newGuardian(failures.add)
	victim := &fragile{dieIn: "boom"}
	other := &fragile{}
	victimPID := spawnFragile(t, system, guardian, victim, "victim")
	otherPID := spawnFragile(t, system, guardian, other, "other")
	terminated := watch(system, victimPID)

	system.Root.Send(victimPID, "hello")
	system.Root.Send(victimPID, "boom")
	system.Root.Send(victimPID, "after the panic")
	victim.wantLife(t, "started", "hello", "boom", "stopping", "stopped")
	if who := receiveSoon(t, terminated).Who; !who.Equal(victimPID) {
		t.Fatalf("Terminated came for %v", who)
	}
	system.Root.Send(otherPID, "still here")
	other.wantLife(t, "started", "still here")

	failures.want(t, errFragile)
	if failures.pids[0] != "victim" || !strings.Contains(failures.stacks[0], "explode") {
		t.Fatalf("the failure of %s was reported with a stack that does not show its origin:\n%s", failures.pids[0], failures.stacks[0])
	}
	if registered(system, victimPID) {
		t.Fatal("the stopped actor still has its name")
	}
}

func TestActorThatPanicsWhileStartingIsStoppedOnce(t *testing.T) {
	system, failures := testSystem(), &failureLog{}
	victim := &fragile{dieIn: "started"}
	spawnFragile(t, system, newGuardian(failures.add), victim, "victim")
	victim.wantLife(t, "started", "stopping", "stopped")
	failures.want(t, errFragile)
}

func TestGuardianStopsAFailedChildOfAnActor(t *testing.T) {
	system, failures := testSystem(), &failureLog{}
	guardian := newGuardian(failures.add)
	child := &fragile{dieIn: "boom", life: make(chan string, 100)}
	gone := make(chan *actor.Terminated, 1)
	parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch m := c.Message().(type) {
		case string:
			c.Send(c.Spawn(actor.PropsFromProducer(func() actor.Actor { return child }, actor.WithMailbox(newMailbox))), m)
		case *actor.Terminated:
			gone <- m
		}
	}, actor.WithMailbox(newMailbox), actor.WithSupervisor(guardian)))
	system.Root.Send(parent, "boom")
	child.wantLife(t, "started", "boom", "stopping", "stopped")
	receiveSoon(t, gone)
	failures.want(t, errFragile)
}

func TestPanicInStoppingIsHarmlessWhenRecovered(t *testing.T) {
	for _, stage := range []string{"stopping", "stopped"} {
		t.Run(stage, func(t *testing.T) {
			system, failures := testSystem(), &failureLog{}
			victim := &fragile{dieIn: stage, onFailure: failures.add}
			pid := spawnFragile(t, system, newGuardian(failures.add), victim, "victim")
			terminated := watch(system, pid)
			victim.wantLife(t, "started")
			system.Root.Stop(pid)
			victim.wantLife(t, "stopping", "stopped")
			receiveSoon(t, terminated)
			failures.want(t, errFragile)
			if registered(system, pid) {
				t.Fatal("the stopped actor still has its name")
			}
		})
	}
}

// TestPanicInStoppingWithoutTheRule shows what recoverStopping prevents. Should it fail after a new release of the
// runtime, the rule may be needed no more.
func TestPanicInStoppingWithoutTheRule(t *testing.T) {
	system, failures := testSystem(), &failureLog{}
	victim := &fragile{dieIn: "stopping", unguarded: true}
	pid := spawnFragile(t, system, newGuardian(failures.add), victim, "victim")
	victim.wantLife(t, "started")
	system.Root.Stop(pid)
	victim.wantLife(t, "stopping")
	system.Root.Stop(pid)
	terminated := watch(system, pid) // answered by an actor that is stopping, so all before it was handled
	receiveSoon(t, terminated)
	if !registered(system, pid) || len(victim.life) != 0 {
		t.Fatal("the actor ended after all")
	}
	failures.want(t, errFragile)
}

func TestDeadLettersShowNoContent(t *testing.T) {
	var out bytes.Buffer
	system := newActorSystem(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	type letter struct{ secret string }
	for range 100 {
		system.Root.Send(system.NewLocalPID("nobody"), &letter{"in confidence"})
	}
	if log := out.String(); strings.Contains(log, "confidence") || strings.Count(log, "DeadLetter") > 1 {
		t.Fatalf("dead letters were logged as\n%s", log)
	}
	if log := out.String(); !strings.Contains(log, "letter") {
		t.Fatalf("the type of the dead letter is not logged:\n%s", log)
	}
}

func TestRuntimeIsQuietAtInfo(t *testing.T) {
	var out bytes.Buffer
	system := newActorSystem(slog.New(slog.NewTextHandler(&out, nil)))
	system.Root.Send(system.NewLocalPID("nobody"), "lost")
	victim := &fragile{dieIn: "boom"}
	failures := &failureLog{}
	pid := spawnFragile(t, system, newGuardian(failures.add), victim, "victim")
	system.Root.Send(pid, "boom")
	victim.wantLife(t, "started", "boom", "stopping", "stopped")
	if out.Len() > 0 {
		t.Fatalf("the runtime logged at info:\n%s", out.String())
	}
}
