package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// topics begins all topics of a fleet; endTopic carries the markers behind the last message of each publisher.
const (
	topics   = "ledger/"
	endTopic = topics + "end/"
)

// Fleet is everybody who talks to the broker while faults happen.
type Fleet struct {
	Publishers []*Publisher
	Online     []*Subscriber // always there
	Returning  *Subscriber   // there now and then
	Away       []*Subscriber // there at the end

	t *testing.T
}

// NewFleet makes clients of both versions, with publishers at QoS 1 and 2, and subscribes the subscribers at an address.
func NewFleet(t *testing.T, address string) *Fleet {
	t.Helper()
	f := &Fleet{t: t, Returning: newSubscriber("returning", mqttcodec.V5, 2, topics+"#")}
	for i := range 4 {
		id := fmt.Sprint("publisher", i)
		f.Publishers = append(f.Publishers, newPublisher(id, harness.Versions[i%2], mqttcodec.QoS(1+i/2), topics+id))
	}
	for i, v := range harness.Versions {
		f.Online = append(f.Online, newSubscriber(fmt.Sprint("online", i), v, 2, topics+"#"))
		f.Away = append(f.Away, newSubscriber(fmt.Sprint("away", i), v, 2, topics+"#"))
	}
	for _, s := range f.Subscribers() {
		r, err := s.subscribe(t, address)
		if err != nil {
			t.Fatal(err)
		}
		r.Disconnect() // as a client that is away
	}
	return f
}

// Subscribers are all of them.
func (f *Fleet) Subscribers() []*Subscriber {
	return append(append([]*Subscriber{f.Returning}, f.Online...), f.Away...)
}

// clients are what publishers and subscribers have in common.
func (f *Fleet) clients() []*client {
	var all []*client
	for _, p := range f.Publishers {
		all = append(all, &p.client)
	}
	for _, s := range f.Subscribers() {
		all = append(all, &s.client)
	}
	return all
}

// Pace makes each publisher wait at least so long from one batch to the next.
func (f *Fleet) Pace(d time.Duration) {
	for _, p := range f.Publishers {
		p.pace = d
	}
}

// Roam makes some of the clients leave their connections now and then, in order or not, and go elsewhere; all clients look for
// another node when they have heard nothing for as long as patience.
func (f *Fleet) Roam(patience time.Duration, seed uint64) {
	for _, c := range f.clients() {
		c.patience = patience
	}
	for i, c := range []*client{&f.Publishers[1].client, &f.Publishers[2].client, &f.Online[1].client, &f.Returning.client} {
		c.restless = rand.New(rand.NewPCG(seed, uint64(i)))
	}
}

// Play runs one connection of each publisher and of some subscribers until the broker dies.
func (f *Fleet) Play(address string, subscribers []*Subscriber) (wait func()) {
	var clients sync.WaitGroup
	end := func(err error) {
		if errors.Is(err, ErrBroken) || errors.Is(err, ErrUnavailable) {
			f.t.Error(err)
		}
	}
	for _, p := range f.Publishers {
		clients.Go(func() { end(p.Run(f.t, address)) })
	}
	for _, s := range subscribers {
		clients.Go(func() { end(s.Run(f.t, address, 1<<30)) })
	}
	return clients.Wait
}

// PlayOn keeps each publisher and the subscribers that are online connected until stop is called: to one address until that
// connection ends, then to the next. Returning is away for longer, and there only if it roams.
func (f *Fleet) PlayOn(addresses ...string) (stop func()) {
	var clients sync.WaitGroup
	stopped := make(chan struct{})
	on := func(first int, rest time.Duration, run func(address string) error) {
		clients.Go(func() { keep(f.t, stopped, addresses, first, func() time.Duration { return rest }, run) })
	}
	const rest = 50 * time.Millisecond
	for i, p := range f.Publishers {
		on(i, rest, func(address string) error { return p.Run(f.t, address) })
	}
	for i, s := range f.Online {
		on(i, rest, func(address string) error { return s.Run(f.t, address, 1<<30) })
	}
	if f.Returning.restless != nil {
		on(0, 2*time.Second, func(address string) error { return f.Returning.Run(f.t, address, 1<<30) })
	}
	return func() {
		close(stopped)
		f.finish()
		for _, s := range f.Subscribers() {
			s.HangUp()
		}
		clients.Wait()
	}
}

// finish lets the publishers send nothing new.
func (f *Fleet) finish() {
	for _, p := range f.Publishers {
		p.finishing.Store(true)
	}
}

// Complete lets the publishers finish, sends a marker behind the last message of each, and lets all subscribers drain.
func (f *Fleet) Complete(b *harness.Broker) {
	f.t.Helper()
	f.finish()
	for _, c := range f.clients() {
		c.restless, c.patience = nil, 0
	}
	for _, p := range f.Publishers {
		must(f.t, p.id, func() error { return p.Run(f.t, b.MQTT) })
	}
	marker := b.ConnectRaw(f.t, harness.CleanConnect(mqttcodec.V5, "marker"))
	// Markers of QoS 1 and 2: order is promised for each on its own.
	marker.PublishAll([]mqttcodec.Publish{{Topic: endTopic + "1", QoS: 1}, {Topic: endTopic + "2", QoS: 2}})
	for _, s := range f.Subscribers() {
		must(f.t, s.id, func() error { return s.Run(f.t, b.MQTT, 2) })
	}
}

// must has a client connect until it has all. A node that has just come back may close it, but not again and again.
func must(t *testing.T, id string, run func() error) {
	t.Helper()
	harness.Eventually(t, 5*harness.Patience, id+" has all", func() error {
		err := run()
		if errors.Is(err, ErrBroken) {
			t.Fatal(err)
		}
		if err != nil {
			t.Logf("%s connects again: %v", id, err)
		}
		return err
	})
}

// Check compares what was received with what was sent, all of which is acknowledged, and fails the test where they differ.
func (f *Fleet) Check() Sum {
	sum := Sum{Subscribers: len(f.Subscribers())}
	for _, p := range f.Publishers {
		sum.Acknowledged += p.next
		for _, s := range f.Subscribers() {
			s.check(f.t, p, 0, &sum)
		}
	}
	for _, c := range f.clients() {
		sum.Losses = append(sum.Losses, c.losses...)
	}
	return sum
}
