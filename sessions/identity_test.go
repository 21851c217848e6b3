package sessions

import (
	"slices"

	"dunlin/mqttcodec"
)

// denied is permissions with exceptions, which may change while they are in use.
type denied struct {
	publish, receive []string // filters
	retain           []string // filters: nothing retained there
	subscribe        []string
}

func matchesAny(filters []string, topic string) bool {
	return slices.ContainsFunc(filters, func(f string) bool { return mqttcodec.MatchTopic(f, topic) })
}

// MayPublish implements Permissions.
func (d *denied) MayPublish(topic string, _ mqttcodec.QoS, retain bool) bool {
	return !matchesAny(d.publish, topic) && !(retain && matchesAny(d.retain, topic))
}

// MaySubscribe implements Permissions.
func (d *denied) MaySubscribe(filter string, _ mqttcodec.QoS) bool {
	return !slices.Contains(d.subscribe, filter)
}

// MayReceive implements Permissions.
func (d *denied) MayReceive(topic string) bool { return !matchesAny(d.receive, topic) }

// deny is the command that says what clients with permissions may not do from now on, connected or not.
func (sc *script) deny(a args) {
	*sc.denied = denied{
		publish: a.texts("publish"), retain: a.texts("retain"), receive: a.texts("receive"), subscribe: a.texts("subscribe"),
	}
}

// identity is who the client of a connect command is: its principal, and whether its permissions are limited.
func (sc *script) identity(a args) Identity {
	who := Identity{Principal: a.text("principal", "")}
	if a.has("limited") {
		who.Permissions = sc.denied
	}
	return who
}
