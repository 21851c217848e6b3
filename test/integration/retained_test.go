package integration

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// The last retained message of each topic waits for new subscribers, over any restart; an empty one clears.
// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] [3.1.1 MQTT-3.3.1-10] [MQTT-3.3.1-7] [MQTT-3.3.1-12] [MQTT-3.8.4-8]
// [3.1.1 MQTT-3.3.1-5] [3.1.1 MQTT-3.3.1-6] [3.1.1 MQTT-3.3.1-7] [3.1.1 MQTT-3.3.1-8] [3.1.1 MQTT-3.3.1-9]
// [3.1.1 MQTT-3.3.1-11] [3.1.1 MQTT-3.3.1-12] [case 126] [case 130] [case 131] [case 132] [case 181] [3.1.1 MQTT-3.1.2-7]
func TestRetainedMessagesSurvive(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		b := harness.Start(t)
		p := harness.NewDevice(v, "p").Connect(b, harness.Ephemeral)
		var want []string
		for i := range 20 {
			topic := fmt.Sprintf("r/%d", i)
			p.PublishRetained(topic, byte(i%3), "old")
			p.PublishRetained(topic, byte((i+1)%3), "new"+topic)
			p.Publish(topic, 1, "not retained")
			if i%4 == 0 {
				p.PublishRetained(topic, byte(i%3), "")
			} else {
				want = append(want, fmt.Sprintf("%s=new%s@%d", topic, topic, (i+1)%3))
			}
		}
		b.Restart(how, p)
		p = harness.NewDevice(v, "p").Connect(b, harness.Ephemeral)
		s := harness.NewDevice(v, "s").Connect(b, harness.Ephemeral)
		s.Subscribe("r/#", 2)
		s.Subscribe("marker", 2)
		p.Publish("marker", 2, "")
		var got []string
		for _, m := range s.ReceiveUntil("marker") {
			if !m.Retain {
				t.Errorf("%+v came without the retain flag [3.1.1 MQTT-3.3.1-8]", m)
			}
			got = append(got, fmt.Sprintf("%s=%s@%d", m.Topic, m.Payload, m.QoS))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("retained %q, want %q", got, want)
		}
		p.PublishRetained("r/1", 1, "live")
		if m := s.Receive(); m.Payload != "live" || m.Retain {
			t.Errorf("got %+v, want the live message with retain 0 [MQTT-3.3.1-12]", m)
		}
	})
}

// Retain Handling says when a SUBSCRIBE brings retained messages. [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [case 128]
// [case 129]
func TestRetainHandling(t *testing.T) {
	t.Parallel()
	harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
		b := harness.Start(t)
		p := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
		p.Publish(mqttcodec.Publish{Topic: "r", QoS: 1, Retain: true, Payload: []byte("kept")})
		c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "c"))
		c.Subscribe(harness.Filter("marker/#", 1))
		markers := 0
		subscribe := func(handling mqttcodec.RetainHandling) (copies int) {
			t.Helper()
			request := harness.Filter("r", 1)
			request.Options.RetainHandling = handling
			got := c.Subscribe(request)
			for _, m := range got {
				c.Answer(m)
			}
			// A marker that was acknowledged right before a kill may come again: each has its own topic.
			markers++
			marker := fmt.Sprint("marker/", markers)
			p.Publish(mqttcodec.Publish{Topic: marker, QoS: 1})
			for _, m := range append(got, c.ReceiveUntil(marker)...) {
				if m.Topic == "r" {
					copies++
				}
			}
			return copies
		}
		steps := []struct {
			handling mqttcodec.RetainHandling
			want     int
		}{
			{mqttcodec.RetainDoNotSend, 0}, {mqttcodec.RetainSendIfNew, 0}, {mqttcodec.RetainSend, 1}, {mqttcodec.RetainSend, 1}, {mqttcodec.RetainSendIfNew, 0},
		}
		for i, s := range steps {
			if got := subscribe(s.handling); got != s.want {
				t.Errorf("SUBSCRIBE %d with retain handling %d brought %d, want %d", i+1, s.handling, got, s.want)
			}
		}
		harness.Wait(journalLag) // what was acknowledged right before a kill may come again
		b.Restart(how, c, p)
		p = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
		c = b.Resume(t, mqttcodec.V5, "c")
		if got := subscribe(mqttcodec.RetainSendIfNew); got != 0 {
			t.Errorf("the resumed session holds the filter, and SUBSCRIBE brought %d", got)
		}
		c.Send(&mqttcodec.Unsubscribe{PacketID: 3, Filters: []string{"r"}})
		harness.Expect[*mqttcodec.Unsuback](c)
		if got := subscribe(mqttcodec.RetainSendIfNew); got != 1 {
			t.Errorf("after UNSUBSCRIBE the filter is new, and SUBSCRIBE brought %d", got)
		}
	})
}

// While two publishers race on the same topics, whoever subscribes gets each topic, each message once, and in the end what is
// stored: nothing stale after something newer. [MQTT-3.3.1-5] [MQTT-3.3.1-9] [3.1.1 MQTT-3.3.1-5] [3.1.1 MQTT-3.3.1-6]
// [case 137] [case 196]
func TestSubscribingWhileRetainedMessagesChange(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		const topics = 5
		var number atomic.Int64
		message := func(i int) mqttcodec.Publish {
			n := number.Add(1)
			return mqttcodec.Publish{Topic: fmt.Sprint("r/", i%topics), QoS: mqttcodec.QoS(n % 3), Retain: true, Payload: fmt.Append(nil, n)}
		}
		first := b.ConnectRaw(t, harness.CleanConnect(v, "first"))
		for i := range topics {
			first.Publish(message(i))
		}
		marker := func(c *harness.Raw, topic string) []*mqttcodec.Publish {
			t.Helper()
			early := c.Subscribe(harness.Filter("r/+", 2), harness.Filter(topic, 1))
			for _, m := range early {
				c.Answer(m)
			}
			first.Publish(mqttcodec.Publish{Topic: topic, QoS: 1})
			return append(early, c.ReceiveUntil(topic)...)
		}
		stop := make(chan struct{})
		var publishers sync.WaitGroup
		for p := range 2 {
			c := b.ConnectRaw(t, harness.CleanConnect(v, fmt.Sprint("publisher", p)))
			publishers.Go(func() {
				for i := p; ; i++ {
					select {
					case <-stop:
						return
					default:
						if err := c.TryPublishAll([]mqttcodec.Publish{message(i), message(i + 1), message(i)}); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		last := map[string]string{}
		var c *harness.Raw
		for round := range 30 {
			c = b.ConnectRaw(t, harness.CleanConnect(v, "subscriber"))
			seen := map[string]bool{}
			clear(last)
			for _, m := range marker(c, fmt.Sprint("m/", round)) {
				if seen[string(m.Payload)] {
					t.Errorf("round %d: %s of %s came twice", round, m.Payload, m.Topic)
				}
				seen[string(m.Payload)], last[m.Topic] = true, string(m.Payload)
			}
			if len(last) != topics {
				t.Errorf("round %d: messages of %d topics came, want %d", round, len(last), topics)
			}
			if round < 29 {
				c.Drop()
			}
		}
		close(stop)
		publishers.Wait()
		first.Publish(mqttcodec.Publish{Topic: "m/29", QoS: 1})
		for _, m := range c.ReceiveUntil("m/29") {
			last[m.Topic] = string(m.Payload)
		}
		for _, m := range marker(b.ConnectRaw(t, harness.CleanConnect(v, "reader")), "end") {
			if string(m.Payload) != last[m.Topic] || !m.Retain {
				t.Errorf("%s is %s, and the last that came live is %s", m.Topic, m.Payload, last[m.Topic])
			}
		}
	})
}
