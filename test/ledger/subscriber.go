package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Subscriber receives with a proper client's memory: the QoS 2 identifiers that are received and not released
// outlive its connections. Owned by one goroutine at a time.
type Subscriber struct {
	client
	qos     mqttcodec.QoS // of its subscriptions
	filters []string

	open    map[uint16]bool    // QoS 2 identifiers received, not released
	streams map[string]*stream // what came, by topic
	ends    int                // markers of the end that came
	got     atomic.Int64       // messages that came, those that came again not counted
}

// stream is what a subscriber has had of one topic, which one publisher publishes to.
type stream struct {
	count    []int // by number: how often it was delivered
	highest  int   // the highest number so far, -1 before the first
	disorder string
}

func newSubscriber(id string, v mqttcodec.Version, qos mqttcodec.QoS, filters ...string) *Subscriber {
	return &Subscriber{client: client{id: id, version: v}, qos: qos, filters: filters, open: map[uint16]bool{}, streams: map[string]*stream{}}
}

// subscribe makes the session.
func (s *Subscriber) subscribe(t testing.TB, address string) (*harness.Raw, error) {
	r, err := s.connect(t, address)
	if err != nil {
		return nil, err
	}
	request := &mqttcodec.Subscribe{PacketID: 1}
	for _, f := range s.filters {
		request.Requests = append(request.Requests, harness.Filter(f, s.qos))
	}
	if _, err := r.TrySubscribePacket(request); err != nil {
		r.Drop()
		return nil, fmt.Errorf("%s: %w", s.id, err)
	}
	return r, nil
}

// Run is one connection: until it ends, or until so many end markers have come and nothing is open.
func (s *Subscriber) Run(t testing.TB, address string, ends int) error {
	r, err := s.connect(t, address)
	if err != nil {
		return err
	}
	return s.serve(r, ends)
}

// serve is Run from CONNACK on.
func (s *Subscriber) serve(r *harness.Raw, ends int) error {
	err := s.receive(r, ends)
	s.end(r, err)
	return err
}

func (s *Subscriber) receive(r *harness.Raw, ends int) error {
	for s.ends < ends || len(s.open) > 0 {
		packet, err := r.TryRead()
		if err != nil {
			return err
		}
		if err := s.take(r, packet); err != nil {
			return err
		}
		if err := s.move(); err != nil {
			return err
		}
	}
	return r.TryDisconnect()
}

// take handles one packet, by the book. (4.3.2, 4.3.3)
func (s *Subscriber) take(r *harness.Raw, packet mqttcodec.Packet) error {
	switch p := packet.(type) {
	case *mqttcodec.Publish:
		switch p.QoS {
		case 1:
			if err := s.deliver(p); err != nil {
				return err
			}
			return r.TrySend(&mqttcodec.Puback{PacketID: p.PacketID})
		case 2:
			if !s.open[p.PacketID] {
				s.open[p.PacketID] = true
				if err := s.deliver(p); err != nil {
					return err
				}
			}
			return r.TrySend(&mqttcodec.Pubrec{PacketID: p.PacketID})
		}
		return fmt.Errorf("%w: QoS 0 for %s", ErrBroken, s.id)
	case *mqttcodec.Pubrel:
		delete(s.open, p.PacketID)
		return r.TrySend(&mqttcodec.Pubcomp{PacketID: p.PacketID})
	case *mqttcodec.Disconnect:
		s.loss.Farewell = p.Reason
		return nil // the close follows
	}
	return fmt.Errorf("%w: %T for a subscriber", ErrBroken, packet)
}

// deliver counts a message as the application would see it.
func (s *Subscriber) deliver(p *mqttcodec.Publish) error {
	if strings.HasPrefix(p.Topic, endTopic) {
		s.ends++
		return nil
	}
	n, err := strconv.Atoi(string(p.Payload))
	if err != nil {
		return fmt.Errorf("%w: payload of %s on %s: %w", ErrBroken, s.id, p.Topic, err)
	}
	st := s.streams[p.Topic]
	if st == nil {
		st = &stream{highest: -1}
		s.streams[p.Topic] = st
	}
	for len(st.count) <= n {
		st.count = append(st.count, 0)
	}
	st.count[n]++
	if st.count[n] == 1 {
		s.got.Add(1)
		if n < st.highest && st.disorder == "" {
			st.disorder = fmt.Sprintf("%d came for the first time after %d, at %s", n, st.highest, time.Now().Format(time.StampMilli))
		}
		st.highest = max(st.highest, n)
	}
	return nil
}

// check compares with what a publisher sent to one of its topics, all of which was acknowledged.
func (s *Subscriber) check(t *testing.T, p *Publisher, topic int, sum *Sum) {
	t.Helper()
	st := s.streams[p.topics[topic]]
	if st == nil {
		st = &stream{}
	}
	sent := p.sent(topic)
	sum.Deliveries += sent
	var lost, twice []int
	for n := range max(sent, len(st.count)) {
		switch {
		case n >= sent:
			t.Errorf("%s got %d of %s, which was never sent", s.id, n, p.topics[topic])
		case n >= len(st.count) || st.count[n] == 0:
			lost = append(lost, n)
		case st.count[n] > 1:
			twice = append(twice, n)
		}
	}
	if sum.Lost += len(lost); len(lost) > 0 {
		t.Errorf("%s: %s: acknowledged and lost: %s", s.id, p.topics[topic], p.describe(topic, lost))
	}
	if min(p.qos, s.qos) == 2 && len(twice) > 0 {
		sum.DuplicatesQoS2 += len(twice)
		t.Errorf("%s: %s: delivered more than once at QoS 2: %s", s.id, p.topics[topic], p.describe(topic, twice))
	}
	if st.disorder != "" {
		sum.Disorder++
		t.Errorf("%s: messages of %s out of order: %s", s.id, p.topics[topic], st.disorder)
	}
}
