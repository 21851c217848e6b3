package cluster

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
	"dunlin/test/ledger"
)

const (
	// fewClients is the size of the slice of what make rolling-restart does with more.
	fewClients = 150
	// deliveriesPerSecond are those of all clients together.
	deliveriesPerSecond = 500
	// drainTimeout is nodes.drain_timeout.
	drainTimeout = 30 * time.Second
)

// The nodes are restarted one after another, as an operator does it, while clients are connected to all and publishers go on: each
// node ends well, its clients find their sessions on another, and nothing that was acknowledged is lost, or comes twice at QoS 2,
// or out of order. [case 49] [case 182]
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	clients := fewClients
	if value := os.Getenv("DUNLIN_ROLLING_CLIENTS"); value != "" {
		var err error
		if clients, err = strconv.Atoi(value); err != nil {
			t.Fatal(err)
		}
	}
	c := harness.StartCluster(t, 3, harness.DrainWithin(drainTimeout))
	crowd := ledger.StartCrowd(t, clients, deliveriesPerSecond, 1, addressesOf(c.Brokers...)...)
	restarts := make([]restart, len(c.Brokers))
	for i, b := range c.Brokers {
		c.AwaitState(b, "ready")
		restarts[i] = roll(t, c, b, i == 1)
	}
	c.AwaitState(c.Brokers[len(c.Brokers)-1], "ready")
	crowd.Complete()
	sum := crowd.Check()
	others := len(sum.Losses)
	for i, r := range restarts {
		losses := sum.Losses.Between(r.begun, r.back, c.Brokers[i].MQTT)
		t.Logf("node %d drained and ended in %v: %v", i, r.ended.Sub(r.begun).Round(time.Millisecond), losses)
		checkFarewells(t, losses)
		if others -= len(losses); len(losses) < clients/len(c.Brokers) {
			t.Errorf("of %d clients %d were sent to other nodes", clients, len(losses))
		}
	}
	t.Logf("%v; %d were lost by nodes that were not to end", sum, others)
}

// restart is when a node was told to end, had ended, and was back.
type restart struct{ begun, ended, back time.Time }

// roll restarts a node, which must end well and come back as the same: by a signal, or by the command of an operator.
func roll(t *testing.T, c *harness.Cluster, b *harness.Broker, byCommand bool) (r restart) {
	t.Helper()
	name := b.Node()
	r.begun = time.Now()
	if byCommand {
		c.Drain(b)
	} else {
		b.Terminate()
	}
	b.AwaitExit(drainTimeout + harness.StopLimit)
	r.ended = time.Now()
	b.Up()
	r.back = time.Now()
	if b.Node() != name {
		t.Errorf("node %s came back as %s", name, b.Node())
	}
	return r
}

// checkFarewells: clients of 5.0 were told to use another server, older ones nothing.
func checkFarewells(t *testing.T, losses ledger.Losses) {
	t.Helper()
	type farewell struct {
		version mqttcodec.Version
		reason  mqttcodec.ReasonCode
	}
	count := map[farewell]int{}
	for _, l := range losses {
		count[farewell{l.Version, l.Farewell}]++
	}
	for f, n := range count {
		want := mqttcodec.UseAnotherServer
		if f.version != mqttcodec.V5 {
			want = 0
		}
		if f.reason != want {
			t.Errorf("%d clients of %s were told %#x at the end of their connection, want %#x", n, harness.VersionName(f.version), f.reason, want)
		}
	}
}

// A node whose clients do not read drains until they are given up, or until a second SIGTERM: that ends it at once. The sessions are
// as they are after any drain. [case 182]
func TestSecondSignalEndsDrain(t *testing.T) {
	t.Parallel()
	c := start(t, harness.DrainWithin(10*time.Minute))
	const messages = 16 // more than there is room for in the buffers of a connection
	slow := map[string]mqttcodec.Version{}
	for i, v := range []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5, mqttcodec.V5} {
		id := fmt.Sprint("slow-", i)
		slow[id] = v
		c.Brokers[0].ConnectRaw(t, harness.PersistentConnect(v, id)).Subscribe(harness.Filter("slow/#", 1))
	}
	polite := c.Brokers[0].ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "polite"))
	publisher := c.Brokers[1].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, ""))
	for i := range messages {
		publisher.Publish(mqttcodec.Publish{Topic: "slow/large", QoS: 1, Payload: fmt.Appendf(nil, "%-*d", 512<<10, i)})
	}

	c.Brokers[0].Terminate()
	if p := harness.Expect[*mqttcodec.Disconnect](polite); p.Reason != mqttcodec.UseAnotherServer {
		t.Errorf("the client that reads got %+v", p)
	}
	polite.ExpectClosed()
	c.AwaitState(c.Brokers[0], "draining")
	c.Brokers[0].Terminate()
	c.Brokers[0].AwaitExit(harness.StopLimit)

	publisher.Publish(mqttcodec.Publish{Topic: "slow/end", QoS: 1})
	for id, v := range slow {
		var got []string
		for _, m := range c.Brokers[2].Resume(t, v, id).ReceiveUntil("slow/end") {
			got = append(got, strings.TrimSpace(string(m.Payload)))
		}
		if want := harness.Numbered("", 0, messages); !slices.Equal(got, want) {
			t.Errorf("%s got messages %q, want %q", id, got, want)
		}
	}
}
