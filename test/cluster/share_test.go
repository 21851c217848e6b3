package cluster

import (
	"fmt"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Of the members of a shared subscription on two nodes one gets each message, and each gets some. (4.8.2)
func sharedAmongNodes(t *testing.T, c *harness.Cluster) {
	const n = 200
	for qos := range mqttcodec.QoS(2) {
		topic := fmt.Sprintf("job/%d", qos)
		var members []*listener
		for i, b := range c.Brokers[:2] {
			m := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, fmt.Sprintf("member-%d-%d", qos, i)))
			m.Subscribe(harness.Filter("$share/workers/"+topic, qos))
			members = append(members, listen(m))
		}
		publisher := c.Brokers[2].ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, fmt.Sprint("job-publisher-", qos)))
		publisher.PublishAll(harness.Messages(topic, qos, "", n))
		came := map[string]int{}
		var each [2]int
		for limit := time.After(harness.Patience); len(came) < n; {
			var m *mqttcodec.Publish
			member := 0
			select {
			case m = <-members[0].messages:
			case m = <-members[1].messages:
				member = 1
			case <-limit:
				t.Fatalf("QoS %d: %d of %d messages came, %v to each", qos, len(came), n, each)
			}
			if m == nil {
				t.Fatalf("QoS %d: member %d lost its connection", qos, member)
			}
			each[member]++
			if came[string(m.Payload)]++; came[string(m.Payload)] > 1 {
				t.Errorf("QoS %d: message %s came again, to member %d", qos, m.Payload, member)
			}
		}
		if each[0] == 0 || each[1] == 0 {
			t.Errorf("QoS %d: the members got %v messages", qos, each)
		}
		for _, m := range members {
			m.Drop()
		}
	}
}
