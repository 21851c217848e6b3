package jetstream_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// liveNode is a node on the live plane that keeps what it is handed.
type liveNode struct {
	*jetstream.Live
	t     testing.TB
	stats *jetstream.Stats

	mu       sync.Mutex
	received []sessions.LiveMessage
	changed  chan struct{}
}

// startLive runs a node over an embedded server, as one that knows who is connected to it if known.
func startLive(t testing.TB, e *jetstream.Embedded, known bool) *liveNode {
	t.Helper()
	n := &liveNode{t: t, stats: new(jetstream.Stats), changed: make(chan struct{}, 1)}
	embedded := e
	if !known {
		embedded = nil
	}
	n.run(e.Connect, embedded)
	return n
}

func (n *liveNode) run(connect func() (*nats.Conn, error), embedded *jetstream.Embedded) {
	n.t.Helper()
	t := n.t
	var err error
	if n.Live, err = jetstream.OpenLive(connect, embedded, testConfig(), n.stats); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- n.Run(ctx, n.receive) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.Close()
	})
}

func (n *liveNode) receive(batch []sessions.LiveMessage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.received = append(n.received, batch...)
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// listen has the node listen to filters and waits until it does.
func (n *liveNode) listen(filters ...string) {
	n.t.Helper()
	for _, f := range filters {
		n.Listen(f)
	}
	effective := make(chan struct{})
	n.Effective(func() { close(effective) })
	select {
	case <-effective:
	case <-testContext(n.t).Done():
		n.t.Fatal("filters do not become effective")
	}
}

// take waits for so many messages.
func (n *liveNode) take(count int) (list []sessions.LiveMessage) {
	n.t.Helper()
	ctx := testContext(n.t)
	for {
		n.mu.Lock()
		if len(n.received) >= count {
			list, n.received = n.received[:count:count], n.received[count:]
		}
		n.mu.Unlock()
		if len(list) == count {
			return list
		}
		select {
		case <-n.changed:
		case <-ctx.Done():
			n.t.Fatalf("%d messages have not come", count)
		}
	}
}

// wantPayloads takes messages with these payloads.
func (n *liveNode) wantPayloads(want ...string) {
	n.t.Helper()
	for i, m := range n.take(len(want)) {
		if m.Message == nil || string(m.Message.Payload) != want[i] {
			n.t.Fatalf("message %d is %+v, want %q", i, m.Message, want[i])
		}
	}
}

func startEmbedded(t testing.TB, change ...func(*jetstream.EmbeddedConfig)) *jetstream.Embedded {
	t.Helper()
	c := embeddedConfig(t)
	for _, f := range change {
		f(&c)
	}
	e, err := jetstream.StartEmbedded(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return e
}

// visitor is a NATS program.
func visitor(t testing.TB, e *jetstream.Embedded) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(e))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func publishAll(t testing.TB, nc *nats.Conn, subjects ...string) {
	t.Helper()
	for _, s := range subjects {
		if err := nc.Publish(s, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// Of the server inside everything comes, once, whoever is subscribed to what.
func TestLiveTakesAllFromServerInside(t *testing.T) {
	e := startEmbedded(t)
	n, nc := startLive(t, e, true), visitor(t, e)
	publishAll(t, nc, "mqtt0.a.b")
	n.wantPayloads("mqtt0.a.b")
	n.listen("a/b", "a/#")
	publishAll(t, nc, "mqtt0.a.b", "mqtt0.a..b", "mqtt0.end")
	n.wantPayloads("mqtt0.a.b", "mqtt0.end")
	n.Forget("a/b")
	publishAll(t, nc, "mqtt0.a.b")
	n.wantPayloads("mqtt0.a.b")
}

func TestLiveHandsOnEachMessageOnceWhateverFiltersOverlap(t *testing.T) {
	e := startEmbedded(t)
	n, nc := startLive(t, e, false), visitor(t, e) // as with servers outside
	n.listen("a/b", "a/#", "+/b", "#", "a/+")
	publishAll(t, nc, "mqtt0.a.b", "mqtt0.a", "mqtt0.a.c", "mqtt0.x", "mqtt0.$x.b", "mqtt0.a..b", "mqtt0.a=b", "mqtt0.$SYS.x", "mqtt0.end")
	n.wantPayloads("mqtt0.a.b", "mqtt0.a", "mqtt0.a.c", "mqtt0.x", "mqtt0.end")
	if got := n.stats.LiveUndecodable.Load(); got == 0 {
		t.Error("what is no topic is not counted")
	}
	for _, forgotten := range []string{"a/b", "#", "a/#", "a/+"} { // the oldest, and others
		n.Forget(forgotten)
		publishAll(t, nc, "mqtt0.a.b")
		n.wantPayloads("mqtt0.a.b")
	}
	n.Forget("+/b")
	n.Listen("+/b") // at once
	n.listen()
	publishAll(t, nc, "mqtt0.a.b")
	n.wantPayloads("mqtt0.a.b")
}

// Filters come and go, the others of a topic with them, and nothing comes twice or not at all.
func TestLiveIsSteadyWhileFiltersChange(t *testing.T) {
	e := startEmbedded(t)
	n, nc := startLive(t, e, false), visitor(t, e)
	n.listen("a/b")
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		others := []string{"#", "a/#", "+/b", "a/+", "+/+", "+/#"}
		for range 50 {
			n.listen(others...)
			for _, f := range others {
				n.Forget(f)
			}
		}
	}()
	for sent := 0; ; {
		const burst = 64 // never more on its way, so that nothing has to be dropped
		for range burst {
			if err := nc.Publish("mqtt0.a.b", fmt.Append(nil, sent)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		for i, m := range n.take(burst) {
			if want := sent - burst + i; string(m.Message.Payload) != fmt.Sprint(want) {
				t.Fatalf("message %d is %q", want, m.Message.Payload)
			}
		}
		select {
		case <-changed:
			return
		default:
		}
	}
}

func TestLiveTurnsOfASharedSubscriptionIncludeOwnMessages(t *testing.T) {
	e := startEmbedded(t)
	one, two, nc := startLive(t, e, false), startLive(t, e, false), visitor(t, e)
	share := "$share/g/a/#"
	one.listen(share, "a/#")
	two.listen(share, "$share/h/a/#")
	const messages = 100
	for range messages {
		one.Publish(&sessions.Message{Topic: "a/x"}, "")
		publishAll(t, nc, "mqtt0.a")
	}
	counts := map[string]int{}
	heard := one.take(messages) // by a/#: those of the visitor
	for len(heard) < 5*messages {
		for _, n := range []*liveNode{one, two} {
			n.mu.Lock()
			heard, n.received = append(heard, n.received...), nil
			n.mu.Unlock()
		}
		if testContext(t).Err() != nil {
			break
		}
		publishAll(t, nc, "mqtt0.nobody")
	}
	for _, m := range heard {
		counts[m.Share]++
	}
	if counts[""] != messages || counts[share] != 2*messages || counts["$share/h/a/#"] != 2*messages {
		t.Errorf("handed over: %v", counts)
	}
}

func TestLivePublishesOnlyWhileSomebodyElseMayListen(t *testing.T) {
	e := startEmbedded(t)
	n := startLive(t, e, true)
	n.listen("a/b", "x/#")
	quiet := func(when string) {
		t.Helper()
		for _, topic := range []string{"a/b", "x", "other"} {
			if n.Elsewhere(topic) {
				t.Errorf("%s: %s is published", when, topic)
			}
		}
	}
	quiet("alone")
	nc := visitor(t, e)
	sub, err := nc.SubscribeSync("mqtt0.other")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if !n.Elsewhere("other") {
		t.Error("a subscriber is passed over")
	}
	n.Publish(&sessions.Message{Topic: "other", Payload: []byte("hello")}, "")
	if m, err := sub.NextMsg(10 * time.Second); err != nil || string(m.Data) != "hello" || m.Header != nil {
		t.Errorf("got %v, %v", m, err)
	}
	nc.Close()
	eventually(t, "nobody is there", func() bool { return !n.Elsewhere("other") })
	quiet("alone again")

	js := visitor(t, e)
	stream, err := newJS(t, js).CreateStream(testContext(t), natsjs.StreamConfig{Name: "LIVE", Subjects: []string{"mqtt0.other"}})
	if err != nil {
		t.Fatal(err)
	}
	js.Close()
	eventually(t, "the stream is known", func() bool { return n.Elsewhere("other") })
	n.Publish(&sessions.Message{Topic: "other"}, "")
	eventually(t, "the stream has it", func() bool {
		info, err := stream.Info(testContext(t))
		return err != nil || info.State.Msgs == 1
	})
}

func TestLiveRequestsAndAnswers(t *testing.T) {
	e := startEmbedded(t)
	n, nc := startLive(t, e, true), visitor(t, e)
	n.listen("cmd")
	answer := &sessions.Message{Topic: "not used", Payload: []byte("done"), Properties: mqttcodec.MessageProperties{CorrelationData: []byte("7")}}

	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("mqtt0.cmd", inbox, nil); err != nil {
		t.Fatal(err)
	}
	asked := n.take(1)[0]
	if asked.Reply != inbox {
		t.Fatalf("got %+v", asked)
	}
	n.Answer(asked.Reply, answer)
	if m, err := sub.NextMsg(10 * time.Second); err != nil || string(m.Data) != "done" || m.Header.Get("Mqtt-Correlation-Data") != "Nw==" {
		t.Errorf("got %v, %v", m, err)
	}
	for _, reply := range []string{"$JS.API.INFO", "$KV.x.y", "mqtt.a", "mqtt0.a", "mqtt_journal.x", "mqtt_checkpoint.x", "dunlin.ctl", "_INBOX.dunlin.abc"} {
		if err := nc.PublishRequest("mqtt0.cmd", reply, nil); err != nil {
			t.Fatal(err)
		}
		if m := n.take(1)[0]; m.Reply != "" {
			t.Errorf("an answer would go to %s", m.Reply)
		}
	}

	if _, err := nc.Subscribe("mqtt0.svc", func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Data: m.Data, Header: nats.Header{"Nats-Service-Error": {"no"}, "Mqtt-Qos": {"2"}, "Mqtt-Retain": {"1"}}})
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	n.Publish(&sessions.Message{Topic: "svc", Payload: []byte("q")}, "token1")
	n.Publish(&sessions.Message{Topic: "nobody"}, "token2")
	for _, m := range n.take(2) {
		switch {
		case m.Token == "token1" && m.Message != nil:
			p := m.Message.Properties.UserProperties
			if string(m.Message.Payload) != "q" || m.Message.QoS != 0 || m.Message.Retain || !slices.Contains(p, mqttcodec.UserProperty{Key: "Nats-Service-Error", Value: "no"}) {
				t.Errorf("got %+v", m.Message)
			}
		case m.Token == "token2" && m.Message == nil: // no responders
		default:
			t.Errorf("got %+v", m)
		}
	}
}

// When the server has come back, so have the subscriptions.
func TestLiveGoesOnAfterALossOfTheConnection(t *testing.T) {
	server := jetstreamtest.StartNATS(t)
	n := &liveNode{t: t, stats: new(jetstream.Stats), changed: make(chan struct{}, 1)}
	n.run(func() (*nats.Conn, error) { return jetstream.Connect(server, server.Config.Logger) }, nil)
	n.listen("a/#", "$share/g/b")
	server.Restart()
	eventually(t, "both subscriptions are back", func() bool {
		publishAll(t, server.Conn, "mqtt0.a.x", "mqtt0.b")
		n.mu.Lock()
		defer n.mu.Unlock()
		var a, b bool
		for _, m := range n.received {
			a, b = a || m.Message.Topic == "a/x", b || m.Share == "$share/g/b"
		}
		return a && b
	})
	n.listen("c")
	publishAll(t, server.Conn, "mqtt0.c")
}

// Also when it is few messages that weigh much.
func TestLiveIsBoundedInBytes(t *testing.T) {
	e := startEmbedded(t)
	n, nc := startLive(t, e, true), visitor(t, e)
	n.listen("a")
	publishAll(t, nc, "mqtt0.a")
	n.wantPayloads("mqtt0.a")
	n.mu.Lock() // it takes nothing
	const messages = 300
	payload := make([]byte, 1<<20)
	for range messages {
		if err := nc.Publish("mqtt0.a", payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "drops are counted", func() bool { return n.stats.LiveOverrun.Load() >= messages-64-1 })
	n.mu.Unlock()
	eventually(t, "each message came or is counted", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return uint64(len(n.received))+n.stats.LiveOverrun.Load() == messages
	})
}

// What comes faster than it is handed over is dropped and counted.
func TestLiveCountsWhatItIsTooSlowFor(t *testing.T) {
	e := startEmbedded(t)
	n, nc := startLive(t, e, true), visitor(t, e)
	n.listen("a")
	n.mu.Lock() // it takes nothing
	for range 20_000 {
		if err := nc.Publish("mqtt0.a", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "drops are counted", func() bool { return n.stats.LiveOverrun.Load() > 0 })
	n.mu.Unlock()
	eventually(t, "each message came or is counted", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return uint64(len(n.received))+n.stats.LiveOverrun.Load() == 20_000
	})
	n.take(int(20_000 - n.stats.LiveOverrun.Load()))
	publishAll(t, nc, "mqtt0.a")
	n.wantPayloads("mqtt0.a")
}

// What cannot be published is counted: a topic that is too long, and what waits beyond its bound.
func TestLiveCountsWhatItCannotPublish(t *testing.T) {
	e := startEmbedded(t)
	n := startLive(t, e, true)
	n.Publish(&sessions.Message{Topic: strings.Repeat("a", jetstream.MaxSubject+1)}, "")
	if got := n.stats.LiveUnsent.Load(); got != 1 {
		t.Errorf("%d unsent", got)
	}
	n.Publish(&sessions.Message{Topic: "a", Payload: make([]byte, 9<<20)}, "") // more than the server takes
	eventually(t, "it is counted", func() bool { return n.stats.LiveUnsent.Load() == 2 })

	stopped, err := jetstream.OpenLive(e.Connect, e, testConfig(), n.stats) // nobody runs it
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Close()
	before := n.stats.LiveUnsent.Load()
	big := make([]byte, 1<<20)
	for range 40 {
		stopped.Publish(&sessions.Message{Topic: "a", Payload: big}, "")
	}
	if dropped := n.stats.LiveUnsent.Load() - before; dropped < 20 || dropped > 30 {
		t.Errorf("%d of 40 MiB dropped", dropped)
	}
	for range 20_000 {
		stopped.Publish(&sessions.Message{Topic: "a"}, "")
	}
	if dropped := n.stats.LiveUnsent.Load() - before; dropped < 20_000-(16<<10) {
		t.Errorf("%d dropped", dropped)
	}
}
