package actors

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"dunlin/sessions"
)

// Storage is what the broker needs of storage. cmd introduces them to each other.
type Storage struct {
	Log      sessions.Log
	Store    sessions.Store
	Queues   sessions.Queues
	Retained sessions.RetainedStore
	Shared   sessions.SharedQueues
	// Events tells programs outside what happens, nil for nobody.
	Events sessions.Events
	// Presence keeps who is online, nil for no place.
	Presence sessions.PresenceStore
	// Live is the live plane, nil for a node that is alone on it.
	Live sessions.Live
	// Nodes are the other nodes on the same storage, nil where there cannot be any.
	Nodes sessions.Nodes
	// Delayed is needed unless Config.Sessions.MaxDelay is 0.
	Delayed sessions.Delayed
}

const (
	// maxWork bounds the storage calls that wait for an answer at the same time.
	maxWork = 64
	// maxQueueReads bounds the durable queues that are read at the same time, beside maxWork: more would be of no use to each
	// other, and keep the server from others.
	maxQueueReads = 8
	// workTimeout is how long such a call may take.
	workTimeout = 10 * time.Second
)

// Broker is the running broker of one node.
type Broker struct {
	cfg     Config
	storage Storage
	log     *slog.Logger
	stats   Stats

	system *actor.ActorSystem
	// root spawns actors under the guardian.
	root      *actor.RootContext
	workers   *workers
	wheel     *timerWheel
	turns     *journalTurns
	rates     *connectRates
	directory *directory
	router    *router
	retainer  *retainer
	parking   *parking
	resting   *resting
	shares    *shares
	live      *live
	cluster   *cluster
	ends      logEnds
	delayed   *delayed // nil where messages are not delayed
	catchUp   *catchUp
	recovered recovered
	events    *events
	presence  *presence
	// replays is how many there are.
	replays atomic.Int64

	listeners   listeners
	webSockets  *http.Server // nil when there are none
	connections connectionSet
	serial      atomic.Uint64
	// slots are for maxWork, queueSlots for maxQueueReads.
	slots, queueSlots chan struct{}
	// authentications are the clients that are being authenticated.
	authentications chan struct{}
	// settled is closed when the sessions of boots that died are settled.
	settled chan struct{}

	// running ends with cancel; tasks are the goroutines that then end.
	running context.Context
	cancel  context.CancelFunc
	// mu guards stopped, and the adding to tasks.
	mu      sync.Mutex
	stopped bool
	tasks   sync.WaitGroup
	failed  chan struct{}
	failure error
	failing sync.Once
}

// Start reads what storage holds, takes up the log, and listens. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config, storage Storage, log *slog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	open, err := listenAll(cfg)
	if err != nil {
		return nil, err
	}
	return start(ctx, cfg, storage, log, open)
}

// start is Start with listeners, which it owns.
func start(ctx context.Context, cfg Config, storage Storage, log *slog.Logger, open listeners) (*Broker, error) {
	if cfg.Sessions.MaxDelay > 0 && storage.Delayed == nil {
		open.close()
		return nil, errors.New("messages may be delayed, and there is nowhere to keep them")
	}
	b := &Broker{
		cfg: cfg, storage: storage, log: log, workers: newWorkers(),
		listeners: open,
		slots:     make(chan struct{}, maxWork), queueSlots: make(chan struct{}, maxQueueReads),
		failed:  make(chan struct{}),
		settled: make(chan struct{}),

		authentications: make(chan struct{}, maxAuthentications),
	}
	b.events = newEvents(storage.Events, &b.cfg, &b.stats, log)
	b.stats.events = b.events
	b.presence = newPresence(storage.Presence, &b.cfg, &b.stats, log)
	b.system = newActorSystem(log)
	b.root = b.system.Root.Copy().WithGuardian(newGuardian(b.onFailure))
	b.rates = newConnectRates(cfg.ConnectRate)
	b.directory = newDirectory(b)
	b.parking = newParking(b)
	b.resting = newResting()
	b.running, b.cancel = context.WithCancel(context.Background())
	b.retainer = newRetainer(storage.Retained, storage.Log, b.fitsRetained, b.runningTask, &b.stats, log)
	if cfg.Sessions.MaxDelay > 0 {
		b.delayed = newDelayed(b)
	}
	b.connections.open = map[*connection]struct{}{}
	b.cluster = newCluster(b)
	b.shares = newShares(b)
	if err := b.listenToNodes(ctx); err != nil {
		b.cancel()
		open.close()
		return nil, err
	}
	found, err := b.readStorage(ctx)
	if err != nil {
		b.cancel()
		open.close()
		return nil, fmt.Errorf("read what is stored: %w", err)
	}
	b.live = newLive(b)
	b.router.live, b.shares.live = b.live, b.live
	if err := b.saveCheckpoint(ctx, false); err != nil { // before anything is acknowledged that only the log will know
		b.cancel()
		open.close()
		return nil, fmt.Errorf("write the first checkpoint: %w", err)
	}
	b.cluster.checkpointTaken(time.Now())
	b.wheel = newTimerWheel(50*time.Millisecond, time.Now)
	b.turns = newJournalTurns()
	b.router.replaced = func() {
		b.fail(errors.New("the log was made anew under the running broker; a start finds the sessions' places in the new one"))
	}
	b.catchUp = newCatchUp(b.router, storage.Log, b.workers.crowded, log)
	b.enter(found)
	if err := b.shares.removeOrphans(ctx); err != nil {
		log.Warn("queues of shared subscriptions without subscribers not removed", "err", err)
	}
	b.task(func() { b.tail(b.router.Head().Sequence) })
	b.task(b.watchRetained)
	b.task(func() { b.catchUp.run(b.running) })
	b.task(func() { b.parking.run(b.running) })
	b.task(func() { b.keepCheckpoint(found.checkpoints) })
	b.task(func() { b.events.run(b.running.Done()) })
	if b.presence.kept() {
		b.task(b.keepPresence)
	}
	if b.delayed != nil {
		b.task(b.delayed.follow)
		b.task(b.delayed.run)
	}
	b.task(b.reportDrops)
	b.task(func() { b.cluster.watch(b.running) })
	b.task(func() { b.live.keep(b.running) })
	if !b.live.alone() {
		b.task(b.listen)
	}
	b.task(b.accept)
	if open.webSocket != nil {
		b.webSockets = b.newWebSocketServer()
		b.task(b.serveWebSockets)
	}
	return b, nil
}

// Addr is where MQTT clients connect.
func (b *Broker) Addr() string { return b.listeners.mqtt.Addr().String() }

// WebSocketAddr is where MQTT clients connect by WebSocket, empty when they cannot.
func (b *Broker) WebSocketAddr() string {
	if b.listeners.webSocket == nil {
		return ""
	}
	return b.listeners.webSocket.Addr().String()
}

// Stats counts what the broker does.
func (b *Broker) Stats() *Stats { return &b.stats }

// Failed is closed when the broker cannot go on; Err then tells why.
func (b *Broker) Failed() <-chan struct{} { return b.failed }

// Err is why the broker failed, nil before.
func (b *Broker) Err() error {
	select {
	case <-b.failed:
		return b.failure
	default:
		return nil
	}
}

// Shutdown stops accepting, tells every client to come back later (5.0: 0x8B), makes durable what their sessions were
// promised, and stops. It returns when that is done, or when ctx ends: what was acknowledged is durable all the same.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.closeListeners()
	b.parking.close() // the queues would end with the process
	b.directory.shutDown()
	err := b.awaitSessions(ctx)
	b.endConnections(ctx)
	err = errors.Join(err, b.presence.awaitWritten(ctx), b.saveCheckpoint(ctx, err == nil && b.directory.intact()))
	b.cancel()
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.tasks.Wait()
	b.turns.stop()
	b.wheel.Stop()
	b.system.Shutdown()
	b.workers.close()
	return errors.Join(err, b.Err())
}

// closeListeners ends the accepting of connections. It may be called again.
func (b *Broker) closeListeners() {
	if b.webSockets != nil { // before its listener, whose end would be a failure
		_ = b.webSockets.Close() // with the connections that are not WebSockets yet
	}
	b.listeners.close()
}

// awaitSessions waits until no session actor is left.
func (b *Broker) awaitSessions(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for b.directory.live.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d sessions not flushed: %w", b.directory.live.Load(), ctx.Err())
		}
	}
	return nil
}

// task runs f until the broker stops, and not at all when it has stopped.
func (b *Broker) task(f func()) {
	if !b.begin() {
		return
	}
	go func() {
		defer b.tasks.Done()
		f()
	}()
}

// runningTask is task for what ends with the broker.
func (b *Broker) runningTask(f func(ctx context.Context)) { b.task(func() { f(b.running) }) }

// begin adds to tasks, unless the broker has stopped.
func (b *Broker) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	b.tasks.Add(1)
	return true
}

// work runs a storage call that waits for its answer, outside of any actor. At most maxWork run; the others wait.
func (b *Broker) work(f func(ctx context.Context)) { b.workIn(b.slots, f) }

// workIn is work in one of other slots.
func (b *Broker) workIn(slots chan struct{}, f func(ctx context.Context)) {
	b.task(func() {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-b.running.Done():
		}
		ctx, cancel := context.WithTimeout(b.running, workTimeout)
		defer cancel()
		f(ctx)
	})
}

// tail hands the log to the router until the broker stops.
func (b *Broker) tail(after uint64) {
	if err := b.storage.Log.Tail(b.running, after, b.router.deliver); err != nil && b.running.Err() == nil {
		b.fail(fmt.Errorf("the log cannot be read any more: %w", err))
	}
}

// watchRetained follows what others write to the bucket of retained messages until the broker stops.
func (b *Broker) watchRetained() {
	if err := b.storage.Retained.Watch(b.running, b.recovered.retained, b.router.adopt); err != nil && b.running.Err() == nil {
		b.fail(fmt.Errorf("the retained messages cannot be read any more: %w", err))
	}
}

// fitsRetained reports whether a retained message that did not come through the log is one that a client might have published.
func (b *Broker) fitsRetained(m *sessions.Message) bool {
	return m.Memory() <= int(b.cfg.Sessions.MaxPacketSize) && b.cfg.Sessions.TopicFits(m.Topic, true) && !sessions.ReservedTopic(m.Topic)
}

// listenToNodes takes what other nodes say until the broker stops. It returns when they reach this one.
func (b *Broker) listenToNodes(ctx context.Context) error {
	if b.storage.Nodes == nil {
		return nil
	}
	ready, failed := make(chan struct{}), make(chan error, 1)
	b.task(func() {
		err := b.storage.Nodes.Run(b.running, b.cfg.Sessions.Boot, b.cluster, func() { close(ready) })
		if err != nil && b.running.Err() == nil {
			failed <- err
			b.fail(fmt.Errorf("other nodes cannot be heard any more: %w", err))
		}
	})
	select {
	case <-ready:
		return nil
	case err := <-failed:
		return fmt.Errorf("listen to other nodes: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen hands what others publish on the live plane to the router until the broker stops.
func (b *Broker) listen() {
	if err := b.live.run(b.running); err != nil && b.running.Err() == nil {
		b.fail(fmt.Errorf("the live plane cannot be heard any more: %w", err))
	}
}

// fail ends the broker: it cannot do what it promises.
func (b *Broker) fail(err error) {
	b.failing.Do(func() {
		b.failure = err
		b.log.Error("broker failed", "err", err)
		close(b.failed)
	})
}

// onFailure counts an actor that panicked. The client's connection ends with it; nothing else does.
func (b *Broker) onFailure(pid *actor.PID, reason any) { b.actorFailed(pid.Id, reason) }

func (b *Broker) actorFailed(name string, reason any) {
	b.stats.actorFailures.Add(1)
	b.log.Error("actor failed", "actor", name, "reason", reason, "stack", string(debug.Stack()))
}

// nonce is unique among all CONNECTs of all nodes.
func (b *Broker) nonce() string { return rand.Text() }

// reportDrops logs, at most once a minute, what was dropped and why.
func (b *Broker) reportDrops() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	last, lastLost := map[sessions.DropReason]uint64{}, uint64(0)
	for {
		select {
		case <-b.running.Done():
			return
		case <-tick.C:
		}
		for reason, n := range b.stats.Drops() {
			if n > last[reason] {
				b.log.Warn("messages dropped", "reason", reason, "in_last_minute", n-last[reason], "since_start", n)
				last[reason] = n
			}
		}
		if n := b.stats.EventsLost(); n > lastLost {
			b.log.Warn("events not published", "in_last_minute", n-lastLost, "since_start", n)
			lastLost = n
		}
	}
}
