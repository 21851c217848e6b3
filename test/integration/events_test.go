package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// A NATS program hears of each client when it comes, when and why it goes, and what becomes of its session.
func TestNATSHearsOfClients(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t, harness.WithNATS())
		l := harness.ListenToEvents(t, b)
		version := "protocol=" + harness.VersionName(v)

		d := harness.NewDevice(v, "plain")
		d.Connect(b, harness.Ephemeral).Disconnect()
		l.Expect("plain",
			"session.created "+version+" session_expiry_seconds=0 session_present=false clean_start=true listener=mqtt",
			"client.connected "+version+" session_expiry_seconds=0 session_present=false clean_start=true will=false",
			"client.disconnected "+version+" reason=normal_disconnection reason_code=0 by=client will_due=false")

		d = harness.NewDevice(v, "stays")
		d.Connect(b, harness.Persistent).Drop()
		l.Expect("stays", "session.created clean_start=false", "client.connected clean_start=false",
			"client.disconnected reason=connection_lost by=network reason_code=<nil>")
		first := d.Resume(b)
		l.Expect("stays", "session.resumed session_present=true", "client.connected session_present=true")

		second := b.ConnectRaw(t, harness.PersistentConnect(v, "stays"))
		l.Expect("stays", "session.taken_over reason=session_taken_over reason_code=142 by=server",
			"client.disconnected reason=session_taken_over reason_code=142 by=server", "session.resumed", "client.connected")
		first.Drop()

		second.SendBytes(0x10, 0x00)
		l.Expect("stays", "client.disconnected reason=protocol_error reason_code=130 by=server")
	})
}

// The addresses in an event are those of the client.
func TestEventsNameTheClientsAddress(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	l := harness.ListenToEvents(t, b)
	b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c"))
	for range 2 {
		e := l.Next()
		if host, port, err := net.SplitHostPort(fmt.Sprint(e["remote"])); err != nil || host != "127.0.0.1" || port == "" {
			t.Errorf("the client's address is %v", e["remote"])
		}
	}
}

// A session that its client does not come back to expires in time, also when the broker was down then.
func TestNATSHearsOfExpiry(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	l := harness.ListenToEvents(t, b)
	short := harness.PersistentConnect(mqttcodec.V5, "short")
	short.Properties.SessionExpirySeconds = mqttcodec.Some[uint32](1)
	b.ConnectRaw(t, short).Disconnect()
	l.Expect("short", "session.created session_expiry_seconds=1", "client.connected", "client.disconnected", "session.expired")
}

// A client with a keep alive that is silent is told of as such, with its will.
func TestNATSHearsOfSilentClients(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	l := harness.ListenToEvents(t, b)
	c := harness.CleanConnect(mqttcodec.V311, "silent")
	c.KeepAliveSeconds, c.Will = 1, &mqttcodec.Will{Topic: "will"}
	b.ConnectRaw(t, c)
	l.Expect("silent", "session.created", "client.connected keep_alive_seconds=1 will=true",
		"client.disconnected reason=keep_alive_timeout reason_code=141 by=server will_due=true")
}

// When the broker is told to stop, it is heard that all clients are disconnected.
func TestNATSHearsOfAShutdown(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	l := harness.ListenToEvents(t, b)
	const n = 20
	for i := range n {
		c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, fmt.Sprint("c", i)))
		defer c.Drop()
		l.Next()
		l.Next()
	}
	b.Stop()
	gone := map[any]bool{}
	for range n {
		e := l.Next()
		if e["type"] != "client.disconnected" || e["reason"] != "server_shutting_down" || e["reason_code"] != 139.0 {
			t.Errorf("got %v", e)
		}
		gone[e["client_id"]] = true
	}
	if len(gone) != n {
		t.Errorf("%d clients of %d are told of", len(gone), n)
	}
	b.Up()
}

// What a client cannot be sent is told of, those of a second together.
func TestNATSHearsOfDrops(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	small := harness.CleanConnect(mqttcodec.V5, "small")
	small.Properties.MaximumPacketSize = 200
	c := b.ConnectRaw(t, small)
	c.Subscribe(mqttcodec.SubscriptionRequest{Filter: "big", Options: mqttcodec.SubscriptionOptions{QoS: 1}})
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	l := harness.ListenToEvents(t, b)
	const n = 50
	publisher.PublishAll(harness.Messages("big", 1, strings.Repeat("x", 300), n))
	total, events := 0.0, 0
	for total < n {
		e := l.Next()
		if e["type"] != "message.dropped" || e["client_id"] != "small" || e["reason"] != "packet_too_large" {
			t.Fatalf("got %v", e)
		}
		count, _ := e["count"].(float64)
		total += count
		events++
	}
	if total > n || events > 10 {
		t.Errorf("%v drops in %d events, want %d", total, events, n)
	}
}

// With events turned off there are none.
func TestEventsCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS(), harness.Set("events.enabled", false))
	l := harness.ListenToEvents(t, b)
	b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c")).Disconnect()
	b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "d"))
	marker := fmt.Sprintf(`{"version":1,"type":"test.marker","time":%q,"node":"n","boot":"b"}`, time.Now().Format(time.RFC3339))
	if err := l.Conn.Publish("dunlin.event.test.marker", []byte(marker)); err != nil {
		t.Fatal(err)
	}
	if e := l.Next(); e["type"] != "test.marker" {
		t.Errorf("got %v", e)
	}
}

// The nats command line shows events while mosquitto's clients come and go.
func TestNATSCommandShowsEvents(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	l := harness.ListenToEvents(t, b)
	lines := harness.NewNATSCommand(t, b.NATS).Lines(t, "sub", "dunlin.event.client.>", "--raw")
	const marker = "marker"
	harness.Eventually(t, harness.Patience, "nats sub listens", func() error {
		if err := l.Conn.Publish("dunlin.event.client.marker", []byte(marker)); err != nil {
			return err
		}
		select {
		case <-lines:
			return nil
		default:
			return errors.New("it has shown nothing")
		}
	})
	host, port, err := net.SplitHostPort(b.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-i", "moss", "-t", "a", "-m", "x").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	var kinds []string
	for len(kinds) < 2 {
		line := nextLine(t, lines)
		if line == marker {
			continue
		}
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		kinds = append(kinds, fmt.Sprint(e["type"], " ", e["client_id"]))
	}
	if want := []string{"client.connected moss", "client.disconnected moss"}; !slices.Equal(kinds, want) {
		t.Errorf("nats sub showed %v, want %v", kinds, want)
	}
}

// nextLine waits for what a command prints next.
func nextLine(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatal("the command has ended")
		}
		return line
	case <-time.After(harness.Patience):
		t.Fatal("the command prints nothing")
	}
	return ""
}
