package clients

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// The properties of a message arrive as they were sent, both ways, the user properties in order.
// [MQTT-3.3.2-4][MQTT-3.3.2-15][MQTT-3.3.2-16][MQTT-3.3.2-17][MQTT-3.3.2-18][MQTT-3.3.2-20][case 153]
func TestPropertiesArriveUnchanged(t *testing.T) {
	each(t, anybody, version5, func(s *subject) {
		s.connect(options{Filters: []string{s.topic("in")}, QoS: 2})
		p, o := s.publisher(), s.observer(s.topic("out"))
		for qos := range byte(3) {
			m := message{
				Topic: s.topic("in"), QoS: qos, Payload: `{"é":1}`, ContentType: "application/json", Format: 1,
				ResponseTopic: s.topic("answers/é"), CorrelationData: "c 1", ExpirySeconds: 3600, User: s.kind.user,
			}
			p.publish(m)
			s.expect(m)
			m.Topic = s.topic("out")
			s.publish(m)
			o.expect(m)
		}
	})
}

// A message waits with its properties. [MQTT-3.3.2-18][MQTT-3.3.2-20][case 153]
func TestPropertiesWaitWithTheMessage(t *testing.T) {
	each(t, anybody, version5, func(s *subject) {
		s.connect(options{Persistent: true, Filters: []string{s.topic("in")}, QoS: 1})
		s.disconnect()
		m := message{Topic: s.topic("in"), QoS: 1, Payload: "x", ContentType: "text/plain", ExpirySeconds: 3600, User: s.kind.user}
		s.publisher().publish(m)
		s.resume(options{})
		got := s.next()
		if got.ExpirySeconds == 0 || got.ExpirySeconds > 3600 {
			s.t.Errorf("expiry %d, published with 3600", got.ExpirySeconds)
		}
		got.ExpirySeconds = m.ExpirySeconds
		compare(s.t, 0, got, m)
	})
}

// A request finds who answers it, and the answer finds who asked: response topic and correlation data, both ways.
// [MQTT-3.3.2-15][MQTT-3.3.2-16]
func TestRequestAndResponse(t *testing.T) {
	each(t, anybody, version5, func(s *subject) {
		s.connect(options{Filters: []string{s.topic("requests"), s.topic("answers")}, QoS: 1})

		answers := s.observer(s.topic("answers of the subject"))
		s.publisher().publish(message{Topic: s.topic("requests"), QoS: 1, Payload: "time?", ResponseTopic: s.topic("answers of the subject"), CorrelationData: "1"})
		request := s.next()
		s.publish(message{Topic: request.ResponseTopic, QoS: 1, Payload: "noon", CorrelationData: request.CorrelationData})
		answers.expect(message{Topic: s.topic("answers of the subject"), QoS: 1, Payload: "noon", CorrelationData: "1"})

		requests := s.observer(s.topic("requests of the subject"))
		s.publish(message{Topic: s.topic("requests of the subject"), QoS: 1, Payload: "date?", ResponseTopic: s.topic("answers"), CorrelationData: "2"})
		request = requests.receive(1)[0]
		answer := message{Topic: request.ResponseTopic, QoS: 1, Payload: "today", CorrelationData: request.CorrelationData}
		s.publisher().publish(answer)
		s.expect(message{Topic: s.topic("answers"), QoS: 1, Payload: "today", CorrelationData: "2"})
	})
}

// A client publishes with topic aliases of its own: the first message sets one, and those behind it, at every QoS, need
// no topic. [MQTT-3.3.2-12][case 96][case 100]
func TestClientPublishesWithTopicAliases(t *testing.T) {
	each(t, usesAliases, version5, func(s *subject) {
		o := s.observer(s.topic("#"))
		s.connect(options{Filters: []string{s.topic("any")}})
		a, b := message{Topic: s.topic("a"), QoS: 1, Payload: "x", Alias: 1}, message{Topic: s.topic("b"), QoS: 2, Payload: "x", Alias: 2}
		messages := []message{a, a, b, b, a}
		s.publish(messages...)
		for _, m := range messages {
			m.Alias = 0
			o.expect(m)
		}
		short := 0
		for _, p := range published(s.tap, &s.tap.fromClient) {
			if p.Topic == "" && p.TopicAlias != 0 {
				short++
			}
		}
		if short == 0 {
			s.t.Error("the client sent every message with its topic: this tests nothing")
		}
	})
}

// A client resolves the topic aliases that the broker assigns, as many as it allows, anew on each connection.
// [MQTT-3.1.2-26][MQTT-3.3.2-7][case 99][case 100]
func TestClientResolvesTopicAliases(t *testing.T) {
	each(t, resolvesAliases, version5, func(s *subject) {
		o := options{Persistent: true, Filters: []string{s.topic("#")}, QoS: 1, Aliases: 3}
		p := s.publisher()
		for range 2 {
			s.connect(o)
			for _, rest := range []string{"a", "b", "c", "d", "a", "b", "c", "d", "a"} {
				m := message{Topic: s.topic(rest), QoS: 1, Payload: "for " + rest}
				p.publish(m)
				s.expect(m)
			}
			s.disconnect()
		}
		short := 0
		for _, p := range published(s.tap, &s.tap.fromBroker) {
			if p.TopicAlias > o.Aliases {
				s.t.Errorf("alias %d, allowed are %d", p.TopicAlias, o.Aliases)
			}
			if p.Topic == "" {
				short++
			}
		}
		if short == 0 {
			s.t.Error("the broker sent every message with its topic")
		}
	})
}

// A message names the subscription that it came by, live and after the session was resumed.
// [MQTT-3.3.4-3][case 115]
func TestSubscriptionIdentifierIsShown(t *testing.T) {
	each(t, seesIdentifiers, []mqttcodec.Version{mqttcodec.V5}, func(s *subject) {
		o := options{Persistent: true, Filters: []string{s.topic("a/+")}, QoS: 1, Identifier: 268_435_455}
		s.connect(o)
		p := s.publisher()
		m := message{Topic: s.topic("a/b"), QoS: 1, Payload: "x"}
		shown := m
		shown.Identifiers = []uint32{o.Identifier}
		p.publish(m)
		s.expect(shown)
		s.disconnect()
		p.publish(m)
		o.Filters = nil
		s.resume(o)
		s.expect(shown)
	})
}

// mosquitto_rr asks, and gets the answer of whichever client it asks. [MQTT-3.3.2-15][MQTT-3.3.2-16]
func TestMosquittoRRIsAnswered(t *testing.T) {
	each(t, anybody, version5, func(s *subject) {
		if err := mosquittoInstalled(); err != nil {
			harness.Missing(s.t, err.Error())
		}
		s.connect(options{Filters: []string{s.topic("requests")}, QoS: 2})
		host, port, err := net.SplitHostPort(s.broker.MQTT)
		s.must("address", err)
		answered := make(chan string, 1)
		ctx, cancel := context.WithTimeout(s.t.Context(), harness.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "mosquitto_rr", "-h", host, "-p", port, "-q", "1", "-t", s.topic("requests"), "-e", s.topic("answers"),
			"-m", "time?", "-D", "publish", "correlation-data", "c 1", "-F", "%t %D %p")
		go func() {
			out, err := cmd.CombinedOutput()
			answered <- fmt.Sprint(string(out), err)
		}()
		request := s.next()
		compare(s.t, 0, request, message{Topic: s.topic("requests"), QoS: 1, Payload: "time?", ResponseTopic: s.topic("answers"), CorrelationData: "c 1"})
		s.publish(message{Topic: request.ResponseTopic, QoS: 2, Payload: "noon", CorrelationData: request.CorrelationData})
		if got, want := <-answered, s.topic("answers")+" c 1 noon\n<nil>"; got != want {
			s.t.Errorf("mosquitto_rr got %q, want %q", got, want)
		}
	})
}
