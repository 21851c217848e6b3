package examples

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// What devices publish while the service is away it gets when it is back, and what it has acknowledged it does not get again.
func TestConsumer(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	path := example(t, "consumer")
	c := start(t, path, "-nats", "nats://"+b.NATS)
	c.expect("consuming mqtt.plant.*.temp")
	device := harness.NewDevice(mqttcodec.V5, "sensor").Connect(b, harness.Ephemeral)
	device.Publish("plant/line1/temp", 1, "21.5")
	device.Publish("plant/line1/speed", 1, "3")
	device.Publish("plant/line1/temp", 2, "broken")
	c.expect("line1 21.5 (1)\n")
	c.expect("not a temperature")
	c.kill()
	nothingFetches(t, b, "temperatures")
	device.Publish("plant/line2/temp", 1, "22")

	c = start(t, path, "-nats", "nats://"+b.NATS)
	c.expect("line2 22.0 (4)\n")
	c.end()
	if strings.Contains(c.text(), "line1") {
		t.Error("it got again what it had acknowledged")
	}
}

// nothingFetches waits until the server knows that the consumer's program is gone. What it gives to one that is not there any more
// comes again after the time for an acknowledgement only.
func nothingFetches(t testing.TB, b *harness.Broker, name string) {
	t.Helper()
	ctx := harness.Context(t)
	consumer, err := b.JetStream(t).Consumer(ctx, "MQTT", name)
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Patience, "nothing fetches from "+name, func() error {
		info, err := consumer.Info(ctx)
		if err == nil && info.NumWaiting > 0 {
			err = fmt.Errorf("%d requests wait", info.NumWaiting)
		}
		return err
	})
}

// A device that is killed gets its commands when it is back, by the session that it had.
func TestDevice(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nats := harness.NewNATSCommand(t, b.NATS)
	path := example(t, "device")
	d := start(t, path, "-mqtt", "mqtt://"+b.MQTT)
	d.expect("subscribed")
	nats.Run(t, "pub", "--jetstream", "mqtt.cmd.dev1.interval", "10ms")
	d.expect("interval 10ms\n")
	harness.Eventually(t, harness.Patience, "temperatures are in the stream", func() error {
		_, err := nats.Try("stream", "get", "MQTT", "3")
		return err
	})
	d.kill()
	nats.Run(t, "pub", "--jetstream", "mqtt.cmd.dev1.reboot", "now")

	d = start(t, path, "-mqtt", "mqtt://"+b.MQTT)
	d.expect("the broker had the session: true")
	d.expect("reboot now\n")
	d.end()
}

// The page's script, with the bundle for browsers of MQTT.js, both as the page gets them, in Node: there is no browser here.
func TestBrowser(t *testing.T) {
	t.Parallel()
	node := harness.Program(t, "node")
	bundle := filepath.Join("..", "clients", "js", "node_modules", "mqtt", "dist", "mqtt.esm.js")
	if _, err := os.Stat(bundle); err != nil {
		harness.Missing(t, "MQTT.js: run npm ci in test/clients/js")
	}
	b := harness.Start(t, harness.WithWebSocket())
	device := harness.NewDevice(mqttcodec.V311, "dev1").Connect(b, harness.Ephemeral)
	device.Subscribe("cmd/dev1/#", 1)
	listen := harness.FreeAddress(t)
	start(t, example(t, "browser"), "-listen", listen, "-mqttjs", bundle).expect("open http://" + listen)

	static := filepath.Join("..", "..", "examples", "browser", "static")
	served := t.TempDir()
	for file, source := range map[string]string{"index.html": filepath.Join(static, "index.html"), "plant.js": filepath.Join(static, "plant.js"), "mqtt.js": bundle} {
		content, kind := get(t, "http://"+listen+"/"+strings.TrimPrefix(file, "index.html"))
		if want, err := os.ReadFile(source); err != nil || content != string(want) {
			t.Errorf("%s is not what is served: %v", source, err)
		}
		if strings.HasSuffix(file, ".js") && !strings.HasPrefix(kind, "text/javascript") {
			t.Errorf("%s is served as %s, which browsers do not take for a module", file, kind)
		}
		if err := os.WriteFile(filepath.Join(served, strings.Replace(file, ".js", ".mjs", 1)), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const script = "page.mjs"
	if _, err := os.Stat(script); err != nil { // so that the test cache knows of it
		t.Fatal(err)
	}
	page := start(t, node, script, served, "ws://"+b.WebSocket+"/mqtt")
	page.expect("state: connected\n")
	device.Publish("plant/line1/temp", 1, "21.5")
	page.expect("line1: 21.5\n")
	page.expect("state: dev1 will get interval 2s\n")
	if m := device.Receive(); m.Topic != "cmd/dev1/interval" || m.Payload != "2s" {
		t.Errorf("the device got %+v", m)
	}
}

// get fetches a file of the page.
func get(t testing.TB, url string) (content, kind string) {
	t.Helper()
	var answer *http.Response
	harness.Eventually(t, harness.Patience, "the page is served", func() (err error) {
		answer, err = http.Get(url)
		return err
	})
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, answer.Status, err)
	}
	return string(body), answer.Header.Get("Content-Type")
}
