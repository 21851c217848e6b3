package actors

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// newActorSystem makes the actor runtime of one node. It writes to logger, one level below what it asks for, at most
// one dead letter every ten seconds, and never a message's content. It keeps no metrics: those of the library cost
// more than a message.
//
// Shutdown of the system stops no actor; whoever spawned an actor stops it.
func newActorSystem(logger *slog.Logger) *actor.ActorSystem {
	logger = slog.New(runtimeLog{logger.Handler()})
	return actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }),
		actor.WithDeadLetterThrottleCount(2), // it lets one less through
		actor.WithDeadLetterThrottleInterval(10*time.Second),
	)
}

// runtimeLog takes the library's lines one level down (it calls each dead letter and each recovered panic news) and
// puts a message's type in the place of its content, which belongs to a client and in no log.
type runtimeLog struct{ next slog.Handler }

func (l runtimeLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, lower(level))
}

func (l runtimeLog) Handle(ctx context.Context, r slog.Record) error {
	lowered := slog.NewRecord(r.Time, lower(r.Level), r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		lowered.AddAttrs(withoutContent(a))
		return true
	})
	return l.next.Handle(ctx, lowered)
}

func (l runtimeLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	safe := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		safe[i] = withoutContent(a)
	}
	return runtimeLog{l.next.WithAttrs(safe)}
}

func (l runtimeLog) WithGroup(name string) slog.Handler { return runtimeLog{l.next.WithGroup(name)} }

// lower is the level below: info becomes debug. Warnings and errors stay what they are.
func lower(level slog.Level) slog.Level {
	if level >= slog.LevelWarn {
		return level
	}
	return level - (slog.LevelInfo - slog.LevelDebug)
}

func withoutContent(a slog.Attr) slog.Attr {
	if a.Key != "message" {
		return a
	}
	return slog.String(a.Key, fmt.Sprintf("%T", a.Value.Any()))
}

// guardian decides about actors that panicked: each is stopped, alone, and never started anew. A client whose session
// or connection fails comes back and finds its state in storage; an instance that goes on after a panic has neither
// its connection nor an invariant to rely on.
//
// One value serves all actors of a node: with actor.WithGuardian for those spawned from the root, with
// actor.WithSupervisor on a parent for its children. Each further value would add a process that is never freed.
type guardian struct {
	onFailure func(pid *actor.PID, reason any)
}

// newGuardian makes the guardian of a node. onFailure is called once for each panic. For an actor spawned from the
// root that is on the actor's own goroutine, with the frames of the panic still on the stack: debug.Stack shows where
// it happened. onFailure must be safe for concurrent use, must not block and must not panic.
func newGuardian(onFailure func(pid *actor.PID, reason any)) actor.SupervisorStrategy {
	return &guardian{onFailure: onFailure}
}

// HandleFailure implements actor.SupervisorStrategy.
func (g *guardian) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, pid *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	g.onFailure(pid, reason)
	supervisor.StopChildren(pid)
}

// recoverStopping is deferred by every actor of ours around what it does on *actor.Stopping and *actor.Stopped:
//
//	case *actor.Stopping:
//		defer recoverStopping(c.Self(), onFailure)
//
// That is a rule, not a precaution. An actor that panics in Stopping cannot be stopped any more: the runtime takes it
// for stopping already, so it keeps its name for ever and nobody who watches it hears of its end. One that panics in
// Stopped has lost its name, but its watchers hear nothing either.
func recoverStopping(pid *actor.PID, onFailure func(pid *actor.PID, reason any)) {
	if reason := recover(); reason != nil {
		onFailure(pid, reason)
	}
}
