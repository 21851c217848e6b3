package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Every QoS arrives between all pairs of versions, at the lower of the published and the granted. [MQTT-3.8.4-8]
// [3.1.1 MQTT-3.8.4-6] [case 110] [case 154] [MQTT-4.2.0-1] [3.1.1 MQTT-7.1.1-1]
func TestEveryQoSBetweenVersions(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	versions := []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5}
	for _, from := range versions {
		for _, to := range versions {
			name := harness.VersionName(from) + " to " + harness.VersionName(to)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := b.For(t)
				topic := "qos/" + strings.ReplaceAll(name, " ", "-")
				s := harness.NewDevice(to, "s-"+topic).Connect(b, harness.Ephemeral)
				p := harness.NewDevice(from, "p-"+topic).Connect(b, harness.Ephemeral)
				for granted := range byte(3) {
					filter := fmt.Sprintf("%s/%d", topic, granted)
					s.Subscribe(filter, granted)
					for published := range byte(3) {
						p.Publish(filter, published, "x")
						if m := s.Receive(); m.QoS != min(granted, published) || m.Topic != filter || m.Payload != "x" {
							t.Errorf("published at %d, granted %d: got %+v", published, granted, m)
						}
					}
				}
			})
		}
	}
}

// Topics arrive byte for byte, and payloads of any content and size. [MQTT-4.7.3-4] [MQTT-1.5.4-3] [3.1.1 MQTT-1.5.3-3]
// [3.1.1 MQTT-4.7.3-4] [case 70] [case 71]
func TestTopicsAndPayloadsArriveUnchanged(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		c := harness.NewDevice(v, "c").Connect(b, harness.Ephemeral)
		c.Subscribe("#", 2)
		topics := []string{
			"a", "/", "//", "/a", "a/", "a//b", "a b", "a.b", "a*b>c", "*", ">", "a/$SYS/b", "=20", "é/ü/😀", "e\u0301", "\ufeffbom", "a/" + strings.Repeat("x/", 100),
		}
		for i, topic := range topics {
			for qos := range byte(3) {
				payload := strings.Repeat("\x00\xff", i*(1+1000*int(qos)))
				c.Publish(topic, qos, payload)
				if m := c.Receive(); m.Topic != topic || m.Payload != payload {
					t.Errorf("topic %q at QoS %d came as %q with %d bytes, want %d", topic, qos, m.Topic, len(m.Payload), len(payload))
				}
			}
		}
	})
}

// Wildcards match as the specification says. [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.2-1] [3.1.1 MQTT-4.7.1-2]
// [3.1.1 MQTT-4.7.1-3] [3.1.1 MQTT-4.7.2-1] [MQTT-3.3.2-3] [case 120] [case 121] [3.1.1 MQTT-3.3.2-3]
func TestWildcards(t *testing.T) {
	t.Parallel()
	filters := []string{"#", "+", "+/+", "/+", "a/#", "a/+", "a/+/c", "+/b/#", "$x/#", "$x/+", "a/b", "/", "+/#"}
	topics := []string{"a", "a/b", "a/b/c", "a/", "/", "/x", "x", "$x", "$x/y", "$x/y/z", "b/b/b", "a//c", "x/y"}
	b := harness.Start(t)
	p := harness.NewDevice(mqttcodec.V5, "p").Connect(b, harness.Ephemeral)
	for qos := range byte(2) {
		subscribers := map[string]*harness.Client{}
		for i, filter := range filters {
			s := harness.NewDevice(mqttcodec.V311, fmt.Sprint("s", qos, i)).Connect(b, harness.Ephemeral)
			s.Subscribe(filter, qos)
			s.Subscribe("$marker", qos)
			subscribers[filter] = s
		}
		for _, topic := range topics {
			p.Publish(topic, qos, "")
		}
		p.Publish("$marker", qos, "")
		for _, filter := range filters {
			var want, got []string
			for _, topic := range topics {
				system := strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$")
				if matches(filter, topic) && !system {
					want = append(want, topic)
				}
			}
			for _, m := range subscribers[filter].ReceiveUntil("$marker") {
				got = append(got, m.Topic)
			}
			if !slices.Equal(got, want) {
				t.Errorf("filter %q at QoS %d got %q, want %q", filter, qos, got, want)
			}
		}
	}
}

// Overlapping subscriptions of one client get one copy, at the highest QoS granted. [MQTT-3.3.4-2] [3.1.1 MQTT-3.3.5-1]
// [case 112]
func TestOverlappingSubscriptionsGetOneCopy(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		c := harness.NewDevice(v, "c").Connect(b, harness.Ephemeral)
		c.Subscribe("a/+", 1)
		c.Subscribe("a/#", 2)
		c.Subscribe("a/b", 0)
		c.Subscribe("marker", 0)
		for qos := range byte(3) {
			c.Publish("a/b", qos, "x")
			c.Publish("marker", qos, "")
			if got := c.ReceiveUntil("marker"); len(got) != 1 || got[0].QoS != qos {
				t.Errorf("published at QoS %d: got %+v, want one copy at it", qos, got)
			}
		}
	})
}

// UNSUBSCRIBE ends delivery, of exactly that filter. [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-5] [MQTT-3.11.3-1]
// [3.1.1 MQTT-3.10.4-1] [3.1.1 MQTT-3.10.4-2] [3.1.1 MQTT-3.10.4-5] [case 118] [case 119]
func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		c := b.ConnectRaw(t, harness.CleanConnect(v, "c"))
		c.Subscribe(harness.Filter("a", 1), harness.Filter("+", 0), harness.Filter("marker", 0))
		c.Send(&mqttcodec.Unsubscribe{PacketID: 5, Filters: []string{"a", "never"}})
		answer := harness.Expect[*mqttcodec.Unsuback](c)
		if want := []mqttcodec.ReasonCode{mqttcodec.Success, mqttcodec.NoSubscriptionExisted}; v == mqttcodec.V5 && !slices.Equal(answer.Reasons, want) {
			t.Errorf("UNSUBACK %v, want %v", answer.Reasons, want)
		}
		p := b.ConnectRaw(t, harness.CleanConnect(v, "p"))
		p.Publish(mqttcodec.Publish{Topic: "a", QoS: 1})
		if m := harness.Expect[*mqttcodec.Publish](c); m.QoS != 0 {
			t.Errorf("delivered at QoS %d, by a subscription that is gone", m.QoS)
		}
		c.Send(&mqttcodec.Unsubscribe{PacketID: 6, Filters: []string{"+"}})
		harness.Expect[*mqttcodec.Unsuback](c)
		p.Publish(mqttcodec.Publish{Topic: "a", QoS: 1})
		p.Publish(mqttcodec.Publish{Topic: "marker", QoS: 1})
		if m := harness.Expect[*mqttcodec.Publish](c); m.Topic != "marker" {
			t.Errorf("got %+v after UNSUBACK", m)
		}
	})
}

// Properties of a message arrive unaltered, live, queued and retained.
// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [case 153] [case 154]
func TestMessagePropertiesArrive(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	away := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "away"))
	away.Subscribe(harness.Filter("p", 1))
	away.Disconnect()
	live := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "live"))
	live.Subscribe(harness.Filter("p", 0))
	old := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "old"))
	old.Subscribe(harness.Filter("p", 0))

	properties := mqttcodec.MessageProperties{
		PayloadFormat:   mqttcodec.Some[byte](1),
		ContentType:     mqttcodec.Some("text/plain; charset=utf-8"),
		ResponseTopic:   "answer/here",
		CorrelationData: []byte{0, 1, 0xff, '\n'},
		UserProperties: []mqttcodec.UserProperty{
			{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "1"}, {Key: "", Value: ""}, {Key: "Nats-Msg-Id", Value: "x"}, {Key: "k=é:\r\n", Value: "v=\t"},
		},
	}
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.Publish(mqttcodec.Publish{Topic: "p", QoS: 1, Retain: true, Payload: []byte("text"), Properties: properties})
	if m := harness.Expect[*mqttcodec.Publish](old); string(m.Payload) != "text" {
		t.Errorf("3.1.1 subscriber got %+v", m)
	}
	fresh := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "fresh"))
	fresh.Send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{harness.Filter("p", 0)}})
	for name, r := range map[string]*harness.Raw{"live": live, "queued": b.Resume(t, mqttcodec.V5, "away"), "retained": fresh} {
		p := r.Read()
		if _, ok := p.(*mqttcodec.Suback); ok {
			p = r.Read()
		}
		m, ok := p.(*mqttcodec.Publish)
		if !ok {
			t.Fatalf("%s: got %T", name, p)
		}
		if got, want := fmt.Sprintf("%+v", m.Properties), fmt.Sprintf("%+v", properties); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// Request Problem Information 0: nothing but the code on acknowledgements; and no property of the publisher on them ever.
// [MQTT-3.1.2-29] [MQTT-3.4.2-1] [case 26] [case 78]
func TestAcknowledgementsCarryNothingForeign(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	connect := harness.CleanConnect(mqttcodec.V5, "c")
	connect.Properties.RequestProblemInformation = mqttcodec.Some(false)
	c := b.ConnectRaw(t, connect)
	properties := mqttcodec.MessageProperties{UserProperties: []mqttcodec.UserProperty{{Key: "k", Value: "v"}}}
	c.Send(&mqttcodec.Publish{Topic: "a", QoS: 1, PacketID: 9, Properties: properties})
	if a := harness.Expect[*mqttcodec.Puback](c); a.PacketID != 9 || a.Reason != mqttcodec.Success || a.Properties.UserProperties != nil || a.Properties.ReasonString != "" {
		t.Errorf("PUBACK %+v", a)
	}
	c.Send(&mqttcodec.Unsubscribe{PacketID: 10, Filters: []string{"nothing"}})
	if a := harness.Expect[*mqttcodec.Unsuback](c); a.Properties.ReasonString != "" || a.Properties.UserProperties != nil {
		t.Errorf("UNSUBACK %+v", a)
	}
}

// Acknowledgements come in the order of the publishes. [MQTT-4.6.0-2] [case 90]
func TestAcknowledgementsComeInOrder(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		c := b.ConnectRaw(t, harness.CleanConnect(v, "c"))
		var burst []mqttcodec.Packet
		for id := range uint16(200) {
			burst = append(burst, &mqttcodec.Publish{Topic: fmt.Sprint("t", id%7), QoS: 1, PacketID: id + 1})
		}
		c.Send(burst...)
		for id := range uint16(200) {
			if a := harness.Expect[*mqttcodec.Puback](c); a.PacketID != id+1 {
				t.Fatalf("PUBACK %d where %d is due", a.PacketID, id+1)
			}
		}
	})
}

// What is sent behind CONNECT without waiting is done after CONNACK, a PUBLISH with the SUBSCRIBE before it in effect.
// [MQTT-3.2.0-1] [3.1.1 MQTT-3.2.0-1] [case 23]
func TestPipelinedBehindConnect(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		c := b.Dial(t, v)
		c.Send(
			harness.PersistentConnect(v, "c"),
			&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{harness.Filter("a", 1)}},
			&mqttcodec.Publish{Topic: "a", QoS: 1, PacketID: 2, Payload: []byte("own")},
			&mqttcodec.Pingreq{},
		)
		harness.Expect[*mqttcodec.Connack](c)
		left := map[mqttcodec.PacketType]bool{mqttcodec.TypeSuback: true, mqttcodec.TypePuback: true, mqttcodec.TypePublish: true, mqttcodec.TypePingresp: true}
		for len(left) > 0 {
			p := c.Read()
			if !left[p.Type()] {
				t.Fatalf("got %T twice or for no reason", p)
			}
			delete(left, p.Type())
		}
	})
}

// MQTT 3.1 clients are served. (3.1)
func TestMQTT31IsServed(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	device := harness.NewDevice(mqttcodec.V31, "old")
	c := device.Connect(b, harness.Persistent)
	c.Subscribe("a", 2)
	c.Publish("a", 2, "x")
	c.ExpectPayloads("x")
	c.Disconnect()
	harness.NewDevice(mqttcodec.V5, "p").Connect(b, harness.Ephemeral).Publish("a", 1, "missed")
	device.Connect(b, harness.Persistent).ExpectPayloads("missed")
}
