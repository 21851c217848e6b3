package jetstream

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// maxTailBatch is how many entries are handed over at once.
const maxTailBatch = 1024

var (
	errReconnect = errors.New("connected anew")
	// errForeign and errOwn change the source of the tail.
	errForeign = errors.New("much of the log is written by others")
	errOwn     = errors.New("little of the log is written by others")
)

// tail is one run of Tail: the one component that knows the order of the log and hands it out without gap. It has two sources.
//
// What this node has appended comes from memory, when its PubAck has told its place in the log (follow). A gap in front of it
// is what others wrote, and is read from the log. That others have written last is told by a subscription to the log's
// subjects on a connection that does not hear itself; and, lest a hint be lost, by looking once a second.
//
// Where much is written by others the log is read with a consumer instead (read), in which everything comes.
//
// Owned by the goroutine that called Tail.
type tail struct {
	log     *Log
	deliver func([]sessions.Entry)
	// next is the sequence to go on with.
	next uint64
	// created is when the stream was made that next belongs to.
	created time.Time
	status  chan nats.Status
	batch   []sessions.Entry
	weight  weight

	// hints counts the messages of others that were heard of.
	hints atomic.Uint64
	// owed is how many of them were not found in the log yet; heard is the count up to which they are in it.
	owed  int64
	heard uint64

	// Of read: the messages of the present consumer, and the sequence of the last one.
	messages         chan *nats.Msg
	consumerSequence uint64
}

// Tail implements sessions.Log. When the log turns out to be cut or made anew it starts again at the first message there.
func (l *Log) Tail(ctx context.Context, after uint64, deliver func([]sessions.Entry)) error {
	t := &tail{
		log: l, deliver: deliver, next: after + 1,
		status: l.nc.StatusChanged(nats.CONNECTED),
		batch:  make([]sessions.Entry, 0, maxTailBatch),
	}
	defer l.nc.RemoveStatusListener(t.status)
	source, failures := t.follow, 0
	for {
		before := t.next
		err := source(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case errors.Is(err, errForeign):
			source = t.read
			continue
		case errors.Is(err, errOwn):
			source = t.follow
			continue
		case t.next > before:
			failures = 0
		}
		failures++
		l.stats.ReaderRestarts.Add(1)
		if failures&(failures-1) == 0 { // 1, 2, 4, 8 …: it may go on for long
			l.config.Logger.Warn("log reader starts again", "next", t.next, "attempt", failures, "cause", err)
		}
		pause(ctx, t.status, failures)
	}
}

// pause waits before the next attempt, unless the connection comes back meanwhile.
func pause(ctx context.Context, status <-chan nats.Status, failures int) {
	if failures == 1 {
		return
	}
	timer := time.NewTimer(min(time.Duration(failures)*50*time.Millisecond, time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-status:
	case <-ctx.Done():
	}
}

func drainStatus(status <-chan nats.Status) {
	for {
		select {
		case <-status:
		default:
			return
		}
	}
}

// checkLog finds out whether next still belongs to the log that is there, and returns the last sequence there is. Who waits
// beyond the end would silently wait for that sequence to come again.
func (t *tail) checkLog(ctx context.Context) (last uint64, err error) {
	info, err := t.log.info(ctx)
	if err != nil {
		return 0, err
	}
	if t.next == 1 {
		t.next = max(info.State.FirstSeq, 1) // nobody was promised what is gone
	}
	replaced := !t.created.IsZero() && !t.created.Equal(info.Created)
	if replaced || t.next > info.State.LastSeq+1 {
		first := max(info.State.FirstSeq, 1)
		t.log.stats.LogReplacements.Add(1)
		t.log.config.Logger.Error("the log was cut or made anew; reading it from its start",
			"next", t.next, "first", first, "last", info.State.LastSeq, "created", info.Created, "created_before", t.created)
		t.next = first
		t.log.lastAppended.Store(info.State.LastSeq)
	}
	t.created = info.Created
	t.log.created.Store(&info.Created)
	return info.State.LastSeq, nil
}

// add puts an entry into the batch. Its sequence is next or above.
func (t *tail) add(e *sessions.Entry) {
	t.next = e.Sequence + 1
	t.weight.handed++
	t.batch = append(t.batch, *e)
	if len(t.batch) == cap(t.batch) {
		t.hand()
	}
}

// hand delivers the batch.
func (t *tail) hand() {
	if len(t.batch) > 0 {
		t.deliver(t.batch)
		clear(t.batch)
		t.batch = t.batch[:0]
	}
}

const (
	// hintsMax bounds the messages of others that wait to be counted; more are dropped, and found by looking.
	hintsMax = 16 << 10
	// firstLook and lastLook are how long a look for what a hint told of is put off at first and in the end, each time twice as
	// long: the log takes a message after its subscribers have it, or never, when the server refuses it.
	firstLook = time.Millisecond
	lastLook  = 64 * time.Millisecond
)

// follow hands out what this node appends, and reads what others do, until something is wrong, or others write so much that
// it does not pay: errForeign.
func (t *tail) follow(ctx context.Context) error {
	drainStatus(t.status)
	own := t.log.own
	own.collect(true)
	defer own.collect(false)
	hints, err := t.log.nc.Subscribe(t.log.prefix+">", func(*nats.Msg) {
		t.hints.Add(1)
		own.notify()
	})
	if err != nil {
		return clientErr(err)
	}
	defer func() { _ = hints.Unsubscribe() }() // fails only when the connection is closed, and the subscription with it
	if err := hints.SetPendingLimits(hintsMax, -1); err != nil {
		return clientErr(err)
	}
	// From here on the server tells of what others write, so nothing can be between what is there now and the first hint.
	if err := t.log.nc.FlushTimeout(t.log.config.AckTimeout); err != nil {
		return clientErr(err)
	}
	if _, err := t.checkLog(ctx); err != nil {
		return err
	}
	t.owed, t.heard = 0, t.hints.Load()
	if err := t.readOn(ctx, everything); err != nil {
		return err
	}
	poll, weigh := time.NewTicker(t.log.config.Heartbeat), time.NewTicker(weighEvery)
	defer poll.Stop()
	defer weigh.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	wait, polled, looked := firstLook, uint64(0), time.Time{}
	t.weight = t.newWeight()
	for {
		select {
		case <-own.wake:
			if err := t.takeOwn(ctx); err != nil {
				return err
			}
			if n := t.hints.Load(); n != t.heard {
				t.owed += int64(n - t.heard)
				t.heard, wait = n, firstLook
				look.Reset(firstLook - min(time.Since(looked), firstLook)) // not after each of many
			}
		case <-look.C:
			if t.owed <= 0 {
				continue
			}
			looked = time.Now()
			if err := t.readOn(ctx, everything); err != nil {
				return err
			}
			if wait > lastLook {
				t.owed = 0 // they never came into the log
			}
			look.Reset(wait)
			wait *= 2
		case <-poll.C:
			if err := t.poll(ctx, &polled); err != nil {
				return err
			}
		case <-weigh.C:
			if t.weight.foreign(t) {
				return errForeign
			}
		case <-t.status:
			return errReconnect // hints may be lost
		case <-ctx.Done():
			return nil
		}
	}
}

// takeOwn hands out what this node has appended, and what others wrote in front of it.
func (t *tail) takeOwn(ctx context.Context) error {
	taken, unplaced := t.log.own.take()
	t.owed += unplaced
	if !slices.IsSortedFunc(taken, bySequence) {
		slices.SortFunc(taken, bySequence)
	}
	for i := range taken {
		e := &taken[i]
		if e.Sequence < t.next {
			t.owed++ // it was read, and taken for another's
			continue
		}
		if e.Sequence > t.next {
			if err := t.readOn(ctx, e.Sequence-1); err != nil {
				return err
			}
		}
		t.add(e)
	}
	t.hand()
	return nil
}

func bySequence(a, b sessions.Entry) int {
	switch {
	case a.Sequence < b.Sequence:
		return -1
	case a.Sequence > b.Sequence:
		return 1
	}
	return 0
}

// readOn reads the log from next up to a sequence, or to its end as it is now.
func (t *tail) readOn(ctx context.Context, upTo uint64) error {
	defer t.hand()
	err := t.log.reader.scan(ctx, ">", t.next, upTo, func(m storedMessage) error {
		if gone := m.sequence - t.next; gone > 0 {
			t.log.stats.Trimmed.Add(gone)
		}
		t.owed--
		e := t.log.entry(m)
		t.add(&e)
		return nil
	})
	if err == nil && upTo != everything && t.next <= upTo {
		t.log.stats.Trimmed.Add(upTo + 1 - t.next)
		t.next = upTo + 1
	}
	t.owed = max(t.owed, -maxOwed) // they are owed by PubAcks that may be lost
	return err
}

// maxOwed bounds how many PubAcks of messages that were read back are waited for.
const maxOwed = 1 << 16

// poll looks for what no hint has told of, in case nothing else happens, and for another log in the place of this one.
func (t *tail) poll(ctx context.Context, polled *uint64) error {
	last, err := t.checkLog(ctx)
	if err != nil {
		return err
	}
	quiet := *polled == t.next
	*polled = t.next
	if t.next <= last && quiet {
		return t.readOn(ctx, last)
	}
	return nil
}

const (
	// weighEvery is how often the source is thought over.
	weighEvery = time.Second
	// foreignFrom is how many messages of others in that time are too many for follow, if they are more than a quarter of
	// all; ownUntil how few are too few for read, if they are less than an eighth.
	foreignFrom = 2000
	ownUntil    = 1000
)

// weight tells how much of the log others write.
type weight struct {
	// handed counts what was handed out since, ownBefore is what this node had stored by then.
	handed    uint64
	ownBefore uint64
}

func (t *tail) newWeight() weight { return weight{ownBefore: t.log.own.count()} }

// others is how many of the messages handed out since the last time others wrote, about.
func (w *weight) others(t *tail) (others, all uint64) {
	own := t.log.own.count()
	others, all = w.handed-min(w.handed, own-w.ownBefore), w.handed
	w.handed, w.ownBefore = 0, own
	return others, all
}

// foreign reports whether a consumer is the better source.
func (w *weight) foreign(t *tail) bool {
	others, all := w.others(t)
	return others >= foreignFrom && others*4 > all
}

// own reports whether memory is the better source.
func (w *weight) own(t *tail) bool {
	others, all := w.others(t)
	return others <= ownUntil || others*8 < all
}
