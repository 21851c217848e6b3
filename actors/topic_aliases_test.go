package actors

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"unsafe"

	"dunlin/mqttcodec"
	"dunlin/sessions/sessionstest"
)

func topicAliases(n uint16) func(*mqttcodec.Connect) {
	return func(p *mqttcodec.Connect) { p.Properties.TopicAliasMaximum = n }
}

func maximumPacket(n uint32) func(*mqttcodec.Connect) {
	return func(p *mqttcodec.Connect) { p.Properties.MaximumPacketSize = n }
}

// publish0 makes a PUBLISH at QoS 0.
func publish0(topic string, alias uint16, payload string) *mqttcodec.Publish {
	return &mqttcodec.Publish{Topic: topic, TopicAlias: alias, Payload: []byte(payload)}
}

// wantPublish waits for a PUBLISH with this topic, alias and payload, and acknowledges it.
func (c *testClient) wantPublish(topic string, alias uint16, payload string) {
	c.t.Helper()
	p := c.take1()
	if p.Topic != topic || p.TopicAlias != alias || string(p.Payload) != payload {
		c.t.Fatalf("got topic %q, alias %d, payload %q, want %q, %d, %q", p.Topic, p.TopicAlias, p.Payload, topic, alias, payload)
	}
}

// wantFault waits for DISCONNECT with a reason and the end.
func (c *testClient) wantFault(reason mqttcodec.ReasonCode) {
	c.t.Helper()
	if p := expect[*mqttcodec.Disconnect](c); p.Reason != reason {
		c.t.Fatalf("DISCONNECT has reason %#x, want %#x", p.Reason, reason)
	}
	c.wantEnd()
}

// An alias stands for the topic that it last came with; nobody but its connection sees it. [MQTT-3.3.2-12] [case 96]
func TestInboundAliasStandsForItsTopic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		c, publisher := b.connected("c", clean), b.connected("publisher", clean)
		c.subscribe(0, "topic/+")
		publisher.send(publish0("topic/one", 1, "1"), publish0("topic/two", 32, "2"))
		publisher.send(publish0("", 32, "3"), publish0("", 1, "4"), publish0("topic/three", 1, "5"), publish0("topic/one", 0, "6"))
		publisher.send(publish0("", 1, "7"))
		for i, topic := range []string{"one", "two", "two", "one", "three", "one", "three"} {
			c.wantPublish("topic/"+topic, 0, fmt.Sprint(i+1))
		}
	})
}

// A PUBLISH that the session refuses was a valid packet all the same. [case 103]
func TestInboundAliasOfRefusedPublishIsSet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		publisher := b.connected("publisher", clean)
		for id, topic := range []string{"$SYS/refused", ""} {
			publisher.send(&mqttcodec.Publish{Topic: topic, TopicAlias: 1, QoS: 1, PacketID: uint16(id + 1)})
			if ack := expect[*mqttcodec.Puback](publisher); !ack.Reason.Failed() {
				t.Fatalf("PUBACK has reason %#x", ack.Reason)
			}
		}
	})
}

func TestInboundAliasFaultEndsTheConnection(t *testing.T) {
	aliasZero := []byte{0x30, 7, 0, 1, 'a', 3, 0x23, 0, 0}
	cases := []struct {
		name    string
		maximum uint16
		packets []mqttcodec.Packet
		bytes   []byte
		want    mqttcodec.ReasonCode
	}{
		{"0 [MQTT-3.3.2-8]", 2, nil, aliasZero, mqttcodec.TopicAliasInvalid},
		{"above our maximum [MQTT-3.3.2-9]", 2, []mqttcodec.Packet{publish0("a", 3, "")}, nil, mqttcodec.TopicAliasInvalid},
		{"any when we take none [MQTT-3.3.2-9]", 0, []mqttcodec.Packet{publish0("a", 1, "")}, nil, mqttcodec.TopicAliasInvalid},
		{"never set (3.3.4)", 2, []mqttcodec.Packet{publish0("a", 1, ""), publish0("", 2, "")}, nil, mqttcodec.ProtocolErrorReason},
		{"no topic and no alias (3.3.2.1)", 2, []mqttcodec.Packet{publish0("", 0, "")}, nil, mqttcodec.ProtocolErrorReason},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot", func(cfg *Config) { cfg.Sessions.TopicAliasMaximum = test.maximum })
				c := b.client(mqttcodec.V5)
				c.send(connectPacket(mqttcodec.V5, "c"))
				if got := expect[*mqttcodec.Connack](c).Properties.TopicAliasMaximum; got != test.maximum {
					t.Errorf("CONNACK announces %d, want %d", got, test.maximum)
				}
				c.write(append(c.encode(test.packets...), test.bytes...))
				c.wantFault(test.want)
			})
		})
	}
}

// Aliases of a connection end with it, in both directions, also when the session goes on. [MQTT-3.3.2-7] [case 99]
func TestAliasesEndWithTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		c := b.connected("c", topicAliases(5))
		c.subscribe(1, "topic/+")
		c.send(publish0("other", 1, ""))
		publisher := b.connected("publisher", clean)
		publisher.publish1("topic/one", "1")
		c.wantPublish("topic/one", 1, "1")
		publisher.publish1("topic/one", "2")
		if p := expect[*mqttcodec.Publish](c); p.Topic != "" || p.TopicAlias != 1 {
			t.Fatalf("got topic %q with alias %d", p.Topic, p.TopicAlias)
		}
		synctest.Wait()
		c.close() // with the second message unacknowledged

		c = b.connected("c", topicAliases(5))
		c.wantPublish("topic/one", 1, "2")
		publisher.publish1("topic/one", "3")
		c.wantPublish("", 1, "3")
		c.send(publish0("", 1, ""))
		c.wantFault(mqttcodec.ProtocolErrorReason)

		c = b.connected("c") // takes none now
		publisher.publish1("topic/one", "4")
		c.wantPublish("topic/one", 0, "4")
	})
}

// At most as many aliases are set as both sides allow, to the topics that come first. [MQTT-3.1.2-26] [MQTT-3.1.2-27]
// [case 100]
func TestOutboundAliasesGoToTheFirstTopics(t *testing.T) {
	for _, test := range []struct{ client, ours, want uint16 }{{2, 32, 2}, {32, 2, 2}, {0, 32, 0}, {32, 0, 0}} {
		t.Run(fmt.Sprintf("client %d, ours %d", test.client, test.ours), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot", func(cfg *Config) { cfg.Sessions.TopicAliasMaximum = test.ours })
				c, publisher := b.connected("c", clean, topicAliases(test.client)), b.connected("publisher", clean)
				c.subscribe(1, "topic/+")
				for round := range 2 {
					for n := uint16(1); n <= 3; n++ {
						topic := fmt.Sprintf("topic/%d", n)
						publisher.publish1(topic, "x")
						switch {
						case n > test.want:
							c.wantPublish(topic, 0, "x")
						case round == 0:
							c.wantPublish(topic, n, "x")
						default:
							c.wantPublish("", n, "x")
						}
					}
				}
			})
		})
	}
}

// Each receiver of one message has its own aliases: shortening it for one does not touch the other.
func TestOutboundAliasesAreThoseOfOneConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot")
		first, second, old := b.connected("first", clean, topicAliases(5)), b.connected("second", clean, topicAliases(5)), b.client(mqttcodec.V311)
		old.send(connectPacket(mqttcodec.V311, "old", clean))
		expect[*mqttcodec.Connack](old)
		first.subscribe(0, "topic/+")
		second.subscribe(0, "topic/two")
		old.subscribe(0, "topic/+")
		publisher := b.connected("publisher", clean)
		publisher.send(publish0("topic/one", 7, "1"), publish0("topic/two", 8, "2"), publish0("", 8, "3"))
		first.wantPublish("topic/one", 1, "1")
		first.wantPublish("topic/two", 2, "2")
		first.wantPublish("", 2, "3")
		second.wantPublish("topic/two", 1, "2")
		second.wantPublish("", 1, "3")
		for i, topic := range []string{"topic/one", "topic/two", "topic/two"} {
			old.wantPublish(topic, 0, fmt.Sprint(i+1))
		}
	})
}

// A packet that would not fit with an alias goes without, and then the alias is not taken as set; one that is not sent at
// all sets none either. [MQTT-3.1.2-24] [case 101]
func TestOutboundAliasFitsTheClientsMaximumPacketSize(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 64
		b := startOnPipes(t, sessionstest.New(), "boot")
		c, publisher := b.connected("c", clean, topicAliases(5), maximumPacket(limit)), b.connected("publisher", clean)
		c.subscribe(0, "#")
		const topic = "topic/one"
		fixed := len(publisher.encode(publish0(topic, 0, "")))
		for size := limit - 3; size <= limit+1; size++ {
			publisher.send(publish0(topic, 0, strings.Repeat("x", size-fixed)))
		}
		first := expect[*mqttcodec.Publish](c)
		if first.Topic != topic || first.TopicAlias != 1 || len(c.encode(first)) != limit {
			t.Errorf("the first packet has topic %q, alias %d, %d bytes", first.Topic, first.TopicAlias, len(c.encode(first)))
		}
		for range 3 {
			p := expect[*mqttcodec.Publish](c)
			if p.Topic != "" || p.TopicAlias != 1 {
				t.Errorf("got topic %q, alias %d", p.Topic, p.TopicAlias)
			}
		}
		publisher.send(publish0("topic/two", 0, strings.Repeat("x", limit-fixed)), publish0("topic/three", 0, strings.Repeat("x", limit)))
		publisher.send(publish0("topic/two", 0, ""), publish0("topic/three", 0, ""), publish0("topic/two", 0, ""))
		c.wantPublish("topic/two", 0, strings.Repeat("x", limit-fixed))
		c.wantPublish("topic/two", 2, "")
		c.wantPublish("topic/three", 3, "")
		c.wantPublish("", 2, "")
	})
}

// What an alias saves is more than what it costs: with no length of topic and properties does it make a packet larger.
func TestKnownOutboundAliasNeverMakesAPacketLarger(t *testing.T) {
	for length := 1; length <= 10; length++ {
		topic := strings.Repeat("t", length)
		aliases := outboundAliases{maximum: 1}
		aliases.shorten(&mqttcodec.Publish{Topic: topic})
		for properties := range 200 {
			p := &mqttcodec.Publish{Topic: topic}
			p.Properties.ContentType = mqttcodec.Some(strings.Repeat("c", properties))
			plain, err := mqttcodec.Size(mqttcodec.V5, p)
			if err != nil {
				t.Fatal(err)
			}
			aliases.shorten(p)
			if n, err := mqttcodec.Size(mqttcodec.V5, p); err != nil || n > plain {
				t.Fatalf("topic of %d bytes, content type of %d: %d bytes with alias %d, %d without", length, properties, n, p.TopicAlias, plain)
			}
		}
	}
}

// The topics of aliases outlive the bytes that they came in, and known aliases cost no memory.
func TestAliasesKeepTopicsOfTheirOwn(t *testing.T) {
	frame := []byte("topic/one")
	topic := unsafe.String(unsafe.SliceData(frame), len(frame))
	inbound, outbound := inboundAliases{}, outboundAliases{maximum: 1}
	if err := inbound.resolve(&mqttcodec.Publish{Topic: topic, TopicAlias: 1}, 1); err != nil {
		t.Fatal(err)
	}
	outbound.shorten(&mqttcodec.Publish{Topic: topic})
	copy(frame, "overwrite")
	p := &mqttcodec.Publish{}
	if n := testing.AllocsPerRun(10, func() {
		p.Topic, p.TopicAlias = "", 1
		if err := inbound.resolve(p, 1); err != nil || p.Topic != "topic/one" || p.TopicAlias != 0 {
			t.Fatalf("alias 1 is %q, alias %d (%v)", p.Topic, p.TopicAlias, err)
		}
		if outbound.shorten(p); p.Topic != "" || p.TopicAlias != 1 {
			t.Fatalf("topic/one goes as %q with alias %d", p.Topic, p.TopicAlias)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
