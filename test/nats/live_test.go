package nats

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// What a NATS program publishes on the live plane reaches MQTT subscribers at QoS 0, once, in order, whatever filters they and
// others have; what MQTT clients publish at QoS 0 reaches NATS subscribers.
func TestLivePlane(t *testing.T) {
	t.Parallel()
	settings(t, func(t *testing.T, start func(...harness.Option) *harness.Broker) {
		b := start()
		nc := connectNATS(t, b.NATS)
		for _, v := range []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5} {
			prefix := fmt.Sprintf("v%d", v)
			one := harness.NewDevice(v, prefix+"one").Connect(b, harness.Ephemeral)
			two := harness.NewDevice(v, prefix+"two").Connect(b, harness.Ephemeral)
			for _, filter := range []string{prefix + "/+", "+/b", prefix + "/#", prefix + "/b", "#"} {
				two.Subscribe(filter, 2)
			}
			one.Subscribe(prefix+"/b", 1)
			want := harness.Numbered("m", 0, 500)
			for _, payload := range want {
				if err := nc.Publish("mqtt0."+prefix+".b", []byte(payload)); err != nil {
					t.Fatal(err)
				}
			}
			one.ExpectPayloads(want...)
			two.ExpectPayloads(want...)
			publishNATS(t, nc, &nats.Msg{Subject: "mqtt0." + prefix, Data: []byte("parent")})
			two.ExpectPayloads("parent")
			if m := receiveQoS(t, nc, one, "mqtt0."+prefix+".b"); m != 0 {
				t.Errorf("QoS %d", m)
			}

			sub := subscribeNATS(t, nc, "mqtt0.>")
			one.Publish(prefix+"/x y", 0, "live")
			one.Publish(prefix+"/stored", 1, "stored")
			one.PublishRetained("$"+prefix+"/kept", 0, "kept")
			one.Publish(prefix+"/end", 0, "end")
			if m := next(t, sub); m.Subject != "mqtt0."+prefix+".x=20y" || string(m.Data) != "live" || len(m.Header) > 0 {
				t.Errorf("got %q on %s with %v", m.Data, m.Subject, m.Header)
			}
			if m := next(t, sub); string(m.Data) != "end" {
				t.Errorf("got %q on %s", m.Data, m.Subject)
			}
		}
	})
}

// receiveQoS is the QoS at which a message comes that says otherwise.
func receiveQoS(t *testing.T, nc *nats.Conn, c *harness.Client, subject string) byte {
	t.Helper()
	publishNATS(t, nc, &nats.Msg{Subject: subject, Header: nats.Header{"Mqtt-Qos": {"2"}, "Mqtt-Retain": {"1"}}})
	m := c.Receive()
	if m.Retain {
		t.Error("it is retained")
	}
	return m.QoS
}

// The first thing that is published behind SUBACK comes, and topics that are the server's own do not.
func TestLivePlaneIsHeardBehindSuback(t *testing.T) {
	t.Parallel()
	settings(t, func(t *testing.T, start func(...harness.Option) *harness.Broker) {
		b := start()
		nc := connectNATS(t, b.NATS)
		c := connectRaw(t, b, mqttcodec.V5, "c")
		c.Subscribe(harness.Filter("$reply/#", 0), harness.Filter("$SYS/#", 0), harness.Filter("$other/#", 0))
		for i := range 50 {
			filter := fmt.Sprintf("f/%d", i)
			c.Subscribe(harness.Filter(filter, 1))
			for _, subject := range []string{"$reply.x", "$SYS.x", "a=b", "$other.x", "f." + fmt.Sprint(i)} {
				publishNATS(t, nc, &nats.Msg{Subject: "mqtt0." + subject, Data: []byte(subject)})
			}
			publishNATS(t, nc, &nats.Msg{Subject: "mqtt.$reply.x", Data: []byte("forged")})
			if p := harness.Expect[*mqttcodec.Publish](c); p.Topic != "$other/x" {
				t.Fatalf("got %+v", p)
			}
			if p := harness.Expect[*mqttcodec.Publish](c); p.Topic != filter {
				t.Fatalf("got %+v", p)
			}
		}
	})
}

// Filters come and go while messages of others flow: a subscriber gets each of them, once.
func TestLivePlaneIsSteadyWhileFiltersChange(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nc := connectNATS(t, b.NATS)
	steady := harness.NewDevice(mqttcodec.V5, "steady").Connect(b, harness.Ephemeral)
	steady.Subscribe("a/b", 0)
	other := harness.NewDevice(mqttcodec.V5, "other").Connect(b, harness.Ephemeral)
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for range 20 {
			for _, filter := range []string{"#", "a/#", "+/b", "a/+"} {
				other.Subscribe(filter, 0)
			}
			for _, filter := range []string{"#", "a/#", "+/b", "a/+"} {
				other.Unsubscribe(filter)
			}
		}
	}()
	for sent := 0; ; {
		const burst = 64 // never more on its way, so that nothing has to be dropped
		payloads := harness.Numbered("", sent, burst)
		for _, payload := range payloads {
			if err := nc.Publish("mqtt0.a.b", []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		sent += burst
		steady.ExpectPayloads(payloads...)
		select {
		case <-changed:
			return
		default:
		}
	}
}

// Over several nodes one member of a share gets each message, whoever publishes it.
func TestLivePlaneOfSeveralNodes(t *testing.T) {
	t.Parallel()
	s := harness.StartNATSServer(t)
	var nodes []*harness.Broker
	var members []*harness.Raw
	for range 2 {
		nodes = append(nodes, harness.Start(t, harness.WithExternalNATS(s.URL()), harness.WithoutDataDir()))
	}
	nc := connectNATS(t, s.Address)
	everything := harness.NewDevice(mqttcodec.V5, "everything").Connect(nodes[1], harness.Ephemeral)
	everything.Subscribe("jobs/#", 0)
	shared := make(chan string, 1<<12)
	for i := range 4 {
		c := connectRaw(t, nodes[i%2], mqttcodec.V5, fmt.Sprint("member", i))
		c.Subscribe(harness.Filter("$share/g/jobs/#", 0))
		members = append(members, c)
	}
	counts := make([]atomic.Int64, len(members))
	for i, c := range members {
		go func() {
			for p, err := c.TryRead(); err == nil; p, err = c.TryRead() {
				if p, ok := p.(*mqttcodec.Publish); ok {
					counts[i].Add(1)
					shared <- string(p.Payload)
				}
			}
		}()
	}
	publisher := harness.NewDevice(mqttcodec.V5, "publisher").Connect(nodes[0], harness.Ephemeral)
	for round := range 2 { // what came twice in the first is found in the second
		var want, all, got []string
		for i := range 200 {
			fromClient, fromService := fmt.Sprint("c", round, " ", i), fmt.Sprint("s", round, " ", i)
			want = append(want, fromClient, fromService)
			publisher.Publish("jobs/x", 0, fromClient)
			publishNATS(t, nc, &nats.Msg{Subject: "mqtt0.jobs.y", Data: []byte(fromService)})
		}
		for range want {
			all = append(all, everything.Receive().Payload)
			select {
			case payload := <-shared:
				got = append(got, payload)
			case <-time.After(harness.Patience):
				t.Fatalf("the members have got %d messages of %d", len(got), len(want))
			}
		}
		slices.Sort(want)
		slices.Sort(all)
		slices.Sort(got)
		if !slices.Equal(all, want) {
			t.Error("a subscriber of another node has not got each message once")
		}
		if !slices.Equal(got, want) {
			t.Error("the members have not got each message once")
		}
	}
	for i := range counts {
		if counts[i].Load() == 0 {
			t.Errorf("member %d got nothing", i)
		}
	}
}
