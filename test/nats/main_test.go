// Package nats holds the black-box tests of what NATS services and MQTT clients are to each other: the broker runs as its own
// process, MQTT libraries are on one side of it, NATS programs on the other.
package nats

import (
	"os"
	"testing"

	"github.com/nats-io/nats.go"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }

// connectNATS connects to the NATS that a broker uses as any NATS program would.
func connectNATS(t testing.TB, address string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("nats://" + address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// subscribeNATS is a subscription that the server has.
func subscribeNATS(t testing.TB, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// next is the next message of a subscription.
func next(t testing.TB, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(harness.Patience)
	if err != nil {
		t.Fatalf("%s: %v", sub.Subject, err)
	}
	return m
}

// publishNATS publishes a message that the server has when it returns.
func publishNATS(t testing.TB, nc *nats.Conn, m *nats.Msg) {
	t.Helper()
	err := nc.PublishMsg(m)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// connectRaw opens a clean session.
func connectRaw(t testing.TB, b *harness.Broker, v mqttcodec.Version, clientID string) *harness.Raw {
	t.Helper()
	return b.ConnectRaw(t, harness.CleanConnect(v, clientID))
}

// publish publishes at QoS 1 and returns the reason of the PUBACK.
func publish(r *harness.Raw, p *mqttcodec.Publish) mqttcodec.ReasonCode {
	p.QoS, p.PacketID = 1, 77
	r.Send(p)
	return harness.Expect[*mqttcodec.Puback](r).Reason
}

// received takes messages until a PINGREQ is answered: what was sent before has come.
func received(r *harness.Raw) (list []*mqttcodec.Publish) {
	r.Send(&mqttcodec.Pingreq{})
	for {
		switch p := r.Read().(type) {
		case *mqttcodec.Publish:
			list = append(list, p)
		case *mqttcodec.Pingresp:
			return list
		}
	}
}

// settings are the NATS that a broker may use: its own, or servers outside.
func settings(t *testing.T, f func(t *testing.T, start func(options ...harness.Option) *harness.Broker)) {
	t.Helper()
	t.Run("inside", func(t *testing.T) {
		t.Parallel()
		f(t, func(options ...harness.Option) *harness.Broker {
			return harness.Start(t, append(options, harness.WithNATS())...)
		})
	})
	t.Run("outside", func(t *testing.T) {
		t.Parallel()
		s := harness.StartNATSServer(t)
		f(t, func(options ...harness.Option) *harness.Broker {
			return harness.Start(t, append(options, harness.WithExternalNATS(s.URL()), harness.WithoutDataDir())...)
		})
	})
}
