package clients

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// run runs a client program to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := tryRun(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tryRun is run for a goroutine that is not the test's.
func tryRun(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %q: %w\n%s%s", name, args, err, out, stderr.String())
	}
	return string(out), nil
}

// lines are the lines of a program's output.
func lines(out string) []string { return strings.Split(strings.TrimSpace(out), "\n") }

// mosquitto is how the mosquitto clients reach a broker in one version.
type mosquitto struct {
	sub, pub string
	base     []string
	version  mqttcodec.Version
}

func newMosquitto(t *testing.T, b *harness.Broker, v mqttcodec.Version) mosquitto {
	t.Helper()
	host, port, err := net.SplitHostPort(b.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	name := map[mqttcodec.Version]string{mqttcodec.V31: "mqttv31", mqttcodec.V311: "mqttv311", mqttcodec.V5: "mqttv5"}[v]
	return mosquitto{harness.Program(t, "mosquitto_sub"), harness.Program(t, "mosquitto_pub"), []string{"-h", host, "-p", port, "-V", name}, v}
}

// session are the arguments of a persistent session.
func (m mosquitto) session(id string) []string {
	args := append(m.base[:len(m.base):len(m.base)], "-i", id, "-c")
	if m.version == mqttcodec.V5 {
		args = append(args, "-x", "3600")
	}
	return args
}

// subscribe subscribes and leaves as soon as the broker has answered.
func (m mosquitto) subscribe(t *testing.T, id, topic string, qos ...string) {
	t.Helper()
	run(t, m.sub, append(append(m.session(id), "-t", topic, "-E"), qos...)...)
}

// receive comes back, subscribing again as the program always does, and leaves with n messages.
func (m mosquitto) receive(t *testing.T, id, topic string, n int, qos ...string) []string {
	t.Helper()
	args := append(append(m.session(id), "-t", topic, "-C", fmt.Sprint(n), "-W", "15", "-F", "%t %q %r %p"), qos...)
	return lines(run(t, m.sub, args...))
}

// publish publishes one message.
func (m mosquitto) publish(t *testing.T, topic, payload string, flags ...string) {
	t.Helper()
	run(t, m.pub, append(append(m.base[:len(m.base):len(m.base)], "-t", topic, "-m", payload), flags...)...)
}

// expectLines compares what a program printed.
func expectLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("printed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var allVersions = []mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5}

// Subscribe with a persistent session, leave, let others publish, restart the broker, come back: nothing is missing.
func TestS18MosquittoSessionGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	for _, v := range allVersions {
		t.Run(harness.VersionName(v), func(t *testing.T) {
			t.Parallel()
			harness.EachEnding(t, func(t *testing.T, how harness.Ending) {
				b := harness.Start(t)
				m := newMosquitto(t, b, v)
				m.subscribe(t, "c1", "sensor/temperature", "-q", "1")
				m.publish(t, "sensor/temperature", "21", "-q", "1")
				m.publish(t, "sensor/temperature", "lost", "-q", "0")
				b.Restart(how)
				m.publish(t, "sensor/temperature", "22", "-q", "2")
				expectLines(t, m.receive(t, "c1", "sensor/temperature", 2, "-q", "1"), "sensor/temperature 1 0 21", "sensor/temperature 1 0 22")
			})
		})
	}
}

// Without -q 1 nothing is queued, unless sessions.queue_qos0 says so.
func TestS18MosquittoQoS0SessionGetsWhatItMissedWhenConfigured(t *testing.T) {
	t.Parallel()
	for _, v := range allVersions {
		t.Run(harness.VersionName(v), func(t *testing.T) {
			t.Parallel()
			b := harness.Start(t, harness.Set("sessions.queue_qos0", true))
			m := newMosquitto(t, b, v)
			m.subscribe(t, "c1", "sensor/temperature")
			m.publish(t, "sensor/temperature", "21")
			m.publish(t, "sensor/temperature", "22", "-q", "1")
			b.Restart(harness.Kill9)
			expectLines(t, m.receive(t, "c1", "sensor/temperature", 2), "sensor/temperature 0 0 21", "sensor/temperature 0 0 22")
		})
	}
}

// Retained messages and wildcards, as mosquitto_sub shows them.
func TestMosquittoRetainedAndWildcards(t *testing.T) {
	t.Parallel()
	for _, v := range allVersions {
		t.Run(harness.VersionName(v), func(t *testing.T) {
			t.Parallel()
			b := harness.Start(t)
			m := newMosquitto(t, b, v)
			m.publish(t, "house/kitchen/temp", "20", "-r", "-q", "1")
			m.publish(t, "house/kitchen/temp", "21", "-r", "-q", "1")
			b.Restart(harness.Kill9)
			expectLines(t, m.receive(t, "c1", "house/#", 1, "-q", "1"), "house/kitchen/temp 1 1 21")
			expectLines(t, m.receive(t, "c2", "+/+/temp", 1), "house/kitchen/temp 0 1 21")
		})
	}
}

// A large message passes, and a 5.0 property too.
func TestMosquittoLargeMessageAndProperties(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	m := newMosquitto(t, b, mqttcodec.V5)
	m.subscribe(t, "c1", "big", "-q", "2")
	large := strings.Repeat("0123456789", 10_000)
	m.publish(t, "big", large, "-q", "2", "-D", "publish", "content-type", "text/plain", "-D", "publish", "user-property", "k", "v")
	args := append(m.session("c1"), "-t", "big", "-q", "2", "-C", "1", "-W", "15", "-F", "%C %P %p")
	expectLines(t, []string{run(t, m.sub, args...)}, "text/plain k:v "+large+"\n")
}
