package actors

import (
	"bytes"
	"container/list"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"dunlin/sessions"
)

// maxExchanges and maxExchangeBytes bound the requests of others that wait for answers of clients, and those of clients that
// wait for answers of others; of each the oldest are given up.
const (
	maxExchanges     = 65_536
	maxExchangeBytes = 64 << 20
)

// exchanges are the requests that wait for answers, in both directions, each known by a token that cannot be guessed.
type exchanges struct {
	timeout  time.Duration
	dropped  func(clientID string, reason sessions.DropReason, n uint64)
	requests tokenTable[requested]
	asks     tokenTable[asking]
}

// requested is a request that clients were sent.
type requested struct {
	// reply is where the answer goes, empty when a client of this node has asked: then ask is the token of that.
	reply, ask string
}

// asking is a request of a client.
type asking struct {
	// by may do what the client may do: the answer is published as if it were its own.
	by sessions.Identity
	// asked is the topic of the request, topic that of the answer.
	asked, topic string
	// correlation is what the client gave to know the answer by, nil for none.
	correlation []byte
	// to is the session that alone is answered, nil when the answer is published to topic.
	to *member
}

func newExchanges(timeout time.Duration, stats *Stats) exchanges {
	return exchanges{
		timeout: timeout, dropped: stats.Dropped,
		requests: newTokenTable[requested](), asks: newTokenTable[asking](),
	}
}

// expire forgets the requests whose time is over.
func (x *exchanges) expire(now time.Time) {
	x.requests.expire(now)
	x.asks.expire(now)
}

// makeRequest gives a message that nobody has seen yet what clients answer it by.
func (x *exchanges) makeRequest(m *sessions.Message, r requested) {
	token, givenUp := x.requests.add(r, len(r.reply), time.Now().Add(x.timeout))
	x.giveUp(givenUp)
	m.Request = true
	m.Properties.ResponseTopic = sessions.ReplyTopic(token)
	if m.Properties.CorrelationData == nil {
		m.Properties.CorrelationData = []byte(token)
	}
}

// ask notes that an answer is awaited.
func (x *exchanges) ask(a asking) (token string) {
	a.asked, a.topic, a.correlation = strings.Clone(a.asked), strings.Clone(a.topic), bytes.Clone(a.correlation) // they outlive the packet
	token, givenUp := x.asks.add(a, len(a.asked)+len(a.topic)+len(a.correlation), time.Now().Add(x.timeout))
	x.giveUp(givenUp)
	return token
}

// giveUp counts the requests that had to go for another.
func (x *exchanges) giveUp(n uint64) {
	if n > 0 {
		x.dropped("", sessions.DropRequestsFull, n)
	}
}

// askFor is the token of a message that names a topic for the answer, empty for others.
func (l *live) askFor(m *sessions.Message, by sessions.Identity) string {
	topic := m.Properties.ResponseTopic
	if topic == "" || sessions.ReservedTopic(topic) || !l.topicFits(topic, false) {
		return ""
	}
	return l.ask(asking{by: by, asked: m.Topic, topic: topic, correlation: m.Properties.CorrelationData})
}

// request hands a request of a session to whoever there is. The answer is for that session alone.
func (l *live) request(id string, m *sessions.Message, to *member) {
	m.Properties.ResponseTopic = ""
	token := l.ask(asking{asked: m.Topic, topic: sessions.ReplyTopic(id), correlation: m.Properties.CorrelationData, to: to})
	here := *m
	l.makeRequest(&here, requested{ask: token})
	messages := []*sessions.Message{&here}
	l.router.route(appendRequest(messages, &here))
	if l.alone() || !l.plane.Elsewhere(m.Topic) {
		l.shares.route(messages)
		return
	}
	l.plane.Publish(m, token)
}

// answer takes the answer of a client to a request that it was sent.
func (l *live) answer(token string, m *sessions.Message) {
	r, ok := l.requests.get(token, time.Now())
	switch {
	case !ok: // given up
		l.dropped("", sessions.DropNoRequest, 1)
	case r.reply != "":
		l.plane.Answer(r.reply, m)
	default:
		l.onAnswer(sessions.LiveMessage{Token: r.ask, Message: m})
	}
}

// noResponders takes the news that nobody else is there to answer a request. Clients of this node may be.
func (l *live) noResponders(token string) {
	a, ok := l.asks.get(token, time.Now())
	if ok && !l.router.anybody(a.asked) && !l.router.anybody(sessions.ReplyTopic(token)+"/"+a.asked) {
		l.asks.take(token, time.Now())
		l.dropped("", dropNoResponders, 1)
	}
}

// onAnswer takes the answer to a request of a client: the first one counts.
func (l *live) onAnswer(in sessions.LiveMessage) {
	if in.Message == nil {
		l.noResponders(in.Token)
		return
	}
	a, ok := l.asks.take(in.Token, time.Now())
	if !ok {
		l.dropped("", sessions.DropNoRequest, 1)
		return
	}
	m := *in.Message
	m.Topic, m.PublishedAt = a.topic, time.Now()
	if a.correlation != nil {
		m.Properties.CorrelationData = a.correlation
	}
	switch {
	case a.to != nil && a.to.reserve(1, m.Memory()):
		a.to.post(sessions.Answered{Message: &m})
	case a.to != nil:
		l.dropped(a.to.clientID, sessions.DropSlowConsumer, 1)
	case !a.by.MayAnswer(&m):
		l.dropped("", sessions.DropMayNotSend, 1)
	default:
		messages := []*sessions.Message{&m}
		l.router.route(messages)
		l.publish(messages, sessions.Identity{})
	}
}

// tokenTable finds values by tokens of at least 128 random bits, at most maxExchanges of them with maxExchangeBytes, each until
// its time is over. Safe for concurrent use.
type tokenTable[V any] struct {
	// mu guards the fields below it.
	mu      sync.Mutex
	byToken map[string]*list.Element
	// order has the entries, the oldest first: all have the same time.
	order *list.List
	bytes int
}

type tokenEntry[V any] struct {
	token string
	value V
	bytes int
	until time.Time
}

func newTokenTable[V any]() tokenTable[V] {
	return tokenTable[V]{byToken: map[string]*list.Element{}, order: list.New()}
}

// add keeps a value that brings so many bytes along, and returns how many of the oldest had to go for it.
func (t *tokenTable[V]) add(v V, bytes int, until time.Time) (token string, givenUp uint64) {
	token = rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.order.Len() >= maxExchanges || t.order.Len() > 0 && t.bytes+bytes > maxExchangeBytes {
		t.remove(t.order.Front())
		givenUp++
	}
	t.byToken[token] = t.order.PushBack(tokenEntry[V]{token, v, bytes, until})
	t.bytes += bytes
	return token, givenUp
}

// get finds a value whose time is not over.
func (t *tokenTable[V]) get(token string, now time.Time) (v V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byToken[token]
	if e == nil || !e.Value.(tokenEntry[V]).until.After(now) {
		return v, false
	}
	return e.Value.(tokenEntry[V]).value, true
}

// take is get, and nobody finds it again.
func (t *tokenTable[V]) take(token string, now time.Time) (v V, ok bool) {
	if v, ok = t.get(token, now); ok {
		t.mu.Lock()
		defer t.mu.Unlock()
		e := t.byToken[token]
		if e == nil { // another was faster
			return v, false
		}
		t.remove(e)
	}
	return v, ok
}

// expire removes the values whose time is over.
func (t *tokenTable[V]) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.order.Front(); e != nil && !e.Value.(tokenEntry[V]).until.After(now); e = t.order.Front() {
		t.remove(e)
	}
}

// remove removes an entry. mu is held.
func (t *tokenTable[V]) remove(e *list.Element) {
	entry := e.Value.(tokenEntry[V])
	delete(t.byToken, entry.token)
	t.bytes -= entry.bytes
	t.order.Remove(e)
}
