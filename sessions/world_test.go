package sessions

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// world is everything around one session, at random: its client, the storage, the router and the node that runs it. It
// does what their contracts allow, in any order: answers late, fails, crashes.
type world struct {
	t   *rapid.T
	cfg Config
	now time.Time
	s   *Session

	client modelClient
	router modelRouter
	node   modelNode
	store  memoryStore

	// mailbox holds what the session is handed next, soon what comes before it.
	mailbox []any
	soon    []Input
	timers  [timers]time.Time
	// appends, writes and answers: messages on their way into the log, documents on their way into storage, and results on
	// their way back. late are writes that storage took long after it had failed to answer.
	appends []Persist
	writes  []Effect
	answers []Input
	late    []Effect
	// calm: storage works.
	calm bool
	// rejected are the payloads that storage refused, tookLate those it may have taken long after.
	rejected, tookLate map[string]bool
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: start, rejected: map[string]bool{}, tookLate: map[string]bool{}}
	w.cfg = DefaultConfig("")
	w.cfg.MaxQueuedMessages = 0
	w.cfg.SendWindow = rapid.IntRange(1, 4).Draw(t, "send window")
	w.cfg.BacklogMessages = rapid.IntRange(1, 4).Draw(t, "backlog")
	w.cfg.ReceiveMaximum = 8
	w.client = newModelClient(w)
	w.router.w = w
	w.node.w = w
	w.node.start()
	return w
}

// trace tells what happens, with -v.
func (w *world) trace(what string, v any) {
	if testing.Verbose() {
		w.t.Logf("%s %T%+v", what, v, v)
	}
}

// post puts something behind what the session has yet to handle.
func (w *world) post(in any) { w.mailbox = append(w.mailbox, in) }

// step feeds one input and what has to follow it at once.
func (w *world) step(in Input) {
	if saved, ok := in.(JournalSaved); ok {
		w.node.journalSaved(saved.Result)
	}
	w.trace(">", in)
	w.perform(w.s.Step(w.now, in, nil))
	checkInvariants(w.t, w.s)
	for w.takeSoon() {
	}
}

func (w *world) takeSoon() (any bool) {
	for len(w.soon) > 0 {
		in := w.soon[0]
		w.soon = w.soon[1:]
		w.trace(">", in)
		w.perform(w.s.Step(w.now, in, nil))
		checkInvariants(w.t, w.s)
		any = true
	}
	return any
}

// run hands over up to n messages as one batch.
func (w *world) run(n int) {
	for ; n > 0 && len(w.mailbox) > 0; n-- {
		message := w.mailbox[0]
		w.mailbox = w.mailbox[1:]
		if e, ok := message.(Subscribe); ok {
			w.router.subscribe(e)
			w.takeSoon()
			continue
		}
		w.step(message.(Input))
	}
	for again := true; again; again = w.takeSoon() {
		w.perform(w.s.Flush(w.now, nil))
		checkInvariants(w.t, w.s)
		checkFlushed(w.t, w.s)
	}
	w.node.settle()
	if w.s.Fenced() {
		w.node.reload()
	}
}

// perform carries out effects.
func (w *world) perform(effects []Effect) {
	for _, e := range effects {
		w.trace("<", e)
		switch e := e.(type) {
		case Send:
			w.client.receive(e)
		case Refuse:
			w.client.closed(e.Connection)
		case ConnectAgain:
			w.client.closed(e.Connection)
		case Close:
			w.client.closed(e.Connection)
		case Persist:
			w.node.hold(e)
			w.appends = append(w.appends, e)
		case SaveRecord, Discard:
			w.writes = append(w.writes, e)
		case SaveJournal:
			w.node.journaling = append(w.node.journaling, e)
			w.writes = append(w.writes, e)
		case RequestJournalTurn:
			w.answers = append(w.answers, JournalTurn{})
		case SetTimer:
			w.timers[e.Timer] = e.At
		case Route:
			w.router.route(e.Message)
		case Subscribe:
			w.router.subscribe(e)
		case ReadRetained:
			w.router.readRetained(e)
		case Attach:
			w.router.attach(e.Filters)
		case Unsubscribe:
			w.router.unsubscribe(e.Filters)
		case Join:
			w.router.join(e)
		case Fetch:
			w.router.fetch(e)
		case Leave:
			w.router.leave()
		case Load:
			w.router.load(e)
		case Drop:
			w.client.dropped(e)
		}
	}
}

// appendOne lets the log answer the oldest message on its way, one way or another.
func (w *world) appendOne() {
	for len(w.late) > 0 { // the log takes messages in the order in which they were sent to it
		w.lateOne()
	}
	e := w.appends[0]
	w.appends = w.appends[1:]
	kind := 0
	if !w.calm {
		kind = rapid.IntRange(0, 19).Draw(w.t, "outcome")
	}
	r := Result{Token: e.Token}
	switch kind {
	default:
		r = w.append(e)
	case 16:
		r.Err = fmt.Errorf("%w", ErrRejected)
		w.rejected[string(e.Message.Payload)] = true
	case 17:
		r.Err = fmt.Errorf("%w", ErrUnavailable)
	case 18:
		w.append(e)
		r.Err = fmt.Errorf("%w", ErrUnavailable)
	case 19:
		r.Err = fmt.Errorf("%w", ErrUnavailable)
		w.late = append(w.late, e)
		w.tookLate[string(e.Message.Payload)] = true
	}
	w.answers = append(w.answers, Persisted{[]Result{r}})
}

func (w *world) append(e Persist) Result {
	r := w.store.append(e, w.now)
	w.router.appended = max(w.router.appended, r.Sequence)
	return r
}

// writeOne lets storage answer a document on its way.
func (w *world) writeOne() {
	i := 0
	if len(w.writes) > 1 {
		i = rapid.IntRange(0, len(w.writes)-1).Draw(w.t, "write")
	}
	e := w.writes[i]
	w.writes = slices.Delete(w.writes, i, i+1)
	kind := 0
	if !w.calm {
		kind = rapid.IntRange(0, 24).Draw(w.t, "outcome")
	}
	var r Result
	switch kind {
	default:
		r = w.store.save(e)
	case 22:
		r.Err = fmt.Errorf("%w", ErrUnavailable)
	case 23:
		w.store.save(e)
		r.Err = fmt.Errorf("%w", ErrUnavailable)
	case 24:
		w.late = append(w.late, e)
		r.Err = fmt.Errorf("%w", ErrUnavailable)
	}
	switch e.(type) {
	case SaveRecord:
		w.answers = append(w.answers, RecordSaved{r})
	case SaveJournal:
		w.answers = append(w.answers, JournalSaved{r})
	case Discard:
		w.answers = append(w.answers, Discarded{r})
	}
}

// lateOne lets storage carry out a write that it had not answered.
func (w *world) lateOne() {
	e := w.late[0]
	w.late = w.late[1:]
	if p, ok := e.(Persist); ok {
		w.append(p)
		return
	}
	w.store.save(e)
}

// answerOne hands over one of the results.
func (w *world) answerOne() {
	i := 0
	if len(w.answers) > 1 {
		i = rapid.IntRange(0, len(w.answers)-1).Draw(w.t, "answer")
	}
	w.post(w.answers[i])
	w.answers = slices.Delete(w.answers, i, i+1)
}

// publish puts a message of somebody else into the log.
func (w *world) publish(topic string, qos mqttcodec.QoS, retain bool) {
	m := &Message{Topic: topic, Payload: w.client.payload(), QoS: qos, Retain: retain}
	seq := w.store.head() + 1
	m.PublishedAt = w.now
	w.store.put(Entry{Position: at(seq), Message: m})
}

// advance moves the clock and fires what came due.
func (w *world) advance(d time.Duration) {
	w.now = w.now.Add(d)
	for i, at := range w.timers {
		if !at.IsZero() && !at.After(w.now) {
			w.timers[i] = time.Time{}
			w.post(TimerFired{Timer: Timer(i)})
		}
	}
	if due := w.s.Deadline(); !due.IsZero() && !due.After(w.now) {
		w.post(Awake{}) // by the directory, when the session is not in memory
	}
}

// workOff lets storage or the session go on with one thing, if there is any.
func (w *world) workOff() bool {
	switch {
	case len(w.mailbox) > 0:
		w.run(len(w.mailbox))
	case len(w.appends) > 0:
		w.appendOne()
	case len(w.writes) > 0:
		w.writeOne()
	case len(w.answers) > 0:
		w.answerOne()
	case len(w.late) > 0:
		w.lateOne()
	default:
		return false
	}
	return true
}

// drain lets everything happen that is on its way, without a fault, until nothing is left.
func (w *world) drain() {
	w.calm = true
	for round := 0; ; round++ {
		if round > 5000 {
			w.t.Fatalf("the world does not come to rest: %d in the mailbox, %d appends, %d writes, %d answers, client %+v",
				len(w.mailbox), len(w.appends), len(w.writes), len(w.answers), w.client.unfinished)
		}
		switch {
		case w.workOff():
		case w.router.busy():
			w.router.progress()
		case w.client.busy():
			w.client.progress()
		case w.timers[TimerPersistRetry].After(w.now) || w.timers[TimerFetchRetry].After(w.now):
			w.advance(retryAfter)
		default:
			return
		}
	}
}
