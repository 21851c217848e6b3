package actors

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// onPlane starts a broker on a live plane.
func onPlane(t *testing.T, plane *sessionstest.LivePlane, boot string, change ...func(*Config)) (*testBroker, *sessionstest.Live) {
	t.Helper()
	storage := sessionstest.New()
	node := storage.OnLivePlane(plane)
	return startOnPipes(t, storage, boot, change...), node
}

func liveMessage(topic, payload string) *sessions.Message {
	return &sessions.Message{Topic: topic, Payload: []byte(payload)}
}

// publish0 publishes at QoS 0 and waits until the broker has taken it.
func (c *testClient) publish0(topic, payload string, change ...func(*mqttcodec.MessageProperties)) {
	c.t.Helper()
	p := &mqttcodec.Publish{Topic: topic, Payload: []byte(payload)}
	for _, f := range change {
		f(&p.Properties)
	}
	c.send(p, &mqttcodec.Pingreq{})
	expect[*mqttcodec.Pingresp](c)
}

func topicsAndPayloads(messages []*sessions.Message) (list []string) {
	for _, m := range messages {
		list = append(list, m.Topic+"="+string(m.Payload))
	}
	return list
}

func TestWhatOthersPublishReachesSubscribersOnceAndClientsReachOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		plane := sessionstest.NewLivePlane()
		b, node := onPlane(t, plane, "boot")
		c, p := b.connected("c", clean), b.connected("p", clean)
		c.subscribe(2, "a/+", "+/b", "a/#", "$reply/+/devices/d1/cmd", "$reply/#")
		if got := node.Filters(); !slices.Equal(got, []string{"+/b", "a/#", "a/+", "devices/d1/cmd"}) {
			t.Fatalf("the node listens to %q", got)
		}
		service := plane.Service("x/#", nil)
		service.Publish(liveMessage("a/b", "1"))
		service.Publish(liveMessage("other", "2"))
		service.Publish(liveMessage("a/b", "3"))
		for _, want := range []string{"1", "3"} {
			if m := expect[*mqttcodec.Publish](c); m.QoS != 0 || string(m.Payload) != want {
				t.Fatalf("got %+v, want %s", m, want)
			}
		}
		p.publish0("x/y", "4")
		p.publish0("a/b", "5")
		p.send(&mqttcodec.Publish{Topic: "x/z", Retain: true})
		p.publish1("x/w", "6")
		synctest.Wait()
		if got := topicsAndPayloads(service.Received()); !slices.Equal(got, []string{"x/y=4"}) {
			t.Errorf("the service got %q", got)
		}
		c.takeAll("5")
		c.disconnect()
		elapse(liveLinger + 2*liveSweep)
		if got := node.Filters(); len(got) > 0 {
			t.Errorf("nobody is there, and the node listens to %q", got)
		}
	})
}

// What is published behind SUBACK comes; SUBSCRIBEs that come while the plane is asked are asked for together; and if it does
// not answer, nobody waits for long.
func TestSubackWaitsForTheLivePlaneButNotForLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		plane := sessionstest.NewLivePlane()
		b, node := onPlane(t, plane, "boot")
		clients := []*testClient{b.connected("a", clean), b.connected("b", clean), b.connected("c", clean)}
		plane.Withhold(true)
		for i, c := range clients {
			c.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "f/" + string(rune('0'+i))}}})
			synctest.Wait()
		}
		for _, c := range clients {
			if n := c.waiting(); n > 0 {
				t.Fatalf("%d packets before the plane has answered", n)
			}
		}
		plane.Withhold(false)
		for _, c := range clients {
			expect[*mqttcodec.Suback](c)
		}
		if n := node.Flushes(); n != 2 { // that of the first, and one for all who came meanwhile
			t.Errorf("asked %d times", n)
		}
		plane.Withhold(true)
		began := time.Now()
		clients[0].subscribe(0, "late")
		if waited := time.Since(began); waited < liveWait || waited > liveWait+time.Second {
			t.Errorf("SUBACK after %v", waited)
		}
		clients[1].subscribe(0, "late") // is listened to
		if waited := time.Since(began); waited > liveWait+time.Second {
			t.Errorf("SUBACK after %v", waited)
		}
	})
}

// Whoever publishes, a share gets each message once, on whichever node.
func TestAShareOverNodesGetsEachMessageOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		plane := sessionstest.NewLivePlane()
		one, node := onPlane(t, plane, "one")
		two, _ := onPlane(t, plane, "two")
		members := []*testClient{one.connected("m1", clean), one.connected("m2", clean), two.connected("m3", clean)}
		publisher := one.connected("p", clean)
		for _, c := range members[:2] {
			c.subscribe(0, "$share/g/a/#")
		}
		for range 10 { // only this node's clients
			publisher.publish0("a/b", "x")
		}
		synctest.Wait()
		if got := []int{len(members[0].received()), len(members[1].received())}; got[0] != 5 || got[1] != 5 {
			t.Errorf("the members of one node got %v", got)
		}
		members[2].subscribe(0, "$share/g/a/#")
		service := plane.Service("", nil)
		for range 30 {
			publisher.publish0("a/b", "x")
			service.Publish(liveMessage("a/c", "y"))
		}
		synctest.Wait()
		sum, least := 0, 100
		for _, c := range members {
			n := len(c.received())
			sum, least = sum+n, min(least, n)
		}
		if sum != 60 || least == 0 {
			t.Errorf("the members got %d messages of 60, one of them %d", sum, least)
		}
		members[0].disconnect()
		members[1].disconnect()
		synctest.Wait()
		if got := node.Filters(); len(got) > 0 {
			t.Errorf("a node without members takes turns: %q", got)
		}
		publisher.publish0("a/b", "x")
		synctest.Wait()
		if n := len(members[2].received()); n != 1 {
			t.Errorf("the member of the other node got %d messages", n)
		}
	})
}

func TestRequestsOfOthersAreAnsweredByClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		plane := sessionstest.NewLivePlane()
		b, _ := onPlane(t, plane, "boot")
		c5, other := b.connected("c5", clean), b.connected("other", clean)
		c3 := b.client(mqttcodec.V311)
		c3.send(connectPacket(mqttcodec.V311, "c3", clean))
		expect[*mqttcodec.Connack](c3)
		c5.subscribe(0, "devices/+/cmd")
		c3.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{{Filter: "$reply/+/devices/d1/cmd"}}})
		expect[*mqttcodec.Suback](c3)
		other.subscribe(0, "$reply/#")

		service := plane.Service("", nil)
		ask := liveMessage("devices/d1/cmd", "open")
		ask.Properties.CorrelationData = []byte("7")
		service.Request(ask)
		p5, p3 := expect[*mqttcodec.Publish](c5), expect[*mqttcodec.Publish](c3)
		if !strings.HasPrefix(p5.Properties.ResponseTopic, "$reply/") || string(p5.Properties.CorrelationData) != "7" {
			t.Fatalf("the 5.0 client got %+v", p5)
		}
		if p3.Topic != p5.Properties.ResponseTopic+"/devices/d1/cmd" {
			t.Fatalf("the 3.1.1 client got %+v", p3)
		}
		other.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: p5.Properties.ResponseTopic, Payload: []byte("forged")})
		if ack := expect[*mqttcodec.Puback](other); ack.Reason != mqttcodec.NoMatchingSubscribers {
			t.Errorf("somebody else's answer has reason %#x", ack.Reason)
		}
		c5.publish1(p5.Properties.ResponseTopic, "done5")
		c3.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: p3.Topic, Payload: []byte("done3")})
		expect[*mqttcodec.Puback](c3)
		c3.publish0(p3.Topic, "again")
		if got := service.Received(); len(got) != 2 || string(got[0].Payload) != "done5" || string(got[1].Payload) != "done3" {
			t.Errorf("the service got %q", topicsAndPayloads(got))
		}
		if n := b.stats.Drops()[sessions.DropNoRequest]; n != 2 {
			t.Errorf("%d answers dropped", n)
		}
		if got := other.received(); len(got) > 0 {
			t.Errorf("a bystander got %+v", got[0])
		}

		// A request that says itself where the answer goes stays as it is. [MQTT-3.3.2-15]
		ask = liveMessage("devices/d1/cmd", "open")
		ask.Properties.ResponseTopic = "answers"
		service.Request(ask)
		if p := expect[*mqttcodec.Publish](c5); p.Properties.ResponseTopic != "answers" || p.Properties.CorrelationData != nil {
			t.Errorf("the 5.0 client got %+v", p)
		}

		service.Request(liveMessage("devices/d1/cmd", "late"))
		p5 = expect[*mqttcodec.Publish](c5)
		if len(p5.Properties.CorrelationData) == 0 {
			t.Error("a request without correlation data")
		}
		elapse(time.Minute)
		c5.publish0(p5.Properties.ResponseTopic, "late")
		if got := service.Received(); len(got) != 2 {
			t.Errorf("the service got %q", topicsAndPayloads(got))
		}
	})
}

func TestClientsAskOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		plane := sessionstest.NewLivePlane()
		d := denied{publish: []string{"no/#"}}
		b, _ := onPlane(t, plane, "boot", authenticatedBy(&passwords{
			known: map[string]string{"a": "a", "b": "b"}, permissions: map[string]sessions.Permissions{"a": d},
		}))
		a, other := b.connected("c", clean, as("a", "a")), b.connected("other", clean, as("b", "b"))
		service := plane.Service("svc/+", func(m *sessions.Message) *sessions.Message { return liveMessage("", "answer to "+string(m.Payload)) })
		a.subscribe(0, "answers", "no/answers", "$reply/+")
		other.subscribe(0, "$reply/#", "no/answers")

		to := func(topic string) func(*mqttcodec.MessageProperties) {
			return func(p *mqttcodec.MessageProperties) { p.ResponseTopic, p.CorrelationData = topic, []byte("cd") }
		}
		a.publish0("svc/time", "1", to("answers"))
		if p := expect[*mqttcodec.Publish](a); p.Topic != "answers" || string(p.Payload) != "answer to 1" || string(p.Properties.CorrelationData) != "cd" {
			t.Errorf("got %+v", p)
		}
		a.publish0("svc/time", "2", to("no/answers"))
		a.publish0("svc/time", "3", to("$reply/x"))
		a.publish0("nobody", "4", to("answers"))
		a.publish0("$request/q1/svc/time", "5")
		if p := expect[*mqttcodec.Publish](a); p.Topic != "$reply/q1" || string(p.Payload) != "answer to 5" {
			t.Errorf("got %+v", p)
		}
		other.publish0("$request/q1/no/x", "6") // nobody is there
		synctest.Wait()
		if got := append(a.received(), other.received()...); len(got) > 0 {
			t.Errorf("got %+v", got[0])
		}
		if got := topicsAndPayloads(service.Received()); len(got) != 4 {
			t.Errorf("the service got %q", got)
		}
		drops := b.stats.Drops()
		if drops[sessions.DropMayNotSend] != 1 {
			t.Errorf("drops %v", drops)
		}

		// One client asks another, which answers as it would anybody; that nobody else is there does not end the request.
		if n := drops[dropNoResponders]; n != 0 {
			t.Errorf("%d requests without responders", n)
		}
		b.live.onAnswer(sessions.LiveMessage{Token: b.live.ask(asking{asked: "nobody"})})
		if n := b.stats.Drops()[dropNoResponders]; n != 1 {
			t.Errorf("%d requests without responders", n)
		}
		plane.Eager()
		device := b.connected("d", clean, as("b", "b"))
		device.subscribe(0, "devices/d/cmd")
		a.publish0("$request/q2/devices/d/cmd", "open")
		p := expect[*mqttcodec.Publish](device)
		synctest.Wait()
		device.publish1(p.Properties.ResponseTopic, "opened")
		if p := expect[*mqttcodec.Publish](a); p.Topic != "$reply/q2" || string(p.Payload) != "opened" {
			t.Errorf("got %+v", p)
		}
	})
}

func TestRequestsAreBounded(t *testing.T) {
	table := newTokenTable[int]()
	now := time.Now()
	first, givenUp := table.add(1, 10, now.Add(time.Second))
	if givenUp > 0 {
		t.Fatal("full")
	}
	for i := range maxExchanges - 1 {
		if _, givenUp = table.add(i, 10, now.Add(time.Minute)); givenUp > 0 {
			t.Fatalf("full after %d", i)
		}
	}
	if _, givenUp = table.add(0, 10, now.Add(time.Minute)); givenUp != 1 {
		t.Error("it grows for ever")
	}
	if _, ok := table.get(first, now); ok {
		t.Error("the oldest is still there")
	}
	if _, givenUp = table.add(0, maxExchangeBytes-100, now.Add(time.Minute)); givenUp != maxExchanges-10 || table.bytes > maxExchangeBytes {
		t.Errorf("%d are given up for a large one, %d bytes are left", givenUp, table.bytes)
	}
	last, _ := table.add(7, 0, now.Add(time.Minute))
	if v, ok := table.take(last, now); !ok || v != 7 {
		t.Error("the youngest is not there")
	}
	if _, ok := table.take(last, now); ok {
		t.Error("taken twice")
	}
	table.expire(now.Add(time.Minute))
	if len(table.byToken) > 0 || table.order.Len() > 0 {
		t.Error("kept beyond its time")
	}
}
