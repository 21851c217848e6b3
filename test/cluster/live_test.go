package cluster

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// TestOneBroker is what clients may rely on that are connected to different nodes, while all nodes are well.
func TestOneBroker(t *testing.T) {
	t.Parallel()
	c := start(t)
	for name, test := range map[string]func(*testing.T, *harness.Cluster){
		"messages reach all nodes":           messagesReachAllNodes,
		"the log takes batches":              logTakesBatches,
		"SUBACK means effective":             subackMeansEffective, // [case 123]
		"retained messages are seen at once": retainedAtOnce,       // [case 138]
		"wills":                              willsReachOtherNodes, // [MQTT-3.1.2-8] [case 50]
		"shared subscription":                sharedAmongNodes,
		"message expiry":                     messageExpiry, // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
		"session expiry":                     sessionExpiry, // [MQTT-3.1.2-23]
		"mosquitto":                          mosquittoClients,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c.For(t))
		})
	}
}

// A log with replicas, which is what a cluster has unless it is told otherwise, is written in atomic batches.
func logTakesBatches(t *testing.T, c *harness.Cluster) {
	stream, err := c.Brokers[0].JetStream(t).Stream(harness.Context(t), "MQTT")
	if err != nil {
		t.Fatal(err)
	}
	if config := stream.CachedInfo().Config; config.Replicas != 3 || !config.AllowAtomicPublish {
		t.Errorf("%d replicas, takes batches: %v", config.Replicas, config.AllowAtomicPublish)
	}
}

// What is published on one node reaches the subscribers on all, once, in order.
func messagesReachAllNodes(t *testing.T, c *harness.Cluster) {
	const n = 300
	for _, v := range harness.Versions {
		topic := fmt.Sprintf("all/%d/", v)
		var subscribers []*harness.Raw
		for i, b := range c.Brokers {
			s := b.ConnectRaw(t, harness.CleanConnect(v, fmt.Sprintf("all-subscriber-%d-%d", v, i)))
			s.Subscribe(harness.Filter(topic+"#", 2))
			subscribers = append(subscribers, s)
		}
		publisher := c.Brokers[0].ConnectRaw(t, harness.CleanConnect(v, fmt.Sprintf("all-publisher-%d", v)))
		for qos := range mqttcodec.QoS(3) {
			publisher.PublishAll(harness.Messages(topic+"m", qos, fmt.Sprint("q", qos, "-"), n))
			publisher.Publish(mqttcodec.Publish{Topic: topic + "end", QoS: qos})
			want := harness.Numbered(fmt.Sprint("q", qos, "-"), 0, n)
			for i, s := range subscribers {
				got := s.ReceiveUntil(topic + "end")
				if !slices.Equal(payloads(got), want) {
					t.Errorf("MQTT %s, QoS %d, node %d: %d messages %.300q, want %d in order", harness.VersionName(v), qos, i, len(got), payloads(got), n)
				}
				for _, m := range got {
					if m.QoS != qos || m.Duplicate {
						t.Errorf("node %d: QoS %d DUP %v, published at QoS %d", i, m.QoS, m.Duplicate, qos)
						break
					}
				}
			}
		}
	}
}

// A message that is published on one node after SUBACK was received from another reaches that subscriber.
func subackMeansEffective(t *testing.T, c *harness.Cluster) {
	const rounds = 60
	for qos := range mqttcodec.QoS(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			t.Parallel()
			c := c.For(t)
			var clients []*harness.Raw
			for i, b := range c.Brokers {
				clients = append(clients, b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, fmt.Sprintf("suback-%d-%d", qos, i))))
			}
			for round := range rounds {
				topic := fmt.Sprintf("suback/%d/%d", qos, round)
				subscriber, publisher := clients[round%3], clients[(round+1+round/3%2)%3]
				subscriber.Subscribe(harness.Filter(topic, qos))
				publisher.Publish(mqttcodec.Publish{Topic: topic, QoS: qos, Payload: []byte(topic)})
				if got := subscriber.ReceiveUntil(topic); len(got) != 0 {
					t.Fatalf("round %d: %q came first", round, payloads(got))
				}
			}
		})
	}
}

// The will of a client whose connection breaks on one node reaches the subscribers of all, once.
func willsReachOtherNodes(t *testing.T, c *harness.Cluster) {
	for _, v := range harness.Versions {
		topic := fmt.Sprintf("wills/%d", v)
		var watchers []*harness.Raw
		for i, b := range c.Brokers {
			w := b.ConnectRaw(t, harness.CleanConnect(v, fmt.Sprintf("watcher-%d-%d", v, i)))
			w.Subscribe(harness.Filter(topic+"/#", 1))
			watchers = append(watchers, w)
		}
		for i, b := range c.Brokers {
			connect := harness.CleanConnect(v, fmt.Sprintf("mortal-%d-%d", v, i))
			connect.Will = &mqttcodec.Will{Topic: topic + "/will", Payload: []byte(connect.ClientID), QoS: 1}
			b.ConnectRaw(t, connect).Drop()
			for _, w := range watchers {
				if got := string(next(w).Payload); got != connect.ClientID {
					t.Errorf("got %q, want the will of %s", got, connect.ClientID)
				}
			}
		}
		publisher := c.Brokers[0].ConnectRaw(t, harness.CleanConnect(v, fmt.Sprint("wills-end-", v)))
		publisher.Publish(mqttcodec.Publish{Topic: topic + "/end", QoS: 1})
		for i, w := range watchers {
			if got := w.ReceiveUntil(topic + "/end"); len(got) != 0 {
				t.Errorf("node %d: wills came again: %q", i, payloads(got))
			}
		}
	}
}

// A message that waits for a session longer than it may does not reach it, whatever the nodes; one that may wait longer says how
// much of that is left.
func messageExpiry(t *testing.T, c *harness.Cluster) {
	away := c.Brokers[1].ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "expiry-away"))
	away.Subscribe(harness.Filter("expiry", 1))
	away.Disconnect()
	publisher := c.Brokers[0].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "expiry-publisher"))
	for payload, seconds := range map[string]uint32{"short": 1, "long": 60} {
		m := mqttcodec.Publish{Topic: "expiry", QoS: 1, Payload: []byte(payload)}
		m.Properties.MessageExpirySeconds = mqttcodec.Some(seconds)
		publisher.Publish(m)
	}
	harness.Wait(2 * time.Second)
	m := next(c.Brokers[1].Resume(t, mqttcodec.V5, "expiry-away"))
	if left := m.Properties.MessageExpirySeconds.Or(0); string(m.Payload) != "long" || left == 0 || left > 58 {
		t.Errorf("got %q with an expiry of %d s, want the one that may wait 60 s, 2 s later", m.Payload, left)
	}
}

// A session that has expired is gone on all nodes.
func sessionExpiry(t *testing.T, c *harness.Cluster) {
	connect := harness.PersistentConnect(mqttcodec.V5, "expiring")
	connect.Properties.SessionExpirySeconds = mqttcodec.Some[uint32](1)
	r := c.Brokers[0].ConnectRaw(t, connect)
	r.Subscribe(harness.Filter("expiring", 1))
	if err := r.DropNoticed(); err != nil {
		t.Fatal(err)
	}
	harness.Wait(2 * time.Second)
	if c.Brokers[1].ConnectRaw(t, connect).Connack.SessionPresent {
		t.Error("session present 1, a second after the session's end")
	}
}

// The clients of mosquitto, one on each of two nodes.
func mosquittoClients(t *testing.T, c *harness.Cluster) {
	sub := mosquitto(t, "mosquitto_sub", c.Brokers[1], "-q", "2", "-t", "mosquitto/+", "-C", "3", "-F", "%q %p")
	out := new(strings.Builder)
	sub.Stdout = out
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	// Retained messages come whether the subscription or the message is first.
	if text, err := mosquitto(t, "mosquitto_pub", c.Brokers[0], "-q", "1", "-r", "-t", "mosquitto/kept", "-m", "kept").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v %s", err, text)
	}
	for qos := 1; qos <= 2; qos++ {
		if text, err := mosquitto(t, "mosquitto_pub", c.Brokers[2], "-q", fmt.Sprint(qos), "-r", "-t", fmt.Sprint("mosquitto/", qos), "-m", "live").CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v %s", err, text)
		}
	}
	if err := sub.Wait(); err != nil {
		t.Fatalf("mosquitto_sub: %v %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	slices.Sort(lines)
	if want := []string{"1 kept", "1 live", "2 live"}; !slices.Equal(lines, want) {
		t.Errorf("mosquitto_sub printed %q, want %q", lines, want)
	}
}

func mosquitto(t *testing.T, program string, b *harness.Broker, args ...string) *exec.Cmd {
	t.Helper()
	host, port, err := net.SplitHostPort(b.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(harness.Program(t, program), append([]string{"-V", "5", "-h", host, "-p", port}, args...)...)
	harness.DieWithParent(cmd)
	return cmd
}
