package faults

import (
	"strings"
	"testing"
	"time"

	"dunlin/test/harness"
	"dunlin/test/ledger"
)

// The soak is this long, with a fault so often: make nats-soak sets DUNLIN_NATS_SOAK to more, and then there is one each 20 s.
const (
	shortSoak       = 12 * time.Second
	shortFaultEvery = 4 * time.Second
	longFaultEvery  = 20 * time.Second
)

// TestNATSServersComeAndGo restarts servers of a cluster of three, by turns with SIGTERM and SIGKILL, and moves the leaders of the
// streams, under load. Nothing that was acknowledged is lost, nothing comes twice at QoS 2, the order is kept, and nobody
// restarts the broker.
func TestNATSServersComeAndGo(t *testing.T) {
	length, random := ledger.Soak(t, "DUNLIN_NATS", shortSoak)
	every := shortFaultEvery
	if length > shortSoak {
		every = longFaultEvery
	}
	servers := harness.StartNATSCluster(t, 3)
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.URL()
	}
	b := harness.Start(t, harness.WithExternalNATS(strings.Join(urls, ",")), harness.Set("sessions.max_queued_messages", 0))
	f := ledger.NewFleet(t, b.MQTT)
	f.Pace(2 * time.Millisecond)
	stop := f.PlayOn(b.MQTT)
	end := time.Now().Add(length)
	faults := 0
	for time.Now().Before(end) && !t.Failed() {
		harness.Wait(every)
		s := servers[random.IntN(len(servers))]
		switch random.IntN(3) {
		case 0:
			s.Kill()
			harness.Wait(time.Duration(random.Int64N(int64(2 * time.Second))))
			s.Up()
		case 1:
			s.Stop()
			harness.Wait(time.Duration(random.Int64N(int64(2 * time.Second))))
			s.Up()
		default:
			moveLeaders(t, s)
		}
		faults++
	}
	stop()
	f.Complete(b)
	t.Logf("%d faults in %v, %s", faults, length, f.Check())
}

// moveLeaders has other servers lead the streams.
func moveLeaders(t *testing.T, s *harness.NATSServer) {
	nats := harness.NewNATSCommand(t, s.Address)
	for _, stream := range []string{"MQTT", "MQTT_JOURNAL", "KV_mqtt_sessions"} {
		if out, err := nats.Try("stream", "cluster", "step-down", stream); err != nil {
			t.Logf("%s keeps its leader: %v %s", stream, err, out)
		}
	}
}

// The order is kept also where NATS services listen to what is published: while the stream has no leader the server then does not
// say that nobody takes a message, and those behind it, which the next leader takes, must not overtake it.
func TestLeadersMoveWhileServicesListen(t *testing.T) {
	servers := harness.StartNATSCluster(t, 3)
	b := harness.Start(t, harness.WithExternalNATS(servers[0].URL()))
	f := ledger.NewFleet(t, b.MQTT)
	f.Pace(20 * time.Millisecond) // the window of a publisher is open for longer than an election takes
	heard := harness.NewNATSCommand(t, servers[0].Address).Lines(t, "sub", "--raw", "mqtt.>")
	stop := f.PlayOn(b.MQTT)
	<-heard
	for range 2 {
		moveLeaders(t, servers[1])
		harness.Wait(3 * time.Second)
	}
	stop()
	f.Complete(b)
	t.Log(f.Check())
}
