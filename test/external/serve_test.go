package external

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// exercise has clients use all that is stored: a queue, QoS 2, a retained message, a shared subscription, and a session that
// ends.
func exercise(t *testing.T, b *harness.Broker, restart func()) {
	t.Helper()
	for _, v := range []mqttcodec.Version{mqttcodec.V311, mqttcodec.V5} {
		id := func(name string) string { return fmt.Sprintf("%s-%d", name, v) }
		away := harness.NewDevice(v, id("away"))
		c := away.Connect(b, harness.Persistent)
		c.Subscribe(id("a")+"/#", 2)
		c.Disconnect()
		worker := harness.NewDevice(v, id("worker"))
		c = worker.Connect(b, harness.Persistent)
		c.Subscribe("$share/g/"+id("job")+"/+", 1)
		c.Disconnect()
		publisher := harness.NewDevice(v, id("publisher")).Connect(b, harness.Ephemeral)
		publisher.Publish(id("a")+"/one", 1, "1")
		publisher.Publish(id("a")+"/two", 2, "2")
		publisher.Publish(id("job")+"/x", 1, "work")
		publisher.PublishRetained(id("kept"), 1, "state")
		publisher.Publish("$delayed/1/"+id("a")+"/three", 1, "3")
		restart()

		away.Resume(b).ExpectPayloads("1", "2", "3")
		worker.Resume(b).ExpectPayloads("work")
		late := harness.NewDevice(v, id("late")).Connect(b, harness.Ephemeral)
		late.Subscribe(id("kept"), 1)
		if m := late.Receive(); m.Payload != "state" || !m.Retain {
			t.Errorf("retained: %+v", m)
		}
		harness.NewDevice(v, id("away")).Connect(b, harness.Ephemeral).Disconnect()
	}
}

// kill9 restarts a broker for exercise.
func kill9(b *harness.Broker) func() {
	return func() {
		b.Kill()
		b.Up()
	}
}

func TestServersOutside(t *testing.T) {
	t.Parallel()
	s := harness.StartNATSServer(t)
	b := harness.Start(t, harness.WithExternalNATS(s.URL()), harness.WithoutDataDir())
	if b.DataDir != "off" || b.NATS != s.Address {
		t.Errorf("ready with data %q, NATS %q", b.DataDir, b.NATS)
	}
	exercise(t, b, kill9(b))
}

// Streams are kept three times, and a new leader or a lost server is no loss.
func TestClusterOutside(t *testing.T) {
	t.Parallel()
	servers := harness.StartNATSCluster(t, 3)
	b := harness.Start(t, harness.WithExternalNATS(strings.Join([]string{servers[0].URL(), servers[1].URL(), servers[2].URL()}, ",")))
	nats := harness.NewNATSCommand(t, servers[0].Address)
	if out := nats.Run(t, "stream", "info", "MQTT", "--json"); !strings.Contains(out, `"num_replicas": 3`) {
		t.Errorf("stream MQTT: %s", out)
	}
	next := 0
	exercise(t, b, func() {
		servers[next].Kill()
		servers[(next+1)%3].AwaitJetStream()
		b.Kill()
		b.Up()
		servers[next].Up()
		next++
	})
}

// The queue of an offline session is a consumer in the memory of one server. When that server is lost, and stays so, the session
// gets its messages all the same.
func TestQueueOfLostServer(t *testing.T) {
	t.Parallel()
	servers := harness.StartNATSCluster(t, 3)
	b := harness.Start(t, harness.WithExternalNATS(strings.Join([]string{servers[0].URL(), servers[1].URL(), servers[2].URL()}, ",")))
	away := harness.NewDevice(mqttcodec.V5, "away")
	c := away.Connect(b, harness.Persistent)
	c.Subscribe("a/#", 1)
	c.Disconnect()
	nats := harness.NewNATSCommand(t, servers[0].Address)
	var holder string
	harness.Eventually(t, harness.Patience, "the session's queue is there", func() error {
		out, err := nats.Try("consumer", "info", "MQTT", "dunlin-s-away", "--json")
		if err != nil {
			return err
		}
		var info struct {
			Cluster struct{ Leader string }
		}
		if err := json.Unmarshal([]byte(out), &info); err != nil {
			return err
		}
		holder = info.Cluster.Leader
		return nil
	})
	publisher := harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Persistent)
	publisher.Publish("a/1", 1, "before")
	for _, s := range servers {
		if s.Name == holder {
			s.Kill()
		}
	}
	publisher.Publish("a/2", 2, "after")
	away.Resume(b).ExpectPayloads("before", "after")
	b.Kill() // some streams may be without a leader for a while, and then SIGTERM does not end it well
}

// A broker runs under exactly the permissions that doctor prints, and says which of them it lacks.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	code, permissions, stderr := harness.RunToExit(t, "doctor", "permissions")
	if code != 0 {
		t.Fatalf("doctor permissions: %d %s", code, stderr)
	}
	login := []string{"--set", "nats.user=dunlin", "--set", "nats.password=pw"}
	authorization := "authorization { users: [ { user: dunlin, password: pw, " + permissions + " } ] }"
	s := harness.StartNATSServer(t, authorization)
	b := harness.Start(t, harness.WithExternalNATS(s.URL(), login...))
	exercise(t, b, kill9(b))
	if strings.Contains(strings.ToLower(b.Log()), "permissions violation") {
		t.Errorf("a permission is missing in the list; the broker's log:\n%s", b.Log())
	}
	b.Stop()

	for line := range strings.Lines(permissions) {
		subject, _, quoted := strings.Cut(strings.TrimSpace(line), " ")
		if !quoted || !strings.HasPrefix(subject, `"`) || strings.HasPrefix(subject, `"_INBOX`) && testing.Short() {
			continue
		}
		s.Reconfigure(line, "\n")
		code, _, stderr := harness.RunToExit(t, append([]string{"doctor", "--nats", s.URL()}, login...)...)
		if code != 1 || !strings.Contains(stderr, subject) {
			t.Errorf("without %s: exit %d, %s", subject, code, stderr)
		}
		s.Restore()
	}
}

// What keeps a broker from starting is named, with what to do about it.
func TestRefusalsNameCauseAndFix(t *testing.T) {
	t.Parallel()
	certificate := filepath.Join(t.TempDir(), "none.pem")
	for _, c := range []struct {
		name   string
		config string // of the server; it has JetStream anyway
		nats   []string
		flags  []string
		says   []string
	}{
		{name: "wrong password", config: "authorization { user: u, password: right }", flags: []string{"--set", "nats.user=u", "--set", "nats.password=wrong"}, says: []string{"Authorization", "nats.password"}},
		{name: "account without JetStream", config: "accounts { A { users: [ { user: u, password: p } ] } }\nno_auth_user: u", says: []string{"JetStream", "account", "enable"}},
		{name: "small messages", config: "max_payload: 10000", says: []string{"max_payload", "10000", "262144"}},
		{name: "few streams", config: "accounts { A { jetstream: { max_streams: 2 }, users: [ { user: u, password: p } ] } }\nno_auth_user: u", says: []string{"streams", "max_streams"}},
		{name: "little storage", config: "accounts { A { jetstream: { max_file: 5M }, users: [ { user: u, password: p } ] } }\nno_auth_user: u", flags: []string{"--set", "storage.max_bytes=1GiB"}, says: []string{"storage.max_bytes", "MQTT"}},
		{name: "stream in the way", nats: []string{"stream", "add", "PLANT", "--subjects", "mqtt.plant.>", "--defaults"}, says: []string{"PLANT", "mqtt.>", "other names"}},
		{name: "stream of another shape", nats: []string{"stream", "add", "MQTT", "--subjects", "mqtt.>", "--defaults", "--retention", "work"}, says: []string{"MQTT", "retention", "another name"}},
		{name: "three replicas on one server", flags: []string{"--set", "storage.replicas=3"}, says: []string{"storage.replicas", "1"}},
		{name: "missing file", flags: []string{"--set", "nats.tls_ca=" + certificate}, says: []string{certificate, "no such file"}},
		{name: "no seed", flags: []string{"--nkey", "/etc/hostname"}, says: []string{"/etc/hostname", "nkey"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := harness.StartNATSServer(t, c.config)
			if c.nats != nil {
				harness.NewNATSCommand(t, s.Address).Run(t, c.nats...)
			}
			args := append([]string{"serve", "--nats", s.URL(), "--mqtt-listen", harness.FreeAddress(t), "--ws-listen", "off"}, c.flags...)
			code, _, stderr := harness.RunToExit(t, args...)
			last := lastLine(stderr)
			for _, says := range c.says {
				if code != 1 || !strings.Contains(last, says) {
					t.Errorf("exit %d; it does not say %q: %s", code, says, last)
				}
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		code, _, stderr := harness.RunToExit(t, "serve", "--nats", "nats://"+harness.FreeAddress(t), "--set", "nats.connect_timeout=1s")
		if code != 1 || !strings.Contains(lastLine(stderr), "--nats") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
