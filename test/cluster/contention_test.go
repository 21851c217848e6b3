package cluster

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// rivals are as many clients as there may be that all use one client identifier, each connecting again as soon as it is closed.
// Each connection subscribes to a topic of its own, and publishes there: nothing else may come on it.
type rivals struct {
	t         *testing.T
	addresses []string
	rest      time.Duration // from one connection of a client to the next
	stop      chan struct{}
	running   sync.WaitGroup

	connections, connecting, open, working atomic.Int64
}

func startRivals(t *testing.T, n int, rest time.Duration, addresses []string) *rivals {
	r := &rivals{t: t, rest: rest, addresses: addresses, stop: make(chan struct{})}
	for i := range n {
		r.running.Go(func() { r.run(i) })
	}
	return r
}

// end lets nobody connect any more who was beaten by another, and returns when one connection is left, which works.
func (r *rivals) end() {
	r.t.Helper()
	close(r.stop)
	harness.Eventually(r.t, harness.Patience, "one connection is left", func() error {
		open, working, connecting := r.open.Load(), r.working.Load(), r.connecting.Load()
		if open != 1 || working != 1 || connecting > 0 {
			return fmt.Errorf("%d are open, %d had their message, %d have no answer to CONNECT", open, working, connecting)
		}
		return nil
	})
}

func (r *rivals) run(number int) {
	beaten := false
	for i := number; ; i++ {
		select {
		case <-r.stop:
			if beaten {
				return
			}
			harness.Wait(r.rest) // its node was lost: it has not had its turn
		case <-time.After(r.rest):
		}
		c, err := harness.DialRaw(r.t, r.addresses[i%len(r.addresses)], mqttcodec.V5)
		if err != nil {
			continue // that node is away
		}
		c.Patience = 3 * harness.Patience // one that is not closed must be found
		beaten = r.connection(c, number%2 == 0)
		c.Drop()
	}
}

// connect sends CONNECT. Who is not let in may be beaten: somebody else has connected later.
func (r *rivals) connect(c *harness.Raw, clean bool) (connected, beaten bool) {
	r.connecting.Add(1)
	defer r.connecting.Add(-1)
	connect := harness.PersistentConnect(mqttcodec.V5, "rival")
	connect.CleanStart = clean
	if c.TrySend(connect) != nil {
		return false, false
	}
	p, err := c.TryRead()
	if err != nil {
		return false, false
	}
	a, ok := p.(*mqttcodec.Connack)
	switch {
	case !ok:
		r.t.Errorf("CONNECT answered with %T %+v", p, p)
	case a.Reason == mqttcodec.Success:
		r.open.Add(1)
		return true, false
	case a.Reason != mqttcodec.ServerBusy && a.Reason != mqttcodec.ServerUnavailable && a.Reason != mqttcodec.ServerShuttingDown && a.Reason != mqttcodec.UseAnotherServer:
		r.t.Errorf("CONNECT refused with %#x", a.Reason)
	}
	return false, ok && a.Reason == mqttcodec.ServerBusy
}

// connection is one connection until it ends, and reports whether another one has ended it.
func (r *rivals) connection(c *harness.Raw, clean bool) (beaten bool) {
	n := r.connections.Add(1)
	if connected, beaten := r.connect(c, clean); !connected {
		return beaten
	}
	defer r.open.Add(-1)
	working := false
	defer func() {
		if working {
			r.working.Add(-1)
		}
	}()
	own := fmt.Sprint("rivals/", n)
	_ = c.TrySend(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{harness.Filter(own, 1)}},
		&mqttcodec.Publish{Topic: own, QoS: 1, PacketID: 2}) // if it is closed the read says why
	for {
		p, err := c.TryRead()
		if err != nil {
			return beaten
		}
		switch p := p.(type) {
		case *mqttcodec.Disconnect:
			beaten = p.Reason == mqttcodec.SessionTakenOver
		case *mqttcodec.Publish:
			// A session that was not begun anew has the subscriptions of those before.
			if clean && p.Topic != own {
				r.t.Errorf("a new session that is subscribed to %s got %s", own, p.Topic)
			}
			if p.Topic == own && !working {
				working = true
				r.working.Add(1)
			}
			_ = c.TrySend(&mqttcodec.Puback{PacketID: p.PacketID}) // as above
		}
	}
}

// 50 clients at a time connect with one client identifier, for some seconds: in the end one is connected, and works; whoever
// connects then gets the session. [MQTT-3.1.4-3] [case 182]
func TestOneOfManyRivals(t *testing.T) {
	t.Parallel()
	c := start(t, harness.Set("limits.connect_rate", 0))
	for round := range 3 {
		r := startRivals(t, 50, 10*time.Millisecond, addressesOf(c.Brokers...))
		harness.Wait(2 * time.Second)
		r.end()
		t.Logf("%d connections", r.connections.Load())
		for i := range c.Brokers { // the last of these ends what is left of the others
			connect := harness.PersistentConnect(mqttcodec.V5, "rival")
			connect.CleanStart = i == 0
			last := c.Brokers[(round+i)%3].ConnectRaw(t, connect)
			topic := fmt.Sprintf("rival/%d/%d", round, i)
			last.Subscribe(harness.Filter(topic, 1))
			c.Brokers[i].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "")).Publish(mqttcodec.Publish{Topic: topic, QoS: 1})
			if got := last.ReceiveUntil(topic); len(got) != 0 {
				t.Errorf("a session got %q of another", payloads(got))
			}
		}
		r.running.Wait()
	}
}
