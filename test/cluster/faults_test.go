package cluster

import (
	"fmt"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
	"dunlin/test/ledger"
)

// patience is how long a client of a fleet hears nothing before it goes to another node.
const patience = 2 * time.Second

// addressesOf are the nodes in the order in which clients try them.
func addressesOf(brokers ...*harness.Broker) []string {
	var addresses []string
	for _, b := range brokers {
		addresses = append(addresses, b.MQTT)
	}
	return addresses
}

// leftBehind are clients of a node that is about to be lost and that do not come back: one has a will with a delay, one a session
// that is to expire, one is in no hurry.
type leftBehind struct {
	watcher *harness.Raw
	waiting *harness.Raw
}

func leaveBehind(t *testing.T, lost, other *harness.Broker) *leftBehind {
	l := &leftBehind{watcher: other.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "watcher"))}
	l.watcher.Subscribe(harness.Filter("left/#", 1))
	for id, expiry := range map[string]uint32{"delayed will": 3600, "ended will": 1} {
		connect := harness.PersistentConnect(mqttcodec.V5, id)
		connect.Properties.SessionExpirySeconds = mqttcodec.Some(expiry)
		connect.Will = &mqttcodec.Will{Topic: "left/" + id, Payload: []byte(id), QoS: 1, DelaySeconds: 1}
		lost.ConnectRaw(t, connect)
	}
	clean := harness.CleanConnect(mqttcodec.V5, "clean will")
	clean.Will = &mqttcodec.Will{Topic: "left/clean", Payload: []byte("clean will"), QoS: 1}
	lost.ConnectRaw(t, clean)
	connect := harness.PersistentConnect(mqttcodec.V5, "expiring")
	connect.Properties.SessionExpirySeconds = mqttcodec.Some[uint32](1)
	lost.ConnectRaw(t, connect)
	l.waiting = lost.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "waiting"))
	l.waiting.Subscribe(harness.Filter("waiting", 1))
	return l
}

// check waits for the wills, each of which comes once, and the end of the session that expires, as nodes see it that are left.
func (l *leftBehind) check(t *testing.T, left *harness.Broker) {
	t.Helper()
	wills := map[string]int{}
	for len(wills) < 3 {
		wills[string(next(l.watcher).Payload)]++
	}
	js := left.JetStream(t)
	harness.Eventually(t, harness.Patience, "the session ends", func() error {
		traces, err := harness.SessionTraces(harness.Context(t), js, "expiring")
		if err == nil && len(traces) > 0 {
			err = fmt.Errorf("there is %q", traces)
		}
		return err
	})
	left.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "")).Publish(mqttcodec.Publish{Topic: "left/end", QoS: 1})
	if got := l.watcher.ReceiveUntil("left/end"); len(got) != 0 {
		t.Errorf("wills came again: %q", payloads(got))
	}
}

// awaitRecovery waits until a node has the session of a client that was left behind, and stores what it publishes.
func awaitRecovery(t *testing.T, b *harness.Broker) {
	t.Helper()
	harness.Eventually(t, harness.Patience, "the node serves its clients again", func() error {
		r, err := harness.DialRaw(t, b.MQTT, mqttcodec.V5)
		if err != nil {
			return err
		}
		defer r.Drop()
		if err := r.TrySend(harness.PersistentConnect(mqttcodec.V5, "waiting")); err != nil {
			return err
		}
		p, err := r.TryRead()
		if err != nil {
			return err
		}
		if a, ok := p.(*mqttcodec.Connack); !ok || a.Reason != mqttcodec.Success || !a.SessionPresent {
			return fmt.Errorf("CONNECT answered with %T %+v", p, p)
		}
		return r.TryPublishAll([]mqttcodec.Publish{{Topic: "recovered", QoS: 1}, {Topic: "recovered", QoS: 2}})
	})
}

// faulty starts a cluster on which a fleet plays while its first node is lost.
func faulty(t *testing.T) (*harness.Cluster, *ledger.Fleet, *leftBehind) {
	t.Helper()
	c := start(t)
	f := ledger.NewFleet(t, c.Brokers[0].MQTT)
	f.Pace(5 * time.Millisecond)
	f.Roam(patience, 1)
	return c, f, leaveBehind(t, c.Brokers[0], c.Brokers[1])
}

// The clients of a node that is killed go on at once on others: sessions present, nothing acknowledged lost, nothing twice at
// QoS 2. What the node would have done later, wills and the end of sessions, others do, once.
// [MQTT-4.4.0-1] [MQTT-3.1.3-9] [case 58] [case 182]
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	c, f, left := faulty(t)
	stop := f.PlayOn(addressesOf(c.Brokers...)...)
	harness.Wait(time.Second)
	c.Brokers[0].Kill()
	left.waiting.Drop()
	left.waiting = c.Brokers[2].Resume(t, mqttcodec.V5, "waiting")
	left.waiting.Subscribe(harness.Filter("waiting/too", 1))
	left.check(t, c.Brokers[1])
	c.Brokers[0].Up()
	harness.Wait(time.Second)
	stop()
	f.Complete(c.Brokers[2])
	t.Log(f.Check())
}

// A node that hangs is given up by the others. When it goes on it finds that its sessions are not its own any more: it closes
// what it has, and neither its clients nor others get anything from it that is not theirs. [case 182]
func TestNodeHangs(t *testing.T) {
	t.Parallel()
	c, f, left := faulty(t)
	stop := f.PlayOn(addressesOf(c.Brokers...)...)
	harness.Wait(time.Second)
	c.Brokers[0].Pause()
	moved := c.Brokers[2].Resume(t, mqttcodec.V5, "waiting")
	moved.Subscribe(harness.Filter("waiting/too", 1))
	left.check(t, c.Brokers[1])
	harness.Wait(deadAfter)
	c.Brokers[0].Continue()
	for _, p := range left.waiting.ExpectClosed() {
		if m, ok := p.(*mqttcodec.Publish); ok {
			t.Errorf("a connection that was given up got %q", m.Payload)
		}
	}
	c.Brokers[1].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "")).PublishAll([]mqttcodec.Publish{{Topic: "waiting", QoS: 1}, {Topic: "waiting/too", QoS: 1}})
	if got := moved.ReceiveUntil("waiting/too"); len(got) != 1 {
		t.Errorf("the session that has moved got %q", payloads(got))
	}
	awaitRecovery(t, c.Brokers[0])
	stop()
	f.Complete(c.Brokers[0])
	t.Log(f.Check())
}

// A node that is cut off from NATS closes its persistent clients, who go elsewhere; when it is not any more it is as good as
// before, and nobody restarts it. [case 182]
func TestNodeCutOff(t *testing.T) {
	t.Parallel()
	c, f, left := faulty(t)
	stop := f.PlayOn(addressesOf(c.Brokers...)...)
	harness.Wait(time.Second)
	c.Links[0].Cut()
	left.waiting.ExpectClosed()
	left.waiting = c.Brokers[2].Resume(t, mqttcodec.V5, "waiting")
	left.check(t, c.Brokers[1])
	c.Links[0].Heal()
	awaitRecovery(t, c.Brokers[0])
	stop()
	f.Complete(c.Brokers[0])
	t.Log(f.Check())
}

// A node that is told to end says so to its clients, who find their sessions elsewhere, and loses nothing. [case 49]
func TestNodeStops(t *testing.T) {
	t.Parallel()
	c, f, left := faulty(t)
	stop := f.PlayOn(addressesOf(c.Brokers...)...)
	harness.Wait(time.Second)
	c.Brokers[0].Stop()
	var farewell *mqttcodec.Disconnect
	for _, p := range left.waiting.ExpectClosed() {
		farewell, _ = p.(*mqttcodec.Disconnect)
	}
	if farewell == nil || farewell.Reason != mqttcodec.ServerShuttingDown && farewell.Reason != mqttcodec.UseAnotherServer {
		t.Errorf("the node's last word is %+v", farewell)
	}
	left.waiting = c.Brokers[2].Resume(t, mqttcodec.V5, "waiting")
	left.check(t, c.Brokers[1])
	stop()
	f.Complete(c.Brokers[1])
	t.Log(f.Check())
}
