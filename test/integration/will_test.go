package integration

import (
	"fmt"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// connectWithWill connects a client whose will says its name.
func connectWithWill(t *testing.T, b *harness.Broker, connect *mqttcodec.Connect, delay time.Duration) *harness.Raw {
	t.Helper()
	connect.Will = &mqttcodec.Will{Topic: "will", Payload: []byte(connect.ClientID), QoS: 1, DelaySeconds: uint32(delay / time.Second)}
	return b.ConnectRaw(t, connect)
}

// expectWills waits for exactly these wills: a marker published afterwards comes right behind them.
func expectWills(t *testing.T, watcher *harness.Client, want ...string) {
	t.Helper()
	watcher.ExpectPayloads(want...)
	watcher.Publish("will", 1, "marker")
	watcher.ExpectPayloads("marker")
}

func startWatched(t *testing.T) (*harness.Broker, *harness.Client) {
	t.Helper()
	b := harness.Start(t)
	watcher := harness.NewDevice(mqttcodec.V5, "watcher").Connect(b, harness.Persistent)
	watcher.Subscribe("will", 1)
	return b, watcher
}

// A connection that ends without DISCONNECT 0x00 leaves its will, one that ends with it none.
// [MQTT-3.1.2-8] [MQTT-3.14.4-3] [3.1.1 MQTT-3.1.2-8] [3.1.1 MQTT-3.14.4-3] [3.1.1 MQTT-3.1.2-10] [case 50] [case 51]
// [case 55]
func TestWillIsPublishedUnlessDisconnected(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b, watcher := startWatched(t)
		connectWithWill(t, b, harness.CleanConnect(v, "polite"), 0).Disconnect()
		connectWithWill(t, b, harness.CleanConnect(v, "dropped"), 0).Drop()
		expectWills(t, watcher, "dropped")
		broken := connectWithWill(t, b, harness.CleanConnect(v, "broken"), 0)
		broken.SendBytes(0, 0) // packet type 0
		broken.ExpectClosed()
		expectWills(t, watcher, "broken")
		taken := connectWithWill(t, b, harness.PersistentConnect(v, "taken"), 0)
		b.Resume(t, v, "taken")
		taken.ExpectClosed()
		expectWills(t, watcher, "taken")
		if v == mqttcodec.V5 {
			leaving := connectWithWill(t, b, harness.CleanConnect(v, "leaving with will"), 0)
			leaving.Send(&mqttcodec.Disconnect{Reason: mqttcodec.DisconnectWithWill})
			expectWills(t, watcher, "leaving with will")
		}
	})
}

// A will waits for its delay or the end of the session, whichever is first; a client that is back in time has none.
// [MQTT-3.1.3-9] [MQTT-3.1.2-8] [case 52] [case 53] [case 54]
func TestWillDelay(t *testing.T) {
	t.Parallel()
	b, watcher := startWatched(t)
	connectWithWill(t, b, harness.CleanConnect(mqttcodec.V5, "session over"), 60*time.Second).Drop()
	expectWills(t, watcher, "session over")
	connectWithWill(t, b, harness.PersistentConnect(mqttcodec.V5, "came back"), 60*time.Second).Drop()
	back := b.Resume(t, mqttcodec.V5, "came back")
	begin := time.Now()
	connectWithWill(t, b, harness.PersistentConnect(mqttcodec.V5, "delayed"), 2*time.Second).Drop()
	expectWills(t, watcher, "delayed")
	if took := time.Since(begin); took < 1500*time.Millisecond {
		t.Errorf("the will came after %v, want its delay of 2 s", took)
	}
	back.Drop()
	connectWithWill(t, b, harness.PersistentConnect(mqttcodec.V5, "ended"), 60*time.Second).Drop()
	b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "ended"))
	expectWills(t, watcher, "ended")
}

// A will that waits for its delay is published once, also when the broker restarts meanwhile. [MQTT-3.1.2-8] [case 58]
// [case 192]
func TestDelayedWillSurvivesRestart(t *testing.T) {
	t.Parallel()
	for _, how := range []harness.Ending{harness.Term, harness.Kill9} {
		t.Run(how.String(), func(t *testing.T) {
			t.Parallel()
			b, watcher := startWatched(t)
			connectWithWill(t, b, harness.PersistentConnect(mqttcodec.V5, "waiting"), 3*time.Second).Drop()
			b.Restart(how, watcher)
			watcher = resumeWatcher(b)
			expectWills(t, watcher, "waiting")
			harness.Wait(journalLag) // what was acknowledged right before a kill may come again
			b.Restart(how, watcher)
			expectWills(t, resumeWatcher(b))
		})
	}
}

// A connection that the broker's end has cut leaves its will too, published at the latest after the restart, also for
// a clean session: it is the one thing that such a session leaves. (3.1.2.5) [MQTT-3.1.2-8] [3.1.1 MQTT-3.1.2-8] [case 181]
func TestWillOfConnectionCutByTheBrokerIsPublished(t *testing.T) {
	t.Parallel()
	for _, how := range []harness.Ending{harness.Term, harness.Kill9} {
		t.Run(how.String(), func(t *testing.T) {
			t.Parallel()
			harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
				b, watcher := startWatched(t)
				clean := connectWithWill(t, b, harness.CleanConnect(v, "clean"), 0)
				b.Restart(how, watcher, clean)
				expectWills(t, resumeWatcher(b), "clean")
			})
		})
	}
}

func resumeWatcher(b *harness.Broker) *harness.Client {
	return harness.NewDevice(mqttcodec.V5, "watcher").Resume(b)
}

// A will is a message like any other: retained when it says so, with its properties. [MQTT-3.1.2-15] [MQTT-3.1.3-10]
// [case 59] [case 60]
func TestWillCarriesRetainAndProperties(t *testing.T) {
	t.Parallel()
	b, watcher := startWatched(t)
	connect := harness.CleanConnect(mqttcodec.V5, "c")
	connect.Will = &mqttcodec.Will{
		Topic: "will", Payload: []byte("last words"), QoS: 2, Retain: true,
		Properties: mqttcodec.MessageProperties{
			ContentType: mqttcodec.Some("text"), ResponseTopic: "r", CorrelationData: []byte("c"),
			UserProperties: []mqttcodec.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}},
		},
	}
	b.ConnectRaw(t, connect).Drop()
	check := func(m harness.Message, retain bool) {
		t.Helper()
		want := harness.Message{
			Topic: "will", Payload: "last words", QoS: 1, Retain: retain, ContentType: "text", ResponseTopic: "r", CorrelationData: "c",
			UserProperties: connect.Will.Properties.UserProperties,
		}
		if got, want := fmt.Sprintf("%+v", m), fmt.Sprintf("%+v", want); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	check(watcher.Receive(), false)
	fresh := harness.NewDevice(mqttcodec.V5, "fresh").Connect(b, harness.Ephemeral)
	fresh.Subscribe("will", 1)
	check(fresh.Receive(), true)
}
