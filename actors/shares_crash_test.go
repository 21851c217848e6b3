package actors

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
)

// TestSharedMessagesAreNotLost has the members of a share come and go while a broker is killed again and again: each message of
// the log reaches a member, and as long as nothing is killed one member only. (4.8.2) [case 165] [case 168] [case 194]
func TestSharedMessagesAreNotLost(t *testing.T) {
	for seed := range uint64(crashSeeds) {
		kills, visitors := int(seed%3)*2, seed%2 == 1
		t.Run(fmt.Sprintf("%d kills=%d visitors=%v", seed, kills, visitors), func(t *testing.T) {
			bubble(t, func(t *testing.T) { sharedScenario(t, seed, kills, visitors) })
		})
	}
}

func sharedScenario(t *testing.T, seed uint64, kills int, visitors bool) {
	world := &crashes{t: t, chance: newChance(seed)}
	world.restart()
	var members []*subscriber
	for i := range 3 {
		members = append(members, world.subscribe("$share/g/t/#", 1, i))
	}
	if visitors {
		v := &subscriber{peer: peer{world: world, id: "visitor"}}
		members = append(members, v)
		go v.visit()
	}
	world.publish(kills, sessions.RenewWithin-5*time.Second) // not by running out
	world.checkShared(members, kills == 0 && !visitors)
	world.end()
}

// visit has the client join the share for a while again and again, with a session that ends with its connection.
func (s *subscriber) visit() {
	for s.open(clean) {
		s.known = false
		s.send(&mqttcodec.Subscribe{PacketID: 1, Requests: []mqttcodec.SubscriptionRequest{
			{Filter: "$share/g/t/#", Options: mqttcodec.SubscriptionOptions{QoS: 1}},
		}})
		leave := time.AfterFunc(s.world.chance.upTo(500*time.Millisecond), func() { _ = s.socket.Close() })
		for packet := range s.packets {
			if p, ok := packet.(*mqttcodec.Publish); ok && s.world.chance.below(3) > 0 {
				s.take(p)
			}
		}
		leave.Stop()
		elapse(s.world.chance.upTo(500 * time.Millisecond))
	}
}

// checkShared holds what the members got against the log. alone: no message may have come to two of them.
func (c *crashes) checkShared(members []*subscriber, alone bool) {
	holders := map[string][]string{}
	for _, m := range members {
		m.mu.Lock()
		for _, payload := range m.got {
			if !slices.Contains(holders[payload], m.id) {
				holders[payload] = append(holders[payload], m.id)
			}
		}
		m.mu.Unlock()
	}
	times := map[string]int{} // more than once where a publisher had to repeat itself at QoS 1
	for _, e := range c.broker.Load().storage.Entries() {
		times[string(e.Message.Payload)]++
	}
	if len(times) != 120 {
		c.t.Errorf("%d of 120 messages are in the log", len(times))
	}
	for payload, n := range times {
		if got := len(holders[payload]); got == 0 || alone && got > n {
			c.t.Errorf("%q, %d times in the log, came to %q", payload, n, holders[payload])
		}
	}
}
