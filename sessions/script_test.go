package sessions

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dunlin/mqttcodec"
)

// TestScripts runs the scenarios in testdata: a command is an input of the session, its output the effects. Update the
// outputs with -rewrite and read the difference as you read code.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			sc := newScript()
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				return sc.command(t, d)
			})
		})
	}
}

// start is when every script begins.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// script is one scenario: a session, the storage behind it and a clock, all in the hands of the commands.
type script struct {
	t   *testing.T
	cfg Config
	now time.Time
	s   *Session

	// boots counts the nodes that had the session; connections and connects count what its client did.
	boots, connects int
	connection      ConnectionID
	versions        map[ConnectionID]mqttcodec.Version

	store memoryStore
	// owed are the effects that storage, or the router, still has to answer, in the order in which they came.
	owed []Effect
	// timers are those armed; the zero time is none.
	timers [timers]time.Time
	out    strings.Builder
	// denied is what clients with permissions may not do.
	denied *denied
	// batching: no Flush after a Step.
	batching bool
}

func newScript() *script {
	sc := &script{cfg: DefaultConfig("boot1"), now: start, boots: 1, versions: map[ConnectionID]mqttcodec.Version{}, denied: &denied{}}
	sc.s = New(&sc.cfg, "c", Stored{})
	return sc
}

// command runs one command of a script.
func (sc *script) command(t *testing.T, d *datadriven.TestData) string {
	sc.t = t
	sc.out.Reset()
	a := args{t, d.Cmd, d.CmdArgs, d.Input}
	switch d.Cmd {
	// batch
	// packet PUBLISH id=1 qos=1 topic=a
	// connection-lost
	case "batch": // several inputs and one Flush
		sc.batching = true
		for line := range strings.Lines(d.Input) {
			cmd, cmdArgs, err := datadriven.ParseLine(line)
			if err != nil {
				t.Fatal(err)
			}
			sc.run(args{t, cmd, cmdArgs, ""})
		}
		sc.batching = false
		sc.flush()
	default:
		sc.run(a)
	}
	if sc.out.Len() == 0 {
		return "ok\n"
	}
	return sc.out.String()
}

func (sc *script) run(a args) {
	for _, commands := range []func(args) bool{sc.input, sc.answer, sc.control} {
		if commands(a) {
			return
		}
	}
	a.t.Fatalf("unknown command %q", a.cmd)
}

// step feeds one input, and flushes unless a batch is collected.
func (sc *script) step(in Input) {
	sc.perform(sc.s.Step(sc.now, in, nil))
	checkInvariants(sc.t, sc.s)
	if !sc.batching {
		sc.flush()
	}
}

func (sc *script) flush() {
	sc.perform(sc.s.Flush(sc.now, nil))
	checkInvariants(sc.t, sc.s)
	checkFlushed(sc.t, sc.s)
}

// perform notes what effects ask for and prints them.
func (sc *script) perform(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case SetTimer:
			if sc.timers[e.Timer].Equal(e.At) {
				continue // disarmed before
			}
			sc.timers[e.Timer] = e.At
		case Authenticate, Persist, SaveRecord, SaveJournal, RequestJournalTurn, Discard, Subscribe, FindReplays, ReadReplay, ReadRetained, Join, Fetch, Leave, Load:
			sc.owed = append(sc.owed, e)
		}
		sc.printf("%s", sc.show(e))
	}
}

func (sc *script) printf(format string, values ...any) {
	fmt.Fprintf(&sc.out, format+"\n", values...)
}

// control are the commands about the world around the session.
func (sc *script) control(a args) bool {
	switch a.cmd {
	// config send-window=2 max-queued=5 overflow=drop_newest
	case "config": // before the first connect
		sc.configure(a)
	// deny publish=(a/#) subscribe=(b) receive=(c) retain=(d)
	case "deny":
		sc.deny(a)
	// advance 5s
	case "advance": // time passes; timers fire when they come due
		sc.advance(a)
	// settle
	case "settle": // everything that is owed is answered, with success
		sc.settle()
	// crash checkpoint=41
	// crash boot=same ids=no
	case "crash": // another boot takes the session from what is durable
		sc.crash(a)
	// state
	case "state":
		sc.printf("%s", sc.showState())
	// stored
	case "stored": // what is durable
		sc.printf("%s", sc.store.show(sc.now))
	// log seq=41 topic=a/b qos=1
	// log handed seq=41 topic=a/b qos=1
	case "log": // the log holds it, and it may have been handed out; the session is not told
		for _, e := range sc.entries(a) {
			sc.store.put(e)
			if a.has("handed") {
				sc.store.handed = e.Sequence
			}
		}
	// trim up-to=41
	case "trim":
		sc.store.trim(a.uint64("up-to", 0))
	// replace seq=41 topic=x qos=1
	case "replace": // the log was made anew: another message is in its place
		for _, e := range sc.entries(a) {
			e.Time = e.Time.Add(time.Hour)
			sc.store.put(e)
		}
	// reposition to=3
	case "reposition": // the log is not the one it was: the session is moved to where it was by time
		sc.s.Reposition(at(a.uint64("to", 0)))
		sc.printf("%s", sc.showState())
	default:
		return false
	}
	return true
}

func (sc *script) configure(a args) {
	c := &sc.cfg
	c.SendWindow = a.int("send-window", c.SendWindow)
	c.ReceiveMaximum = uint16(a.int("receive-maximum", int(c.ReceiveMaximum)))
	c.TopicAliasMaximum = uint16(a.int("topic-alias-maximum", int(c.TopicAliasMaximum)))
	c.MaxPacketSize = uint32(a.int("max-packet", int(c.MaxPacketSize)))
	c.MaxQueuedMessages = a.int("max-queued", c.MaxQueuedMessages)
	c.Overflow = Overflow(a.text("overflow", string(c.Overflow)))
	c.QueueQoS0 = a.has("queue-qos0")
	c.MaxExpiry = a.duration("max-expiry", c.MaxExpiry)
	c.DefaultExpiryV3 = a.duration("default-expiry-v3", c.DefaultExpiryV3)
	c.MaxKeepAlive = a.duration("max-keep-alive", c.MaxKeepAlive)
	c.MaxSubscriptions = a.int("max-subscriptions", c.MaxSubscriptions)
	c.SharedSubscriptions = a.text("shared", "") != "off"
	c.MaxDelay = a.duration("max-delay", c.MaxDelay)
	c.ReplayRate = a.int("replay-rate", c.ReplayRate)
	c.BacklogMessages = a.int("backlog", c.BacklogMessages)
	c.BacklogBytes = a.int("backlog-bytes", c.BacklogBytes)
	if a.has("permissions-of") {
		c.PermissionsOf = func(string, string) Permissions { return sc.denied }
	}
	if limit := a.int("max-topic", 0); limit > 0 {
		c.TopicFits = func(topic string, stored bool) bool { return len(topic) <= limit || !stored }
	}
	if err := c.Validate(); err != nil {
		sc.printf("%v", err)
	}
}

// advance moves the clock and fires what comes due, in order.
func (sc *script) advance(a args) {
	d, err := time.ParseDuration(a.list[0].Key)
	if err != nil {
		sc.t.Fatal(err)
	}
	until := sc.now.Add(d)
	for {
		next := -1
		for i, at := range sc.timers {
			if !at.IsZero() && !at.After(until) && (next < 0 || at.Before(sc.timers[next])) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		sc.now = sc.timers[next]
		sc.timers[next] = time.Time{}
		sc.step(TimerFired{Timer: Timer(next), Withheld: a.has("withheld")})
	}
	sc.now = until
}

// crash loses everything that is not durable; another boot, or with boot=same the next actor, takes the session up.
func (sc *script) crash(a args) {
	recovery := Recovery{Now: sc.now}
	if a.text("boot", "") != "same" {
		if a.has("checkpoint") {
			at, _ := sc.store.entry(a.uint64("checkpoint", 0))
			of := a.text("of", sc.cfg.Boot)
			recovery.Checkpoints = map[string]*Checkpoint{of: {Boot: of, Time: sc.now, Position: at.Position}}
		}
		sc.boots++
		sc.cfg.Boot = fmt.Sprintf("boot%d", sc.boots)
	}
	sc.owed, sc.timers, sc.connection = nil, [timers]time.Time{}, 0
	stored := sc.store.stored()
	if stored.Record == nil {
		sc.s = New(&sc.cfg, "c", stored)
		sc.printf("%s", sc.showState())
		return
	}
	if a.text("ids", "") != "no" {
		recovery.IDs = sc.store.ids(0)
	}
	s, err := Restore(&sc.cfg, stored, recovery)
	if err != nil {
		sc.printf("%v", err)
		return
	}
	sc.s = s
	checkInvariants(sc.t, sc.s)
	sc.printf("%s", sc.showState())
}
