package integration

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// documented is a row of a table in docs/TOPICS.md.
type documented struct {
	name     string   // a topic or a filter
	subjects []string // in one of the mappings; none: it is refused
}

// mappings are the columns of the tables.
var mappings = []string{"default", "nats-compat"}

// documentedRows are the rows of all tables of topics, or of filters.
func documentedRows(t *testing.T, kind, mapping string) (rows []documented) {
	t.Helper()
	content, err := os.ReadFile("../../docs/TOPICS.md")
	if err != nil {
		t.Fatal(err)
	}
	wanted := false
	for line := range strings.Lines(string(content)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			wanted = false
			continue
		}
		if strings.TrimSpace(cells[1]) == kind {
			wanted = true
		}
		if name := strings.Split(cells[1], "`"); wanted && len(name) == 3 {
			row := documented{name: name[1]}
			for i, part := range strings.Split(cells[2+slices.Index(mappings, mapping)], "`") {
				if i%2 == 1 {
					row.subjects = append(row.subjects, part)
				}
			}
			rows = append(rows, row)
		}
	}
	if len(rows) < 20 {
		t.Fatalf("docs/TOPICS.md has %d rows of a %s", len(rows), kind)
	}
	return rows
}

// eachMapping runs a test with a broker for each mapping.
func eachMapping(t *testing.T, test func(t *testing.T, mapping string, b *harness.Broker)) {
	t.Helper()
	for _, mapping := range mappings {
		t.Run(mapping, func(t *testing.T) {
			t.Parallel()
			test(t, mapping, harness.Start(t, harness.WithNATS(), harness.Set("topics.mapping", mapping)))
		})
	}
}

// What the documentation says of a topic is so: NATS subscribers and the stream have its messages on that subject, and what
// is published there reaches MQTT clients on the topic, those that are away too.
func TestDocumentedTopicsHaveTheirSubjects(t *testing.T) {
	t.Parallel()
	eachMapping(t, func(t *testing.T, mapping string, b *harness.Broker) {
		ctx, js := harness.Context(t), b.JetStream(t)
		heard, err := js.Conn().SubscribeSync("mqtt.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := js.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(ctx, "MQTT")
		if err != nil {
			t.Fatal(err)
		}
		publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		online := harness.NewDevice(mqttcodec.V5, "online").Connect(b, harness.Ephemeral)
		away := harness.NewDevice(mqttcodec.V311, "away")
		leaving := away.Connect(b, harness.Persistent)
		for _, c := range []*harness.Client{online, leaving} {
			c.Subscribe("#", 1)
			c.Subscribe("$internal/#", 1)
		}
		leaving.Disconnect()

		var stored []string
		for _, row := range documentedRows(t, "topic", mapping) {
			reason := publishFor(publisher, row.name)
			if len(row.subjects) == 0 {
				if reason != mqttcodec.TopicNameInvalid {
					t.Errorf("%q is refused with %#x", row.name, reason)
				}
				continue
			}
			if reason.Failed() {
				t.Fatalf("%q is refused with %#x", row.name, reason)
			}
			subject := row.subjects[0]
			if m, err := heard.NextMsg(harness.Patience); err != nil || m.Subject != subject || string(m.Data) != row.name {
				t.Fatalf("%q, as a NATS subscriber gets it: %+v, %v", row.name, m, err)
			}
			if m, err := stream.GetLastMsgForSubject(ctx, subject); err != nil || string(m.Data) != row.name {
				t.Fatalf("%q, at %s in the stream: %+v, %v", row.name, subject, m, err)
			}
			if _, err := js.Publish(ctx, subject, []byte("from NATS")); err != nil {
				t.Fatal(err)
			}
			if m, err := heard.NextMsg(harness.Patience); err != nil || m.Subject != subject {
				t.Fatal(m, err)
			}
			for _, payload := range []string{row.name, "from NATS"} {
				if m := online.Receive(); m.Topic != row.name || m.Payload != payload {
					t.Fatalf("%q at %s came as %+v", row.name, subject, m)
				}
				stored = append(stored, row.name)
			}
		}
		back := away.Resume(b)
		for i, topic := range stored {
			if m := back.Receive(); m.Topic != topic {
				t.Fatalf("message %d on return is %+v, want topic %q", i, m, topic)
			}
		}
	})
}

// What is kept comes back after kill -9 in each mapping: a queue, that of a shared subscription, a retained message.
func TestOddTopicsSurvive(t *testing.T) {
	t.Parallel()
	eachMapping(t, func(t *testing.T, _ string, b *harness.Broker) {
		const topic = "spBv1.0//g.1/x=y"
		queues := map[*harness.Device]string{
			harness.NewDevice(mqttcodec.V5, "away"):     "spBv1.0/+/g.1/#",
			harness.NewDevice(mqttcodec.V311, "member"): "$share/a group/+//g.1/+",
		}
		for device, filter := range queues {
			c := device.Connect(b, harness.Persistent)
			c.Subscribe(filter, 1)
			c.Disconnect()
		}
		publisher := harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Ephemeral)
		publisher.PublishRetained(topic, 1, "kept")
		publisher.Publish(topic, 2, "queued")
		b.Restart(harness.Kill9, publisher)

		for device := range queues {
			c := device.Resume(b)
			for _, payload := range []string{"kept", "queued"} {
				if m := c.Receive(); m.Topic != topic || m.Payload != payload {
					t.Errorf("%s on return: %+v", device.ID, m)
				}
			}
		}
		late := harness.NewDevice(mqttcodec.V311, "late").Connect(b, harness.Ephemeral)
		late.Subscribe("spBv1.0/#", 1)
		if m := late.Receive(); m.Topic != topic || m.Payload != "kept" || !m.Retain {
			t.Errorf("retained: %+v", m)
		}
		expectRetained(t, b, "spBv1=2E0.=00.g=2E1.x=3Dy", "kept")
	})
}

// publishFor publishes a topic's name on the topic and returns the reason code of PUBACK.
func publishFor(c *harness.Raw, topic string) mqttcodec.ReasonCode {
	c.Send(&mqttcodec.Publish{PacketID: 1, QoS: 1, Topic: topic, Payload: []byte(topic)})
	return harness.Expect[*mqttcodec.Puback](c).Reason
}

// A NATS service that subscribes to the documented subjects of a filter gets what an MQTT client gets that subscribes to
// the filter, but for topics with a dollar in front.
func TestDocumentedFiltersHaveTheirSubjects(t *testing.T) {
	t.Parallel()
	eachMapping(t, func(t *testing.T, mapping string, b *harness.Broker) {
		conn := b.JetStream(t).Conn()
		filters := documentedRows(t, "filter", mapping)
		subscriber := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "subscriber"))
		granted := map[uint32]documented{} // by subscription identifier
		heard := map[string][]*nats.Subscription{}
		for i, row := range filters {
			if len(row.subjects) == 0 {
				subscriber.Send(&mqttcodec.Subscribe{PacketID: 7, Requests: []mqttcodec.SubscriptionRequest{harness.Filter(row.name, 1)}})
				if got := harness.Expect[*mqttcodec.Suback](subscriber).Reasons[0]; got != mqttcodec.TopicFilterInvalid {
					t.Errorf("%q is answered with %#x", row.name, got)
				}
				continue
			}
			identifier := uint32(i + 1)
			granted[identifier] = row
			subscriber.SubscribePacket(&mqttcodec.Subscribe{PacketID: 7, SubscriptionIdentifier: identifier, Requests: []mqttcodec.SubscriptionRequest{harness.Filter(row.name, 1)}})
			for _, subject := range row.subjects {
				sub, err := conn.SubscribeSync(subject)
				if err != nil {
					t.Fatal(err)
				}
				heard[row.name] = append(heard[row.name], sub)
			}
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		for _, row := range documentedRows(t, "topic", mapping) {
			if len(row.subjects) > 0 && !strings.HasPrefix(row.name, "$") {
				publishFor(publisher, row.name)
			}
		}
		publishFor(publisher, "marker")

		byMQTT, byNATS := map[string][]string{}, map[string][]string{}
		for _, p := range subscriber.ReceiveUntil("marker") {
			for _, identifier := range p.SubscriptionIdentifiers {
				name := granted[identifier].name
				byMQTT[name] = append(byMQTT[name], string(p.Payload))
			}
		}
		if err := conn.Flush(); err != nil { // what the server had for us has come
			t.Fatal(err)
		}
		for name, subs := range heard {
			for _, sub := range subs {
				pending, _, err := sub.Pending()
				if err != nil {
					t.Fatal(err)
				}
				for range pending {
					m, err := sub.NextMsg(harness.Patience)
					if err != nil {
						t.Fatal(err)
					}
					if topic := string(m.Data); topic != "marker" {
						byNATS[name] = append(byNATS[name], topic)
					}
				}
			}
		}
		for _, row := range filters {
			slices.Sort(byMQTT[row.name])
			slices.Sort(byNATS[row.name])
			if !slices.Equal(byMQTT[row.name], byNATS[row.name]) {
				t.Errorf("%q: MQTT %q, NATS with %q %q", row.name, byMQTT[row.name], row.subjects, byNATS[row.name])
			}
			if mapping == "default" && len(byMQTT[row.name]) == 0 {
				t.Errorf("no topic of the page matches %q", row.name)
			}
		}
	})
}

// shellArguments are the arguments of a command line with single quotes only.
func shellArguments(line string) (args []string) {
	for i, part := range strings.Split(strings.TrimSpace(line), "'") {
		if i%2 == 1 {
			args = append(args, part)
		} else {
			args = append(args, strings.Fields(part)...)
		}
	}
	return args
}

// The commands of the page do what it says.
func TestDocumentedNATSCommands(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/TOPICS.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string][]string{} // arguments by the first of them
	for line := range strings.Lines(string(content)) {
		if command, ok := strings.CutPrefix(line, "    nats "); ok {
			args := shellArguments(command)
			name := args[0]
			if name == "consumer" {
				name = args[1]
			}
			commands[name] = args
		}
	}
	b := harness.Start(t, harness.WithNATS())
	command := harness.NewNATSCommand(t, b.NATS)
	device := harness.NewDevice(mqttcodec.V5, "device").Connect(b, harness.Ephemeral)
	device.Subscribe("zigbee2mqtt/living room lamp/set", 1)
	command.Run(t, commands["pub"]...)
	if m := device.Receive(); m.Payload != `{"state":"ON"}` || m.QoS != 1 {
		t.Errorf("the lamp got %+v", m)
	}

	command.Run(t, commands["add"]...)
	sub := command.Command(append(commands["sub"], "--count=1")...)
	heard := make(chan string, 1)
	go func() {
		out, err := sub.CombinedOutput()
		heard <- fmt.Sprint(string(out), err)
	}()
	harness.Eventually(t, harness.Patience, "nats sub", func() error {
		device.Publish("tele/t1/SENSOR", 1, "21.5") // again: nobody tells when the program has subscribed
		select {
		case out := <-heard:
			if !strings.Contains(out, "21.5") {
				t.Errorf("nats sub printed %s", out)
			}
			return nil
		default:
			return errors.New("it has printed nothing")
		}
	})
	if out := command.Run(t, commands["next"]...); !strings.Contains(out, "21.5") {
		t.Errorf("nats consumer next printed %s", out)
	}
}

// oddTopics are topics of every sort that nats-server takes.
var oddTopics = []string{
	"a", "a/b", "/", "//", "///", "/a", "a/", "a//b", "a///b", "//a//", ".", "..", "./", "/.", "./.", "a.", ".a", "a.b", "a./b", "a/.b", "a.//b", "a//.b",
	"a../b/.", "././.", "a*", "*a/b*c", ">a", "a>/>>", "**", "a=b", "=2E", "$a/b", "a$", "größe/漢字", "🐦/é", "a\x01b\x1f", "a\u0085b", "%20;'\"\\,", "spBv1.0/g.1/NDATA/e",
	"_INBOX/a", "$JS/API/x", "a\v",
}

// nats-compat is what the MQTT of nats-server does: the same topics have the same subjects, behind our prefix, and what it refuses
// is refused.
func TestCompatIsTheMappingOfNATSServer(t *testing.T) {
	t.Parallel()
	mqtt := harness.FreeAddress(t)
	server := harness.StartNATSServer(t, fmt.Sprintf("mqtt { listen: %q }", mqtt))
	conn, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	b := harness.Start(t, harness.WithNATS(), harness.Set("topics.mapping", "nats-compat"))
	subscribe := func(conn *nats.Conn, subject string) *nats.Subscription {
		sub, err := conn.SubscribeSync(subject)
		if err == nil {
			err = conn.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		return sub
	}
	theirs, ours := subscribe(conn, ">"), subscribe(b.JetStream(t).Conn(), "mqtt.>")
	next := func(sub *nats.Subscription, topic string) string {
		for {
			m, err := sub.NextMsg(harness.Patience)
			if err != nil {
				t.Fatalf("%q: %v", topic, err)
			}
			if string(m.Data) == topic {
				return m.Subject
			}
		}
	}
	dial := func() *harness.Raw {
		r, err := harness.DialRaw(t, mqtt, mqttcodec.V311)
		if err != nil {
			t.Fatal(err)
		}
		r.Send(harness.CleanConnect(mqttcodec.V311, "publisher"))
		harness.Expect[*mqttcodec.Connack](r)
		return r
	}
	publisher, peer := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher")), dial()
	for _, topic := range oddTopics {
		peer.Send(&mqttcodec.Publish{Topic: topic, Payload: []byte(topic)})
		if reason := publishFor(publisher, topic); reason.Failed() {
			t.Fatalf("%q is refused with %#x", topic, reason)
		}
		if got, want := next(ours, topic), "mqtt."+next(theirs, topic); got != want {
			t.Errorf("%q is %s, nats-server has %s", topic, got, want)
		}
	}
	for _, topic := range []string{"a b", "a\tb", "a\nb", "a\rb", "a\fb", "a\x7f"} {
		refused := dial()
		refused.Send(&mqttcodec.Publish{Topic: topic})
		refused.ExpectClosed()
		if reason := publishFor(publisher, topic); reason != mqttcodec.TopicNameInvalid {
			t.Errorf("%q is answered with %#x", topic, reason)
		}
	}
}

// Subjects may begin with several tokens; names in NATS follow, those of MQTT do not change.
func TestPrefixOfSeveralTokens(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t, harness.WithNATS(), harness.Set("topics.prefix", "acme.mqtt"), harness.Set("topics.live_prefix", "acme.live"))
		ctx, js := harness.Context(t), b.JetStream(t)
		away := harness.NewDevice(v, "away")
		c := away.Connect(b, harness.Persistent)
		c.Subscribe("devices/#", 1)
		c.Disconnect()
		publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
		publisher.Publish("devices/d.1/state", 1, "from MQTT")
		if _, err := js.Publish(ctx, "acme.mqtt.devices.d1.cmd", []byte("from NATS")); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(ctx, "mqtt.devices.d1.cmd", []byte("to nobody"), natsjs.WithRetryAttempts(0)); err == nil {
			t.Error("a stream takes mqtt.>")
		}
		b.Restart(how, publisher)
		c = away.Resume(b)
		for _, want := range []string{"devices/d.1/state from MQTT", "devices/d1/cmd from NATS"} {
			if m := c.Receive(); fmt.Sprint(m.Topic, " ", m.Payload) != want {
				t.Errorf("on return: %+v, want %s", m, want)
			}
		}
	})
}

// A log is bound to its mapping and its prefix: with another one the broker says in one line why it does not start, and what to do.
func TestLogOfAnotherMappingOrPrefixIsRefused(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	b.Stop()
	for set, says := range map[string][]string{
		"topics.mapping=nats-compat": {"MQTT", "mapping default", "set topics.mapping to default"},
		"topics.prefix=acme":         {"MQTT", "[mqtt.>]", "set topics.prefix to mqtt"},
		"topics.prefix=mqtt0.x":      {"topics.prefix mqtt0.x", "overlap"},
	} {
		code, stdout, stderr := harness.RunToExit(t, "serve", "--mqtt-listen", "127.0.0.1:0", "--ws-listen", "off", "--nats-listen", "off", "--data-dir", b.DataDir, "--log-level", "error", "--set", set)
		if code == 0 || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, standard output %q, standard error %q", set, code, stdout, stderr)
		}
		for _, part := range says {
			if !strings.Contains(stderr, part) {
				t.Errorf("%s: %q does not say %q", set, stderr, part)
			}
		}
	}
	b.Up()
}
