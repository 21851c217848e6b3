package clients

import (
	"os"
	"path/filepath"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// mqttjs runs one step of js/session.js.
func mqttjs(t *testing.T, b *harness.Broker, v mqttcodec.Version, args ...string) []string {
	t.Helper()
	return lines(run(t, "node", mqttjsArgs(t, b, v, args)...))
}

func mqttjsArgs(t *testing.T, b *harness.Broker, v mqttcodec.Version, args []string) []string {
	t.Helper()
	return mqttjsAt(t, "mqtt://"+b.MQTT, v, args)
}

// mqttjsAt is mqttjsArgs for any URL.
func mqttjsAt(t *testing.T, url string, v mqttcodec.Version, args []string) []string {
	t.Helper()
	harness.Program(t, "node")
	if _, err := os.Stat(filepath.Join("js", "node_modules", "mqtt")); err != nil {
		harness.Missing(t, "MQTT.js: run npm ci in test/clients/js")
	}
	version := map[mqttcodec.Version]string{mqttcodec.V31: "3", mqttcodec.V311: "4", mqttcodec.V5: "5"}[v]
	return append([]string{filepath.Join("js", "session.js"), url, version}, args...)
}

// The same walk with MQTT.js: the session is there on return, with what it missed, with and without a new SUBSCRIBE.
func TestS18MQTTJSSessionGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	harness.EachRestart(t, func(t *testing.T, v mqttcodec.Version, how harness.Ending) {
		for _, again := range []string{"resume", "resubscribe"} {
			b := harness.Start(t)
			expectLines(t, mqttjs(t, b, v, "subscribe", "c1", "sensor/temperature", "1"), "session present false", "granted 1")
			mqttjs(t, b, v, "publish", "sensor/temperature", "1", "21")
			mqttjs(t, b, v, "publish", "sensor/temperature", "0", "lost")
			b.Restart(how)
			mqttjs(t, b, v, "publish", "sensor/temperature", "2", "22")
			expectLines(t, mqttjs(t, b, v, again, "c1", "sensor/temperature", "1", "2"),
				"session present true", "sensor/temperature 1 false 21", "sensor/temperature 1 false 22")
		}
	})
}

// And at QoS 0, where it is configured.
func TestS18MQTTJSQoS0SessionGetsWhatItMissedWhenConfigured(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t, harness.Set("sessions.queue_qos0", true))
		mqttjs(t, b, v, "subscribe", "c1", "sensor/temperature", "0")
		mqttjs(t, b, v, "publish", "sensor/temperature", "0", "21")
		b.Restart(harness.Kill9)
		expectLines(t, mqttjs(t, b, v, "resubscribe", "c1", "sensor/temperature", "0", "1"),
			"session present true", "sensor/temperature 0 false 21")
	})
}

// MQTT.js reconnects by itself; what was published while the broker was away arrives.
func TestMQTTJSReconnectsAcrossKill(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		mqttjs(t, b, v, "subscribe", "c1", "a", "2")
		type result struct {
			out string
			err error
		}
		stayed := make(chan result, 1)
		args := mqttjsArgs(t, b, v, []string{"stay", "c1", "a", "2", "2"})
		go func() {
			out, err := tryRun(t.Context(), "node", args...)
			stayed <- result{out, err}
		}()
		mqttjs(t, b, v, "publish", "a", "2", "before")
		b.Restart(harness.Kill9)
		mqttjs(t, b, v, "publish", "a", "2", "after")
		r := <-stayed
		if r.err != nil {
			t.Fatal(r.err)
		}
		expectLines(t, lines(r.out), "a 2 false before", "a 2 false after")
	})
}
