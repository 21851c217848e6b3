package integration

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Whatever anybody writes into the streams and buckets costs nobody but whom it names anything: it is passed over with a
// line in the log, while the broker runs and when it starts. [case 186]
func TestGarbageInStorageIsPassedOver(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.WithNATS())
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.Publish(mqttcodec.Publish{Topic: "r/kept", QoS: 1, Retain: true, Payload: []byte("kept")})
	good := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "good"))
	good.Subscribe(harness.Filter("a/#", 1))
	victim := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "victim"))
	victim.Subscribe(harness.Filter("a/#", 1))
	victim.Disconnect()

	write := func(subject, data string, header ...string) {
		t.Helper()
		m := nats.NewMsg(subject)
		m.Data = []byte(data)
		for i := 0; i < len(header); i += 2 {
			m.Header[header[i]] = append(m.Header[header[i]], header[i+1])
		}
		if _, err := b.JetStream(t).PublishMsg(harness.Context(t), m); err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
	}
	noise := string(bytes.Repeat([]byte{0xFF, 0x00, '{', 0x80}, 1000))
	for _, bucket := range []string{"$KV.mqtt_sessions.", "mqtt_journal.", "mqtt_checkpoint."} {
		write(bucket+"nobody", noise)
		write(bucket+"no=zztoken", "x")
		write(bucket+"a.b.c", "x")
		write(bucket+"empty", "")
		write(bucket+"other", noise, "Dunlin-Client-Id", "another")
		write(bucket+"poisoned", noise, "Dunlin-Client-Id", "poisoned")
		write(bucket+"future", `{"format":99,"client_id":"future","incarnation":"x"}`, "Dunlin-Client-Id", "future")
		write(bucket+"nonsense", `{"format":1,"client_id":"nonsense","incarnation":"x","subscriptions":[{"filter":"a/#/b"}],"will":{"Topic":"#","QoS":7}}`, "Dunlin-Client-Id", "nonsense")
		write(bucket+"mixed", `{"format":1,"client_id":"good","incarnation":"x"}`, "Dunlin-Client-Id", "mixed")
	}
	write("mqtt_journal.victim", noise, "Dunlin-Client-Id", "victim")
	for _, space := range []string{"mqtt.", "$KV.mqtt_retained."} {
		write(space+"r.no=zzlevel", "x", "Mqtt-Retain", "1")
		write(space+"r.=FF", "x", "Mqtt-Retain", "1")
		write(space+"r.headers", "x", "Mqtt-Retain", "maybe", "Mqtt-Qos", "7", "Mqtt-Log-Sequence", "-1", "Mqtt-Log-Time", "noon", "Mqtt-Topic", "%",
			"Mqtt-Properties", "1000000", "Mqtt-Correlation-Data", "*", "Mqtt-User-Property", noise[2:3], "Mqtt-Message-Expiry", "soon")
		write(space+"r.future", "x", "Mqtt-Retain", "1", "Mqtt-Log-Sequence", "18446744073709551615")
	}
	write("mqtt.a.stranger", "x", "Nats-Msg-Id", "x/will/y")
	write("mqtt.a.stranger", "x", "Nats-Msg-Id", "x/99999999999/-1")

	publisher.Publish(mqttcodec.Publish{Topic: "a/while it runs", QoS: 1, Payload: []byte("1")})
	if got := payloadsOf(good.ReceiveUntil("a/while it runs")); strings.Join(got, " ") != "x x" {
		t.Errorf("a subscriber got %q, want what is on topics of its filter", got)
	}
	harness.Wait(journalLag)
	for _, how := range []harness.Ending{harness.Kill9, harness.Term} {
		b.Restart(how, good, publisher)
		publisher = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
		publisher.Publish(mqttcodec.Publish{Topic: "a/after", QoS: 1, Payload: []byte("2")})
		good = b.Resume(t, mqttcodec.V5, "good")
		if got := payloadsOf(good.ReceiveUntil("a/after")); len(got) > 0 {
			t.Errorf("after the restart it got %q too", got)
		}
		early := good.Subscribe(harness.Filter("r/kept", 1))
		if len(early) == 0 {
			early = append(early, harness.Expect[*mqttcodec.Publish](good))
		}
		if m := early[0]; string(m.Payload) != "kept" || !m.Retain {
			t.Errorf("retained is %+v", m)
		}
		good.Answer(early[0])
		harness.Wait(journalLag)
	}
	for _, id := range []string{"nobody", "other", "poisoned", "future", "nonsense", "mixed", "empty", "victim"} {
		c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, id))
		if c.Connack.SessionPresent && id != "victim" && id != "nonsense" {
			t.Errorf("%q has a session out of garbage", id)
		}
		c.Subscribe(harness.Filter("mine/"+id, 1))
		publisher.Publish(mqttcodec.Publish{Topic: "mine/" + id, QoS: 1})
		c.ReceiveUntil("mine/" + id)
		c.Disconnect()
	}
	// A position that no log has keeps nothing from being replaced.
	publisher.Publish(mqttcodec.Publish{Topic: "r/future", QoS: 1, Retain: true, Payload: []byte("mine")})
	reader := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "reader"))
	reader.Send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{harness.Filter("r/future", 0)}})
	harness.Expect[*mqttcodec.Suback](reader)
	if m := harness.Expect[*mqttcodec.Publish](reader); string(m.Payload) != "mine" || !m.Retain {
		t.Errorf("retained is %+v", m)
	}
	for _, line := range []string{"session record", "retained", "journal", "checkpoint", "log entry"} {
		if !strings.Contains(b.Log(), line) {
			t.Errorf("the log says nothing about a broken %s", line)
		}
	}
}

func payloadsOf(messages []*mqttcodec.Publish) (payloads []string) {
	for _, m := range messages {
		payloads = append(payloads, string(m.Payload))
	}
	return payloads
}
