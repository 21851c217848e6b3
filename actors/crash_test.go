package actors

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

// chance is a random source that goroutines share.
type chance struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

func newChance(seed uint64) *chance { return &chance{r: rand.New(rand.NewPCG(seed, 0))} }

// below is a number in [0, n).
func (c *chance) below(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n)
}

// upTo is a duration in [0, d).
func (c *chance) upTo(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.r.Int64N(int64(d)))
}

// crashes is a broker that goes down now and then, under clients that keep at it.
type crashes struct {
	t      *testing.T
	chance *chance

	boots int
	// broker is what clients connect to. No lock: virtual time stands still while somebody waits for one.
	broker atomic.Pointer[testBroker]
	over   atomic.Bool
}

// restart starts the broker anew: after a crash, or (the first time) on empty storage.
func (c *crashes) restart() {
	storage := sessionstest.New()
	if b := c.broker.Load(); b != nil {
		storage = b.crash()
	}
	storage.Latency(func(sessionstest.Operation) time.Duration { return c.chance.upTo(20 * time.Millisecond) })
	c.boots++
	c.broker.Store(startOnPipes(c.t, storage, fmt.Sprintf("boot-%d", c.boots), func(cfg *Config) {
		cfg.RingBytes = 20 * entryOverhead // so that queues are used too
		cfg.Sessions.BacklogMessages = 8
		cfg.ParkRate = 1000
	}))
}

func (c *crashes) dial() (net.Conn, bool) {
	for !c.over.Load() {
		if socket, err := c.broker.Load().dial(); err == nil {
			return socket, true
		}
		elapse(10 * time.Millisecond)
	}
	return nil, false
}

// peer is a client that connects again whenever its connection ends.
type peer struct {
	world *crashes
	id    string
	// known: a CONNACK was received, so the session must be there from then on.
	known bool
	// flaky is how often, in one of so many packets, it breaks its connection; 0 never.
	flaky   int
	socket  net.Conn
	packets chan mqttcodec.Packet
}

// open connects, and reports false when the test is over.
func (p *peer) open(change ...func(*mqttcodec.Connect)) bool {
	for {
		socket, ok := p.world.dial()
		if !ok {
			return false
		}
		p.socket, p.packets = socket, make(chan mqttcodec.Packet, 4096)
		go func(packets chan<- mqttcodec.Packet) {
			defer close(packets)
			r := mqttcodec.NewReader(socket, mqttcodec.V5, 0)
			for {
				packet, err := r.ReadPacket()
				if err != nil {
					return
				}
				packets <- packet
			}
		}(p.packets)
		p.send(connectPacket(mqttcodec.V5, p.id, change...))
		if ack, ok := (<-p.packets).(*mqttcodec.Connack); ok && ack.Reason == mqttcodec.Success {
			if p.known && !ack.SessionPresent {
				p.world.t.Errorf("the session of %s is gone", p.id)
			}
			p.known = true
			return true
		}
		_ = socket.Close()
		elapse(p.world.chance.upTo(100 * time.Millisecond))
	}
}

func (p *peer) send(packet mqttcodec.Packet) {
	b, err := mqttcodec.Append(nil, mqttcodec.V5, packet)
	if err != nil {
		p.world.t.Error(err)
	}
	_, _ = p.socket.Write(b) // a connection that is gone is noticed by reading
}

// breakOff ends the connection, now and then.
func (p *peer) breakOff() {
	if p.flaky > 0 && p.world.chance.below(p.flaky) == 0 {
		_ = p.socket.Close()
	}
}

// sending is a message that a publisher is not through with.
type sending struct {
	publish  mqttcodec.Publish
	received bool // PUBREC came
}

// publisher publishes numbered messages and sees each of them through.
type publisher struct {
	peer
	count  int
	next   int
	window []*sending
	lastID uint16
	done   chan struct{}
}

func (p *publisher) run() {
	defer close(p.done)
	for p.next < p.count || len(p.window) > 0 {
		if !p.open() {
			return
		}
		for _, m := range p.window { // [MQTT-4.4.0-1]
			if m.received {
				p.send(&mqttcodec.Pubrel{PacketID: m.publish.PacketID})
				continue
			}
			again := m.publish
			again.Duplicate = true
			p.send(&again)
		}
		p.session()
		_ = p.socket.Close()
		elapse(p.world.chance.upTo(300 * time.Millisecond))
	}
}

// session publishes until the connection ends or everything is through.
func (p *publisher) session() {
	for p.next < p.count || len(p.window) > 0 {
		var pace <-chan time.Time
		if p.next < p.count && len(p.window) < 5 {
			pace = time.After(p.world.chance.upTo(60 * time.Millisecond))
		}
		select {
		case <-pace:
			p.publish()
		case packet, ok := <-p.packets:
			if !ok {
				return
			}
			p.take(packet)
			p.breakOff()
		}
	}
}

func (p *publisher) publish() {
	p.lastID = p.lastID%100 + 1
	m := &sending{publish: mqttcodec.Publish{
		PacketID: p.lastID, QoS: mqttcodec.QoS(1 + p.world.chance.below(2)), Retain: p.world.chance.below(4) == 0,
		Topic: fmt.Sprintf("t/%d", p.world.chance.below(5)), Payload: fmt.Appendf(nil, "%s %d", p.id, p.next),
	}}
	p.next++
	p.window = append(p.window, m)
	p.send(&m.publish)
}

func (p *publisher) take(packet mqttcodec.Packet) {
	switch packet := packet.(type) {
	case *mqttcodec.Puback:
		p.finish(packet.PacketID)
	case *mqttcodec.Pubcomp:
		p.finish(packet.PacketID)
	case *mqttcodec.Pubrec:
		for _, m := range p.window {
			if m.publish.PacketID == packet.PacketID {
				m.received = true
			}
		}
		p.send(&mqttcodec.Pubrel{PacketID: packet.PacketID})
	}
}

func (p *publisher) finish(id uint16) {
	p.window = slices.DeleteFunc(p.window, func(m *sending) bool { return m.publish.PacketID == id })
}

// subscriber takes everything, sometimes slowly.
type subscriber struct {
	peer
	filter     string
	qos        mqttcodec.QoS
	maximum    uint16
	subscribed chan struct{}

	mu  sync.Mutex // guards got
	got []string
	// unreleased are the QoS 2 identifiers that wait for PUBREL.
	unreleased map[uint16]bool
}

func (s *subscriber) run() {
	for s.open(receiveMaximum(s.maximum)) {
		select {
		case <-s.subscribed:
		default:
			s.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{
				{Filter: s.filter, Options: mqttcodec.SubscriptionOptions{QoS: s.qos}},
			}})
		}
		for packet := range s.packets {
			s.take(packet)
			s.breakOff()
		}
		elapse(s.world.chance.upTo(2 * time.Second))
	}
}

func (s *subscriber) take(packet mqttcodec.Packet) {
	switch packet := packet.(type) {
	case *mqttcodec.Suback:
		select {
		case <-s.subscribed:
		default:
			close(s.subscribed)
		}
	case *mqttcodec.Publish:
		s.think()
		switch packet.QoS {
		case 1:
			s.note(packet)
			s.send(&mqttcodec.Puback{PacketID: packet.PacketID})
		case 2:
			if !s.unreleased[packet.PacketID] {
				s.note(packet)
			}
			s.unreleased[packet.PacketID] = true
			s.send(&mqttcodec.Pubrec{PacketID: packet.PacketID})
		}
	case *mqttcodec.Pubrel:
		s.think()
		delete(s.unreleased, packet.PacketID)
		s.send(&mqttcodec.Pubcomp{PacketID: packet.PacketID})
	}
}

// think lets the broker wait for an answer, now and then for long.
func (s *subscriber) think() {
	d := s.world.chance.upTo(5 * time.Millisecond)
	if s.world.chance.below(40) == 0 {
		d = s.world.chance.upTo(3 * time.Second)
	}
	elapse(d)
}

func (s *subscriber) note(p *mqttcodec.Publish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(p.Payload))
}

// want checks that every message of the log came, in its order, and once if that was promised.
func (s *subscriber) want(entries []string, exactlyOnce map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	times := map[string]int{}
	var first []string
	for _, m := range s.got {
		if times[m]++; times[m] == 1 {
			first = append(first, m)
		}
	}
	for _, m := range entries {
		switch {
		case times[m] == 0:
			s.world.t.Errorf("%s did not get %q", s.id, m)
		case times[m] > 1 && s.qos == 2 && exactlyOnce[m]:
			s.world.t.Errorf("%s got %q %d times at QoS 2", s.id, m, times[m])
		}
	}
	if !s.world.t.Failed() && !slices.Equal(first, entries) {
		s.world.t.Errorf("%s got the messages in another order:\n%v\nthe log has\n%v", s.id, first, entries)
	}
}

// TestNothingIsLostByCrashes publishes through a broker that is killed again and again: what was acknowledged reaches every
// subscriber, in the order of the log, at QoS 2 exactly once.
func TestNothingIsLostByCrashes(t *testing.T) {
	for seed := range uint64(crashSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { bubble(t, func(t *testing.T) { crashScenario(t, seed) }) })
	}
}

const crashSeeds = 12

func crashScenario(t *testing.T, seed uint64) {
	world := &crashes{t: t, chance: newChance(seed)}
	world.restart()
	var subscribers []*subscriber
	for i := range 3 {
		subscribers = append(subscribers, world.subscribe("t/#", mqttcodec.QoS(2-i%2), i))
	}
	world.publish(5, 2*time.Minute)
	world.check(subscribers)
	world.end()
}

// subscribe starts a subscriber, the i-th of three, and returns when it is subscribed.
func (c *crashes) subscribe(filter string, qos mqttcodec.QoS, i int) *subscriber {
	s := &subscriber{
		peer:   peer{world: c, id: fmt.Sprintf("subscriber-%d", i), flaky: []int{0, 20, 60}[i]},
		filter: filter, qos: qos, maximum: uint16(1 + c.chance.below(10)),
		subscribed: make(chan struct{}), unreleased: map[uint16]bool{},
	}
	go s.run()
	<-s.subscribed
	return s
}

// publish publishes 60 messages by each of two publishers while the broker crashes, and gives the rest time to get through.
func (c *crashes) publish(crashes int, rest time.Duration) {
	var publishers []*publisher
	for i := range 2 {
		p := &publisher{peer: peer{world: c, id: fmt.Sprintf("publisher-%d", i), flaky: 30}, count: 60, done: make(chan struct{})}
		publishers = append(publishers, p)
		go p.run()
	}
	for range crashes {
		elapse(c.chance.upTo(1500 * time.Millisecond))
		c.restart()
	}
	for _, p := range publishers {
		<-p.done
	}
	elapse(rest)
	synctest.Wait()
}

func (c *crashes) end() {
	c.over.Store(true)
	c.broker.Load().shutdown()
}

// check holds what the subscribers got, and what is retained, against the log.
func (c *crashes) check(subscribers []*subscriber) {
	storage := c.broker.Load().storage
	times, exactlyOnce, retained := map[string]int{}, map[string]bool{}, map[string]string{}
	var order []string
	for _, e := range storage.Entries() {
		payload := string(e.Message.Payload)
		if times[payload]++; times[payload] == 1 {
			order = append(order, payload)
		}
		exactlyOnce[payload] = e.Message.QoS == 2
		if e.Message.Retain {
			retained[e.Message.Topic] = payload
		}
		if e.Message.QoS == 2 && times[payload] > 1 {
			c.t.Errorf("%q is in the log %d times, though it was published at QoS 2", payload, times[payload])
		}
	}
	if len(order) != 120 {
		c.t.Errorf("%d of 120 messages are in the log: %s", len(order), strings.Join(order, ", "))
	}
	for _, s := range subscribers {
		s.want(order, exactlyOnce)
	}
	for topic, payload := range retained {
		if e, ok := storage.RetainedMessage(topic); !ok || string(e.Message.Payload) != payload {
			c.t.Errorf("the bucket has another retained message of %s than the log: %q", topic, payload)
		}
	}
	if n := storage.Overlaps(); n > 0 {
		c.t.Errorf("%d retained writes overlapped", n)
	}
}
