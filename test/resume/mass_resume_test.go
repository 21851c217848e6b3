package resume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// massResume is one run: so many sessions, each with a few messages in a log of many, which all come back at once.
type massResume struct {
	sessions, messages int
	// each is how many of the messages are for one session.
	each int
	// from is sessions.shared_read_from.
	from int
	seed uint64
	// limit is how long all may take until they have everything.
	limit time.Duration
}

// atOnce is how many sessions are made, or come back, at the same time.
const atOnce = 200

// Sessions that come back all together get all that was published meanwhile, each message once and in order.
//
// DUNLIN_MASS_RESUME, as in "1000 10000", says with how many sessions, in a log of 1,000,000 messages, it is measured what
// that takes (make mass-resume): by one read of the log, and each by its own consumer.
func TestAllSessionsComeBackAtOnce(t *testing.T) {
	sizes := strings.Fields(os.Getenv("DUNLIN_MASS_RESUME"))
	if len(sizes) == 0 {
		for _, from := range []int{70, 0, -1} {
			run(t, massResume{sessions: 100, messages: 10_000, each: 20, from: from, seed: 1, limit: time.Minute})
		}
		return
	}
	for _, size := range sizes {
		n, err := strconv.Atoi(size)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []int{70, -1} {
			run(t, massResume{sessions: n, messages: 1_000_000, each: 10, from: from, seed: 1, limit: 3 * time.Minute})
		}
	}
}

func run(t *testing.T, m massResume) {
	t.Run(fmt.Sprintf("%d sessions from %d", m.sessions, m.from), func(t *testing.T) {
		b := harness.Start(t, harness.WithNATS(), harness.Set("sessions.shared_read_from", m.from),
			harness.Set("limits.max_connections", m.sessions+100))
		m.subscribe(t, b)
		m.publish(t, b)
		b.Stop()
		b.Up() // nothing of the log is in memory now

		live := startLive(t, b)
		harness.Wait(time.Second)
		before := live.mark()
		cpu := used(t, b)
		began := time.Now()
		waited := m.resume(t, b)
		took := time.Since(began)
		cpu = used(t, b) - cpu
		during := live.mark()
		live.stop()
		peak, err := b.RSS()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d messages in all: %v, CPU %v; sessions waited p50 %v, p99 %v; resident %d MiB\n\tlive before: %v\n\tlive meanwhile: %v",
			m.sessions*m.each, took.Round(time.Millisecond), cpu, quantile(waited, 0.5), quantile(waited, 0.99), peak>>20, before, during)
	})
}

func used(t *testing.T, b *harness.Broker) time.Duration {
	t.Helper()
	cpu, err := b.CPU()
	if err != nil {
		t.Fatal(err)
	}
	return cpu
}

func topic(i int) string { return fmt.Sprint("resume/", i, "/value") }

// forAll does something for each session, for many at the same time.
func (m massResume) forAll(t *testing.T, do func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < m.sessions; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil && failed.Add(1) < 5 {
					t.Errorf("session %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		t.FailNow()
	}
}

// client is an MQTT client that has a session.
type client struct {
	conn   net.Conn
	reader *mqttcodec.Reader
	buffer []byte
}

// dial connects from one of several loopback addresses: one has not enough ports for many connections.
func dial(b *harness.Broker, i int, connect *mqttcodec.Connect) (*client, error) {
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}}
	conn, err := d.Dial("tcp", b.MQTT)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, reader: mqttcodec.NewReader(conn, mqttcodec.V5, 1<<20)}
	if err := c.send(connect); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if p, err := c.reader.ReadPacket(); err != nil {
		return nil, errors.Join(err, conn.Close())
	} else if ack, ok := p.(*mqttcodec.Connack); !ok || ack.Reason.Failed() {
		return nil, errors.Join(fmt.Errorf("CONNECT was answered with %+v", p), conn.Close())
	}
	return c, nil
}

func (c *client) send(p mqttcodec.Packet) (err error) {
	if c.buffer, err = mqttcodec.Append(c.buffer[:0], mqttcodec.V5, p); err == nil {
		_, err = c.conn.Write(c.buffer)
	}
	return err
}

// take waits for a message at QoS 1 and acknowledges it.
func (c *client) take() (*mqttcodec.Publish, error) {
	p, err := c.reader.ReadPacket()
	if err != nil {
		return nil, err
	}
	publish, ok := p.(*mqttcodec.Publish)
	if !ok {
		return nil, fmt.Errorf("got %T", p)
	}
	return publish, c.send(&mqttcodec.Puback{PacketID: publish.PacketID})
}

func (c *client) subscribe(filter string) error {
	if err := c.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{
		{Filter: filter, Options: mqttcodec.SubscriptionOptions{QoS: 1}},
	}}); err != nil {
		return err
	}
	if p, err := c.reader.ReadPacket(); err != nil {
		return err
	} else if ack, ok := p.(*mqttcodec.Suback); !ok || ack.Reasons[0] != 1 {
		return fmt.Errorf("SUBSCRIBE was answered with %+v", p)
	}
	return nil
}

// subscribe makes the sessions.
func (m massResume) subscribe(t *testing.T, b *harness.Broker) {
	t.Helper()
	m.forAll(t, func(i int) error {
		c, err := dial(b, i, harness.PersistentConnect(mqttcodec.V5, fmt.Sprint("resume-", i)))
		if err != nil {
			return err
		}
		defer c.conn.Close()
		if err := c.subscribe(topic(i)); err != nil {
			return err
		}
		return c.send(&mqttcodec.Disconnect{})
	})
}

// publish fills the log by way of NATS: what is for the sessions at random places among what is for nobody.
func (m massResume) publish(t *testing.T, b *harness.Broker) {
	t.Helper()
	nc, err := nats.Connect("nats://" + b.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(2000))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(m.seed, 0))
	plan := make([]int32, m.messages) // whose each message is, -1: nobody's
	for i := range plan {
		plan[i] = int32(min(i/m.each, m.sessions))
		if plan[i] == int32(m.sessions) {
			plan[i] = -1
		}
	}
	random.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	sent := make([]int, m.sessions)
	padding := strings.Repeat(".", 100)
	for i, of := range plan {
		subject, payload := fmt.Sprintf("mqtt.noise.%d", i%1000), padding
		if of >= 0 {
			subject = "mqtt." + strings.ReplaceAll(topic(int(of)), "/", ".")
			payload = fmt.Sprint(sent[of], padding)
			sent[of]++
		}
		if _, err := js.PublishAsync(subject, []byte(payload), natsjs.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(2 * time.Minute):
		t.Fatal("the log is not filled")
	}
}

// resume brings all sessions back, and waits until each has everything. It returns how long they waited, in order.
func (m massResume) resume(t *testing.T, b *harness.Broker) (waited []time.Duration) {
	t.Helper()
	deadline := time.Now().Add(m.limit)
	waited = make([]time.Duration, m.sessions)
	clients := make([]*client, m.sessions)
	var missing atomic.Int64
	var wg sync.WaitGroup
	m.forAll(t, func(i int) error {
		began := time.Now()
		c, err := dial(b, i, &mqttcodec.Connect{
			Version: mqttcodec.V5, ClientID: fmt.Sprint("resume-", i),
			Properties: mqttcodec.ConnectProperties{SessionExpirySeconds: mqttcodec.Some[uint32](3600)},
		})
		if err != nil {
			return err
		}
		clients[i] = c
		wg.Go(func() {
			_ = c.conn.SetReadDeadline(deadline)
			for n := range m.each {
				p, err := c.take()
				switch {
				case errors.Is(err, os.ErrDeadlineExceeded):
					missing.Add(int64(m.each - n))
					return
				case err != nil:
					t.Errorf("session %d: %v", i, err)
					return
				}
				if payload, _, _ := strings.Cut(string(p.Payload), "."); payload != fmt.Sprint(n) || p.Topic != topic(i) || p.Duplicate {
					t.Errorf("session %d: got %s of %s, want %d", i, payload, p.Topic, n)
					return
				}
			}
			waited[i] = time.Since(began)
		})
		return nil
	})
	wg.Wait()
	for _, c := range clients {
		_ = c.conn.Close()
	}
	if n := missing.Load(); n > 0 {
		t.Errorf("%d of %d messages did not come within %v", n, m.sessions*m.each, m.limit)
	}
	slices.Sort(waited)
	return waited
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}

// live is a publisher and a subscriber that go on meanwhile.
type live struct {
	t                     *testing.T
	publisher, subscriber *client
	ended                 chan struct{}
	wg                    sync.WaitGroup

	mu        sync.Mutex // guards latencies
	latencies []time.Duration
}

// liveEvery is how often the publisher publishes.
const liveEvery = 5 * time.Millisecond

func startLive(t *testing.T, b *harness.Broker) *live {
	t.Helper()
	l := &live{t: t, ended: make(chan struct{})}
	var err error
	if l.publisher, err = dial(b, 0, harness.CleanConnect(mqttcodec.V5, "live-publisher")); err != nil {
		t.Fatal(err)
	}
	if l.subscriber, err = dial(b, 0, harness.PersistentConnect(mqttcodec.V5, "live-subscriber")); err != nil {
		t.Fatal(err)
	}
	if err := l.subscriber.subscribe("live"); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(l.publish)
	l.wg.Go(l.receive)
	return l
}

func (l *live) publish() {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	defer l.publisher.conn.Close()
	go func() { // PUBACKs
		for {
			if _, err := l.publisher.reader.ReadPacket(); err != nil {
				return
			}
		}
	}()
	for id := uint16(1); ; id = id%60_000 + 1 {
		select {
		case <-tick.C:
		case <-l.ended:
			return
		}
		p := &mqttcodec.Publish{QoS: 1, PacketID: id, Topic: "live", Payload: []byte(time.Now().Format(time.RFC3339Nano))}
		if err := l.publisher.send(p); err != nil {
			l.t.Errorf("live publisher: %v", err)
			return
		}
	}
}

func (l *live) receive() {
	for {
		p, err := l.subscriber.take()
		if err != nil {
			return // by stop; else it is missed
		}
		sent, err := time.Parse(time.RFC3339Nano, string(p.Payload))
		if err != nil {
			l.t.Error(err)
			return
		}
		l.mu.Lock()
		l.latencies = append(l.latencies, time.Since(sent))
		l.mu.Unlock()
	}
}

// mark is what the subscriber has noticed since the last mark.
func (l *live) mark() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.latencies)
	n := len(l.latencies)
	text := fmt.Sprintf("%d messages, p50 %v, p99 %v, max %v", n, quantile(l.latencies, 0.5), quantile(l.latencies, 0.99), quantile(l.latencies, 1))
	if n == 0 {
		l.t.Error("the live subscriber gets nothing")
	}
	l.latencies = nil
	return text
}

func (l *live) stop() {
	close(l.ended)
	_ = l.subscriber.conn.Close()
	l.wg.Wait()
}
