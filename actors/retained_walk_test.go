package actors

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// Whatever happens between two parts of a walk: what stays is found once, in the order of topics, and what was removed is not.
func TestRetainedWalkSurvivesChanges(t *testing.T) {
	x := newRetainedIndex(0)
	const n = 3 * retainedSortMax // so many that they are sorted between two parts
	for i := range n {
		x.apply(retainedEntry(uint64(i+1), fmt.Sprintf("a/%04d/x", i), "old"))
		x.apply(retainedEntry(uint64(i+1), fmt.Sprintf("b/%04d", i), "old"))
	}
	w := x.walk("#", "")
	var got []string
	for turn := 0; ; turn++ {
		visits := 100
		part, ready := w.next(70, &visits, retainedAt)
		if !ready {
			w.sort()
			continue
		}
		for _, e := range part.Entries {
			got = append(got, e.Message.Topic)
		}
		if !part.More {
			break
		}
		gone := fmt.Sprintf("b/%04d", n-1-turn) // still to come
		x.apply(retainedEntry(uint64(n+turn+1), gone, ""))
		x.apply(retainedEntry(uint64(n+turn+1), fmt.Sprintf("a/%04d/new/%d", turn, turn), "new"))
		x.apply(retainedEntry(uint64(n+turn+1), "0/new", "new"))
	}
	if !slices.IsSortedFunc(got, compareLevels) {
		t.Error("the topics do not come in order")
	}
	found := map[string]int{}
	for _, topic := range got {
		found[topic]++
	}
	removed := 0
	for i := range n {
		if topic := fmt.Sprintf("a/%04d/x", i); found[topic] != 1 {
			t.Fatalf("%s came %d times", topic, found[topic])
		}
		if found[fmt.Sprintf("b/%04d", i)] == 0 {
			removed++
		}
	}
	if removed < 30 {
		t.Errorf("%d topics are missing, want those that were removed before their turn", removed)
	}
}

// A walk through many topics holds the log up for a short time only.
func BenchmarkRetainedWalkFlat(b *testing.B) {
	x := newRetainedIndex(0)
	for i := range 1_000_000 {
		x.apply(retainedEntry(uint64(i+1), fmt.Sprintf("site/%d/state", i), "on"))
	}
	for b.Loop() {
		w := x.walk("site/+/state", "")
		var longest, total time.Duration
		for {
			w.sort()
			start := time.Now()
			visits := retainedVisits
			part, ready := w.next(256, &visits, retainedAt)
			took := time.Since(start)
			longest, total = max(longest, took), total+took
			if ready && !part.More {
				break
			}
		}
		b.ReportMetric(float64(longest.Microseconds()), "us-longest")
		b.ReportMetric(float64(total.Milliseconds()), "ms-locked")
	}
}

// Retained messages at QoS 1 and 2 that a SUBSCRIBE brings are the session's from the SUBACK on: they come however often the
// client leaves and the node dies meanwhile, those at QoS 2 once. (4.1) [MQTT-3.3.1-9]
func TestOwedRetainedMessagesComeInTheEnd(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := startOnPipes(t, sessionstest.New(), "boot-0")
				publisher := b.connected("publisher")
				const n = 3 * retainedAtOnce
				for i := range n {
					retain(t, publisher, fmt.Sprintf("a/%d", i), mqttcodec.QoS(1+i%2), "kept")
				}
				publisher.disconnect()
				c := b.connected("c", receiveMaximum(7))
				c.subscribe(2, "a/+")
				got, first := map[string]bool{}, map[string]int{}
				for round := 1; len(got) < n; round++ {
					for took := 0; took < 40 && len(got) < n; {
						switch p := c.next().(type) {
						case *mqttcodec.Publish:
							if !p.Retain {
								t.Fatalf("%s came without RETAIN", p.Topic)
							}
							got[p.Topic] = true
							if !p.Duplicate {
								first[p.Topic]++
							}
							took++
							c.answer(p)
						case *mqttcodec.Pubrel:
							c.answer(p)
						default:
							t.Fatalf("got %T", p)
						}
					}
					if crash && round%2 == 0 {
						if round%4 == 0 {
							elapse(300 * time.Millisecond)
						}
						b = startOnPipes(t, b.crash(), fmt.Sprint("boot-", round))
					} else {
						c.close()
					}
					c = b.connected("c", receiveMaximum(7))
				}
				for i := range n {
					topic := fmt.Sprintf("a/%d", i)
					if times := first[topic]; times > 1 && (i%2 == 1 || !crash) {
						t.Errorf("%s came %d times, not counting repetitions", topic, times)
					}
				}
			})
		})
	}
}

// answer sends what acknowledges a packet.
func (c *testClient) answer(p mqttcodec.Packet) {
	c.t.Helper()
	switch p := p.(type) {
	case *mqttcodec.Publish:
		if p.QoS == 1 {
			c.send(&mqttcodec.Puback{PacketID: p.PacketID})
		}
		if p.QoS == 2 {
			c.send(&mqttcodec.Pubrec{PacketID: p.PacketID})
		}
	case *mqttcodec.Pubrel:
		c.send(&mqttcodec.Pubcomp{PacketID: p.PacketID})
	}
}

// retain publishes a retained message.
func retain(t *testing.T, c *testClient, topic string, qos mqttcodec.QoS, payload string) {
	t.Helper()
	c.send(&mqttcodec.Publish{QoS: qos, PacketID: 1, Topic: topic, Payload: []byte(payload), Retain: true})
	if qos == 1 {
		expect[*mqttcodec.Puback](c)
	}
	if qos == 2 {
		expect[*mqttcodec.Pubrec](c)
		c.send(&mqttcodec.Pubrel{PacketID: 1})
		expect[*mqttcodec.Pubcomp](c)
	}
}

// A retained message on its way to a client outlives its place in the log.
func TestRetainedMessageInFlightOutlivesTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startOnPipes(t, sessionstest.New(), "boot-1")
		publisher := b.connected("publisher")
		retain(t, publisher, "a", 1, "kept")
		retain(t, publisher, "b", 1, "replaced")
		c := b.connected("c")
		c.subscribe(1, "+")
		for range 2 {
			expect[*mqttcodec.Publish](c)
		}
		elapse(5 * time.Second)
		b.storage.Trim(3)
		retain(t, publisher, "b", 0, "newer")
		publisher.disconnect()
		elapse(5 * time.Second)
		b = startOnPipes(t, b.crash(), "boot-2")
		c = b.connected("c")
		if p := expect[*mqttcodec.Publish](c); p.Topic != "a" || string(p.Payload) != "kept" || !p.Duplicate || !p.Retain {
			t.Fatalf("got %+v", p)
		}
		elapse(time.Second)
		if n := c.waiting(); n > 0 {
			t.Fatalf("got %+v too", c.received()[0])
		}
	})
}

// Parts of a walk take their place among what is handed over live: of a topic that changes meanwhile nothing older follows
// something newer, and every topic comes. [case 137] [case 196]
func TestRetainedPartsKeepTheirPlaceInTheLog(t *testing.T) {
	for range 20 {
		r, _ := testRouter(1 << 20)
		const topics, changes = 3 * retainedAtOnce, 2000
		sequence := uint64(0)
		change := func(i int) {
			sequence++
			e := entry(sequence, fmt.Sprint("topic/", i))
			e.Message.Retain = true
			r.deliver([]sessions.Entry{e})
		}
		for i := range topics {
			change(i)
		}
		f := newFeed(r)
		r.join(f.member, true)
		in, _ := r.subscribe(f.member, sessions.Subscribe{Filters: []string{"#"}, WantRetained: []bool{true}}, 0, retainedAt, func() {})
		f.post(sessions.RetainedRead{RetainedPart: in.Retained[0]})
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := range changes {
				change(i * 7 % topics)
			}
		})
		w := r.walkRetained("#", in.Retained[0].UpTo)
		for r.readRetained(f.member, sessions.ReadRetained{Filter: "#", Max: 10}, w, retainedAt) {
			runtime.Gosched()
		}
		writer.Wait()
		newest := map[string]uint64{}
		take := func(e sessions.Entry) {
			if e.Sequence <= newest[e.Message.Topic] {
				t.Fatalf("%s at %d comes behind %d", e.Message.Topic, e.Sequence, newest[e.Message.Topic])
			}
			newest[e.Message.Topic] = e.Sequence
		}
		for _, m := range f.take() {
			switch m := m.(type) {
			case sessions.RetainedRead:
				for _, e := range m.Entries {
					if e.Sequence <= in.Position.Sequence { // what is newer comes live
						take(e)
					}
				}
			case sessions.Delivered:
				for _, e := range m.Entries {
					take(e)
				}
			}
		}
		if len(newest) != topics {
			t.Fatalf("%d topics came, want %d", len(newest), topics)
		}
	}
}
