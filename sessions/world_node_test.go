package sessions

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"time"

	"pgregory.net/rapid"
)

// modelNode is the part of a node that outlives a session's value: the checkpoint, and how the session is read again.
type modelNode struct {
	w     *world
	boots int
	// earlier are the checkpoints of earlier boots, as this boot found them; ids the identities that it found above them.
	earlier map[string]*Checkpoint
	ids     []string
	// stored are the checkpoints in storage.
	stored map[string]*Checkpoint
	cursor modelCursor
	// ghosts are the cursors of values of the session that were given up: they hold the checkpoint until the next value has
	// journaled.
	ghosts     []modelCursor
	holds      []modelHold
	journaling []SaveJournal
	nonces     int
}

const unfed = math.MaxUint64

// modelCursor tells the checkpoint how far the session's journal is.
type modelCursor struct {
	active            bool
	handed, journaled uint64
	// hold is one more than the sequence above which the log may be the only witness, 0 for none.
	hold uint64
}

// modelHold is a message with an identity on its way into the log, at a sequence above a known one.
type modelHold struct{ token, above uint64 }

func (c *modelCursor) complete(upTo uint64) uint64 {
	if c.hold > 0 {
		upTo = min(upTo, c.hold-1)
	}
	if c.active && c.journaled < c.handed {
		upTo = min(upTo, c.journaled)
	}
	return upTo
}

// start is the beginning of a boot: what storage holds is found, and the first checkpoint written.
func (n *modelNode) start() {
	w := n.w
	n.boots++
	w.cfg.Boot = fmt.Sprintf("boot%d", n.boots)
	n.earlier, n.ids = map[string]*Checkpoint{}, nil
	from := w.store.head()
	for boot, c := range n.stored {
		n.earlier[boot] = c
		from = min(from, c.Position.Sequence)
	}
	n.ids = w.store.ids(from)
	n.cursor, n.ghosts, n.holds, n.journaling = modelCursor{handed: unfed}, nil, nil, nil
	w.router = modelRouter{w: w, head: w.store.head(), ringAfter: w.store.head()}
	w.store.handed = w.router.head
	if n.stored == nil {
		n.stored = map[string]*Checkpoint{}
	}
	n.checkpoint()
	n.restore(0, false)
	w.post(Awake{})
}

// checkpoint says how far everything is in the documents.
func (n *modelNode) checkpoint() {
	upTo := n.cursor.complete(n.w.router.head)
	for _, g := range n.ghosts {
		upTo = g.complete(upTo)
	}
	position := Position{Sequence: upTo}
	if upTo == n.w.router.head {
		position = at(upTo)
	}
	n.stored[n.w.cfg.Boot] = &Checkpoint{Boot: n.w.cfg.Boot, Time: n.w.now, Position: position}
}

// settled forgets the checkpoints of earlier boots once the session needs them no more.
func (n *modelNode) settled() {
	if len(n.w.mailbox) > 0 || !n.w.s.Quiet() && n.w.s.state != stateConnected {
		return
	}
	for boot := range n.stored {
		if boot != n.w.cfg.Boot {
			delete(n.stored, boot)
		}
	}
}

// restore reads the session from storage. Messages above scanFrom-1 may be unknown to its documents; failed says that the
// value before was given up.
func (n *modelNode) restore(scanFrom uint64, failed bool) {
	w := n.w
	w.soon, w.timers, w.router.live, w.router.filters, w.router.waiting = nil, [timers]time.Time{}, false, nil, nil
	w.router.fetches, w.router.loads = nil, nil
	stored := w.store.stored()
	if stored.Record == nil {
		w.s = New(&w.cfg, "c", stored)
		return
	}
	recovery := Recovery{Checkpoints: n.earlier, IDs: n.ids, Now: w.now}
	if scanFrom > 0 {
		recovery.IDs = append(recovery.IDs[:len(recovery.IDs):len(recovery.IDs)], w.store.ids(scanFrom-1)...)
	}
	if failed {
		recovery.Checkpoints = maps.Clone(recovery.Checkpoints)
		recovery.Checkpoints[w.cfg.Boot] = &Checkpoint{Boot: w.cfg.Boot, Time: w.now}
	}
	s, err := Restore(&w.cfg, stored, recovery)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
	checkInvariants(w.t, s)
}

// hold notes a message with an identity on its way.
func (n *modelNode) hold(e Persist) {
	if e.ID != "" {
		n.holds = append(n.holds, modelHold{e.Token, n.w.router.appended})
		n.settle()
	}
}

// settle lets go of the messages that the documents know.
func (n *modelNode) settle() {
	settled := n.w.s.Settled()
	for len(n.holds) > 0 && n.holds[0].token <= settled {
		n.holds = n.holds[1:]
	}
	n.cursor.hold = 0
	if len(n.holds) > 0 {
		n.cursor.hold = n.holds[0].above + 1
	}
}

func (n *modelNode) journalSaved(r Result) {
	if len(n.journaling) == 0 {
		return
	}
	j := n.journaling[0]
	n.journaling = n.journaling[1:]
	if r.Err != nil {
		return
	}
	n.ghosts = nil
	switch {
	case j.Live:
		n.cursor.journaled = j.Position.Sequence
	case n.cursor.handed == unfed:
		n.cursor.active = false
	}
}

// reload makes a new value of a session that was given up.
func (n *modelNode) reload() {
	w := n.w
	scanFrom := n.cursor.hold
	for _, g := range n.ghosts {
		if g.hold > 0 && (scanFrom == 0 || g.hold < scanFrom) {
			scanFrom = g.hold
		}
	}
	ghost := n.cursor
	if w.router.live {
		ghost.handed = unfed
	}
	n.ghosts = append(n.ghosts, ghost)
	n.cursor, n.holds, n.journaling = modelCursor{handed: unfed}, nil, nil
	w.client.closed(w.client.connection)
	n.loseInFlight()
	n.restore(scanFrom, true)
	w.mailbox = nil
	w.post(Awake{})
}

// releasable reports whether the session has nothing left to do.
func (n *modelNode) releasable() bool {
	w := n.w
	turn := func(in Input) bool { return in == Input(JournalTurn{}) }
	return w.s.Quiet() && w.s.Connection() == 0 && len(w.mailbox)+len(w.appends)+len(w.writes) == 0 && all(w.answers, turn)
}

// release drops the value of a session with nothing left to do, as when it is not in use; it is read again, or goes on from
// what is kept of it, which is the same.
func (n *modelNode) release() {
	w := n.w
	w.answers, n.ghosts = nil, nil
	n.cursor, n.holds, n.journaling = modelCursor{handed: unfed}, nil, nil
	rest := w.s.Rest()
	n.restore(0, false)
	if rest == nil {
		return
	}
	rested := rest.Session(&w.cfg, "c")
	if len(n.ids) > 0 {
		rested.foreign = w.s.foreign // what this boot found has become durable since
	}
	if !reflect.DeepEqual(rested, w.s) {
		w.t.Fatalf("at rest the session is\n%+v, its documents say\n%+v", rested, w.s)
	}
	w.s = rested
}

func all[E any](list []E, is func(E) bool) bool {
	for _, e := range list {
		if !is(e) {
			return false
		}
	}
	return true
}

// loseInFlight gives up what is on its way: storage may have got some of it.
func (n *modelNode) loseInFlight() {
	w := n.w
	for kept := rapid.IntRange(0, len(w.appends)).Draw(w.t, "appends that arrive"); kept > 0; kept-- {
		w.append(w.appends[0])
		w.appends = w.appends[1:]
	}
	for _, e := range w.writes {
		if rapid.Bool().Draw(w.t, "write arrives") {
			w.store.save(e)
		}
	}
	w.appends, w.writes, w.answers, w.late, w.soon = nil, nil, nil, nil, nil
}

// shutdown stops the node, which has some time to finish, and starts the next boot.
func (n *modelNode) shutdown() {
	w := n.w
	w.post(Shutdown{})
	w.run(len(w.mailbox))
	for range rapid.IntRange(0, 30).Draw(w.t, "time to finish") {
		w.workOff()
	}
	n.crash()
}

// crash kills the node, and starts the next boot.
func (n *modelNode) crash() {
	w := n.w
	alive, connected := n.stored[w.cfg.Boot].Time, w.s.state == stateConnected
	w.client.lost()
	n.loseInFlight()
	w.mailbox = nil
	n.start()
	if connected && w.s.state == stateDetached && w.s.detachedAt.Before(alive) {
		w.t.Fatalf("the client was there at %v, and counts as left at %v", alive, w.s.detachedAt)
	}
}
