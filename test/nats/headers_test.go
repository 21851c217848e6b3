package nats

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// header is what a NATS program says about a message, in every way there is; plain headers of its own among it.
func header() nats.Header {
	return nats.Header{
		"Mqtt-Payload-Format": {"1"}, "Mqtt-Content-Type": {"text/plain"}, "Mqtt-Response-Topic": {"answers/here"},
		"Mqtt-Correlation-Data": {"AAEC"}, "Mqtt-User-Property": {"z=1", "a=2", "a=3", "b c=%20%25", "=", "\u00fc=\u00e4%0A"},
		"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "tracestate": {"vendor=1,other=2"},
	}
}

// properties is what an MQTT 5.0 client makes of it.
func properties() mqttcodec.MessageProperties {
	return mqttcodec.MessageProperties{
		PayloadFormat: mqttcodec.Some(byte(1)), ContentType: mqttcodec.Some("text/plain"), ResponseTopic: "answers/here",
		CorrelationData: []byte{0, 1, 2},
		UserProperties: []mqttcodec.UserProperty{
			{Key: "z", Value: "1"},
			{Key: "a", Value: "2"},
			{Key: "a", Value: "3"},
			{Key: "b c", Value: " %"},
			{},
			{Key: "\u00fc", Value: "\u00e4\n"},
			{Key: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			{Key: "tracestate", Value: "vendor=1,other=2"},
		},
	}
}

// What a NATS program says in headers is what a 5.0 client reads in properties, and the other way round; a message that a
// client passes on is the same to NATS as before. On both planes.
func TestHeadersAndPropertiesAreTheSame(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nc := connectNATS(t, b.NATS)
	c := connectRaw(t, b, mqttcodec.V5, "c")
	c.Subscribe(harness.Filter("in/+", 2))
	for token, qos := range map[string]mqttcodec.QoS{"mqtt": 1, "mqtt0": 0} {
		sub := subscribeNATS(t, nc, token+".out.x")
		publishNATS(t, nc, &nats.Msg{Subject: token + ".in.x", Header: header(), Data: []byte("payload")})
		p := harness.Expect[*mqttcodec.Publish](c)
		if p.QoS != qos || fmt.Sprint(p.Properties) != fmt.Sprint(properties()) {
			t.Errorf("%s: got QoS %d %+v\nwant %+v", token, p.QoS, p.Properties, properties())
		}
		if qos == 1 {
			c.Send(&mqttcodec.Puback{PacketID: p.PacketID})
		}
		again := &mqttcodec.Publish{Topic: "out/x", QoS: qos, PacketID: 1, Payload: p.Payload, Properties: p.Properties}
		c.Send(again)
		if qos == 1 {
			harness.Expect[*mqttcodec.Puback](c)
		}
		m := next(t, sub)
		for name, values := range header() {
			have := m.Header[name]
			if name == "Mqtt-User-Property" { // the client's list has the plain ones, too
				have = have[:min(len(have), len(values))]
			}
			if !slices.Equal(have, values) {
				t.Errorf("%s: %s is %q, was %q", token, name, have, values)
			}
		}
		if _, said := m.Header["Mqtt-Qos"]; said || string(m.Data) != "payload" {
			t.Errorf("%s: got %q with %v", token, m.Data, m.Header)
		}
	}
}

// On the durable plane headers say QoS, retain flag and expiry.
func TestHeadersOfTheDurablePlane(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nc, js := connectNATS(t, b.NATS), b.JetStream(t)
	c := connectRaw(t, b, mqttcodec.V5, "c")
	c.Subscribe(harness.Filter("q/+", 2))
	for qos := range mqttcodec.QoS(3) {
		m := &nats.Msg{Subject: "mqtt.q.x", Header: nats.Header{"Mqtt-Qos": {fmt.Sprint(qos)}, "Mqtt-Message-Expiry": {"100"}}}
		if _, err := js.PublishMsg(harness.Context(t), m); err != nil {
			t.Fatal(err)
		}
		p := harness.Expect[*mqttcodec.Publish](c)
		if left := p.Properties.MessageExpirySeconds; p.QoS != qos || !left.Present || left.Value > 100 || left.Value < 90 {
			t.Errorf("QoS %d: got %+v", qos, p)
		}
	}
	publishNATS(t, nc, &nats.Msg{Subject: "mqtt.kept.a", Header: nats.Header{"Mqtt-Retain": {"1"}}, Data: []byte("state")})
	publishNATS(t, nc, &nats.Msg{Subject: "mqtt.q.x", Data: []byte("last")})
	for p := harness.Expect[*mqttcodec.Publish](c); string(p.Payload) != "last"; p = harness.Expect[*mqttcodec.Publish](c) {
	}
	late := connectRaw(t, b, mqttcodec.V5, "late")
	late.Subscribe(harness.Filter("kept/+", 0))
	if kept := harness.Expect[*mqttcodec.Publish](late); string(kept.Payload) != "state" || !kept.Retain {
		t.Errorf("got %+v", kept)
	}
}

// Nonsense in headers is as if it were not there, on both planes; nothing in them makes a client more than it is.
func TestHeadersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nc := connectNATS(t, b.NATS)
	c := connectRaw(t, b, mqttcodec.V5, "c")
	noLocal := harness.Filter("in/+", 1)
	noLocal.Options.NoLocal = true
	c.Subscribe(noLocal)
	for token, qos := range map[string]mqttcodec.QoS{"mqtt": 1, "mqtt0": 0} {
		for name, values := range map[string][]string{
			"Mqtt-Qos": {"3", "-1", "01", "", "one"}, "Mqtt-Retain": {"yes", "", "2"}, "Mqtt-Payload-Format": {"2", "x"},
			"Mqtt-Message-Expiry": {"-1", "4294967296", "soon"}, "Mqtt-Content-Type": {"%0", "%zz", "%00", "\xff"},
			"Mqtt-Response-Topic": {"", "a/#", "+", "%00"}, "Mqtt-Correlation-Data": {"no base64!"},
			"Mqtt-User-Property": {"without", "a=%0"}, "Mqtt-Properties": {"-1", "99999", "x"}, "Plain": {"\xff"},
		} {
			for _, v := range values {
				m := &nats.Msg{Subject: token + ".in.x", Header: nats.Header{name: {v}, "Good": {"yes"}}, Data: []byte(name + v)}
				publishNATS(t, nc, m)
				p := harness.Expect[*mqttcodec.Publish](c)
				want := mqttcodec.MessageProperties{UserProperties: []mqttcodec.UserProperty{{Key: "Good", Value: "yes"}}}
				if p.QoS != qos || p.Retain || string(p.Payload) != name+v || fmt.Sprint(p.Properties) != fmt.Sprint(want) {
					t.Errorf("%s: %s %q: got %+v", token, name, v, p)
				}
				if qos == 1 {
					c.Send(&mqttcodec.Puback{PacketID: p.PacketID})
				}
			}
		}
	}
	// On the live plane nobody is taken for a client.
	publishNATS(t, nc, &nats.Msg{Subject: "mqtt0.in.x", Header: nats.Header{"Mqtt-Publisher": {"c"}}, Data: []byte("hello")})
	if p := harness.Expect[*mqttcodec.Publish](c); string(p.Payload) != "hello" {
		t.Errorf("got %+v", p)
	}
}

// Nothing of a client becomes a header that means something to NATS.
func TestPropertiesAreNoHeadersOfTheServer(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	nc := connectNATS(t, b.NATS)
	c := connectRaw(t, b, mqttcodec.V5, "c")
	for token, qos := range map[string]mqttcodec.QoS{"mqtt": 1, "mqtt0": 0} {
		sub := subscribeNATS(t, nc, token+".out")
		p := &mqttcodec.Publish{Topic: "out", QoS: qos, PacketID: 1}
		for _, key := range []string{"Nats-Rollup", "nats-msg-id", "Mqtt-Retain", "KV-Operation", "Status", "Description", "Dunlin-X", "a b", "a:b", "a\r\nb", "Ok"} {
			p.Properties.UserProperties = append(p.Properties.UserProperties, mqttcodec.UserProperty{Key: key, Value: "1"})
		}
		c.Send(p)
		if qos == 1 {
			harness.Expect[*mqttcodec.Puback](c)
		}
		names := slices.Sorted(maps.Keys(next(t, sub).Header))
		if !slices.Equal(names, []string{"Mqtt-User-Property", "Ok"}) {
			t.Errorf("%s: headers %q", token, names)
		}
	}
}
