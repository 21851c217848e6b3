package actors

import (
	"log/slog"
	"sync"
	"time"

	"dunlin/sessions"
)

const (
	// maxEvents bounds the events that wait to be published. Overflow policy: those that come then are lost, and counted.
	maxEvents = 8192
	// maxDropKinds bounds the pairs of client and reason whose drops are told together. Overflow policy: those of other clients
	// are told as one for each reason, without a client.
	maxDropKinds = 4096
	// dropsEvery is how often drops are told.
	dropsEvery = time.Second
)

// events tells programs outside what happens to clients. Who has something to tell never waits: one goroutine publishes, in the
// order in which it was told. Safe for concurrent use.
type events struct {
	// to is nil when nobody is told anything.
	to         sessions.Events
	node, boot string
	stats      *Stats
	log        *slog.Logger
	queue      chan *sessions.Event
	// dropped has one token when there are drops and no time is set to tell them.
	dropped chan struct{}

	// mu guards drops.
	mu    sync.Mutex
	drops map[dropKind]uint64
}

// dropKind is what drops are gathered by.
type dropKind struct {
	clientID string
	reason   sessions.DropReason
}

func newEvents(to sessions.Events, cfg *Config, stats *Stats, log *slog.Logger) *events {
	e := &events{to: to, node: cfg.Node, boot: cfg.Sessions.Boot, stats: stats, log: log}
	if to != nil {
		e.queue, e.dropped = make(chan *sessions.Event, maxEvents), make(chan struct{}, 1)
		e.drops = map[dropKind]uint64{}
	}
	return e
}

// wanted reports whether an event of a kind is worth making.
func (e *events) wanted(kind sessions.EventKind) bool { return e.to != nil && e.to.Wanted(kind) }

// tell has an event published that is wanted.
func (e *events) tell(event *sessions.Event) {
	event.Version, event.Time, event.Node, event.Boot = sessions.EventVersion, time.Now().UTC(), e.node, e.boot
	select {
	case e.queue <- event:
	default:
		e.stats.eventsLost.Add(1)
	}
}

// drop notes messages that were dropped: those of one client, or of none, are told together, so that a flood of them is no flood of
// events.
func (e *events) drop(clientID string, reason sessions.DropReason, n uint64) {
	if !e.wanted(sessions.EventDropped) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	kind := dropKind{clientID, reason}
	if _, known := e.drops[kind]; !known && len(e.drops) >= maxDropKinds {
		kind.clientID = ""
	}
	e.drops[kind] += n
	select {
	case e.dropped <- struct{}{}:
	default:
	}
}

// run publishes until stop is closed, and then what was told before.
func (e *events) run(stop <-chan struct{}) {
	var due <-chan time.Time
	dropped := e.dropped
	for {
		select {
		case event := <-e.queue:
			e.publish(event)
		case <-dropped:
			due, dropped = time.After(dropsEvery), nil
		case <-due:
			due, dropped = nil, e.dropped
			e.tellDrops()
		case <-stop:
			e.finish()
			return
		}
	}
}

func (e *events) finish() {
	for {
		select {
		case event := <-e.queue:
			e.publish(event)
		default:
			e.tellDrops()
			return
		}
	}
}

func (e *events) publish(event *sessions.Event) {
	if err := e.to.Publish(event); err != nil {
		e.stats.eventsLost.Add(1)
		e.log.Debug("event not published", "kind", event.Kind, "client", event.ClientID, "err", err)
	}
}

// tellDrops publishes what was dropped since the last time.
func (e *events) tellDrops() {
	e.mu.Lock()
	drops := e.drops
	e.drops = map[dropKind]uint64{}
	e.mu.Unlock()
	for kind, n := range drops {
		e.publish(&sessions.Event{
			Version: sessions.EventVersion, Kind: sessions.EventDropped, Time: time.Now().UTC(), Node: e.node, Boot: e.boot,
			ClientID: kind.clientID, Reason: string(kind.reason), EventDrops: &sessions.EventDrops{Count: n},
		})
	}
}
