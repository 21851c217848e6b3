package actors

import (
	"strings"

	"dunlin/mqttcodec"
)

// inboundAliases are the topics that the client's topic aliases stand for. They end with the connection. [MQTT-3.3.2-7]
// Owned by its reader: what goes to the session has its topic and no alias.
type inboundAliases struct {
	// topics is nil until the first alias comes; at most our Topic Alias Maximum long.
	topics map[uint16]string
}

// resolve replaces the alias of a PUBLISH by its topic, or notes the topic that it brings: whatever becomes of the
// message then, the alias is set. maximum is our Topic Alias Maximum; every alias up to it is taken. [MQTT-3.3.2-12]
func (a *inboundAliases) resolve(p *mqttcodec.Publish, maximum uint16) error {
	alias := p.TopicAlias
	if alias > maximum {
		return &mqttcodec.ProtocolError{Reason: mqttcodec.TopicAliasInvalid, Clause: "MQTT-3.3.2-9", Detail: "topic alias above our Topic Alias Maximum"}
	}
	p.TopicAlias = 0
	topic, known := a.topics[alias]
	switch {
	case p.Topic == "" && !known: // (3.3.4)
		return &mqttcodec.ProtocolError{Reason: mqttcodec.ProtocolErrorReason, Detail: "topic alias was not set on this connection"}
	case p.Topic == "":
		p.Topic = topic
	case p.Topic != topic:
		if a.topics == nil {
			a.topics = make(map[uint16]string)
		}
		a.topics[alias] = strings.Clone(p.Topic) // it outlives the frames that were read with it
	}
	return nil
}

// outboundAliases are the topic aliases that we have set at the client. They end with the connection. [MQTT-3.3.2-7]
// The limits are set by the reader before CONNECT goes to a session; the rest is owned by the connection actor.
type outboundAliases struct {
	// maximum is how many there may be: as many as the client takes, and not more than we do. 0: none.
	// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
	maximum uint16
	// maxPacket is the client's Maximum Packet Size, 0 when it has none.
	maxPacket uint32
	// numbers is nil until the first alias is set. The first topics keep theirs: there is no eviction.
	numbers map[string]uint16
}

// aliasCost is what an alias may add to a packet: 3 bytes for the property, one where Property Length gets longer. Shorter
// topics get no alias, so that an empty topic with an alias is never larger than what the session found to fit.
const aliasCost = 4

// shorten gives a PUBLISH the alias of its topic, in place of the topic if the client knows it. The client knows it from
// the packet that brings both, so nothing may keep that packet from the wire.
func (a *outboundAliases) shorten(p *mqttcodec.Publish) {
	if len(p.Topic) < aliasCost {
		return
	}
	if alias, known := a.numbers[p.Topic]; known {
		p.Topic, p.TopicAlias = "", alias
		return
	}
	if len(a.numbers) >= int(a.maximum) {
		return
	}
	p.TopicAlias = uint16(len(a.numbers) + 1)
	n, err := mqttcodec.Size(mqttcodec.V5, p)
	if err != nil || a.maxPacket > 0 && n > int(a.maxPacket) { // [MQTT-3.1.2-24]
		p.TopicAlias = 0
		return
	}
	if a.numbers == nil {
		a.numbers = make(map[string]uint16)
	}
	a.numbers[strings.Clone(p.Topic)] = p.TopicAlias // it outlives the message
}
