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

const (
	// crowdPublishers is how many publishers at QoS 1 a crowd has, beside the one at QoS 2.
	crowdPublishers = 4
	// connectingAtOnce is how many of a crowd are made at the same time.
	connectingAtOnce = 50
	// silence is how long a subscriber of a crowd may get nothing without giving its connection up: for ever.
	silence = time.Hour
)

// Crowd is many subscribers, each with a topic of its own and one that is common to all, and the publishers to these. They are
// connected all the time, to one node after another: who loses a connection is back after 50 to 250 ms, as clients are that are
// written with care.
type Crowd struct {
	t           *testing.T
	addresses   []string
	publishers  []*Publisher
	subscribers []*Subscriber

	publishing, subscribed          sync.WaitGroup
	stopPublishing, stopSubscribers chan struct{}
}

// StartCrowd makes n subscribers, spread over the nodes, and keeps them connected. A third of them speaks 3.1.1, the others 5.0; a
// tenth is subscribed at QoS 2, the others at QoS 1. Publishers let all topics have their turn, so that there are that many
// deliveries in a second.
func StartCrowd(t *testing.T, n, perSecond int, seed uint64, addresses ...string) *Crowd {
	t.Helper()
	c := &Crowd{t: t, addresses: addresses, stopPublishing: make(chan struct{}), stopSubscribers: make(chan struct{})}
	const common = topics + "common"
	atQoS := map[mqttcodec.QoS][]string{2: {common}}
	for i := range n {
		version, qos, own := mqttcodec.V5, mqttcodec.QoS(1), fmt.Sprint(topics, "own/", i)
		if i/len(addresses)%3 == 0 {
			version = mqttcodec.V311
		}
		if i%10 == 0 {
			qos = 2
		}
		s := newSubscriber(fmt.Sprint("crowd-", i), version, qos, own, common)
		s.patience = silence
		atQoS[qos] = append(atQoS[qos], own)
		c.subscribers = append(c.subscribers, s)
	}
	c.publishers = append(c.publishers, newPublisher("crowd-exactly-once", mqttcodec.V5, 2, atQoS[2]...))
	for i := range crowdPublishers {
		var share []string
		for k := i; k < len(atQoS[1]); k += crowdPublishers {
			share = append(share, atQoS[1][k])
		}
		c.publishers = append(c.publishers, newPublisher(fmt.Sprint("crowd-publisher-", i), harness.Versions[i%2], 1, share...))
	}
	c.gather(seed)
	// Half of the deliveries are those of the common topic. A publisher sends one message, to one of its topics, in each pace.
	for i, p := range c.publishers {
		p.pace = time.Duration(2*n) * time.Second / time.Duration(perSecond*len(p.topics))
		c.publishing.Go(func() {
			keep(t, c.stopPublishing, addresses, i, backOff(seed, n+i), func(address string) error { return p.Run(t, address) })
		})
	}
	return c
}

// gather makes the sessions of the subscribers, who then stay.
func (c *Crowd) gather(seed uint64) {
	c.t.Helper()
	places := make(chan struct{}, connectingAtOnce)
	var made sync.WaitGroup
	for i, s := range c.subscribers {
		made.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			r, err := s.subscribe(c.t, c.addresses[i%len(c.addresses)])
			if err != nil {
				c.t.Error(err)
				return
			}
			c.subscribed.Go(func() {
				keep(c.t, c.stopSubscribers, c.addresses, i, backOff(seed, i), func(address string) error {
					if first := r; first != nil {
						r = nil
						return s.serve(first, 1)
					}
					return s.Run(c.t, address, 1)
				})
			})
		})
	}
	made.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// backOff is how long a client waits before it connects again.
func backOff(seed uint64, client int) func() time.Duration {
	random := rand.New(rand.NewPCG(seed, uint64(client)))
	return func() time.Duration {
		return 50*time.Millisecond + time.Duration(random.Int64N(int64(200*time.Millisecond)))
	}
}

// Complete lets the publishers finish, waits until all subscribers are connected and have everything, and ends their connections.
// All nodes must be there.
func (c *Crowd) Complete() {
	c.t.Helper()
	close(c.stopPublishing)
	var sent int64
	for _, p := range c.publishers {
		p.finishing.Store(true)
	}
	c.publishing.Wait()
	for i, p := range c.publishers {
		must(c.t, p.id, func() error { return p.Run(c.t, c.addresses[i%len(c.addresses)]) })
		sent += int64(p.next)
	}
	sent += int64(c.publishers[0].sent(0) * (len(c.subscribers) - 1)) // the common topic
	if err := harness.Within(5*harness.Patience, func() error {
		var got int64
		away := 0
		for _, s := range c.subscribers {
			if got += s.got.Load(); !s.connected() {
				away++
			}
		}
		if got < sent || away > 0 {
			return fmt.Errorf("%d of %d deliveries have come; %d subscribers are not connected", got, sent, away)
		}
		return nil
	}); err != nil {
		c.t.Error(err)
	}
	c.leave()
}

// leave ends the connections of the subscribers.
func (c *Crowd) leave() {
	c.t.Helper()
	close(c.stopSubscribers)
	left := make(chan struct{})
	go func() {
		c.subscribed.Wait()
		close(left)
	}()
	harness.Eventually(c.t, harness.Patience, "the subscribers leave", func() error {
		for _, s := range c.subscribers {
			s.HangUp() // again: it may have been about to connect
		}
		select {
		case <-left:
			return nil
		default:
			return errors.New("some are connected")
		}
	})
}

// Check compares what was received with what was sent, all of which is acknowledged, and fails the test where they differ.
func (c *Crowd) Check() Sum {
	c.t.Helper()
	sum := Sum{Subscribers: len(c.subscribers)}
	byTopic := map[string]*Subscriber{}
	for _, s := range c.subscribers {
		s.check(c.t, c.publishers[0], 0, &sum)
		byTopic[s.filters[0]] = s
		sum.Losses = append(sum.Losses, s.losses...)
	}
	for _, p := range c.publishers {
		sum.Acknowledged += p.next
		for i, topic := range p.topics {
			if s := byTopic[topic]; s != nil {
				s.check(c.t, p, i, &sum)
			}
		}
		sum.Losses = append(sum.Losses, p.losses...)
	}
	return sum
}
