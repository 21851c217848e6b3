package jetstream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// write is one message on its way into a stream.
type write struct {
	stream  string
	subject string
	header  nats.Header
	data    []byte
	to      sessions.Sink
	token   uint64
	// expects: it is refused unless the last message of its subject has the sequence expect, or there is none, for 0.
	expects bool
	expect  uint64
	// urgency says whether it may wait for others.
	urgency sessions.Urgency
	// message and id are what goes into the log, nil for writes to other streams.
	message *sessions.Message
	id      string
}

// size is what a write counts for in the window.
func (w *write) size() int { return len(w.subject) + len(w.data) + 128 }

// expecting is the write that is refused unless the last message of its subject has a sequence.
func (w write) expecting(sequence uint64) write {
	w.expects, w.expect = true, sequence
	return w
}

// fullHeader is the header with what the write expects. One that has no other is given that in own, which is the caller's to
// use again.
func (w *write) fullHeader(own nats.Header) nats.Header {
	if !w.expects {
		return w.header
	}
	h := w.header
	if h == nil {
		h = own
	}
	h[headerExpectedSubject] = []string{strconv.FormatUint(w.expect, 10)}
	return h
}

// settled is the write with its result, which came now.
func (w *write) settled(r sessions.Result, sent, now time.Time) settled {
	s := settled{to: w.to, result: r}
	if w.message != nil && r.Err == nil && !r.Duplicate && now.Sub(sent) < sessions.TimeTolerance {
		s.entry = sessions.Entry{Position: sessions.Position{Sequence: r.Sequence, Time: now.UTC().Round(0)}, Message: w.message, ID: w.id}
	}
	return s
}

// slot is one answer that is waited for: to one write, or to a batch of them.
type slot struct {
	writes []write // in order
	// reply is where its answers come. It stays the same while they do, since the server finds subjects faster that it knows;
	// generation makes it another one when an answer was given up, so that a late one is told from ours, and for each write where two
	// servers may answer.
	reply      string
	generation uint64
	sent       time.Time
	busy       bool
	// batch: the writes are a batch. appends are the reply subjects of its messages, refused what was answered to one of them.
	batch   bool
	appends []string
	refused error
}

// settled is a write with its outcome.
type settled struct {
	to     sessions.Sink
	result sessions.Result
	// entry is what the log has taken, with its place in the log; its Message is nil when this write tells nothing of that.
	entry sessions.Entry
	// unplaced: the log has taken it, where only the log can tell.
	unplaced bool
}

// publisher writes to streams, pipelined, in the order of calls, and reports each outcome once. Its answers come on
// subjects of its own and are handled in batches by one goroutine, which also calls the sinks.
type publisher struct {
	nc     *nats.Conn
	logger interface{ Warn(string, ...any) }
	stats  *Stats
	// stored is told what was stored before the sinks are.
	stored      func(done []settled)
	prefix      string
	timeout     time.Duration
	windowBytes int
	// batches: writes of which only the log must know the place may go in batches.
	batches bool
	// clustered: there are several servers, and while one takes over a stream from another both may answer a write.
	clustered bool

	answers chan *nats.Msg
	sub     *nats.Subscription
	status  chan nats.Status
	wake    chan struct{} // has one token when failed is not empty
	stop    chan struct{}
	stopped chan struct{}
	// departure ends the waiting for company.
	departure *time.Timer

	mu         sync.Mutex
	slots      []slot    // guarded by mu
	free       []int     // guarded by mu: indexes of the slots that are not busy
	queue      []write   // guarded by mu: waiting for a slot, in order
	company    int       // guarded by mu: writes in queue that wait for others to come: all or none
	unanswered int       // guarded by mu: writes in slots
	bytes      int       // guarded by mu: size of the unanswered writes
	failed     []settled // guarded by mu: failed before they were sent; reported by run
	closed     bool      // guarded by mu
	batching             // guarded by mu
	// expectation is a header to be used again, of writes that have no other; guarded by mu.
	expectation nats.Header
}

func newPublisher(nc *nats.Conn, c *Config, stats *Stats, stored func([]settled), batches bool) (*publisher, error) {
	p := &publisher{
		nc: nc, logger: c.Logger, stats: stats, stored: stored,
		prefix: nc.NewInbox() + ".", timeout: c.AckTimeout, windowBytes: c.WindowBytes, batches: batches, clustered: nc.ConnectedClusterName() != "",
		answers: make(chan *nats.Msg, 4*c.Window), // more cannot be under way: two to each of a refused batch, late ones beside a full window
		status:  nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED),
		wake:    make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
		slots: make([]slot, c.Window), free: make([]int, c.Window), expectation: make(nats.Header, 1),
	}
	for i := range p.free {
		p.free[i] = c.Window - 1 - i
	}
	var err error
	if p.sub, err = nc.ChanSubscribe(p.prefix+">", p.answers); err != nil {
		nc.RemoveStatusListener(p.status)
		return nil, clientErr(err)
	}
	p.departure = time.AfterFunc(companyWithin, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.depart()
	})
	go p.run()
	return p, nil
}

// close fails what is unanswered and returns when the last sink was told.
func (p *publisher) close() {
	close(p.stop)
	<-p.stopped
	p.departure.Stop()
	_ = p.sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
	p.nc.RemoveStatusListener(p.status)
}

// publish starts a write. Writes of one goroutine reach the server in the order of its calls.
func (p *publisher) publish(w write) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed: // nobody reports for us any more, and the caller may hold what its sink needs
		go w.to.Stored(sessions.Result{Token: w.token, Err: errClosed})
	case w.urgency == sessions.Soon && p.company == len(p.queue) && p.company < maxCompany:
		p.queue = append(p.queue, w)
		p.company++
		if p.company == 1 {
			p.departure.Reset(companyWithin)
		}
	case p.company > 0:
		p.queue = append(p.queue, w)
		p.depart()
	case len(p.queue) > 0 || !p.room(&w) || p.gathers(&w):
		p.queue = append(p.queue, w)
		if p.batches && len(p.queue)%maxGathered == 0 {
			p.pump()
		}
	default:
		p.send(w)
	}
}

// refuse reports a write that must not be sent.
func (p *publisher) refuse(w write, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		err = errClosed
		go w.to.Stored(sessions.Result{Token: w.token, Err: err})
		return
	}
	p.fail(w, err)
}

// room reports whether the window takes another write. mu is held.
func (p *publisher) room(w *write) bool {
	return p.unanswered < len(p.slots) && (p.bytes == 0 || p.bytes+w.size() <= p.windowBytes)
}

// send hands a write to the connection. mu is held: it keeps the order.
func (p *publisher) send(w write) {
	i := p.free[len(p.free)-1]
	s := &p.slots[i]
	if s.reply == "" {
		s.reply = p.reply(i, s.generation)
	}
	var err error
	if header := w.fullHeader(p.expectation); header == nil {
		err = p.nc.PublishRequest(w.subject, s.reply, w.data)
	} else {
		err = p.nc.PublishMsg(&nats.Msg{Subject: w.subject, Reply: s.reply, Header: header, Data: w.data})
	}
	if err != nil {
		p.fail(w, clientErr(err))
		return
	}
	s.writes = append(s.writes, w)
	p.take(i)
}

// take makes a slot that is the next free one busy with its writes. mu is held.
func (p *publisher) take(i int) {
	p.free = p.free[:len(p.free)-1]
	s := &p.slots[i]
	s.sent, s.busy = time.Now(), true
	p.unanswered += len(s.writes)
	for k := range s.writes {
		p.bytes += s.writes[k].size()
	}
}

func (p *publisher) reply(slot int, generation uint64) string {
	b := make([]byte, 0, 64)
	b = append(b, p.prefix...)
	b = strconv.AppendUint(b, uint64(slot), 36)
	b = append(b, '.')
	b = strconv.AppendUint(b, generation, 36)
	return string(b)
}

// fail reports a write that was not sent, from run: sinks are never called by the caller of publish. mu is held.
func (p *publisher) fail(w write, err error) {
	p.failed = append(p.failed, settled{to: w.to, result: sessions.Result{Token: w.token, Err: err}})
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// release frees a slot. mu is held.
func (p *publisher) release(i int) {
	s := &p.slots[i]
	p.unanswered -= len(s.writes)
	for k := range s.writes {
		p.bytes -= s.writes[k].size()
	}
	clear(s.writes)
	s.writes, s.busy, s.batch, s.refused = s.writes[:0], false, false, nil
	if p.clustered {
		s.renew()
	}
	p.free = append(p.free, i)
}

// giveUp frees a slot of which answers may still come, and fails its writes. mu is held.
func (p *publisher) giveUp(i int, err error, done []settled) []settled {
	s := &p.slots[i]
	for k := range s.writes {
		w := &s.writes[k]
		done = append(done, settled{to: w.to, result: sessions.Result{Token: w.token, Err: err}})
	}
	s.renew()
	p.last = 0
	p.release(i)
	return done
}

// renew gives the slot other reply subjects: what still comes on those of before is for nobody.
func (s *slot) renew() {
	s.generation++
	s.reply, s.appends = "", nil
}

const (
	// companyWithin is how long a write that is only needed soon waits for others, so that the goroutines on its way wake once for
	// all of them, maxCompany how many wait.
	companyWithin = 2 * time.Millisecond
	maxCompany    = 64
)

// depart sends what has waited for company. mu is held.
func (p *publisher) depart() {
	p.company = 0
	p.pump()
}

// pump sends what waits as far as the window allows. mu is held.
func (p *publisher) pump() {
	if p.company > 0 {
		return
	}
	n := 0
	for n < len(p.queue) && p.room(&p.queue[n]) {
		together := p.together(p.queue[n:])
		if together == 0 {
			break
		}
		if together >= minGathered {
			p.sendBatch(p.queue[n : n+together])
		} else {
			for i := range together {
				p.send(p.queue[n+i])
			}
		}
		n += together
	}
	p.queue = slices.Delete(p.queue, 0, n)
	if len(p.queue) == 0 && cap(p.queue) > len(p.slots) {
		p.queue = nil
	}
}

// run settles writes until close.
func (p *publisher) run() {
	defer close(p.stopped)
	tick := time.NewTicker(max(p.timeout/10, 10*time.Millisecond))
	defer tick.Stop()
	batch := make([]*nats.Msg, 0, 1024)
	var done []settled
	for {
		done = done[:0]
		select {
		case m := <-p.answers:
			batch = drain(p.answers, append(batch[:0], m))
			done = p.settle(batch, done)
			clear(batch)
		case <-p.wake:
			done = p.settle(nil, done)
		case <-tick.C:
			p.resume()
			done = p.expire(done, p.timeout, "no answer in time", &p.stats.AckTimeouts)
		case <-p.status: // what is unanswered now is never answered: the answers went to the old connection
			done = p.expire(done, 0, "connection lost", &p.stats.ConnectionLosses)
		case <-p.stop:
			p.report(p.shut(done))
			return
		}
		p.report(done)
		clear(done)
	}
}

// drain appends what is queued, up to the capacity of batch.
func drain(from <-chan *nats.Msg, batch []*nats.Msg) []*nats.Msg {
	for len(batch) < cap(batch) {
		select {
		case m := <-from:
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

func (p *publisher) report(done []settled) {
	p.stored(done)
	for i := range done {
		done[i].to.Stored(done[i].result)
	}
}

// settle matches answers with the writes they answer.
func (p *publisher) settle(answers []*nats.Msg, done []settled) []settled {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range answers {
		if i, last, ok := p.batchOf(m.Subject); ok {
			done = p.settleBatch(i, m, last, now, done)
			continue
		}
		i, ok := p.slotOf(m.Subject)
		if !ok {
			continue // the answer to a write that was given up
		}
		s := &p.slots[i]
		result, ok := parsePubAck(m, s.writes[0].stream)
		if !ok {
			p.stats.ForeignReplies.Add(1)
			continue
		}
		p.place(&result)
		result.Token = s.writes[0].token
		done = append(done, s.writes[0].settled(result, s.sent, now))
		p.release(i)
	}
	p.pump()
	done = append(done, p.failed...)
	p.failed = nil
	return done
}

// slotOf is the slot whose present write an answer's subject names. mu is held.
func (p *publisher) slotOf(subject string) (int, bool) {
	slot, generation, ok := strings.Cut(strings.TrimPrefix(subject, p.prefix), ".")
	if !ok {
		return 0, false
	}
	i, ok := p.busySlot(slot, generation)
	return i, ok && !p.slots[i].batch
}

// busySlot is the slot of an index and a generation, and whether it waits for an answer. mu is held.
func (p *publisher) busySlot(index, generation string) (int, bool) {
	i, err := strconv.ParseUint(index, 36, 32)
	if err != nil || i >= uint64(len(p.slots)) {
		return 0, false
	}
	g, err := strconv.ParseUint(generation, 36, 64)
	s := &p.slots[i]
	return int(i), err == nil && s.busy && s.generation == g
}

// expire gives up the writes that have been unanswered for at least age.
func (p *publisher) expire(done []settled, age time.Duration, why string, counter interface{ Add(uint64) uint64 }) []settled {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(done)
	if p.bytes > 0 {
		now := time.Now()
		for i := range p.slots {
			if s := &p.slots[i]; s.busy && now.Sub(s.sent) >= age {
				done = p.giveUp(i, fmt.Errorf("%w: %s", sessions.ErrUnavailable, why), done)
			}
		}
	}
	if lost := len(done) - before; lost > 0 {
		counter.Add(uint64(lost))
		p.logger.Warn("writes with unknown outcome", "count", lost, "cause", why)
	}
	p.pump()
	done = append(done, p.failed...)
	p.failed = nil
	return done
}

// shut fails everything and lets nothing in any more.
func (p *publisher) shut(done []settled) []settled {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for i := range p.slots {
		if p.slots[i].busy {
			done = p.giveUp(i, errClosed, done)
		}
	}
	done = append(done, p.failed...)
	for _, w := range p.queue {
		done = append(done, settled{to: w.to, result: sessions.Result{Token: w.token, Err: errClosed}})
	}
	p.failed, p.queue = nil, nil
	return done
}

// pubAck is the answer of a stream to a write.
type pubAck struct {
	Stream    string    `json:"stream"`
	Sequence  uint64    `json:"seq"`
	Duplicate bool      `json:"duplicate"`
	Error     *apiError `json:"error"`
}

// parsePubAck reads the answer of a stream. It is not ok when it is no such answer: a NATS service that listens to the same
// subject may answer too.
func parsePubAck(m *nats.Msg, stream string) (r sessions.Result, ok bool) {
	if sequence, ok := plainPubAck(m.Data, stream); ok {
		return sessions.Result{Sequence: sequence}, true
	}
	if status(m) == 503 {
		return sessions.Result{Err: fmt.Errorf("%w: stream %s: %w", sessions.ErrUnavailable, stream, nats.ErrNoResponders)}, true
	}
	var ack pubAck
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return r, false
	}
	switch {
	case ack.Error != nil && ack.Error.ErrCode != 0:
		return sessions.Result{Err: ack.Error.err()}, true
	case ack.Stream != stream || ack.Sequence == 0:
		return r, false
	}
	return sessions.Result{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, true
}

// plainPubAck reads {"stream":"S","seq":1}, which nearly all answers are.
func plainPubAck(data []byte, stream string) (uint64, bool) {
	const before, between = `{"stream":"`, `","seq":`
	n := len(before) + len(stream) + len(between)
	if len(data) < n+2 || len(data) > n+20 || data[len(data)-1] != '}' ||
		string(data[:len(before)]) != before ||
		string(data[len(before):len(before)+len(stream)]) != stream ||
		string(data[n-len(between):n]) != between {
		return 0, false
	}
	var sequence uint64
	for _, c := range data[n : len(data)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		sequence = sequence*10 + uint64(c-'0')
	}
	return sequence, sequence > 0
}

// waiter is a sink for one write that somebody waits for.
type waiter chan sessions.Result

// Stored implements sessions.Sink.
func (w waiter) Stored(r sessions.Result) { w <- r }

// sinkFunc makes a function a sink.
type sinkFunc func(sessions.Result)

// Stored implements sessions.Sink.
func (f sinkFunc) Stored(r sessions.Result) { f(r) }
