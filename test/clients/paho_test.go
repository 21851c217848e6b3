package clients

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// reconnecting is a client of a Paho library that comes back by itself.
type reconnecting struct {
	messages chan string
	up       chan bool // session present, for each connection
	end      func()
}

func newReconnecting() *reconnecting {
	return &reconnecting{messages: make(chan string, 1000), up: make(chan bool, 100)}
}

func newReconnecting5(t *testing.T, b *harness.Broker, id string) *reconnecting {
	t.Helper()
	r := newReconnecting()
	server := &url.URL{Scheme: "mqtt", Host: b.MQTT}
	ctx, cancel := context.WithCancel(t.Context())
	manager, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls:            []*url.URL{server},
		SessionExpiryInterval: 3600,
		ReconnectBackoff:      autopaho.NewConstantBackoff(50 * time.Millisecond),
		OnConnectionUp:        func(_ *autopaho.ConnectionManager, c *paho.Connack) { r.up <- c.SessionPresent },
		ClientConfig: paho.ClientConfig{
			ClientID: id,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				r.messages <- string(p.Packet.Payload)
				return true, nil
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.end = func() {
		cancel()
		<-manager.Done()
	}
	if err := manager.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := manager.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "a", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func newReconnecting3(t *testing.T, b *harness.Broker, id string) *reconnecting {
	t.Helper()
	r := newReconnecting()
	client := mqtt3.NewClient(mqtt3.NewClientOptions().
		AddBroker("tcp://" + b.MQTT).
		SetClientID(id).
		SetCleanSession(false).
		SetProtocolVersion(4).
		SetAutoReconnect(true).
		SetMaxReconnectInterval(50 * time.Millisecond).
		SetOnConnectHandler(func(mqtt3.Client) { r.up <- true }). // the library does not tell what CONNACK says
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) { r.messages <- string(m.Payload()) }))
	r.end = func() { client.Disconnect(250) }
	if token := client.Connect(); !token.WaitTimeout(harness.Patience) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	if token := client.Subscribe("a", 1, nil); !token.WaitTimeout(harness.Patience) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	return r
}

// A client that reconnects by itself misses nothing while the broker is killed again and again, and never subscribes
// anew: autopaho, and paho.mqtt.golang with AutoReconnect.
func TestReconnectingPahoClientsMissNothing(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		start := newReconnecting3
		if v == mqttcodec.V5 {
			start = newReconnecting5
		}
		r := start(t, b, "c")
		defer r.end()
		<-r.up
		const rounds, each = 4, 25
		for round := range rounds {
			publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
			publisher.PublishAll(harness.Messages("a", 1, fmt.Sprint(round, "-"), each))
			b.Restart(harness.Kill9, publisher)
			select {
			case present := <-r.up:
				if !present {
					t.Error("session present is 0 after a reconnect")
				}
			case <-time.After(harness.Patience):
				t.Fatal("the client did not come back")
			}
		}
		missing := map[string]bool{}
		for round := range rounds {
			for _, payload := range harness.Numbered(fmt.Sprint(round, "-"), 0, each) {
				missing[payload] = true
			}
		}
		for len(missing) > 0 {
			select {
			case payload := <-r.messages: // what was acknowledged right before a kill may come again
				delete(missing, payload)
			case <-time.After(harness.Patience):
				t.Fatalf("missing: %v", missing)
			}
		}
	})
}
