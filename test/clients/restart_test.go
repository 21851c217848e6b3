package clients

import (
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// restarted runs the parts of a scenario with all clients at once: while the broker is up, while it is down, and when it
// is up again.
func restarted(t *testing.T, how harness.Ending, up, down, upAgain func(s *subject)) {
	t.Helper()
	b := harness.Start(t)
	var subjects []*subject
	eachKind(t, anybody, versions, func(_ *testing.T, k kind, v mqttcodec.Version) {
		subjects = append(subjects, newDirectSubject(t, b, k, v)) // lasts as long as t
	})
	run := func(name string, part func(s *subject)) {
		t.Run(name, func(t *testing.T) {
			for _, s := range subjects {
				t.Run(s.kind.name+"/"+harness.VersionName(s.version), func(t *testing.T) {
					t.Parallel()
					part(s.in(t))
				})
			}
		})
	}
	run("up", up)
	b.Down(how)
	run("down", down)
	b.Up()
	run("up again", upAgain)
}

// A client that is away while the broker restarts, however that goes down, misses nothing that was published before
// or after; and what was retained still is. [MQTT-3.1.2-5][MQTT-4.5.0-1][3.1.1 MQTT-3.1.2-4][case 181]
func TestSessionSurvivesRestart(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		published := func(s *subject, prefix string) []message {
			return append(numbered(s.topic("in"), 1, prefix, 10), numbered(s.topic("in"), 2, prefix, 10)...)
		}
		restarted(t, how, func(s *subject) {
			s.connect(options{Persistent: true, Filters: []string{s.topic("in")}, QoS: 2})
			s.publish(message{Topic: s.topic("state"), QoS: 1, Retain: true, Payload: "kept"})
			s.disconnect()
			s.publisher().publish(append(published(s, "before "), message{Topic: s.topic("in"), Payload: "lost"})...)
		}, func(*subject) {}, func(s *subject) {
			s.publisher().publish(published(s, "after ")...)
			s.resume(options{})
			in := newArrivals(s.t, published(s, "before "), published(s, "after "))
			for len(in.missing) > 0 {
				in.add(s.next())
			}
			s.observer(s.topic("state")).expect(message{Topic: s.topic("state"), QoS: 1, Retain: true, Payload: "kept"})
		})
	})
}

// When the broker is killed under a client, the client comes back by itself. It gets what was published to it, before
// and after; what it publishes itself, before, while the broker is away, and after, arrives too: nothing is missing at
// QoS 1, and at QoS 2 nothing comes twice. [MQTT-4.3.2-4][MQTT-4.3.3-8][case 181]
func TestNothingIsLostWhenTheBrokerIsKilled(t *testing.T) {
	t.Parallel()
	batch := func(s *subject, way, prefix string) []message {
		n := 20
		if way == "in" && s.version == mqttcodec.V5 && s.kind.can&countsOnce == 0 {
			n = 6 // three times as many are less than its Receive Maximum
		}
		return append(numbered(s.topic(way+"/1"), 1, prefix, n), numbered(s.topic(way+"/2"), 2, prefix, n)...)
	}
	send := func(s *subject, prefix string) {
		if s.kind.can&keepsUnsent != 0 {
			s.send(batch(s, "out", prefix)...)
		}
	}
	observer := func(s *subject) *mqttcodec.Connect { return harness.PersistentConnect(mqttcodec.V5, s.id+"-observer") }
	restarted(t, harness.Kill9, func(s *subject) {
		s.connect(options{Persistent: true, Filters: []string{s.topic("in/+")}, QoS: 2})
		s.observe(observer(s), s.topic("out/+")).raw.Disconnect()
		s.publisher().publish(batch(s, "in", "before ")...)
		seen := s.observer(s.topic("out/+"))
		send(s, "before ")
		if s.kind.can&(keepsUnsent|publishesOn) == keepsUnsent {
			seen.receive(len(batch(s, "out", "before ")))
		}
	}, func(s *subject) {
		send(s, "meanwhile ")
	}, func(s *subject) {
		if s.kind.can&keepsOrder != 0 {
			send(s, "after ")
		}
		p := s.publisher()
		p.publish(batch(s, "in", "after ")...)
		mark := message{Topic: s.topic("in/mark"), QoS: 2}
		p.publish(mark)
		in := newArrivals(s.t, batch(s, "in", "before "), batch(s, "in", "after "))
		for m := s.next(); m.Topic != mark.Topic; m = s.next() {
			in.add(m)
		}
		in.expectComplete()
		if s.kind.can&keepsOrder == 0 { // it is back now
			send(s, "after ")
		}
		if s.kind.can&keepsUnsent != 0 {
			out := newArrivals(s.t, batch(s, "out", "before "), batch(s, "out", "meanwhile "), batch(s, "out", "after "))
			out.repeats = s.kind.can&keepsReceived == 0
			for o := s.observe(observer(s)); len(out.missing) > 0; {
				out.add(o.receive(1)[0])
			}
		}
	})
}
