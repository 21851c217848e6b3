package faults

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// subscriber receives with a proper client's memory: the QoS 2 identifiers that are received and not released
// outlive its connections. Owned by one goroutine at a time.
type subscriber struct {
	id      string
	version mqttcodec.Version
	met     bool

	open    map[uint16]bool    // QoS 2 identifiers received, not released
	streams map[string]*stream // what came, by topic
	ends    int                // markers of the end that came

	connection atomic.Pointer[harness.Raw] // the last one, for hangUp
}

// hangUp ends the connection, from any goroutine.
func (s *subscriber) hangUp() {
	if r := s.connection.Load(); r != nil {
		r.Drop()
	}
}

// stream is what a subscriber has had of one publisher.
type stream struct {
	count    []int // by number: how often it was delivered
	highest  int   // the highest number so far, -1 before the first
	disorder string
}

func newSubscriber(id string, v mqttcodec.Version) *subscriber {
	return &subscriber{id: id, version: v, open: map[uint16]bool{}, streams: map[string]*stream{}}
}

// subscribe makes the session and leaves it, as a client that is away.
func (s *subscriber) subscribe(t testing.TB, address string) error {
	r, err := connect(t, address, s.version, s.id, &s.met)
	if err != nil {
		return err
	}
	r.Subscribe(harness.Filter("k9/#", 2))
	r.Disconnect()
	return nil
}

// run is one connection: until the broker dies, or until so many end markers have come and nothing is open.
func (s *subscriber) run(t testing.TB, address string, ends int) error {
	r, err := connect(t, address, s.version, s.id, &s.met)
	if err != nil {
		return err
	}
	defer r.Drop()
	s.connection.Store(r)
	for s.ends < ends || len(s.open) > 0 {
		packet, err := r.TryRead()
		if err != nil {
			return err
		}
		if err := s.take(r, packet); err != nil {
			return err
		}
	}
	r.Disconnect()
	return nil
}

// take handles one packet, by the book. (4.3.2, 4.3.3)
func (s *subscriber) take(r *harness.Raw, packet mqttcodec.Packet) error {
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
		return fmt.Errorf("%w: QoS 0 for %s", errBroken, s.id)
	case *mqttcodec.Pubrel:
		delete(s.open, p.PacketID)
		return r.TrySend(&mqttcodec.Pubcomp{PacketID: p.PacketID})
	case *mqttcodec.Disconnect:
		return nil // the close follows
	}
	return fmt.Errorf("%w: %T for a subscriber", errBroken, packet)
}

// deliver counts a message as the application would see it.
func (s *subscriber) deliver(p *mqttcodec.Publish) error {
	if strings.HasPrefix(p.Topic, endTopic) {
		s.ends++
		return nil
	}
	n, err := strconv.Atoi(string(p.Payload))
	if err != nil {
		return fmt.Errorf("%w: payload of %s on %s: %w", errBroken, s.id, p.Topic, err)
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
		if n < st.highest && st.disorder == "" {
			st.disorder = fmt.Sprintf("%d came for the first time after %d", n, st.highest)
		}
		st.highest = max(st.highest, n)
	}
	return nil
}

// check compares with what a publisher sent, all of which was acknowledged.
func (s *subscriber) check(t *testing.T, p *publisher) {
	t.Helper()
	st := s.streams[p.topic()]
	if st == nil {
		st = &stream{}
	}
	var lost, twice []int
	for n := range max(p.next, len(st.count)) {
		switch {
		case n >= p.next:
			t.Errorf("%s got %d of %s, which was never sent", s.id, n, p.id)
		case n >= len(st.count) || st.count[n] == 0:
			lost = append(lost, n)
		case st.count[n] > 1:
			twice = append(twice, n)
		}
	}
	if len(lost) > 0 {
		t.Errorf("%s: %s: acknowledged and lost: %s", s.id, p.id, p.describe(lost))
	}
	if p.qos == 2 && len(twice) > 0 {
		t.Errorf("%s: %s: delivered more than once at QoS 2: %s", s.id, p.id, p.describe(twice))
	}
	if st.disorder != "" {
		t.Errorf("%s: messages of %s out of order: %s", s.id, p.id, st.disorder)
	}
}
