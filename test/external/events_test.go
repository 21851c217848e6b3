package external

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Events and presence come from servers outside as from the one inside, under exactly the permissions that doctor prints.
func TestEventsAndPresenceOutside(t *testing.T) {
	t.Parallel()
	code, permissions, stderr := harness.RunToExit(t, "doctor", "permissions", "--set", "presence.enabled=true")
	if code != 0 {
		t.Fatalf("doctor permissions: %d %s", code, stderr)
	}
	s := harness.StartNATSServer(t, "authorization { users: [ { user: dunlin, password: pw, "+permissions+" }, { user: other, password: pw } ] }\nno_auth_user: other")
	b := harness.Start(t, harness.WithExternalNATS(s.URL(), "--set", "nats.user=dunlin", "--set", "nats.password=pw"), harness.Set("presence.enabled", true))
	l := harness.ListenToEvents(t, b)
	ctx, js := harness.Context(t), b.JetStream(t)
	bucket, err := js.KeyValue(ctx, "mqtt_presence")
	if err != nil {
		t.Fatal(err)
	}
	state := func(clientID, want string) {
		t.Helper()
		harness.Eventually(t, harness.Patience, clientID+" is "+want, func() error {
			entry, err := bucket.Get(ctx, clientID)
			if err != nil {
				return err
			}
			var p struct{ State, Reason string }
			if err := json.Unmarshal(entry.Value(), &p); err != nil {
				return err
			}
			if got := strings.TrimSpace(p.State + " " + p.Reason); got != want {
				return errors.New("it is " + got)
			}
			return nil
		})
	}
	c := harness.NewDevice(mqttcodec.V5, "c")
	first := c.Connect(b, harness.Persistent)
	l.Expect("c", "session.created", "client.connected")
	state("c", "online")
	b.Kill()
	first.Drop()
	b.Up()
	state("c", "offline server_died")
	second := c.Resume(b)
	state("c", "online")
	l.Expect("c", "session.resumed", "client.connected")

	s.Kill() // what is told meanwhile is lost, and who is online is right when the servers are back
	second.Disconnect()
	s.Up()
	state("c", "offline normal_disconnection")
	if strings.Contains(strings.ToLower(b.Log()), "permissions violation") {
		t.Errorf("a permission is missing in the list; the broker's log:\n%s", b.Log())
	}
}
