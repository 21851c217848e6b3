package clients

import (
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// subject is a client under test in one scenario: what goes wrong fails the test.
type subject struct {
	t       testing.TB
	kind    kind
	version mqttcodec.Version
	broker  *harness.Broker
	tap     *tap // nil when the client connects to the broker directly
	client  client
	id      string
	root    string // of the topics of this scenario, no other scenario's
}

// clientNumber makes client identifiers unique, and short enough for 3.1.
var clientNumber atomic.Int32

// newSubject is a client which connects through a tap.
func newSubject(t testing.TB, b *harness.Broker, k kind, v mqttcodec.Version) *subject {
	t.Helper()
	s := newDirectSubject(t, b, k, v)
	s.tap = newTap(t, b.MQTT, v)
	return s
}

// newDirectSubject is a client which connects to the broker, as it must to see that nobody listens.
func newDirectSubject(t testing.TB, b *harness.Broker, k kind, v mqttcodec.Version) *subject {
	t.Helper()
	s := &subject{
		t: t, kind: k, version: v, broker: b, client: k.make(),
		id: fmt.Sprintf("c%d-%.16s", clientNumber.Add(1), strings.ReplaceAll(k.name, " ", "-")),
	}
	s.root = strings.ReplaceAll(t.Name()+"/"+s.id, " ", "-")
	t.Cleanup(s.client.abandon)
	return s
}

// in is the subject as a part of its test uses it: what goes wrong fails that part.
func (s *subject) in(t testing.TB) *subject {
	part := *s
	part.t, part.broker = t, s.broker.For(t)
	return &part
}

// topic is a topic or filter of this scenario.
func (s *subject) topic(rest string) string { return s.root + "/" + rest }

func (s *subject) must(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// connect connects; whatever o leaves open is the subject's.
func (s *subject) connect(o options) (sessionPresent bool) {
	s.t.Helper()
	o.Version, o.ID = byte(s.version), s.id
	if o.URL == "" {
		address := s.broker.MQTT
		if s.tap != nil {
			address = s.tap.address
		}
		o.URL = "mqtt://" + address
	}
	present, err := s.client.connect(o)
	s.must("connect", err)
	return present
}

// resume connects to the session, which must be there.
func (s *subject) resume(o options) {
	s.t.Helper()
	o.Persistent = true
	if present := s.connect(o); !present && s.kind.can&tellsSessionPresent != 0 && s.version != mqttcodec.V31 {
		s.t.Error("session present is 0 for a session that must be there")
	}
}

// publish publishes and waits for the acknowledgements.
func (s *subject) publish(messages ...message) {
	s.t.Helper()
	s.must("publish", s.client.publish(messages))
}

// send publishes and waits for nothing.
func (s *subject) send(messages ...message) {
	s.t.Helper()
	s.must("send", s.client.send(messages))
}

// disconnect ends the connection with nothing left to acknowledge, and waits until the broker has noticed: a message at
// QoS 0 could still be sent to the connection, and lost.
func (s *subject) disconnect() {
	s.t.Helper()
	if s.tap == nil {
		s.must("disconnect", s.client.disconnect())
		return
	}
	s.settle()
	s.must("disconnect", s.client.disconnect())
	harness.Eventually(s.t, harness.Patience, "disconnect", s.tap.idle)
}

// drop ends the connection without DISCONNECT, for ever.
func (s *subject) drop() {
	s.tap.close()
	s.client.abandon()
}

// settle waits until the client has acknowledged all messages that it was sent. Libraries show a message before they
// acknowledge it; what is not acknowledged when a connection ends is sent again, as it must be.
func (s *subject) settle() {
	s.t.Helper()
	harness.Eventually(s.t, harness.Patience, "acknowledge", s.tap.settled)
}

// next is the next message that arrives.
func (s *subject) next() message {
	s.t.Helper()
	select {
	case m := <-s.client.messages():
		return m
	case <-time.After(harness.Patience):
		s.t.Fatalf("no message arrives within %v", harness.Patience)
		return message{}
	}
}

// expect waits for messages, which must be these.
func (s *subject) expect(want ...message) {
	s.t.Helper()
	for i, w := range want {
		select {
		case got := <-s.client.messages():
			compare(s.t, i, got, w)
		case <-time.After(harness.Patience):
			s.t.Fatalf("message %d of %d does not arrive: %s", i, len(want), describe(w))
		}
	}
}

// compare compares the message at a place of a sequence with what is due there.
func compare(t testing.TB, i int, got, want message) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("message %d is\n%s\nwant\n%s", i, describe(got), describe(want))
	}
}

// describe is a message for people, without a payload of any length.
func describe(m message) string {
	if len(m.Payload) > 100 {
		m.Payload = fmt.Sprintf("%s... (%d bytes)", m.Payload[:100], len(m.Payload))
	}
	return fmt.Sprintf("%+v", m)
}

// numbered are n messages to a topic, with the payloads prefix0, prefix1 and so on.
func numbered(topic string, qos byte, prefix string, n int) []message {
	list := make([]message, n)
	for i := range list {
		list[i] = message{Topic: topic, QoS: qos, Payload: fmt.Sprint(prefix, i)}
	}
	return list
}
