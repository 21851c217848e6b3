package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// subscription is one filter with everything a SUBSCRIBE says of it.
type subscription struct {
	filter     string
	options    mqttcodec.SubscriptionOptions
	identifier uint32 // 0: none
}

// houseTopics are published to; every one matches several of fiftySubscriptions, a few of them in all three ways.
func houseTopics() []string {
	var topics []string
	for _, tree := range []string{"plain", "asis"} {
		for house := range 3 {
			for _, leaf := range []string{"", "/temp", "/room/temp", "/room//temp"} {
				topics = append(topics, fmt.Sprintf("%s/h%d%s", tree, house, leaf))
			}
		}
	}
	return append(topics, "plain", "asis", "asis/h0/", "asis/elsewhere/temp")
}

// fiftySubscriptions overlap in every way: exact, +, # on each level. Retain As Published is the same in all that can
// match one topic, because one copy can have one flag only.
func fiftySubscriptions() []subscription {
	var all []subscription
	add := func(filter string) {
		i := len(all)
		s := subscription{filter: filter}
		if i%7 != 0 {
			s.identifier = uint32(i * i * i * 2_000) // 2 to 4 bytes on the wire
		}
		s.options.QoS = mqttcodec.QoS(i % 3)
		s.options.NoLocal = i%4 == 1
		s.options.RetainAsPublished = strings.HasPrefix(filter, "asis")
		s.options.RetainHandling = mqttcodec.RetainHandling((i + 1) % 3)
		all = append(all, s)
	}
	for _, tree := range []string{"plain", "asis"} {
		for house := range 3 {
			h := fmt.Sprintf("%s/h%d", tree, house)
			for _, rest := range []string{"", "/#", "/+", "/temp", "/room/+", "/+/temp"} {
				add(h + rest)
			}
		}
		for _, rest := range []string{"/#", "/+", "/+/temp", "/+/#", "/+/room/temp", "/+/+/+/temp"} {
			add(tree + rest)
		}
	}
	add("plain")
	add("asis/h0/")
	return all
}

// matches is the matching of the specification, written for reading. (4.7.1)
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" {
			return true // a/# matches a too: the levels before it have matched
		}
		if i == len(t) {
			return false
		}
		if level != "+" && level != t[i] {
			return false
		}
		if i == len(t)-1 && i == len(f)-2 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(t)
}

// copyOf says what a session with these subscriptions must get of a message: one copy at the highest QoS granted,
// with the identifiers of all that match, or nothing. [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
func copyOf(m mqttcodec.Publish, own bool, subscriptions []subscription) (want mqttcodec.Publish, any bool) {
	want = mqttcodec.Publish{Topic: m.Topic, Payload: m.Payload}
	highest := mqttcodec.QoS(0)
	for _, s := range subscriptions {
		if !matches(s.filter, m.Topic) || own && s.options.NoLocal {
			continue
		}
		any = true
		highest = max(highest, s.options.QoS)
		want.Retain = m.Retain && s.options.RetainAsPublished
		if s.identifier != 0 {
			want.SubscriptionIdentifiers = append(want.SubscriptionIdentifiers, s.identifier)
		}
	}
	want.QoS = min(highest, m.QoS)
	slices.Sort(want.SubscriptionIdentifiers)
	return want, any
}

// expectCopies publishes to all topics and checks what the subscriber gets; the publisher may be the subscriber.
func expectCopies(t *testing.T, when string, publisher, subscriber *harness.Raw, subscriptions []subscription) {
	t.Helper()
	for i, topic := range houseTopics() {
		m := mqttcodec.Publish{Topic: topic, QoS: mqttcodec.QoS(i % 3), Retain: i%2 == 0, Payload: fmt.Append(nil, when, " ", topic)}
		if m.QoS > 0 {
			m.PacketID = uint16(i + 1)
		}
		want, any := copyOf(m, publisher == subscriber, subscriptions)
		marker := mqttcodec.Publish{Topic: "marker", QoS: 2, PacketID: 1000}
		publisher.Send(&m, &marker)
		got, err := exchange(publisher, subscriber, m, marker)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		switch {
		case any && len(got) != 1:
			t.Errorf("%s: %d copies on %q, want one", when, len(got), topic)
		case !any && len(got) != 0:
			t.Errorf("%s: %d copies on %q, want none", when, len(got), topic)
		case any:
			if diff := differs(*got[0], want); diff != "" {
				t.Errorf("%s: %q published at QoS %d: %s", when, topic, m.QoS, diff)
			}
		}
	}
}

// exchange plays both sides until the publisher's exchanges are complete and the subscriber has had the marker; it
// returns what the subscriber got before. When both are one connection, each packet finds its side.
func exchange(publisher, subscriber *harness.Raw, sent ...mqttcodec.Publish) ([]*mqttcodec.Publish, error) {
	acks := 0
	for _, m := range sent {
		acks += int(m.QoS)
	}
	var got []*mqttcodec.Publish
	marker := sent[len(sent)-1].Topic
	open, seen := 0, false
	step := func(r *harness.Raw) error {
		p, err := r.TryRead()
		if err != nil {
			return err
		}
		switch p := p.(type) {
		case *mqttcodec.Publish:
			r.Answer(p)
			if p.QoS == 2 {
				open++
			}
			if p.Topic == marker {
				seen = true
			} else {
				got = append(got, p)
			}
		case *mqttcodec.Pubrel:
			r.Answer(p)
			open--
		case *mqttcodec.Pubrec:
			acks--
			r.Send(&mqttcodec.Pubrel{PacketID: p.PacketID})
		case *mqttcodec.Puback, *mqttcodec.Pubcomp:
			acks--
		default:
			return fmt.Errorf("got %T", p)
		}
		return nil
	}
	for acks > 0 {
		if err := step(publisher); err != nil {
			return nil, err
		}
	}
	for !seen || open > 0 {
		if err := step(subscriber); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// differs says how a delivered message is not what it must be, or nothing.
func differs(got, want mqttcodec.Publish) string {
	slices.Sort(got.SubscriptionIdentifiers)
	switch {
	case string(got.Payload) != string(want.Payload):
		return fmt.Sprintf("payload %q, want %q", got.Payload, want.Payload)
	case got.QoS != want.QoS:
		return fmt.Sprintf("delivered at QoS %d, want %d", got.QoS, want.QoS)
	case got.Retain != want.Retain:
		return fmt.Sprintf("retain %v, want %v", got.Retain, want.Retain)
	case got.Duplicate:
		return "DUP is set on the first delivery [MQTT-3.3.1-3]"
	case !slices.Equal(got.SubscriptionIdentifiers, want.SubscriptionIdentifiers):
		return fmt.Sprintf("subscription identifiers %v, want %v", got.SubscriptionIdentifiers, want.SubscriptionIdentifiers)
	}
	return ""
}

// Fifty subscriptions with their options and identifiers work after the restart as before, without a SUBSCRIBE.
// [MQTT-3.1.2-5] [MQTT-3.8.4-8] [MQTT-3.8.3-3] [MQTT-3.3.1-13] [case 115] [case 116] [case 127] [case 181]
func TestS02SubscriptionsSurviveWithOptions(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		subscriptions := fiftySubscriptions()
		b := harness.Start(t)
		c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "s02"))
		c.Subscribe(harness.Filter("gone/#", 2), harness.Filter("marker", 2))
		for i, s := range subscriptions {
			c.SubscribePacket(&mqttcodec.Subscribe{
				PacketID: uint16(i + 1), SubscriptionIdentifier: s.identifier,
				Requests: []mqttcodec.SubscriptionRequest{{Filter: s.filter, Options: s.options}},
			})
		}
		c.Send(&mqttcodec.Unsubscribe{PacketID: 999, Filters: []string{"gone/#"}})
		harness.Expect[*mqttcodec.Unsuback](c)
		publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		expectCopies(t, "before", publisher, c, subscriptions)
		expectCopies(t, "own before", c, c, subscriptions)

		b.Restart(how, c, publisher)
		c = b.Resume(t, mqttcodec.V5, "s02")
		publisher = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		publisher.Publish(mqttcodec.Publish{Topic: "gone/for/good", QoS: 2, Payload: []byte("unsubscribed")})
		expectCopies(t, "after", publisher, c, subscriptions)
		expectCopies(t, "own after", c, c, subscriptions)
	})
}

// The same through the Paho libraries, which know nothing of options or of several identifiers; what is published
// while the client is away counts too. [3.1.1 MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-5]
func TestS02SubscriptionsSurvive(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, testSubscriptionsSurvive)
}

func testSubscriptionsSurvive(t *testing.T, v mqttcodec.Version, how harness.Ending) {
	subscriptions := fiftySubscriptions()
	b := harness.Start(t)
	device := harness.NewDevice(v, "s02")
	c := device.Connect(b, harness.Persistent)
	for i := range subscriptions {
		subscriptions[i].identifier = 0
		subscriptions[i].options = mqttcodec.SubscriptionOptions{QoS: subscriptions[i].options.QoS}
		c.Subscribe(subscriptions[i].filter, byte(subscriptions[i].options.QoS))
	}
	c.Subscribe("marker", 1)
	b.Restart(how, c)

	publisher := harness.NewDevice(v, "publisher").Connect(b, harness.Ephemeral)
	publishAll := func(when string, qos byte) (want []harness.Message) {
		for _, topic := range houseTopics() {
			m := mqttcodec.Publish{Topic: topic, QoS: mqttcodec.QoS(qos), Payload: []byte(when)}
			publisher.Publish(topic, qos, when)
			// What goes to a session at QoS 0 is not kept for it.
			if expected, any := copyOf(m, false, subscriptions); any && (when == "online" || expected.QoS > 0) {
				want = append(want, harness.Message{Topic: topic, Payload: when, QoS: byte(expected.QoS)})
			}
		}
		publisher.Publish("marker", 1, "")
		return want
	}
	check := func(c *harness.Client, want []harness.Message) {
		t.Helper()
		got := c.ReceiveUntil("marker")
		if len(got) != len(want) {
			t.Fatalf("got %d messages, want %d: %v", len(got), len(want), got)
		}
		for i := range want {
			if got[i].Topic != want[i].Topic || got[i].Payload != want[i].Payload || got[i].QoS != want[i].QoS {
				t.Errorf("message %d is %+v, want %+v", i, got[i], want[i])
			}
		}
	}
	missed := publishAll("offline", 2)
	c = device.Resume(b)
	check(c, missed)
	check(c, publishAll("online", 1))
	check(c, publishAll("online", 0))
}
