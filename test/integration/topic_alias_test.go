package integration

import (
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Topic aliases of a publisher are its own affair: receivers, the log and retained messages get the topic that an alias
// stood for. [MQTT-3.3.2-12] [case 96] [case 100] [case 104]
func TestInboundTopicAlias(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c"))
	highest := c.Connack.Properties.TopicAliasMaximum
	if highest != 32 {
		t.Fatalf("Topic Alias Maximum %d, want the default, 32", highest)
	}
	s := harness.NewDevice(mqttcodec.V311, "s").Connect(b, harness.Ephemeral)
	s.Subscribe("a/+", 1)
	c.PublishAll([]mqttcodec.Publish{
		{Topic: "a/one", QoS: 1, TopicAlias: 1},
		{QoS: 1, TopicAlias: 1},
		{Topic: "a/three", QoS: 2, TopicAlias: highest},
		{Topic: "a/two", QoS: 1, TopicAlias: 1},
		{QoS: 2, TopicAlias: highest},
		{QoS: 1, TopicAlias: 1, Retain: true, Payload: []byte("retained")},
	})
	for _, want := range []string{"a/one", "a/one", "a/three", "a/two", "a/three", "a/two"} {
		if m := s.Receive(); m.Topic != want {
			t.Errorf("got topic %q, want %q", m.Topic, want)
		}
	}
	late := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "late"))
	late.Send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{harness.Filter("a/two", 0)}})
	harness.Expect[*mqttcodec.Suback](late)
	if m := harness.Expect[*mqttcodec.Publish](late); m.Topic != "a/two" || m.TopicAlias != 0 || string(m.Payload) != "retained" {
		t.Errorf("got %+v, want the retained message without alias", m)
	}
}

// A topic alias of 0, above the broker's maximum, or not set on this connection ends the connection, which alone is
// harmed. (3.3.4) [MQTT-3.3.2-7] [MQTT-3.3.2-8] [MQTT-3.3.2-9] [case 97] [case 98]
func TestInboundTopicAliasFaults(t *testing.T) {
	t.Parallel()
	const highest = 3
	b := harness.Start(t, harness.Set("limits.topic_alias_maximum", highest))
	unset := func(c *harness.Raw) { c.Send(&mqttcodec.Publish{TopicAlias: 1}) }
	cases := []struct {
		name string
		send func(*harness.Raw)
		want mqttcodec.ReasonCode
	}{
		{"0", func(c *harness.Raw) { c.SendBytes(0x30, 7, 0, 1, 'a', 3, 0x23, 0, 0) }, mqttcodec.TopicAliasInvalid},
		{"above the maximum", func(c *harness.Raw) { c.Send(&mqttcodec.Publish{Topic: "a", TopicAlias: highest + 1}) }, mqttcodec.TopicAliasInvalid},
		{"never set", unset, mqttcodec.ProtocolErrorReason},
		{"set on another connection", unset, mqttcodec.ProtocolErrorReason},
		{"no topic and no alias", func(c *harness.Raw) { c.Send(&mqttcodec.Publish{}) }, mqttcodec.ProtocolErrorReason},
	}
	other := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "other"))
	before := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "c"))
	for _, c := range []*harness.Raw{other, before} {
		c.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, TopicAlias: 1})
	}
	before.Drop()
	for _, test := range cases {
		c := b.Resume(t, mqttcodec.V5, "c")
		test.send(c)
		if d, ok := firstPacket(c.ExpectClosed()).(*mqttcodec.Disconnect); !ok || d.Reason != test.want {
			t.Errorf("%s: got %+v, want DISCONNECT %#x", test.name, d, test.want)
		}
	}
	other.Publish(mqttcodec.Publish{QoS: 1, TopicAlias: 1})
}

// A client that takes topic aliases gets them: an alias comes with its topic first, is alone then, and is unknown to the
// next connection, where also what is sent again has its topic. [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-7]
// [MQTT-3.3.2-11] [case 99] [case 100] [case 101] [case 102]
func TestOutboundTopicAlias(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	connect := harness.PersistentConnect(mqttcodec.V5, "c")
	connect.Properties.TopicAliasMaximum = 2
	c := b.ConnectRaw(t, connect)
	c.Subscribe(harness.Filter("alias/+", 2))
	p := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
	publish := func() {
		for i, topic := range []string{"alias/one", "alias/two", "alias/three", "alias/one"} {
			p.Publish(mqttcodec.Publish{Topic: topic, QoS: mqttcodec.QoS(1 + i%2), TopicAlias: uint16(30 - i)})
		}
	}
	expect := func(c *harness.Raw, duplicate bool, want ...mqttcodec.Publish) {
		t.Helper()
		for _, w := range want {
			if m := harness.Expect[*mqttcodec.Publish](c); m.Topic != w.Topic || m.TopicAlias != w.TopicAlias || m.Duplicate != duplicate {
				t.Fatalf("got topic %q, alias %d, DUP %v, want %q, %d, %v", m.Topic, m.TopicAlias, m.Duplicate, w.Topic, w.TopicAlias, duplicate)
			}
		}
	}
	first := []mqttcodec.Publish{{Topic: "alias/one", TopicAlias: 1}, {Topic: "alias/two", TopicAlias: 2}, {Topic: "alias/three"}, {TopicAlias: 1}}
	publish()
	expect(c, false, first...)
	c.Drop() // with all four unacknowledged

	resumed := b.ConnectRaw(t, connect)
	expect(resumed, true, first...)
	publish()
	expect(resumed, false, mqttcodec.Publish{TopicAlias: 1}, mqttcodec.Publish{TopicAlias: 2}, mqttcodec.Publish{Topic: "alias/three"}, mqttcodec.Publish{TopicAlias: 1})
	resumed.Drop()

	plain := []mqttcodec.Publish{{Topic: "alias/one"}, {Topic: "alias/two"}, {Topic: "alias/three"}, {Topic: "alias/one"}}
	again := b.Resume(t, mqttcodec.V5, "c") // takes no alias now
	expect(again, true, append(plain, plain...)...)
}
