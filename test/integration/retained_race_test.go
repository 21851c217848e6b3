package integration

import (
	"fmt"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Two publishers race on one retained topic while clients subscribe to it: whatever the moment, the last message of each
// subscriber is the one that stays retained. [MQTT-3.3.1-5] [3.1.1 MQTT-3.3.1-5] [case 137]
func TestLastMessageOfASubscriberIsTheRetainedOne(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		const each = 401 // the last one is acknowledged: it is stored before the marker is
		errs := make(chan error)
		for _, name := range []string{"one", "two"} {
			p := b.ConnectRaw(t, harness.CleanConnect(v, name))
			race := make([]mqttcodec.Publish, each)
			for i := range race {
				race[i] = mqttcodec.Publish{Topic: "r", QoS: mqttcodec.QoS(i % 3), Retain: true, Payload: fmt.Appendf(nil, "%s %d", name, i)}
			}
			go func() { errs <- p.TryPublishAll(race) }()
		}
		var subscribers []*harness.Raw
		last := map[*harness.Raw]string{}
		for racing := 2; racing > 0; {
			s := b.ConnectRaw(t, harness.PersistentConnect(v, fmt.Sprint("s", len(subscribers))))
			for _, m := range s.Subscribe(harness.Filter("r", 1), harness.Filter("marker", 1)) {
				s.Answer(m)
				last[s] = string(m.Payload)
			}
			subscribers = append(subscribers, s)
			select {
			case err := <-errs:
				if err != nil {
					t.Fatal(err)
				}
				racing--
			default:
			}
		}
		b.ConnectRaw(t, harness.CleanConnect(v, "marker")).Publish(mqttcodec.Publish{Topic: "marker", QoS: 1})
		for _, s := range subscribers {
			for _, m := range s.ReceiveUntil("marker") {
				last[s] = string(m.Payload)
			}
		}
		fresh := b.ConnectRaw(t, harness.CleanConnect(v, "fresh"))
		fresh.Send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{harness.Filter("r", 0)}})
		var stored string
		for stored == "" {
			if m, ok := fresh.Read().(*mqttcodec.Publish); ok {
				stored = string(m.Payload)
			}
		}
		t.Logf("%d clients subscribed during the race", len(subscribers))
		for i, s := range subscribers {
			if last[s] != stored {
				t.Errorf("subscriber %d: the last message is %q, retained is %q", i, last[s], stored)
			}
		}
	})
}
