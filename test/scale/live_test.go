package scale

import (
	"fmt"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// creationLimit bounds how long a step may take to be made; what is there then is what is measured.
const creationLimit = 2 * time.Minute

// hold connects n idle clients, each with filters of its own.
func hold(t *testing.T, b *harness.Broker, n int, filters func(i int) []string) []*client {
	t.Helper()
	clients := make([]*client, n)
	end, err := inParallel(0, n, creationLimit, func(i int) (err error) {
		clients[i], err = connect(b.MQTT, harness.CleanConnect(mqttcodec.V311, fmt.Sprintf("idle-%d", i)), filters(i)...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return clients[:end]
}

// drop closes clients; each must have been served to the end.
func drop(t *testing.T, clients []*client) {
	t.Helper()
	if _, err := inParallel(0, len(clients), creationLimit, func(i int) error {
		defer clients[i].conn.Close()
		return clients[i].alive()
	}); err != nil {
		t.Errorf("of %d idle clients: %v", len(clients), err)
	}
}

// idleClients measures the load beside n idle clients of a new broker, and does a last thing with them. What a client
// takes is read before the load: after it, the broker's heap has room.
func idleClients(t *testing.T, out *table, n, things int, filters func(i int) []string, last func(*harness.Broker, []*client)) {
	b := harness.Start(t)
	settle()
	empty := rss(t, b)
	clients := hold(t, b, n, filters)
	settle()
	full, idle := rss(t, b), idleCPU(t, b)
	r := load(t, b)
	things *= len(clients)
	out.row(things, r.CPUus, r.P99, idle.Seconds()*1000, mib(full), each(empty, full, things), mib(rss(t, b)))
	if last != nil {
		last(b, clients)
	}
	drop(t, clients)
}

// Connections that are idle cost memory.
func TestIdleConnections(t *testing.T) {
	out := newTable("idle connections", "load µs/message", "p99 ms", "idle ms/s", "RSS MiB", "KiB each", "RSS MiB after the load")
	for _, n := range steps([]int{0, 200}, []int{0, 1000, 5000, 15_000}) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			idleClients(t, out, n, 1, func(i int) []string { return []string{fmt.Sprintf("idle/%d", i)} }, nil)
		})
	}
	out.print(t)
}

// Subscriptions of others cost memory. A match costs what the filters on the topic's way do, not what all do.
func TestManySubscriptions(t *testing.T) {
	const perClient = 100
	filters := func(i int) (filters []string) {
		for k := range perClient {
			switch k {
			case 0:
				filters = append(filters, fmt.Sprintf("+/client/%d/#", i))
			case 1:
				filters = append(filters, fmt.Sprintf("site/+/device/%d/event", i))
			default:
				filters = append(filters, fmt.Sprintf("site/%d/device/%d/state", k, i))
			}
		}
		return filters
	}
	out := newTable("subscriptions", "load µs/message", "p99 ms", "idle ms/s", "RSS MiB", "KiB each", "RSS MiB after the load")
	for _, n := range steps([]int{0, 50}, []int{0, 100, 1000, 10_000}) {
		t.Run(fmt.Sprint(perClient*n), func(t *testing.T) {
			idleClients(t, out, n, perClient, filters, func(b *harness.Broker, clients []*client) {
				if len(clients) > 0 {
					lastIsReached(t, b, clients)
				}
			})
		})
	}
	out.print(t)
}

// lastIsReached: of all the subscriptions, one of the last client gets its message.
func lastIsReached(t *testing.T, b *harness.Broker, clients []*client) {
	t.Helper()
	last := len(clients) - 1
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "publisher"))
	publisher.Publish(mqttcodec.Publish{QoS: 1, Topic: fmt.Sprintf("site/7/device/%d/state", last), Payload: []byte("x")})
	p, err := mqttcodec.NewReader(clients[last].conn, mqttcodec.V311, 0).ReadPacket()
	if m, ok := p.(*mqttcodec.Publish); err != nil || !ok || string(m.Payload) != "x" {
		t.Errorf("the last of the subscribers got %T %+v, %v", p, p, err)
	}
}
