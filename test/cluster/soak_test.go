package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
	"dunlin/test/ledger"
)

// shortSoak is a slice of what make cluster-soak does for longer.
const shortSoak = 10 * time.Second

// TestClusterSoak lets nodes, servers, and the networks between them, fail in many ways under load, one or two at a time, while
// clients go from node to node. Nothing that was acknowledged is lost, nothing comes twice at QoS 2, the order is kept, and nobody
// does anything but start again what was ended. [case 181] [case 182]
func TestClusterSoak(t *testing.T) {
	length, random := ledger.Soak(t, "DUNLIN_CLUSTER", shortSoak)
	c := start(t, harness.Set("sessions.max_queued_messages", 0), harness.Set("limits.connect_rate", 0))
	f := ledger.NewFleet(t, c.Brokers[0].MQTT)
	f.Pace(20 * time.Millisecond)
	f.Roam(patience, random.Uint64())
	stop := f.PlayOn(addressesOf(c.Brokers...)...)
	contest := startRivals(t, 5, 200*time.Millisecond, addressesOf(c.Brokers...))

	s := soak{t, c, random}
	count := map[string]int{}
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
		s.upTo(4 * time.Second)
		begin := time.Now()
		kinds := s.step()
		t.Logf("%s to %s: %s", begin.Format(time.StampMilli), time.Now().Format(time.StampMilli), strings.Join(kinds, " and "))
		for _, kind := range kinds {
			count[kind]++
		}
	}
	contest.end()
	stop()
	f.Complete(c.Brokers[random.IntN(len(c.Brokers))])
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, count[kind]))
	}
	t.Logf("%v; faults: %s; %d connections of rivals", f.Check(), strings.Join(kinds, ", "), contest.connections.Load())
	harness.Eventually(t, harness.Patience, "a client that ends the last rival", func() error {
		r := c.Brokers[0].Dial(t, mqttcodec.V5)
		r.Send(harness.PersistentConnect(mqttcodec.V5, "rival"))
		if ack := harness.Expect[*mqttcodec.Connack](r); ack.Reason != mqttcodec.Success { // a stream may still be without leader
			return fmt.Errorf("CONNECT refused: %#x", ack.Reason)
		}
		return nil
	})
	contest.running.Wait()
}

// soak plays faults.
type soak struct {
	t      *testing.T
	c      *harness.Cluster
	random *rand.Rand
}

// upTo lets some time pass.
func (s *soak) upTo(d time.Duration) { harness.Wait(time.Duration(s.random.Int64N(int64(d)))) }

// step plays a fault, now and then two at a time, and repairs what it has broken.
func (s *soak) step() (kinds []string) {
	faults := []func() string{s.kill, s.stop, s.pause, s.cut, s.disconnect, s.slow, s.killServer, s.stopServer, s.moveLeaders}
	if s.random.IntN(4) > 0 {
		return append(kinds, faults[s.random.IntN(len(faults))]())
	}
	server := s.server()
	server.Kill()
	defer server.Up()
	nodes := []func() string{s.kill, s.pause, s.cut, s.disconnect}
	return append(kinds, "NATS SIGKILL", nodes[s.random.IntN(len(nodes))]())
}

func (s *soak) broker() *harness.Broker { return s.c.Brokers[s.random.IntN(len(s.c.Brokers))] }

func (s *soak) server() *harness.NATSServer { return s.c.Servers[s.random.IntN(len(s.c.Servers))] }

func (s *soak) link() *harness.Link { return s.c.Links[s.random.IntN(len(s.c.Links))] }

func (s *soak) kill() string {
	b := s.broker()
	b.Kill()
	s.upTo(2 * deadAfter)
	b.Up()
	return "SIGKILL"
}

func (s *soak) stop() string {
	b := s.broker()
	s.awaitLeaders() // a broker whose writes are not answered does not end well
	b.Stop()
	s.upTo(2 * deadAfter)
	b.Up()
	return "SIGTERM"
}

func (s *soak) pause() string {
	b := s.broker()
	b.Pause()
	s.upTo(3 * deadAfter)
	b.Continue()
	return "SIGSTOP"
}

func (s *soak) cut() string {
	l := s.link()
	l.Cut()
	s.upTo(3 * deadAfter)
	l.Heal()
	return "network cut"
}

func (s *soak) disconnect() string {
	s.link().Break()
	return "connection to NATS lost"
}

func (s *soak) slow() string {
	l := s.link()
	l.Delay(20 * time.Millisecond)
	s.upTo(2 * deadAfter)
	l.Delay(0)
	return "network slow"
}

func (s *soak) killServer() string {
	server := s.server()
	server.Kill()
	s.upTo(2 * time.Second)
	server.Up()
	return "NATS SIGKILL"
}

func (s *soak) stopServer() string {
	server := s.server()
	server.Stop()
	s.upTo(2 * time.Second)
	server.Up()
	return "NATS SIGTERM"
}

// leading are the streams without whose leaders nothing goes on.
var leading = []string{"MQTT", "MQTT_JOURNAL", "KV_mqtt_sessions"}

// awaitLeaders waits until the streams have leaders.
func (s *soak) awaitLeaders() {
	nats := harness.NewNATSCommand(s.t, s.server().Address)
	for _, stream := range leading {
		harness.Eventually(s.t, harness.Patience, "leader of "+stream, func() error {
			out, err := nats.Try("stream", "info", stream, "--json")
			if err == nil && !strings.Contains(out, `"leader":`) {
				err = errors.New("none")
			}
			return err
		})
	}
}

func (s *soak) moveLeaders() string {
	nats := harness.NewNATSCommand(s.t, s.server().Address)
	for _, stream := range leading {
		if out, err := nats.Try("stream", "cluster", "step-down", stream); err != nil {
			s.t.Logf("%s keeps its leader: %v %s", stream, err, out)
		}
	}
	return "leaders moved"
}
