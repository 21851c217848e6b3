package external

import (
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// stream is a publisher that has so many messages under way as it may, one after another on one topic, and a subscriber to them.
type stream struct {
	t           *testing.T
	subscriber  *harness.Raw
	publisher   *harness.Raw
	says, hears *harness.Raw // QoS 0
	sent        int
}

func newStream(t *testing.T, b *harness.Broker) *stream {
	s := &stream{t: t, subscriber: b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "subscriber"))}
	s.subscriber.Subscribe(harness.Filter("a/#", 1))
	s.publisher = b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "publisher"))
	s.hears = b.ConnectRaw(s.t, harness.CleanConnect(mqttcodec.V311, "hears"))
	s.hears.Subscribe(harness.Filter("live/#", 0))
	s.says = b.ConnectRaw(s.t, harness.CleanConnect(mqttcodec.V311, "says"))
	return s
}

// send publishes n messages without waiting for their acknowledgements.
func (s *stream) send(n int) {
	for range n {
		s.sent++
		s.publisher.Send(&mqttcodec.Publish{Topic: "a/b", QoS: 1, PacketID: uint16(s.sent), Payload: fmt.Append(nil, s.sent)})
	}
}

// acknowledged reads n PUBACKs, which come in order.
func (s *stream) acknowledged(first, n int) {
	s.t.Helper()
	for i := range n {
		if p := harness.Expect[*mqttcodec.Puback](s.publisher); int(p.PacketID) != first+i || p.Reason >= 0x80 {
			s.t.Fatalf("PUBACK %d with reason %#x, want %d", p.PacketID, p.Reason, first+i)
		}
	}
}

// received reads messages up to the nth; one that was sent twice may come twice, in order.
func (s *stream) received(n int) {
	s.t.Helper()
	for next := 1; next <= n; {
		p := harness.Expect[*mqttcodec.Publish](s.subscriber)
		s.subscriber.Answer(p)
		var got int
		if _, err := fmt.Sscan(string(p.Payload), &got); err != nil || got > next {
			s.t.Fatalf("received %q, want %d or one before it", p.Payload, next)
		}
		if got == next {
			next++
		}
	}
}

// alive has a client answered its ping, and a QoS 0 message reach another one, without NATS.
func (s *stream) alive() {
	s.t.Helper()
	s.publisher.Send(&mqttcodec.Pingreq{})
	harness.Expect[*mqttcodec.Pingresp](s.publisher)
	s.says.Publish(mqttcodec.Publish{Topic: "live/now", Payload: []byte("0")})
	if p := harness.Expect[*mqttcodec.Publish](s.hears); string(p.Payload) != "0" {
		s.t.Errorf("QoS 0 while NATS is away: %q", p.Payload)
	}
}

// logged waits for a line of the broker's.
func logged(t *testing.T, b *harness.Broker, text string) {
	t.Helper()
	harness.Eventually(t, harness.Patience, "the broker logs "+text, func() error {
		if !strings.Contains(b.Log(), text) {
			return fmt.Errorf("log: %s", lastLine(b.Log()))
		}
		return nil
	})
}

// While the servers are away, or take nothing, nothing is acknowledged and clients stay; when they are back everything is
// stored and delivered once more, in order, without a restart.
func TestServersAwayAndBack(t *testing.T) {
	t.Parallel()
	const user = "users: [ { user: u, password: p } ]"
	for _, c := range []struct {
		name       string
		config     string
		away, back func(*harness.NATSServer)
	}{
		{name: "stopped", away: (*harness.NATSServer).Stop, back: (*harness.NATSServer).Up},
		{name: "killed", away: (*harness.NATSServer).Kill, back: (*harness.NATSServer).Up},
		{
			name: "JetStream off for the account", config: "accounts { A { jetstream: enabled, " + user + " } }\nno_auth_user: u",
			away: func(s *harness.NATSServer) { s.Reconfigure("jetstream: enabled, ", "") }, back: (*harness.NATSServer).Restore,
		},
		{
			name: "permission revoked", config: "authorization { users: [ { user: u, password: p, permissions: { publish: { allow: [ \">\" ], deny: [ \"nothing\" ] } } } ] }\nno_auth_user: u",
			away: func(s *harness.NATSServer) { s.Reconfigure(`"nothing"`, `"mqtt.>"`) }, back: (*harness.NATSServer).Restore,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := harness.StartNATSServer(t, c.config)
			b := harness.Start(t, harness.WithExternalNATS(s.URL()))
			stream := newStream(t, b)
			stream.send(50)
			stream.acknowledged(1, 50)
			c.away(s)
			stream.send(50)
			logged(t, b, "NATS takes no writes")
			stream.alive()
			if !stream.publisher.Silent(200 * time.Millisecond) {
				t.Error("something was acknowledged that cannot be stored")
			}
			c.back(s)
			stream.acknowledged(51, 50)
			logged(t, b, "NATS takes writes again")
			stream.send(50)
			stream.acknowledged(101, 50)
			stream.received(150)
		})
	}
}

// An account that is full refuses, and says so, instead of losing or hanging; when there is room again all goes on without a
// restart.
func TestAccountFullAndNot(t *testing.T) {
	t.Parallel()
	s := harness.StartNATSServer(t, "accounts { A { jetstream: { max_file: 4MB }, users: [ { user: u, password: p } ] } }\nno_auth_user: u")
	b := harness.Start(t, harness.WithExternalNATS(s.URL()), harness.Set("storage.max_bytes", "1MiB"), harness.Set("delayed.enabled", false))
	subscriber := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "subscriber"))
	subscriber.Subscribe(harness.Filter("a", 1))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, Payload: []byte("before")})
	subscriber.Answer(harness.Expect[*mqttcodec.Publish](subscriber))
	subscriber.Disconnect()

	ctx, js := harness.Context(t), b.JetStream(t)
	if _, err := js.CreateStream(ctx, natsjs.StreamConfig{Name: "FILL", Subjects: []string{"fill"}}); err != nil {
		t.Fatal(err)
	}
	for size := 200_000; size > 0; size /= 4 {
		for {
			if _, err := js.Publish(ctx, "fill", make([]byte, size)); err != nil {
				break
			}
		}
	}
	r := b.Dial(t, mqttcodec.V5)
	r.Send(harness.PersistentConnect(mqttcodec.V5, "new"))
	if connack := harness.Expect[*mqttcodec.Connack](r); connack.Reason < 0x80 {
		t.Errorf("a session was promised that is not stored: %+v", connack)
	}
	publisher.Send(&mqttcodec.Publish{Topic: "a", QoS: 1, PacketID: 7, Payload: []byte("full")})
	stored := harness.Expect[*mqttcodec.Puback](publisher).Reason < 0x80

	if err := js.DeleteStream(ctx, "FILL"); err != nil {
		t.Fatal(err)
	}
	b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "new"))
	publisher.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, Payload: []byte("after")})
	subscriber = b.Resume(t, mqttcodec.V5, "subscriber")
	want := []string{"after"}
	if stored {
		want = []string{"full", "after"}
	}
	for _, w := range want {
		p := harness.Expect[*mqttcodec.Publish](subscriber)
		subscriber.Answer(p)
		if string(p.Payload) != w {
			t.Errorf("received %q, want %q", p.Payload, w)
		}
	}
}
