package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

const (
	// liveBatch is how many are handed over at once.
	liveBatch = 256
	// liveBusy is how many batches in a row put off what waits for a lull.
	liveBusy = 64
	// liveFlush is how long the server may take to confirm subscriptions.
	liveFlush = time.Second
	// liveCount is how long after the first messages that are dropped are counted.
	liveCount = time.Second
)

// Live is the live plane: core NATS, under a first token of its own. Safe for concurrent use.
//
// The node publishes and listens on one connection that does not hear itself. The server sends a message once for each of the
// node's subscriptions that matches it, all of them on that connection; the copy by the oldest of them is handed on, the
// others are passed over. Subscriptions reach the server in the order of their age, so whatever comes by one comes by every
// older one that matches, too: a new filter never costs a message or brings it twice. A filter that goes hands on to the next
// when nothing is on its way. From an embedded server everything comes by one subscription: there is no network in between, and
// each of many costs memory.
//
// Turns of shared subscriptions are taken on a connection of their own, which hears the other: a message of this node is for
// one member on all nodes, too.
type Live struct {
	config    *Config
	nc, turns *nats.Conn
	// embedded is the server in this process, nil for servers elsewhere.
	embedded *Embedded
	stats    *Stats
	prefix   string // of subjects, with the dot
	inbox    string // of answers, with the dot
	subjects *subjectCache
	// arrivals is what the connections bring, incoming what of it waits to be handed over.
	arrivals chan *nats.Msg
	incoming liveIncoming
	outgoing liveOutgoing
	// captured: a stream takes what is published on the live plane. Of an embedded server only. unsure: look again.
	captured, unsure atomic.Bool
	// overrun: messages were dropped since they were counted last.
	overrun atomic.Bool
	// wake is for the goroutine that carries out orders, lull for the one that gathers.
	wake, lull chan struct{}

	// mu guards the fields below it, and those of the filters.
	mu      sync.RWMutex
	filters map[string]*liveFilter
	answers liveFilter // of the inbox; it matches no topic
	all     liveFilter // everything, from an embedded server
	bySub   map[*nats.Subscription]*liveFilter
	// tree finds the filters by which a message comes, those of shared subscriptions apart.
	tree    sessions.FilterTree[*liveFilter]
	orders  []liveOrder
	leaving []*liveFilter
	made    uint64
	matches []*liveFilter // reused
}

// liveFilter is a topic filter that the node listens to.
type liveFilter struct {
	filter string
	// share is the filter as subscribed of a shared subscription, empty for others.
	share string
	// age is its place in the order in which the server was told.
	age       uint64
	subs      []liveSubscription
	forgotten bool
}

type liveSubscription struct {
	sub *nats.Subscription
	// dropped is how many of the messages that were dropped are counted.
	dropped int
}

// liveOrder is a filter to be listened to, or who wants to know that all before it are.
type liveOrder struct {
	filter    *liveFilter
	effective func()
}

var _ sessions.Live = (*Live)(nil)

// OpenLive opens the live plane over two connections that connect makes, and that it owns. embedded is the server that they
// lead to, nil for servers outside of this process.
func OpenLive(connect func() (*nats.Conn, error), embedded *Embedded, c Config, stats *Stats) (*Live, error) {
	nc, err := connect()
	if err != nil {
		return nil, err
	}
	turns, err := connect()
	if err != nil {
		nc.Close()
		return nil, err
	}
	l := &Live{
		config: &c, nc: nc, turns: turns, embedded: embedded, stats: stats,
		prefix: c.Names.LiveSubjects + ".", inbox: liveInboxPrefix + rand.Text() + ".",
		subjects: newSubjectCache(c.Mapping, c.Names.LiveSubjects+"."),
		arrivals: make(chan *nats.Msg, liveArrivals), incoming: liveIncoming{wake: make(chan struct{}, 1)},
		outgoing: liveOutgoing{wake: make(chan struct{}, 1)},
		wake:     make(chan struct{}, 1), lull: make(chan struct{}, 1),
		filters: map[string]*liveFilter{}, bySub: map[*nats.Subscription]*liveFilter{},
	}
	nc.SetErrorHandler(l.onError)
	turns.SetErrorHandler(l.onError)
	if err := l.prepare(); err != nil {
		l.Close()
		return nil, clientErr(err)
	}
	return l, nil
}

// prepare subscribes to answers, and to news of streams that may take what we publish.
func (l *Live) prepare() error {
	sub, err := l.nc.ChanSubscribe(l.inbox+"*", l.arrivals)
	if err != nil {
		return err
	}
	l.answers.subs = []liveSubscription{{sub: sub}}
	if l.embedded == nil {
		return nil
	}
	if sub, err = l.nc.ChanSubscribe(l.prefix+">", l.arrivals); err != nil {
		return err
	}
	l.all.subs, l.bySub[sub] = []liveSubscription{{sub: sub}}, &l.all
	l.unsure.Store(true)
	_, err = l.nc.Subscribe("$JS.EVENT.ADVISORY.STREAM.*.*", func(*nats.Msg) {
		l.unsure.Store(true)
		notify(l.wake)
	})
	return err
}

// Close ends the connections. End Run before.
func (l *Live) Close() {
	l.nc.Close()
	l.turns.Close()
}

// notify wakes who waits on a channel of capacity 1.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// onError takes what the connections complain of.
func (l *Live) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		if l.overrun.CompareAndSwap(false, true) {
			time.AfterFunc(liveCount, l.countDropped)
		}
		return
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	l.config.Logger.Warn("live plane", "cause", err, "subscription", subject)
}

// Listen implements sessions.Live.
func (l *Live) Listen(filter string) {
	f := &liveFilter{filter: filter}
	if _, inner, shared := mqttcodec.SharedFilter(filter); shared {
		f.filter, f.share = inner, filter
	} else if l.embedded != nil {
		return // everything comes
	}
	l.mu.Lock()
	l.filters[filter] = f
	l.orders = append(l.orders, liveOrder{filter: f})
	l.mu.Unlock()
	notify(l.wake)
}

// Forget implements sessions.Live.
func (l *Live) Forget(filter string) {
	l.mu.Lock()
	f := l.filters[filter]
	if f == nil { // everything comes
		l.mu.Unlock()
		return
	}
	delete(l.filters, filter)
	f.forgotten = true
	l.leaving = append(l.leaving, f)
	l.mu.Unlock()
	notify(l.lull)
}

// Effective implements sessions.Live.
func (l *Live) Effective(f func()) {
	l.mu.Lock()
	l.orders = append(l.orders, liveOrder{effective: f})
	l.mu.Unlock()
	notify(l.wake)
}

// Elsewhere implements sessions.Live. A server outside is asked by publishing. Of the one in this process it is known whether
// anybody else is connected to it; not whether it has interest but ours, which is in everything.
func (l *Live) Elsewhere(string) bool {
	if l.embedded == nil {
		return l.nc.IsConnected()
	}
	return l.captured.Load() || l.embedded.accompanied()
}

// Publish implements sessions.Live.
func (l *Live) Publish(m *sessions.Message, token string) {
	subject, err := l.subjects.subject(m.Topic)
	if err != nil { // too long, or none by this mapping
		l.stats.LiveUnsent.Add(1)
		return
	}
	p := livePublication{subject: subject, message: m}
	if token != "" {
		p.reply = l.inbox + token
	}
	l.stats.LiveUnsent.Add(l.outgoing.put(p))
}

// Answer implements sessions.Live.
func (l *Live) Answer(reply string, m *sessions.Message) {
	l.stats.LiveUnsent.Add(l.outgoing.put(livePublication{subject: reply, message: m}))
}

// Run implements sessions.Live.
func (l *Live) Run(ctx context.Context, receive func([]sessions.LiveMessage)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { l.obey(ctx); return nil })
	group.Go(func() error { l.send(ctx); return nil })
	group.Go(func() error { l.gather(ctx); return nil })
	group.Go(func() error { l.hear(ctx, receive); return nil })
	return group.Wait()
}

// obey carries out orders until ctx ends.
func (l *Live) obey(ctx context.Context) {
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		orders := l.orders
		l.orders = nil
		l.mu.Unlock()
		var effective []func()
		shares := false
		for _, o := range orders {
			if o.filter == nil {
				effective = append(effective, o.effective)
				continue
			}
			shares = shares || o.filter.share != ""
			l.subscribe(o.filter)
		}
		if l.unsure.Load() {
			l.findStreams(ctx)
		}
		if len(effective) == 0 {
			continue
		}
		if l.embedded == nil {
			l.flush(l.nc)
		}
		if shares {
			l.flush(l.turns)
		}
		for _, f := range effective {
			f()
		}
	}
}

// flush waits until the server has what it was told on a connection.
func (l *Live) flush(nc *nats.Conn) {
	if !nc.IsConnected() {
		return // it is told when it is back
	}
	if err := nc.FlushTimeout(liveFlush); err != nil {
		l.config.Logger.Warn("live plane: the server does not confirm subscriptions", "cause", err)
	}
}

// subscribe tells the server of a filter.
func (l *Live) subscribe(f *liveFilter) {
	l.mu.Lock()
	if f.forgotten {
		l.mu.Unlock()
		return
	}
	l.made++
	f.age = l.made
	if f.share == "" {
		l.tree.Add(f.filter, f)
	}
	l.mu.Unlock()
	for _, subject := range l.config.Mapping.Subjects(f.filter) {
		var sub *nats.Subscription
		var err error
		if f.share == "" {
			sub, err = l.nc.ChanSubscribe(l.prefix+subject, l.arrivals)
		} else {
			sub, err = l.turns.ChanQueueSubscribe(l.prefix+subject, groupName(l.config, f.share), l.arrivals)
		}
		if err != nil { // closed
			l.config.Logger.Warn("live plane: not subscribed", "subject", l.prefix+subject, "cause", err)
			continue
		}
		l.mu.Lock()
		f.subs = append(f.subs, liveSubscription{sub: sub})
		l.bySub[sub] = f
		l.mu.Unlock()
	}
}

// leave ends the subscriptions of filters that are forgotten.
func (l *Live) leave() {
	l.mu.Lock()
	leaving := l.leaving
	l.leaving = nil
	for _, f := range leaving {
		l.tree.Remove(f.filter, f)
		l.stats.LiveOverrun.Add(l.countLocked(f))
		for _, s := range f.subs {
			delete(l.bySub, s.sub)
		}
	}
	l.mu.Unlock()
	for _, f := range leaving {
		for _, s := range f.subs {
			_ = s.sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
		}
	}
}

// findStreams finds out whether a stream takes what is published on the live plane.
func (l *Live) findStreams(ctx context.Context) {
	l.unsure.Store(false)
	js, err := natsjs.New(l.nc)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.config.AckTimeout)
	defer cancel()
	names := js.StreamNames(ctx, natsjs.WithStreamListSubject(l.prefix+">"))
	found := 0
	for range names.Name() {
		found++
	}
	if names.Err() != nil {
		found = 1 // better to publish for nobody than not for somebody
		l.unsure.Store(true)
	}
	l.captured.Store(found > 0)
}

// countDropped counts the messages that came faster than they were handed over.
func (l *Live) countDropped() {
	l.overrun.Store(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	dropped := l.countLocked(&l.answers) + l.countLocked(&l.all)
	for _, f := range l.filters {
		dropped += l.countLocked(f)
	}
	if dropped > 0 && l.overrun.CompareAndSwap(false, true) { // it may go on, and is not told again
		time.AfterFunc(liveCount, l.countDropped)
	}
	if dropped > 0 {
		l.tellOverrun(dropped)
	}
}

// countLocked counts those of one filter. mu is held.
func (l *Live) countLocked(f *liveFilter) (dropped uint64) {
	for i := range f.subs {
		s := &f.subs[i]
		n, err := s.sub.Dropped()
		if err == nil && n > s.dropped {
			dropped += uint64(n - s.dropped)
			s.dropped = n
		}
	}
	return dropped
}

// gather queues what arrives until ctx ends. It waits for nobody, so that no more than the queue allows is in memory. Where nothing
// is on its way it marks that filters may be left.
func (l *Live) gather(ctx context.Context) {
	list := make([]*nats.Msg, 0, liveBatch)
	leaving, busy := false, 0
	for {
		select {
		case m := <-l.arrivals:
			list = drain(l.arrivals, append(list[:0], m))
			if dropped := l.incoming.put(list); dropped > 0 {
				l.tellOverrun(dropped)
			}
			clear(list)
			busy++
		case <-l.lull:
			leaving, busy = true, 0
		case <-ctx.Done():
			return
		}
		if leaving && (len(l.arrivals) == 0 || busy >= liveBusy) {
			l.incoming.mark()
			leaving = false
		}
	}
}

// tellOverrun counts messages that came faster than they were handed over.
func (l *Live) tellOverrun(dropped uint64) {
	if n := l.stats.LiveOverrun.Add(dropped); telling(n, dropped) {
		l.config.Logger.Warn("live plane: messages of others came faster than they could be handed over", "dropped_so_far", n)
	}
}

// hear hands over what comes until ctx ends.
func (l *Live) hear(ctx context.Context, receive func([]sessions.LiveMessage)) {
	batch := make([]sessions.LiveMessage, 0, liveBatch)
	messages := make([]*nats.Msg, 0, liveBatch)
	for {
		select {
		case <-l.incoming.wake:
		case <-ctx.Done():
			return
		}
		messages = l.incoming.take(messages)
		for rest := messages; len(rest) > 0; {
			n := slices.Index(rest, nil)
			if n < 0 {
				n = len(rest)
			}
			if batch = l.decodeAll(rest[:n], batch[:0]); len(batch) > 0 {
				receive(batch)
				clear(batch)
			}
			if rest = rest[n:]; len(rest) > 0 {
				l.leave()
				rest = rest[1:]
			}
		}
		l.incoming.done(messages)
		clear(messages)
	}
}

func (l *Live) decodeAll(messages []*nats.Msg, dst []sessions.LiveMessage) []sessions.LiveMessage {
	now := time.Now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, m := range messages {
		if in, ok := l.decode(m, now); ok {
			dst = append(dst, in)
		}
	}
	return dst
}

// decode is a message of NATS as the node takes it. ok is false for copies, and for what is nobody's business. mu is held.
func (l *Live) decode(m *nats.Msg, now time.Time) (in sessions.LiveMessage, ok bool) {
	if token, answer := strings.CutPrefix(m.Subject, l.inbox); answer {
		in.Token = token
		if status(m) != 503 {
			in.Message = l.message(m, "", now)
			appendServiceError(m.Header, &in.Message.Properties)
		}
		return in, true
	}
	f := l.bySub[m.Sub]
	if f == nil { // left meanwhile
		return in, false
	}
	topic, ok := l.config.Mapping.Topic(strings.TrimPrefix(m.Subject, l.prefix))
	if !ok || sessions.ReservedTopic(topic) {
		if n := l.stats.LiveUndecodable.Add(1); telling(n, 1) {
			l.config.Logger.Warn("the subject of a message on the live plane is no topic for others; it is passed over", "subject", m.Subject, "so_far", n)
		}
		return in, false
	}
	in.Share = f.share
	if f.share == "" && f != &l.all && !l.oldest(f, topic) {
		return in, false
	}
	if m.Reply != "" && l.answerable(m.Reply) {
		in.Reply = m.Reply
	}
	in.Message = l.message(m, topic, now)
	return in, true
}

// oldest reports whether a filter is the oldest of those that match a topic. mu is held; one goroutine at a time.
func (l *Live) oldest(f *liveFilter, topic string) bool {
	l.matches, _ = l.tree.MatchAppend(topic, l.matches[:0])
	matches := false
	for _, other := range l.matches {
		matches = matches || other == f
		if other.age < f.age {
			return false
		}
	}
	return matches // else only for NATS, which does not know [MQTT-4.7.2-1]
}

// message is the payload of a NATS message with its attributes. On the live plane all is at QoS 0 and nothing is retained.
func (l *Live) message(m *nats.Msg, topic string, now time.Time) *sessions.Message {
	message := &sessions.Message{Topic: topic, PublishedAt: now}
	invalid := decodeMessage(m.Header, m.Data, message)
	if message.Retain {
		invalid++
	}
	if v, ok := headerValue(m.Header, headerQoS); ok && v != "0" {
		invalid++
	}
	message.QoS, message.Retain, message.Publisher = 0, false, ""
	if invalid > 0 {
		if n := l.stats.InvalidHeaders.Add(invalid); telling(n, invalid) {
			l.config.Logger.Warn("headers of a message on the live plane make no sense; they are passed over", "subject", m.Subject, "so_far", n)
		}
	}
	return message
}

// serviceErrors are the headers by which a NATS service says that it could not do what it was asked.
var serviceErrors = [...]string{"Nats-Service-Error-Code", "Nats-Service-Error"}

// appendServiceError makes user properties of them, for who has asked.
func appendServiceError(h nats.Header, p *mqttcodec.MessageProperties) {
	for _, name := range serviceErrors {
		if v, ok := headerValue(h, name); ok && validString(v) {
			p.UserProperties = append(p.UserProperties, mqttcodec.UserProperty{Key: name, Value: v})
		}
	}
}

// liveInboxPrefix begins the subjects on which a node awaits answers to requests of its clients.
const liveInboxPrefix = inboxPrefix + ".live."

// answerable reports whether an answer may be published to a reply subject. Whoever asks chooses it, and may not be allowed to
// publish there what we are: a request to a stream, an entry of the log or of a bucket, or an acknowledgement of one.
func (l *Live) answerable(reply string) bool {
	n := &l.config.Names
	ours := func(space subjectSpace) bool { return strings.HasPrefix(reply, space.prefix+".") }
	switch {
	case strings.HasPrefix(reply, "$"), slices.ContainsFunc(n.spaces(), ours):
		return false
	case strings.HasPrefix(reply, inboxPrefix+"."):
		return strings.HasPrefix(reply, liveInboxPrefix)
	}
	return !strings.ContainsAny(reply, "*> ")
}
