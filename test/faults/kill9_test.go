package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// defaultRounds keeps go test ./... short; make kill9 sets DUNLIN_KILL9_ROUNDS to many more.
const defaultRounds = 3

// endTopic carries the markers behind the last message of each publisher.
const endTopic = "k9/end/"

// errBroken: the broker broke the protocol, which a dying connection does not excuse.
var errBroken = errors.New("the broker broke the protocol")

// errUnavailable: the broker says that it cannot serve a session now, as its storage is away.
var errUnavailable = errors.New("the broker has no storage")

// connect connects to a session, which must be there once the client has been met.
func connect(t testing.TB, address string, v mqttcodec.Version, id string, met *bool) (*harness.Raw, error) {
	r, err := harness.DialRaw(t, address, v)
	if err != nil {
		return nil, err
	}
	if err := r.TrySend(harness.PersistentConnect(v, id)); err != nil {
		r.Drop()
		return nil, err
	}
	packet, err := r.TryRead()
	if err != nil {
		r.Drop()
		return nil, err
	}
	connack, ok := packet.(*mqttcodec.Connack)
	switch {
	case ok && connack.Reason == mqttcodec.ServerUnavailable:
		r.Drop()
		return nil, fmt.Errorf("%w: %s", errUnavailable, id)
	case !ok || connack.Reason != mqttcodec.Success:
		r.Drop()
		return nil, fmt.Errorf("%w: CONNECT of %s answered with %T %+v", errBroken, id, packet, packet)
	case *met && !connack.SessionPresent:
		r.Drop()
		return nil, fmt.Errorf("%w: the session of %s is forgotten", errBroken, id)
	}
	*met = true
	return r, nil
}

// fleet is everybody who talks to the broker during the loop.
type fleet struct {
	t          *testing.T
	publishers []*publisher
	online     []*subscriber // there in every round
	returning  *subscriber   // there in every other round
	away       []*subscriber // there at the end
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t}
	for i := range 4 {
		v := harness.Versions[i%2]
		f.publishers = append(f.publishers, &publisher{id: fmt.Sprint("publisher", i), version: v, qos: mqttcodec.QoS(1 + i/2)})
	}
	for i, v := range harness.Versions {
		f.online = append(f.online, newSubscriber(fmt.Sprint("online", i), v))
		f.away = append(f.away, newSubscriber(fmt.Sprint("away", i), v))
	}
	f.returning = newSubscriber("returning", mqttcodec.V5)
	return f
}

func (f *fleet) subscribers() []*subscriber {
	return append(append([]*subscriber{f.returning}, f.online...), f.away...)
}

// play runs one connection of each given client until the broker dies.
func (f *fleet) play(b *harness.Broker, subscribers []*subscriber) (wait func()) {
	var clients sync.WaitGroup
	end := func(err error) {
		if errors.Is(err, errBroken) || errors.Is(err, errUnavailable) {
			f.t.Error(err)
		}
	}
	for _, p := range f.publishers {
		clients.Go(func() { end(p.run(f.t, b.MQTT)) })
	}
	for _, s := range subscribers {
		clients.Go(func() { end(s.run(f.t, b.MQTT, 1<<30)) })
	}
	return clients.Wait
}

// TestKill9Loop kills the broker under load, starts it again, and in the end lets everybody have everything.
// [MQTT-4.3.2-3] [MQTT-4.3.3-10] [MQTT-4.4.0-1] [MQTT-4.6.0-6] [MQTT-3.1.2-5] [case 80] [case 181]
func TestKill9Loop(t *testing.T) {
	rounds, seed := environment(t)
	for _, durability := range []string{"process", "fsync"} {
		t.Run(durability, func(t *testing.T) { kill9Loop(t, durability, rounds, seed) })
	}
}

func kill9Loop(t *testing.T, durability string, rounds int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	// The queues of those who are away may outgrow the default limit in a long run.
	b := harness.Start(t, harness.Set("storage.durability", durability), harness.Set("sessions.max_queued_messages", 0))
	f := newFleet(t)
	for _, s := range f.subscribers() {
		if err := s.subscribe(t, b.MQTT); err != nil {
			t.Fatal(err)
		}
	}
	for round := range rounds {
		present := f.online
		if round%2 == 1 {
			present = append([]*subscriber{f.returning}, f.online...)
		}
		wait := f.play(b, present)
		// From before the clients are all connected to well into the flow.
		harness.Wait(time.Duration(random.Int64N(int64(600 * time.Millisecond))))
		b.Kill()
		wait()
		for random.IntN(4) == 0 { // the broker may die again while it recovers
			b.FalseStart(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		}
		b.Up()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	f.complete(b)
	t.Logf("%d rounds, %s", rounds, f.check())
}

// check compares what was received with what was sent, all of which is acknowledged, and says how much that was.
func (f *fleet) check() string {
	sent := 0
	for _, p := range f.publishers {
		sent += p.next
		for _, s := range f.subscribers() {
			s.check(f.t, p)
		}
	}
	return fmt.Sprintf("%d messages acknowledged, each for %d subscribers", sent, len(f.subscribers()))
}

// environment reads how many rounds to play, and the seed to play them again.
func environment(t *testing.T) (rounds int, seed uint64) {
	t.Helper()
	rounds, seed = defaultRounds, rand.Uint64()
	if value := os.Getenv("DUNLIN_KILL9_ROUNDS"); value != "" {
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	if value := os.Getenv("DUNLIN_KILL9_SEED"); value != "" {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("DUNLIN_KILL9_ROUNDS=%d DUNLIN_KILL9_SEED=%d", rounds, seed)
	return rounds, seed
}

// complete lets the publishers finish, sends a marker behind the last message of each, and lets all subscribers drain.
func (f *fleet) complete(b *harness.Broker) {
	f.t.Helper()
	for _, p := range f.publishers {
		p.finishing.Store(true)
		if err := p.run(f.t, b.MQTT); err != nil {
			f.t.Fatalf("%s cannot finish: %v", p.id, err)
		}
	}
	marker := b.ConnectRaw(f.t, harness.CleanConnect(mqttcodec.V5, "marker"))
	// Markers of QoS 1 and 2: order is promised for each on its own.
	marker.PublishAll([]mqttcodec.Publish{{Topic: endTopic + "1", QoS: 1}, {Topic: endTopic + "2", QoS: 2}})
	for _, s := range f.subscribers() {
		if err := s.run(f.t, b.MQTT, 2); err != nil {
			f.t.Fatalf("%s cannot drain: %v", s.id, err)
		}
	}
}
