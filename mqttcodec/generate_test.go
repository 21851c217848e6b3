package mqttcodec

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// eachKind checks a property of packets for each kind of packet that has a form in v. The packets drawn hold nothing that
// v would leave out, so that they come back equal.
func eachKind(t *testing.T, v Version, check func(*rapid.T, Packet)) {
	t.Helper()
	kinds := map[string]func(*rapid.T, Version) Packet{
		"connect": anyConnect, "connack": anyConnack, "publish": anyPublish, "ack": anyAck, "subscribe": anySubscribe, "suback": anySuback,
		"unsubscribe": anyUnsubscribe, "unsuback": anyUnsuback, "ping": anyPing, "disconnect": anyDisconnect,
	}
	if v == V5 {
		kinds["auth"] = anyAuth
	}
	for name, draw := range kinds {
		t.Run(fmt.Sprint(name, " ", v), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { check(t, draw(t, v)) })
		})
	}
}

func anyText(t *rapid.T, what string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(rapid.String().Draw(t, what), ""), "\x00", "0")
}

func anyTopic(t *rapid.T) string {
	return "t" + strings.NewReplacer("+", "p", "#", "h").Replace(anyText(t, "topic"))
}

func anyFilter(t *rapid.T) string {
	return rapid.SampledFrom([]string{"#", "+/", "$share/g/", "/", "a/"}).Draw(t, "prefix") + anyTopic(t)
}

func anyBytes(t *rapid.T, what string) []byte {
	return rapid.SliceOf(rapid.Byte()).Draw(t, what)
}

func flip(t *rapid.T, what string) bool { return rapid.Bool().Draw(t, what) }

// maybe is a value that is its zero value half of the time.
func maybe[T any](t *rapid.T, draw func(*rapid.T, string) T, what string) (zero T) {
	if flip(t, what+"?") {
		return draw(t, what)
	}
	return zero
}

func drawn[T any](g *rapid.Generator[T]) func(*rapid.T, string) T {
	return func(t *rapid.T, what string) T { return g.Draw(t, what) }
}

func option[T any](t *rapid.T, g *rapid.Generator[T], what string) Optional[T] {
	return maybe(t, func(t *rapid.T, what string) Optional[T] { return Some(g.Draw(t, what)) }, what)
}

func textOption(t *rapid.T, what string) Optional[string] {
	return maybe(t, func(t *rapid.T, what string) Optional[string] { return Some(anyText(t, what)) }, what)
}

var bit = rapid.ByteRange(0, 1)

func anyID(t *rapid.T) uint16 { return rapid.Uint16Min(1).Draw(t, "packet identifier") }

func anyUsers(t *rapid.T) (list []UserProperty) {
	for range rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "user properties") {
		list = append(list, UserProperty{Key: anyText(t, "key"), Value: anyText(t, "value")})
	}
	return list
}

func anyMessage(t *rapid.T) MessageProperties {
	m := MessageProperties{
		PayloadFormat:        option(t, bit, "payload format"),
		MessageExpirySeconds: option(t, rapid.Uint32(), "message expiry"),
		ContentType:          textOption(t, "content type"),
		CorrelationData:      maybe(t, anyBytes, "correlation data"),
		UserProperties:       anyUsers(t),
	}
	if flip(t, "response topic?") {
		m.ResponseTopic = anyTopic(t)
	}
	return m
}

func anyConnect(t *rapid.T, v Version) Packet {
	p := &Connect{
		Version: v, CleanStart: flip(t, "clean start"), KeepAliveSeconds: rapid.Uint16().Draw(t, "keep alive"),
		ClientID: anyText(t, "client identifier"), Username: textOption(t, "user name"),
	}
	if p.Username.Present || v == V5 {
		p.Password = maybe(t, anyBytes, "password")
	}
	if flip(t, "will?") {
		p.Will = &Will{
			Topic: anyTopic(t), Payload: anyBytes(t, "will payload"), QoS: QoS(rapid.IntRange(0, 2).Draw(t, "will QoS")), Retain: flip(t, "will retain"),
		}
	}
	if v != V5 {
		return p
	}
	if p.Will != nil {
		p.Will.DelaySeconds = rapid.Uint32().Draw(t, "will delay")
		p.Will.Properties = anyMessage(t)
	}
	p.Properties = ConnectProperties{
		SessionExpirySeconds:       option(t, rapid.Uint32(), "session expiry"),
		ReceiveMaximum:             maybe(t, drawn(rapid.Uint16()), "receive maximum"),
		MaximumPacketSize:          maybe(t, drawn(rapid.Uint32()), "maximum packet size"),
		TopicAliasMaximum:          maybe(t, drawn(rapid.Uint16()), "topic alias maximum"),
		RequestResponseInformation: flip(t, "request response information"),
		RequestProblemInformation:  option(t, rapid.Bool(), "request problem information"),
		UserProperties:             anyUsers(t),
		AuthenticationMethod:       textOption(t, "authentication method"),
	}
	if p.Properties.AuthenticationMethod.Present {
		p.Properties.AuthenticationData = maybe(t, anyBytes, "authentication data")
	}
	return p
}

func anyConnack(t *rapid.T, v Version) Packet {
	if v != V5 {
		p := &Connack{Reason: rapid.SampledFrom(returnCodes[:]).Draw(t, "reason")}
		p.SessionPresent = v == V311 && p.Reason == Success && flip(t, "session present")
		return p
	}
	p := &Connack{
		Reason: anyReason(t, TypeConnack),
		Properties: ConnackProperties{
			SessionExpirySeconds:            option(t, rapid.Uint32(), "session expiry"),
			ReceiveMaximum:                  maybe(t, drawn(rapid.Uint16()), "receive maximum"),
			MaximumQoS:                      option(t, bit, "maximum QoS"),
			RetainAvailable:                 option(t, rapid.Bool(), "retain available"),
			MaximumPacketSize:               maybe(t, drawn(rapid.Uint32()), "maximum packet size"),
			AssignedClientID:                anyText(t, "assigned client identifier"),
			TopicAliasMaximum:               maybe(t, drawn(rapid.Uint16()), "topic alias maximum"),
			ReasonString:                    anyText(t, "reason string"),
			UserProperties:                  anyUsers(t),
			WildcardSubscriptionAvailable:   option(t, rapid.Bool(), "wildcards"),
			SubscriptionIdentifierAvailable: option(t, rapid.Bool(), "identifiers"),
			SharedSubscriptionAvailable:     option(t, rapid.Bool(), "shared"),
			ServerKeepAliveSeconds:          option(t, rapid.Uint16(), "keep alive"),
			ResponseInformation:             textOption(t, "response information"),
			ServerReference:                 anyText(t, "server reference"),
			AuthenticationMethod:            textOption(t, "authentication method"),
			AuthenticationData:              maybe(t, anyBytes, "authentication data"),
		},
	}
	p.SessionPresent = p.Reason == Success && flip(t, "session present")
	return p
}

func anyPublish(t *rapid.T, v Version) Packet {
	p := &Publish{
		QoS: QoS(rapid.IntRange(0, 2).Draw(t, "QoS")), Retain: flip(t, "retain"), Topic: anyTopic(t), Payload: anyBytes(t, "payload"),
	}
	if p.QoS > 0 {
		p.PacketID, p.Duplicate = anyID(t), flip(t, "duplicate")
	}
	if v != V5 || flip(t, "no properties") {
		return p
	}
	p.Properties = anyMessage(t)
	p.TopicAlias = rapid.Uint16().Draw(t, "topic alias")
	for range rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "subscription identifiers") {
		p.SubscriptionIdentifiers = append(p.SubscriptionIdentifiers, rapid.Uint32Range(1, maxVarint).Draw(t, "subscription identifier"))
	}
	if p.TopicAlias != 0 && flip(t, "no topic") {
		p.Topic = ""
	}
	return p
}

// anyReason draws from the codes that packet t may carry in 5.0.
func anyReason(t *rapid.T, of PacketType) ReasonCode {
	var codes []ReasonCode
	for c := range 256 {
		if reasonCodes[of].has(ReasonCode(c)) {
			codes = append(codes, ReasonCode(c))
		}
	}
	return rapid.SampledFrom(codes).Draw(t, "reason")
}

func anyAckProperties(t *rapid.T, v Version) AckProperties {
	if v != V5 {
		return AckProperties{}
	}
	return AckProperties{ReasonString: anyText(t, "reason string"), UserProperties: anyUsers(t)}
}

func anyAck(t *rapid.T, v Version) Packet {
	kind := rapid.SampledFrom([]PacketType{TypePuback, TypePubrec, TypePubrel, TypePubcomp}).Draw(t, "ack")
	id, properties, reason := anyID(t), anyAckProperties(t, v), Success
	if v == V5 {
		reason = anyReason(t, kind)
	}
	switch kind {
	case TypePuback:
		return &Puback{id, reason, properties}
	case TypePubrec:
		return &Pubrec{id, reason, properties}
	case TypePubrel:
		return &Pubrel{id, reason, properties}
	default:
		return &Pubcomp{id, reason, properties}
	}
}

func anySubscribe(t *rapid.T, v Version) Packet {
	p := &Subscribe{PacketID: anyID(t)}
	for range rapid.IntRange(1, 4).Draw(t, "filters") {
		r := SubscriptionRequest{Filter: anyFilter(t), Options: SubscriptionOptions{QoS: QoS(rapid.IntRange(0, 2).Draw(t, "QoS"))}}
		if v == V5 {
			r.Options.NoLocal = !strings.HasPrefix(r.Filter, "$share/") && flip(t, "no local")
			r.Options.RetainAsPublished = flip(t, "retain as published")
			r.Options.RetainHandling = RetainHandling(rapid.IntRange(0, 2).Draw(t, "retain handling"))
		}
		p.Requests = append(p.Requests, r)
	}
	if v == V5 {
		p.UserProperties = anyUsers(t)
		p.SubscriptionIdentifier = rapid.Uint32Range(0, maxVarint).Draw(t, "subscription identifier")
	}
	return p
}

func anySuback(t *rapid.T, v Version) Packet {
	p := &Suback{PacketID: anyID(t), Properties: anyAckProperties(t, v)}
	for range rapid.IntRange(1, 4).Draw(t, "filters") {
		reason := anyReason(t, TypeSuback)
		if v == V31 && reason.Failed() || v == V311 && reason.Failed() && reason != UnspecifiedError {
			reason = GrantedQoS1
		}
		p.Reasons = append(p.Reasons, reason)
	}
	return p
}

func anyUnsubscribe(t *rapid.T, v Version) Packet {
	p := &Unsubscribe{PacketID: anyID(t)}
	for range rapid.IntRange(1, 4).Draw(t, "filters") {
		p.Filters = append(p.Filters, anyFilter(t))
	}
	if v == V5 {
		p.UserProperties = anyUsers(t)
	}
	return p
}

func anyUnsuback(t *rapid.T, v Version) Packet {
	p := &Unsuback{PacketID: anyID(t), Properties: anyAckProperties(t, v)}
	for range rapid.IntRange(1, 4).Draw(t, "filters") {
		if v == V5 {
			p.Reasons = append(p.Reasons, anyReason(t, TypeUnsuback))
		}
	}
	return p
}

func anyPing(t *rapid.T, _ Version) Packet {
	return rapid.SampledFrom([]Packet{&Pingreq{}, &Pingresp{}}).Draw(t, "ping")
}

func anyDisconnect(t *rapid.T, v Version) Packet {
	if v != V5 {
		return &Disconnect{}
	}
	return &Disconnect{
		Reason: anyReason(t, TypeDisconnect), SessionExpirySeconds: option(t, rapid.Uint32(), "session expiry"),
		ReasonString: anyText(t, "reason string"), UserProperties: anyUsers(t), ServerReference: anyText(t, "server reference"),
	}
}

func anyAuth(t *rapid.T, _ Version) Packet {
	p := &Auth{Reason: anyReason(t, TypeAuth), ReasonString: anyText(t, "reason string"), UserProperties: anyUsers(t)}
	if p.Reason != Success || flip(t, "method?") {
		p.AuthenticationMethod = Some(anyText(t, "authentication method"))
		p.AuthenticationData = maybe(t, anyBytes, "authentication data")
	}
	return p
}
