package actors

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// startWithPermissions starts a broker on which alice's permissions are limited and bob's are not.
func startWithPermissions(t *testing.T, alices denied, change ...func(*Config)) *testBroker {
	t.Helper()
	provider := alicesPassword()
	provider.permissions = map[string]sessions.Permissions{"alice": alices}
	return startOnPipes(t, sessionstest.New(), "boot", append(change, authenticatedBy(provider))...)
}

// What a client may not publish reaches nobody, is counted, and costs it nothing else: 5.0 says so in PUBACK and PUBREC,
// before there was no way to. [case 79] [MQTT-4.3.3-9] [3.1.1 MQTT-3.3.5-2]
func TestDeniedPublishIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startWithPermissions(t, denied{publish: []string{"no/#"}})
		watcher := b.connected("watcher", as("bob", "b"))
		watcher.subscribe(1, "#")
		for _, version := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
			want := mqttcodec.Success
			if version == mqttcodec.V5 {
				want = mqttcodec.NotAuthorized
			}
			c, _ := b.connack(version, "c", as("alice", "a"), clean)
			c.send(&mqttcodec.Publish{Topic: "no/a", Retain: true})
			c.send(&mqttcodec.Publish{Topic: "no/a", QoS: 1, PacketID: 1})
			if ack := expect[*mqttcodec.Puback](c); ack.Reason != want {
				t.Errorf("version %d: %+v", version, ack)
			}
			c.send(&mqttcodec.Publish{Topic: "no/a", QoS: 2, PacketID: 2})
			if rec := expect[*mqttcodec.Pubrec](c); rec.Reason != want {
				t.Errorf("version %d: %+v", version, rec)
			}
			if version != mqttcodec.V5 {
				c.send(&mqttcodec.Pubrel{PacketID: 2})
				expect[*mqttcodec.Pubcomp](c)
			}
			c.publish1("yes", "1") // the connection goes on
			watcher.takeAll("1")
			c.disconnect()
		}
		if n := b.Stats().Drops()[sessions.DropMayNotSend]; n != 9 {
			t.Errorf("%d drops are counted", n)
		}
		b.connected("late", as("bob", "b")).wantNothingRetained()
	})
}

// wantNothingRetained subscribes to everything, and expects that no topic has a retained message.
func (c *testClient) wantNothingRetained() {
	c.t.Helper()
	c.subscribe(1, "#")
	c.send(&mqttcodec.Pingreq{})
	expect[*mqttcodec.Pingresp](c)
}

// A PUBLISH that is not authorized was a valid packet: the topic alias that it sets is set. [case 103]
func TestDeniedPublishSetsItsTopicAlias(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startWithPermissions(t, denied{publish: []string{"no"}})
		c := b.connected("c", as("alice", "a"))
		c.send(&mqttcodec.Publish{Topic: "yes", TopicAlias: 1, QoS: 1, PacketID: 1})
		expect[*mqttcodec.Puback](c)
		for _, topic := range []string{"no", ""} { // the second by the alias
			c.send(&mqttcodec.Publish{Topic: topic, TopicAlias: 1, QoS: 1, PacketID: 1})
			if ack := expect[*mqttcodec.Puback](c); ack.Reason != mqttcodec.NotAuthorized {
				t.Fatalf("%q: %+v", topic, ack)
			}
		}
	})
}

// A filter that a client may not subscribe to is refused; 3.1 has no word for that, so it is only not delivered. The same
// goes for the filter in a shared subscription. [case 124] [MQTT-3.9.3-2] [3.1.1 MQTT-3.9.3-2]
func TestDeniedSubscriptionIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startWithPermissions(t, denied{subscribe: []string{"no"}})
		publisher := b.connected("publisher", as("bob", "b"))
		for version, want := range map[mqttcodec.Version]mqttcodec.ReasonCode{
			mqttcodec.V31: mqttcodec.GrantedQoS0, mqttcodec.V311: mqttcodec.UnspecifiedError, mqttcodec.V5: mqttcodec.NotAuthorized,
		} {
			c, _ := b.connack(version, "c", as("alice", "a"), clean)
			subscribe := &mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{
				{Filter: "no", Options: mqttcodec.SubscriptionOptions{QoS: 1}},
				{Filter: "yes", Options: mqttcodec.SubscriptionOptions{QoS: 1}},
			}}
			if version != mqttcodec.V31 {
				subscribe.Requests = append(subscribe.Requests, mqttcodec.SubscriptionRequest{Filter: "$share/g/no"})
			}
			c.send(subscribe)
			reasons := expect[*mqttcodec.Suback](c).Reasons
			if reasons[0] != want || reasons[1] != mqttcodec.GrantedQoS1 || len(reasons) > 2 && reasons[2] != want {
				t.Errorf("version %d: reasons %#x", version, reasons)
			}
			publisher.publish1("no", "denied")
			publisher.publish1("yes", "1")
			c.takeAll("1")
			c.disconnect()
		}
	})
}

// Whether a client may read is asked for every message that it is handed, retained, live, queued or at QoS 0. [case 188]
func TestDeniedMessagesAreNotHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startWithPermissions(t, denied{receive: []string{"no/#"}})
		publisher := b.connected("publisher", as("bob", "b"))
		publisher.send(&mqttcodec.Publish{Topic: "no/retained", QoS: 1, PacketID: 1, Retain: true, Payload: []byte("denied")})
		expect[*mqttcodec.Puback](publisher)
		c := b.connected("c", as("alice", "a"))
		c.subscribe(1, "#")
		publisher.publish1("no/a", "denied")
		publisher.publish1("yes", "1")
		c.takeAll("1")
		publisher.send(&mqttcodec.Publish{Topic: "no/zero", Payload: []byte("denied")}, &mqttcodec.Publish{Topic: "zero", Payload: []byte("2")})
		c.takeAll("2")
		c.disconnect()
		publisher.publish1("no/a", "denied")
		publisher.publish1("yes", "3")
		c = b.connected("c", as("alice", "a"))
		c.takeAll("3")
		if n := b.Stats().Drops()[sessions.DropMayNotRead]; n != 4 {
			t.Errorf("%d drops are counted", n)
		}
	})
}

// A will for a topic that the client may not publish to is refused with the CONNECT, in the terms of its version; one that
// is no longer allowed when it is due is not published, though its client is long gone. [case 63] [case 188]
func TestDeniedWillIsNotPublished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var limits atomic.Pointer[denied]
		b := startWithPermissions(t, denied{publish: []string{"no"}}, func(c *Config) {
			c.Sessions.PermissionsOf = func(string, string) sessions.Permissions {
				if d := limits.Load(); d != nil {
					return d
				}
				return nil
			}
		})
		watcher := b.connected("watcher", as("bob", "b"))
		watcher.subscribe(1, "#")
		withWill := func(topic string) func(*mqttcodec.Connect) {
			return func(p *mqttcodec.Connect) {
				p.Will = &mqttcodec.Will{Topic: topic, QoS: 1, Payload: []byte("will")}
				if p.Version == mqttcodec.V5 {
					p.Will.DelaySeconds = 10
				}
			}
		}
		for _, version := range []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5} {
			for _, topic := range []string{"no", "$SYS/no"} {
				if _, ack := b.connack(version, "c", as("alice", "a"), withWill(topic)); ack.Reason != mqttcodec.NotAuthorized {
					t.Errorf("version %d, topic %s: %+v", version, topic, ack)
				}
			}
		}
		b.connected("c", as("alice", "a"), withWill("yes")).close()
		eventually(t, "its session is let go", func() bool { return b.directory.parked("c") })
		limits.Store(&denied{publish: []string{"yes"}})
		elapse(time.Minute)
		limits.Store(nil)
		b.connected("c", as("alice", "a"), withWill("yes")).close()
		watcher.takeAll("will")
		elapse(time.Minute)
		synctest.Wait()
		if n := watcher.waiting(); n != 0 {
			t.Errorf("%d more messages came", n)
		}
		if n := b.Stats().Drops()[sessions.DropMayNotSend]; n != 1 {
			t.Errorf("%d drops are counted", n)
		}
	})
}
