package clients

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// paho.mqtt.golang publishes and subscribes by WebSocket at every QoS, small messages and large. [MQTT-4.2.0-1]
func TestPahoByWebSocket(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithWebSocket())
	messages := make(chan mqtt3.Message, 10)
	client := mqtt3.NewClient(mqtt3.NewClientOptions().
		AddBroker("ws://" + b.WebSocket + "/mqtt").
		SetClientID("c").
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) { messages <- m }))
	await := func(what string, token mqtt3.Token) {
		t.Helper()
		if !token.WaitTimeout(harness.Patience) || token.Error() != nil {
			t.Fatalf("%s: %v", what, token.Error())
		}
	}
	await("connect", client.Connect())
	await("subscribe", client.Subscribe("a/#", 2, nil))
	large := strings.Repeat("x", 500_000)
	for qos := range byte(3) {
		for _, payload := range []string{fmt.Sprint("at QoS ", qos), large} {
			await("publish", client.Publish("a/b", qos, false, payload))
			if m := next(t, messages); string(m.Payload()) != payload || m.Qos() != qos {
				t.Errorf("got %d bytes at QoS %d, want %d at %d", len(m.Payload()), m.Qos(), len(payload), qos)
			}
		}
	}
	client.Disconnect(250)
}

// next waits for what a client reports.
func next[T any](t *testing.T, reports <-chan T) (report T) {
	t.Helper()
	select {
	case report = <-reports:
	case <-time.After(harness.Patience):
		t.Fatal("the client reports nothing")
	}
	return report
}

// MQTT.js by WebSocket, and a session that goes on by TCP and comes back.
func TestMQTTJSByWebSocket(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t, harness.WithWebSocket())
		byWebSocket := func(args ...string) []string {
			t.Helper()
			return lines(run(t, "node", mqttjsAt(t, "ws://"+b.WebSocket+"/mqtt", v, args)...))
		}
		expectLines(t, byWebSocket("subscribe", "c1", "a", "2"), "session present false", "granted 2")
		byWebSocket("publish", "a", "1", "by WebSocket")
		mqttjs(t, b, v, "publish", "a", "2", "by TCP")
		expectLines(t, byWebSocket("resume", "c1", "a", "2", "2"),
			"session present true", "a 1 false by WebSocket", "a 2 false by TCP")
	})
}

// SIGTERM ends a broker with WebSocket clients in good time, and the clients come back to it.
func TestWebSocketClientComesBack(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithWebSocket())
	up := make(chan struct{}, 10)
	client := mqtt3.NewClient(mqtt3.NewClientOptions().
		AddBroker("ws://" + b.WebSocket + "/mqtt").
		SetClientID("c").
		SetMaxReconnectInterval(harness.Patience / 100).
		SetOnConnectHandler(func(mqtt3.Client) { up <- struct{}{} }))
	if token := client.Connect(); !token.WaitTimeout(harness.Patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	next(t, up)
	b.Restart(harness.Term)
	next(t, up)
	client.Disconnect(250)
}
