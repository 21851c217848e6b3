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

// hold connects idle clients beside those that are there, each with filters of its own, up to a number.
func hold(t *testing.T, b *harness.Broker, clients []*client, want int, filters func(i int) []string) []*client {
	t.Helper()
	have := len(clients)
	more := make([]*client, want)
	copy(more, clients)
	end, err := inParallel(have, want, creationLimit, func(i int) (err error) {
		more[i], err = connect(b.MQTT, harness.CleanConnect(mqttcodec.V311, fmt.Sprintf("idle-%d", i)), filters(i)...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return more[:end]
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

// Connections that are idle cost memory. They do not make messages of others dearer.
func TestIdleConnections(t *testing.T) {
	b := harness.Start(t)
	load(t, b)
	settle()
	empty := rss(t, b)
	out := newTable("idle connections", "load µs/message", "p99 ms", "idle ms/s", "RSS MiB", "KiB each")
	var clients []*client
	for _, n := range steps([]int{0, 200}, []int{0, 1000, 5000, 15_000}) {
		clients = hold(t, b, clients, n, func(i int) []string { return []string{fmt.Sprintf("idle/%d", i)} })
		settle()
		memory, idle := rss(t, b), idleCPU(t, b)
		r := load(t, b)
		out.row(len(clients), r.CPUus, r.P99, idle.Seconds()*1000, mib(memory), each(empty, memory, len(clients)))
	}
	drop(t, clients)
	out.print(t)
}

// Subscriptions of others cost memory. A match costs what the filters on the topic's way do, not what all do.
func TestManySubscriptions(t *testing.T) {
	const each100 = 100
	b := harness.Start(t)
	load(t, b)
	settle()
	empty := rss(t, b)
	out := newTable("subscriptions", "load µs/message", "p99 ms", "idle ms/s", "RSS MiB", "KiB each")
	var clients []*client
	filters := func(i int) (filters []string) {
		for k := range each100 {
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
	for _, n := range steps([]int{0, 50}, []int{0, 100, 1000, 10_000}) {
		clients = hold(t, b, clients, n, filters)
		settle()
		memory, idle := rss(t, b), idleCPU(t, b)
		r := load(t, b)
		out.row(each100*len(clients), r.CPUus, r.P99, idle.Seconds()*1000, mib(memory), each(empty, memory, each100*len(clients)))
	}
	// One of them all gets its message.
	last := len(clients) - 1
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "publisher"))
	publisher.Publish(mqttcodec.Publish{QoS: 1, Topic: fmt.Sprintf("site/7/device/%d/state", last), Payload: []byte("x")})
	p, err := mqttcodec.NewReader(clients[last].conn, mqttcodec.V311, 0).ReadPacket()
	if m, ok := p.(*mqttcodec.Publish); err != nil || !ok || string(m.Payload) != "x" {
		t.Errorf("the last of the subscribers got %T %+v, %v", p, p, err)
	}
	drop(t, clients)
	out.print(t)
}
