package sessionstest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// LivePlane connects nodes, and services without MQTT, at QoS 0. Safe for concurrent use.
type LivePlane struct {
	// mu guards the fields below it, and those of the nodes and services.
	mu       sync.Mutex
	nodes    []*Live
	services []*Service
	turn     int
	replies  int
	// waiting are those who asked what is effective while it is withheld.
	withheld bool
	waiting  []func()
	// eager: nodes are told that there may be somebody else for whatever they publish.
	eager bool
}

// NewLivePlane is a live plane on which nobody is.
func NewLivePlane() *LivePlane { return &LivePlane{} }

// Node is the part of a node.
func (p *LivePlane) Node() *Live {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := &Live{plane: p, filters: map[string]struct{}{}, changed: make(chan struct{}, 1)}
	p.nodes = append(p.nodes, n)
	return n
}

// Withhold keeps the plane from saying what is effective, until that is over.
func (p *LivePlane) Withhold(withheld bool) {
	p.mu.Lock()
	p.withheld = withheld
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	for _, f := range waiting {
		p.say(f)
	}
}

// Eager has nodes publish everything, as on a plane that cannot be asked who is there.
func (p *LivePlane) Eager() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eager = true
}

func (p *LivePlane) say(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.withheld {
		p.waiting = append(p.waiting, f)
		return
	}
	go f()
}

// Service is somebody without MQTT who publishes, and takes what matches a filter.
type Service struct {
	plane  *LivePlane
	filter string
	// answer, if not nil, answers each request.
	answer func(m *sessions.Message) *sessions.Message
	// inbox are the subjects on which it waits for answers.
	inbox    []string
	received []*sessions.Message
}

// Service is a service that takes what matches a filter, nothing if that is empty, and answers requests with answer if that
// is not nil.
func (p *LivePlane) Service(filter string, answer func(m *sessions.Message) *sessions.Message) *Service {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &Service{plane: p, filter: filter, answer: answer}
	p.services = append(p.services, s)
	return s
}

// Received is what the service has got, answers included.
func (s *Service) Received() []*sessions.Message {
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	return slices.Clone(s.received)
}

// Publish publishes a message.
func (s *Service) Publish(m *sessions.Message) {
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	s.plane.publish(nil, m, "")
}

// Request publishes a message and waits for answers, which Received then has.
func (s *Service) Request(m *sessions.Message) {
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	s.plane.replies++
	reply := fmt.Sprintf("inbox.%d", s.plane.replies)
	s.inbox = append(s.inbox, reply)
	s.plane.publish(nil, m, reply)
}

// publish hands a message to all whom it is for, and reports whether there is anybody. mu is held.
func (p *LivePlane) publish(from *Live, m *sessions.Message, reply string) (any bool) {
	shares := map[string][]*Live{}
	for _, n := range p.nodes {
		heard := false
		for filter := range n.filters {
			_, inner, shared := mqttcodec.SharedFilter(filter)
			switch {
			case shared && mqttcodec.MatchTopic(inner, m.Topic):
				shares[filter] = append(shares[filter], n)
			case !shared && n != from && mqttcodec.MatchTopic(filter, m.Topic):
				heard = true
			}
		}
		if heard {
			n.hand(m, reply, "")
			any = true
		}
	}
	for share, members := range shares {
		p.turn++
		members[p.turn%len(members)].hand(m, reply, share)
		any = true
	}
	for _, s := range p.services {
		if s.filter != "" && mqttcodec.MatchTopic(s.filter, m.Topic) {
			any = true
			s.received = append(s.received, m)
			if s.answer != nil && reply != "" {
				p.reply(reply, s.answer(m))
			}
		}
	}
	return any
}

// reply hands an answer to who waits for it. mu is held.
func (p *LivePlane) reply(reply string, m *sessions.Message) {
	for i, n := range p.nodes {
		if token, ok := strings.CutPrefix(reply, fmt.Sprintf("node.%d.", i)); ok {
			answer := *m
			answer.Topic = ""
			n.put(sessions.LiveMessage{Message: &answer, Token: token})
		}
	}
	for _, s := range p.services {
		if slices.Contains(s.inbox, reply) {
			s.received = append(s.received, m)
		}
	}
}

// Live implements sessions.Live.
type Live struct {
	plane   *LivePlane
	filters map[string]struct{}
	queue   []sessions.LiveMessage
	changed chan struct{}
	// flushes counts the calls of Effective.
	flushes int
}

var _ sessions.Live = (*Live)(nil)

// Listen implements sessions.Live.
func (n *Live) Listen(filter string) {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	if _, twice := n.filters[filter]; twice {
		panic("listens twice to " + filter)
	}
	n.filters[filter] = struct{}{}
}

// Forget implements sessions.Live.
func (n *Live) Forget(filter string) {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	if _, known := n.filters[filter]; !known {
		panic("does not listen to " + filter)
	}
	delete(n.filters, filter)
}

// Filters are those that the node listens to, sorted.
func (n *Live) Filters() []string {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	filters := make([]string, 0, len(n.filters))
	for f := range n.filters {
		filters = append(filters, f)
	}
	slices.Sort(filters)
	return filters
}

// Flushes is how often the node has asked what is effective.
func (n *Live) Flushes() int {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	return n.flushes
}

// Effective implements sessions.Live.
func (n *Live) Effective(f func()) {
	n.plane.mu.Lock()
	n.flushes++
	n.plane.mu.Unlock()
	n.plane.say(f)
}

// Elsewhere implements sessions.Live.
func (n *Live) Elsewhere(topic string) bool {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	if n.plane.eager {
		return true
	}
	for _, other := range n.plane.nodes {
		if other == n {
			continue
		}
		for filter := range other.filters {
			if _, inner, shared := mqttcodec.SharedFilter(filter); shared {
				filter = inner
			}
			if mqttcodec.MatchTopic(filter, topic) {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.plane.services, func(s *Service) bool {
		return s.filter != "" && mqttcodec.MatchTopic(s.filter, topic)
	})
}

// Publish implements sessions.Live.
func (n *Live) Publish(m *sessions.Message, token string) {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	reply := ""
	if token != "" {
		reply = fmt.Sprintf("node.%d.%s", slices.Index(n.plane.nodes, n), token)
	}
	if !n.plane.publish(n, m, reply) && token != "" {
		n.put(sessions.LiveMessage{Token: token})
	}
}

// Answer implements sessions.Live.
func (n *Live) Answer(reply string, m *sessions.Message) {
	n.plane.mu.Lock()
	defer n.plane.mu.Unlock()
	n.plane.reply(reply, m)
}

// hand puts a message of somebody else into the queue. mu is held.
func (n *Live) hand(m *sessions.Message, reply, share string) {
	own := *m
	own.PublishedAt = time.Now()
	n.put(sessions.LiveMessage{Message: &own, Reply: reply, Share: share})
}

func (n *Live) put(m sessions.LiveMessage) {
	n.queue = append(n.queue, m)
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// Run implements sessions.Live.
func (n *Live) Run(ctx context.Context, receive func([]sessions.LiveMessage)) error {
	for {
		select {
		case <-n.changed:
		case <-ctx.Done():
			return nil
		}
		n.plane.mu.Lock()
		batch := n.queue
		n.queue = nil
		n.plane.mu.Unlock()
		if len(batch) > 0 {
			receive(batch)
		}
	}
}
