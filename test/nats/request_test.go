package nats

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// ask sends a request from NATS and returns where its answers come.
func ask(t testing.TB, nc *nats.Conn, m *nats.Msg) *nats.Subscription {
	t.Helper()
	m.Reply = nc.NewInbox()
	answers := subscribeNATS(t, nc, m.Reply)
	publishNATS(t, nc, m)
	return answers
}

// none makes sure that no answer has come by the time that one to another request has.
func none(t testing.TB, answers *nats.Subscription) {
	t.Helper()
	if n, _, err := answers.Pending(); err != nil || n > 0 {
		t.Errorf("%d answers, %v", n, err)
	}
}

// A NATS program asks a 5.0 client: the Response Topic stands for its reply subject, which the client never sees, at any QoS.
func TestNATSAsksMQTT5(t *testing.T) {
	t.Parallel()
	settings(t, func(t *testing.T, start func(...harness.Option) *harness.Broker) {
		b := start()
		nc := connectNATS(t, b.NATS)
		c := connectRaw(t, b, mqttcodec.V5, "d1")
		c.Subscribe(harness.Filter("devices/+/cmd", 1))
		for qos := range mqttcodec.QoS(3) {
			header := nats.Header{"Mqtt-Correlation-Data": {"Y2Q="}, "Traceparent": {"00-1-2-01"}}
			answers := ask(t, nc, &nats.Msg{Subject: "mqtt0.devices.d1.cmd", Header: header, Data: []byte("open")})
			p := harness.Expect[*mqttcodec.Publish](c)
			if p.QoS != 0 || string(p.Payload) != "open" || string(p.Properties.CorrelationData) != "cd" ||
				!strings.HasPrefix(p.Properties.ResponseTopic, "$reply/") || len(p.Properties.ResponseTopic) < len("$reply/")+22 {
				t.Fatalf("got %+v", p)
			}
			answer := &mqttcodec.Publish{QoS: qos, PacketID: 9, Topic: p.Properties.ResponseTopic, Payload: []byte("opened")}
			answer.Properties.CorrelationData = p.Properties.CorrelationData
			answer.Properties.UserProperties = p.Properties.UserProperties
			c.Send(answer)
			switch qos {
			case 1:
				harness.Expect[*mqttcodec.Puback](c)
			case 2:
				harness.Expect[*mqttcodec.Pubrec](c)
				c.Send(&mqttcodec.Pubrel{PacketID: 9})
				harness.Expect[*mqttcodec.Pubcomp](c)
			}
			m := next(t, answers)
			if string(m.Data) != "opened" || m.Header.Get("Mqtt-Correlation-Data") != "Y2Q=" || m.Header.Get("Traceparent") != "00-1-2-01" || m.Reply != "" {
				t.Errorf("QoS %d: got %q with %v", qos, m.Data, m.Header)
			}
		}
	})
}

// The nats command line asks a 3.1.1 client, which answers on the very topic that the request came on.
func TestNATSAsksMQTT311(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	c := harness.NewDevice(mqttcodec.V311, "d1").Connect(b, harness.Ephemeral)
	c.Subscribe("$reply/+/devices/d1/cmd", 1)
	done := make(chan string)
	go func() {
		done <- harness.NewNATSCommand(t, b.NATS).Run(t, "req", "mqtt0.devices.d1.cmd", "open", "--timeout=20s")
	}()
	m := c.Receive()
	if !strings.HasPrefix(m.Topic, "$reply/") || !strings.HasSuffix(m.Topic, "/devices/d1/cmd") || m.Payload != "open" {
		t.Fatalf("got %+v", m)
	}
	c.Publish(m.Topic, 1, "opened")
	if out := <-done; !strings.Contains(out, "opened") {
		t.Errorf("nats req printed %s", out)
	}
}

// A token is for the client that was sent the request, once, and for a while. Nobody sees what is published under $reply/.
func TestTokensOfRequests(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	b := harness.Start(t, harness.WithNATS(), harness.Set("requests.timeout", timeout))
	nc := connectNATS(t, b.NATS)
	device, thief := connectRaw(t, b, mqttcodec.V5, "device"), connectRaw(t, b, mqttcodec.V5, "thief")
	device.Subscribe(harness.Filter("cmd", 0))
	thief.Subscribe(harness.Filter("$reply/#", 1), harness.Filter("$reply/+", 1), harness.Filter("#", 1))
	everything := subscribeNATS(t, nc, ">")

	answers := ask(t, nc, &nats.Msg{Subject: "mqtt0.cmd", Data: []byte("1")})
	topic := harness.Expect[*mqttcodec.Publish](device).Properties.ResponseTopic
	if p := harness.Expect[*mqttcodec.Publish](thief); p.Topic != "cmd" { // by "#"; it may answer too, as itself
		t.Fatalf("got %+v", p)
	}
	other := connectRaw(t, b, mqttcodec.V5, "other")
	refused := mqttcodec.NoMatchingSubscribers
	for _, forged := range []string{topic, topic + "/cmd", topic + "x", "$reply/x", "$reply/", "$reply/mqtt0/cmd", "$reply/" + strings.Repeat("A", 26)} {
		if reason := publish(other, &mqttcodec.Publish{Topic: forged, Payload: []byte("forged")}); reason != refused {
			t.Errorf("%s: reason %#x", forged, reason)
		}
	}
	if reason := publish(device, &mqttcodec.Publish{Topic: topic + "/other", Payload: []byte("forged")}); reason != refused {
		t.Errorf("another topic: reason %#x", reason)
	}
	if reason := publish(device, &mqttcodec.Publish{Topic: topic, Payload: []byte("answer")}); reason != mqttcodec.Success {
		t.Errorf("the answer: reason %#x", reason)
	}
	if reason := publish(device, &mqttcodec.Publish{Topic: topic, Payload: []byte("replayed")}); reason != refused {
		t.Errorf("again: reason %#x", reason)
	}
	if m := next(t, answers); string(m.Data) != "answer" {
		t.Errorf("got %q", m.Data)
	}
	if reason := publish(thief, &mqttcodec.Publish{Topic: topic, Payload: []byte("second")}); reason != mqttcodec.Success {
		t.Errorf("the answer of another that was asked: reason %#x", reason)
	}
	if m := next(t, answers); string(m.Data) != "second" {
		t.Errorf("got %q", m.Data)
	}

	late := ask(t, nc, &nats.Msg{Subject: "mqtt0.cmd", Data: []byte("late")})
	topic = harness.Expect[*mqttcodec.Publish](device).Properties.ResponseTopic
	harness.Wait(timeout + time.Second)
	if reason := publish(device, &mqttcodec.Publish{Topic: topic, Payload: []byte("late")}); reason != refused {
		t.Errorf("too late: reason %#x", reason)
	}
	answers = ask(t, nc, &nats.Msg{Subject: "mqtt0.cmd", Data: []byte("in time")})
	publish(device, &mqttcodec.Publish{Topic: harness.Expect[*mqttcodec.Publish](device).Properties.ResponseTopic})
	next(t, answers)
	none(t, late)
	for _, p := range received(thief) {
		if p.Topic != "cmd" {
			t.Errorf("a bystander got %+v", p)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for n, _, _ := everything.Pending(); n > 0; n-- {
		if m := next(t, everything); strings.Contains(m.Subject, "reply") || strings.Contains(string(m.Data), "forged") {
			t.Errorf("on NATS: %q on %s", m.Data, m.Subject)
		}
	}
}

// A client asks NATS services: a 5.0 client with a Response Topic, each client with $request/<id>/<topic>.
func TestMQTTAsksNATS(t *testing.T) {
	t.Parallel()
	settings(t, func(t *testing.T, start func(...harness.Option) *harness.Broker) {
		b := start()
		nc := connectNATS(t, b.NATS)
		service, err := micro.AddService(nc, micro.Config{Name: "svc", Version: "1.0.0"})
		if err != nil {
			t.Fatal(err)
		}
		handle := func(r micro.Request) {
			if string(r.Data()) == "bad" {
				_ = r.Error("418", "teapot", []byte("no"))
				return
			}
			_ = r.Respond(append([]byte("echo "), r.Data()...), micro.WithHeaders(micro.Headers{"Mqtt-Content-Type": {"text"}, "Zone": {"z"}}))
		}
		if err := service.AddEndpoint("echo", micro.HandlerFunc(handle), micro.WithEndpointSubject("mqtt0.svc.echo")); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		c5, bystander := connectRaw(t, b, mqttcodec.V5, "c5"), connectRaw(t, b, mqttcodec.V5, "bystander")
		c5.Subscribe(harness.Filter("answers/c5", 1))
		bystander.Subscribe(harness.Filter("$reply/#", 1), harness.Filter("$reply/+", 1))
		question := func(topic, payload string) *mqttcodec.Publish {
			p := &mqttcodec.Publish{Topic: topic, Payload: []byte(payload)}
			p.Properties.ResponseTopic, p.Properties.CorrelationData = "answers/c5", []byte(payload)
			return p
		}
		c5.Send(question("nobody/there", "lost"), question("svc/echo", "hello"))
		p := harness.Expect[*mqttcodec.Publish](c5)
		if p.Topic != "answers/c5" || p.QoS != 0 || string(p.Payload) != "echo hello" || string(p.Properties.CorrelationData) != "hello" ||
			p.Properties.ContentType.Value != "text" || fmt.Sprint(p.Properties.UserProperties) != "[{Zone z}]" {
			t.Errorf("got %+v", p)
		}
		c5.Send(question("svc/echo", "bad"))
		p = harness.Expect[*mqttcodec.Publish](c5)
		if string(p.Payload) != "no" || fmt.Sprint(p.Properties.UserProperties) != "[{Nats-Service-Error-Code 418} {Nats-Service-Error teapot}]" {
			t.Errorf("got %+v", p)
		}

		c3 := harness.NewDevice(mqttcodec.V311, "c3").Connect(b, harness.Ephemeral)
		c3.Subscribe("$reply/+", 0)
		for qos := range byte(3) {
			id := fmt.Sprint("q", qos)
			c3.Publish("$request/"+id+"/svc/echo", qos, "hi")
			if m := c3.Receive(); m.Topic != "$reply/"+id || m.Payload != "echo hi" || m.QoS != 0 {
				t.Errorf("got %+v", m)
			}
		}
		if got := received(bystander); len(got) > 0 {
			t.Errorf("a bystander got %+v", got[0])
		}
	})
}

// Clients ask each other by the same ways, also from node to node, and a Response Topic of a client's own reaches the one
// that answers unaltered. [MQTT-3.3.2-15]
func TestMQTTAsksMQTT(t *testing.T) {
	t.Parallel()
	s := harness.StartNATSServer(t)
	one := harness.Start(t, harness.WithExternalNATS(s.URL()), harness.WithoutDataDir())
	two := harness.Start(t, harness.WithExternalNATS(s.URL()), harness.WithoutDataDir())
	for name, there := range map[string]*harness.Broker{"here": one, "there": two} {
		asking, answering := connectRaw(t, one, mqttcodec.V311, "a"+name), connectRaw(t, there, mqttcodec.V5, "b"+name)
		asking.Subscribe(harness.Filter("$reply/#", 0), harness.Filter("answers/"+name, 0))
		answering.Subscribe(harness.Filter("cmd/"+name, 0))
		asking.Send(&mqttcodec.Publish{Topic: "$request/1/cmd/" + name, Payload: []byte("open")})
		p := harness.Expect[*mqttcodec.Publish](answering)
		if reason := publish(answering, &mqttcodec.Publish{Topic: p.Properties.ResponseTopic, Payload: []byte("opened")}); reason != mqttcodec.Success {
			t.Errorf("%s: reason %#x", name, reason)
		}
		if p := harness.Expect[*mqttcodec.Publish](asking); p.Topic != "$reply/1" || string(p.Payload) != "opened" {
			t.Errorf("%s: got %+v", name, p)
		}
		asking5 := connectRaw(t, one, mqttcodec.V5, "c"+name)
		question := &mqttcodec.Publish{Topic: "cmd/" + name}
		question.Properties.ResponseTopic = "answers/" + name
		asking5.Send(question)
		if p := harness.Expect[*mqttcodec.Publish](answering); p.Properties.ResponseTopic != "answers/"+name {
			t.Errorf("%s: got %+v", name, p)
		}
	}
}

// No reply subject that a NATS program chooses makes the broker publish where it stores things.
func TestReplySubjectsOfTheServerAreNotAnswered(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nc := connectNATS(t, b.NATS)
	c := connectRaw(t, b, mqttcodec.V5, "c")
	c.Subscribe(harness.Filter("cmd", 0))
	for _, reply := range []string{"$JS.API.STREAM.DELETE.MQTT", "$KV.mqtt_sessions.c", "mqtt.a", "mqtt_journal.c", "mqtt0.a", "dunlin.ctl.x", "_INBOX.dunlin.x"} {
		publishNATS(t, nc, &nats.Msg{Subject: "mqtt0.cmd", Reply: reply})
		if p := harness.Expect[*mqttcodec.Publish](c); p.Properties.ResponseTopic != "" {
			t.Errorf("%s can be answered", reply)
		}
	}
}

// The nats command line answers mosquitto_rr, and MQTT.js answers the nats command line.
func TestProgramsAskEachOther(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	command := harness.NewNATSCommand(t, b.NATS)
	nc := connectNATS(t, b.NATS)
	host, port, _ := strings.Cut(b.MQTT, ":")

	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	rr := harness.Program(t, "mosquitto_rr")
	answering := command.Command("reply", "mqtt0.svc.time", "it is noon")
	if err := answering.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answering.Process.Kill(); _ = answering.Wait() }()
	harness.Eventually(t, harness.Patience, "nats reply listens", func() error {
		_, err := nc.Request("mqtt0.svc.time", nil, time.Second)
		return err
	})
	out, err := exec.CommandContext(ctx, rr, "-V", "mqttv5", "-h", host, "-p", port, "-t", "svc/time", "-e", "answers/rr", "-m", "?", "-W", "20").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "it is noon") {
		t.Errorf("mosquitto_rr: %v: %s", err, out)
	}

	js := filepath.Join("..", "clients", "js")
	if _, err := os.Stat(filepath.Join(js, "node_modules", "mqtt")); err != nil {
		harness.Missing(t, "MQTT.js: run npm ci in test/clients/js")
	}
	const program = `
const client = require("mqtt").connect(process.argv[1], { protocolVersion: 5 });
client.on("message", (topic, payload, packet) => {
	const { responseTopic, correlationData } = packet.properties;
	client.publish(responseTopic, "js got " + payload, { qos: 1, properties: { correlationData } });
});
client.subscribe("js/cmd", () => console.log("ready"));
`
	node := exec.CommandContext(ctx, harness.Program(t, "node"), "-e", program, "mqtt://"+b.MQTT)
	node.Dir, node.Stderr = js, os.Stderr
	harness.DieWithParent(node)
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Process.Kill(); _ = node.Wait() }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if out := command.Run(t, "req", "mqtt0.js.cmd", "hello", "--timeout=20s"); !strings.Contains(out, "js got hello") {
		t.Errorf("nats req printed %s", out)
	}
}
