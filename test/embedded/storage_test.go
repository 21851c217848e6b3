package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// assets are the streams of a broker.
var assets = []string{"MQTT", "MQTT_JOURNAL", "KV_mqtt_sessions", "KV_mqtt_retained", "MQTT_DELAYED"}

// replicated waits until every stream has a leader and two replicas that are current.
func replicated(t *testing.T, b *harness.Broker) {
	t.Helper()
	js := b.JetStream(t)
	harness.Eventually(t, harness.Patience, "every stream is on three servers", func() error {
		for _, name := range assets {
			ctx := harness.Context(t)
			stream, err := js.Stream(ctx, name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			info := stream.CachedInfo()
			if info.Config.Replicas != 3 || info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != 2 {
				return fmt.Errorf("%s: %d replicas, cluster %+v", name, info.Config.Replicas, info.Cluster)
			}
			for _, r := range info.Cluster.Replicas {
				if !r.Current || r.Offline {
					return fmt.Errorf("%s: replica %+v", name, r)
				}
			}
		}
		return nil
	})
}

// led waits until every stream has a leader, which it has not for some seconds after it has lost one.
func led(t *testing.T, b *harness.Broker) {
	t.Helper()
	js := b.JetStream(t)
	harness.Eventually(t, harness.Patience, "every stream has a leader", func() error {
		for _, name := range assets {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			stream, err := js.Stream(ctx, name)
			cancel()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if stream.CachedInfo().Cluster.Leader == "" {
				return fmt.Errorf("%s has none", name)
			}
		}
		return nil
	})
}

// publish publishes at QoS 1, which is acknowledged.
func publish(t *testing.T, b *harness.Broker, topic string, payloads ...string) {
	t.Helper()
	c := harness.NewDevice(mqttcodec.V5, "publisher").Connect(b, harness.Ephemeral)
	for _, payload := range payloads {
		c.Publish(topic, 1, payload)
	}
	c.Disconnect()
}

// stored waits until the log, asked at a broker's server, has exactly these messages on a subject.
func stored(t *testing.T, b *harness.Broker, subject string, payloads ...string) {
	t.Helper()
	js := b.JetStream(t)
	harness.Eventually(t, harness.Patience, "the log is read at another server", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		stream, err := js.Stream(ctx, "MQTT")
		if err != nil {
			return err
		}
		var have []string
		for next := uint64(1); ; {
			m, err := stream.GetMsg(ctx, next, natsjs.WithGetMsgSubject(subject))
			if errors.Is(err, natsjs.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return err
			}
			have, next = append(have, string(m.Data)), m.Sequence+1
		}
		if !slices.Equal(have, payloads) {
			return fmt.Errorf("read %q, want %q", have, payloads)
		}
		return nil
	})
}

// What one node has acknowledged is on all servers: kill -9 of that node takes nothing of it.
func TestStreamsAreOnThreeServers(t *testing.T) {
	t.Parallel()
	c := harness.StartEmbeddedCluster(t)
	replicated(t, c.Nodes[0])
	for i, b := range c.Nodes {
		topic, subject := fmt.Sprint("a/", i), fmt.Sprint("mqtt.a.", i)
		publish(t, b, topic, "1", "2", "3")
		b.Kill()
		stored(t, c.Nodes[(i+1)%3], subject, "1", "2", "3")
		b.Up()
		stored(t, b, subject, "1", "2", "3")
		replicated(t, b)
	}
}

// A server without a listener for NATS clients has routes all the same.
func TestClusterWithoutNATSListener(t *testing.T) {
	t.Parallel()
	c := harness.NewEmbeddedCluster(t, 3, harness.Set("nats.listen", "off"))
	c.Up()
	b := c.Nodes[2]
	subscriber := harness.NewDevice(mqttcodec.V5, "subscriber").Connect(b, harness.Ephemeral)
	subscriber.Subscribe("a/#", 1)
	publish(t, b, "a/b", "1")
	subscriber.ExpectPayloads("1")
}

// A server alone is no cluster, and neither are two with different passwords. The start says what is missing.
func TestStartWithoutTheOthersSaysSo(t *testing.T) {
	t.Parallel()
	routes := []string{harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t)}
	var starts errgroup.Group
	for i, password := range []string{"quill", "plume"} {
		starts.Go(func() error {
			code, line := startAlone(t, routes[i], routes, "--set", "cluster.password="+password)
			for _, says := range []string{"has no leader", "1 of its servers", "cluster.listen", "password"} {
				if code != 1 || !strings.Contains(line, says) {
					return fmt.Errorf("exit %d; it does not say %q: %s", code, says, line)
				}
			}
			return nil
		})
	}
	if err := starts.Wait(); err != nil {
		t.Error(err)
	}
}

// A cluster is new when all its servers are there, so that its streams are on three.
func TestNewClusterWaitsForItsServers(t *testing.T) {
	t.Parallel()
	c := harness.NewEmbeddedCluster(t, 3)
	first, second := c.Nodes[0].Begin(), c.Nodes[1].Begin()
	harness.Eventually(t, harness.Patience, "two nodes wait for the third", func() error {
		if log := c.Nodes[0].Log() + c.Nodes[1].Log(); !strings.Contains(log, "has no leader, 2 of its servers") {
			return errors.New("it is not logged")
		}
		return nil
	})
	c.Nodes[2].Up()
	first()
	second()
	replicated(t, c.Nodes[0])
}

// Routes may be encrypted, and then nobody gets in without a certificate.
func TestRoutesWithTLS(t *testing.T) {
	t.Parallel()
	ca, certificate, key := harness.Certificates(t)
	c := harness.NewEmbeddedCluster(t, 3, harness.Set("cluster.password", ""),
		harness.Set("cluster.tls_ca", ca), harness.Set("cluster.tls_cert", certificate), harness.Set("cluster.tls_key", key))
	c.Up()
	publish(t, c.Nodes[0], "a/b", "1")
	stored(t, c.Nodes[1], "mqtt.a.b", "1")
	strangersCA, strangers, strangersKey := harness.Certificates(t)
	for name, with := range map[string][]string{
		"without TLS":            nil,
		"with another authority": {"--set", "cluster.tls_ca=" + strangersCA, "--set", "cluster.tls_cert=" + strangers, "--set", "cluster.tls_key=" + strangersKey},
		"as nobody known":        {"--set", "cluster.tls_ca=" + ca, "--set", "cluster.tls_cert=" + strangers, "--set", "cluster.tls_key=" + strangersKey},
	} {
		if code, line := startAlone(t, harness.FreeAddress(t), c.Routes, with...); code != 1 || !strings.Contains(line, "1 of its servers") {
			t.Errorf("%s: exit %d, %s", name, code, line)
		}
	}
}

// startAlone starts a node that must not find others, and returns its exit code and the last line of its log.
func startAlone(t *testing.T, route string, routes []string, flags ...string) (code int, lastLine string) {
	t.Helper()
	code, _, stderr := harness.RunToExit(t, append([]string{
		"serve", "--data-dir", t.TempDir(), "--mqtt-listen", harness.FreeAddress(t), "--ws-listen", "off", "--nats-listen", harness.FreeAddress(t),
		"--cluster-listen", route, "--cluster-routes", strings.Join(routes, ","), "--set", "cluster.start_timeout=3s",
	}, flags...)...)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	return code, lines[len(lines)-1]
}
