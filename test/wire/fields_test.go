package wire

import (
	"fmt"
	"strconv"
	"strings"

	"dunlin/mqttcodec"
)

// field is a named part of a packet: ref points to it.
type field struct {
	name string
	ref  any
}

// fieldsOf are the parts of a packet, by the names that scripts have for them.
func fieldsOf(p mqttcodec.Packet) []field {
	switch p := p.(type) {
	case *mqttcodec.Connect:
		return connectFields(p)
	case *mqttcodec.Connack:
		return connackFields(p)
	case *mqttcodec.Publish:
		return append([]field{
			{"id", &p.PacketID},
			{"qos", &p.QoS},
			{"dup", &p.Duplicate},
			{"retain", &p.Retain},
			{"topic", &p.Topic},
			{"payload", &p.Payload},
			{"topic-alias", &p.TopicAlias},
			{"identifiers", &p.SubscriptionIdentifiers},
		}, messageFields("", &p.Properties)...)
	case *mqttcodec.Puback:
		return ackFields(&p.PacketID, &p.Reason, &p.Properties)
	case *mqttcodec.Pubrec:
		return ackFields(&p.PacketID, &p.Reason, &p.Properties)
	case *mqttcodec.Pubrel:
		return ackFields(&p.PacketID, &p.Reason, &p.Properties)
	case *mqttcodec.Pubcomp:
		return ackFields(&p.PacketID, &p.Reason, &p.Properties)
	case *mqttcodec.Subscribe:
		return []field{{"id", &p.PacketID}, {"filters", &p.Requests}, {"identifier", &p.SubscriptionIdentifier}, {"user", &p.UserProperties}}
	case *mqttcodec.Suback:
		return replyFields(&p.PacketID, &p.Reasons, &p.Properties)
	case *mqttcodec.Unsubscribe:
		return []field{{"id", &p.PacketID}, {"filters", &p.Filters}, {"user", &p.UserProperties}}
	case *mqttcodec.Unsuback:
		return replyFields(&p.PacketID, &p.Reasons, &p.Properties)
	case *mqttcodec.Disconnect:
		return []field{
			{"reason", &p.Reason},
			{"expiry", &p.SessionExpirySeconds},
			{"reason-string", &p.ReasonString},
			{"user", &p.UserProperties},
			{"server-reference", &p.ServerReference},
		}
	case *mqttcodec.Auth:
		return []field{
			{"reason", &p.Reason},
			{"auth-method", &p.AuthenticationMethod},
			{"auth-data", &p.AuthenticationData},
			{"reason-string", &p.ReasonString},
			{"user", &p.UserProperties},
		}
	}
	return nil // PINGREQ, PINGRESP
}

func connectFields(p *mqttcodec.Connect) []field {
	q := &p.Properties
	fields := []field{
		{"v", &p.Version},
		{"id", &p.ClientID},
		{"clean-start", &p.CleanStart},
		{"keep-alive", &p.KeepAliveSeconds},
		{"username", &p.Username},
		{"password", &p.Password},
		{"expiry", &q.SessionExpirySeconds},
		{"receive-maximum", &q.ReceiveMaximum},
		{"max-packet", &q.MaximumPacketSize},
		{"topic-alias-maximum", &q.TopicAliasMaximum},
		{"request-response", &q.RequestResponseInformation},
		{"request-problem", &q.RequestProblemInformation},
		{"user", &q.UserProperties},
		{"auth-method", &q.AuthenticationMethod},
		{"auth-data", &q.AuthenticationData},
	}
	if w := p.Will; w != nil {
		fields = append(fields,
			field{"will-topic", &w.Topic},
			field{"will-payload", &w.Payload},
			field{"will-qos", &w.QoS},
			field{"will-retain", &w.Retain},
			field{"will-delay", &w.DelaySeconds},
		)
		fields = append(fields, messageFields("will-", &w.Properties)...)
	}
	return fields
}

func connackFields(p *mqttcodec.Connack) []field {
	q := &p.Properties
	return []field{
		{"session-present", &p.SessionPresent},
		{"reason", &p.Reason},
		{"expiry", &q.SessionExpirySeconds},
		{"receive-maximum", &q.ReceiveMaximum},
		{"maximum-qos", &q.MaximumQoS},
		{"retain-available", &q.RetainAvailable},
		{"max-packet", &q.MaximumPacketSize},
		{"assigned", &q.AssignedClientID},
		{"topic-alias-maximum", &q.TopicAliasMaximum},
		{"reason-string", &q.ReasonString},
		{"user", &q.UserProperties},
		{"wildcards-available", &q.WildcardSubscriptionAvailable},
		{"identifiers-available", &q.SubscriptionIdentifierAvailable},
		{"shared-available", &q.SharedSubscriptionAvailable},
		{"keep-alive", &q.ServerKeepAliveSeconds},
		{"response-information", &q.ResponseInformation},
		{"server-reference", &q.ServerReference},
		{"auth-method", &q.AuthenticationMethod},
		{"auth-data", &q.AuthenticationData},
	}
}

func messageFields(prefix string, p *mqttcodec.MessageProperties) []field {
	return []field{
		{prefix + "payload-format", &p.PayloadFormat},
		{prefix + "message-expiry", &p.MessageExpirySeconds},
		{prefix + "content-type", &p.ContentType},
		{prefix + "response-topic", &p.ResponseTopic},
		{prefix + "correlation", &p.CorrelationData},
		{prefix + "user", &p.UserProperties},
	}
}

func ackFields(id *uint16, reason *mqttcodec.ReasonCode, p *mqttcodec.AckProperties) []field {
	return []field{{"id", id}, {"reason", reason}, {"reason-string", &p.ReasonString}, {"user", &p.UserProperties}}
}

func replyFields(id *uint16, reasons *[]mqttcodec.ReasonCode, p *mqttcodec.AckProperties) []field {
	return []field{{"id", id}, {"reasons", reasons}, {"reason-string", &p.ReasonString}, {"user", &p.UserProperties}}
}

// value is the text of a field; present is false for what the packet does not have.
func (f field) value() (text string, present bool) {
	switch r := f.ref.(type) {
	case *string:
		return *r, *r != ""
	case *[]byte:
		return string(*r), *r != nil
	case *bool:
		return strconv.FormatBool(*r), true
	case *mqttcodec.QoS:
		return strconv.Itoa(int(*r)), true
	case *mqttcodec.ReasonCode:
		return fmt.Sprintf("%#02x", byte(*r)), true
	case *mqttcodec.Version:
		return fmt.Sprint(*r), true
	case *uint16:
		return fmt.Sprint(*r), *r != 0
	case *uint32:
		return fmt.Sprint(*r), *r != 0
	case *mqttcodec.Optional[string]:
		return r.Value, r.Present
	case *mqttcodec.Optional[bool]:
		return strconv.FormatBool(r.Value), r.Present
	case *mqttcodec.Optional[byte]:
		return fmt.Sprint(r.Value), r.Present
	case *mqttcodec.Optional[uint16]:
		return fmt.Sprint(r.Value), r.Present
	case *mqttcodec.Optional[uint32]:
		return fmt.Sprint(r.Value), r.Present
	default:
		items := f.items()
		return "(" + strings.Join(items, ", ") + ")", len(items) > 0
	}
}

// items are the texts of a field that is a list.
func (f field) items() (items []string) {
	switch r := f.ref.(type) {
	case *[]mqttcodec.ReasonCode:
		for _, reason := range *r {
			items = append(items, fmt.Sprintf("%#02x", byte(reason)))
		}
	case *[]uint32:
		for _, n := range *r {
			items = append(items, fmt.Sprint(n))
		}
	case *[]mqttcodec.UserProperty:
		for _, u := range *r {
			items = append(items, strconv.Quote(u.Key)+":"+strconv.Quote(u.Value))
		}
	case *[]string:
		for _, s := range *r {
			items = append(items, strconv.Quote(s))
		}
	case *[]mqttcodec.SubscriptionRequest:
		for _, q := range *r {
			items = append(items, fmt.Sprintf("%q:%d", q.Filter, q.Options.QoS))
		}
	}
	return items
}

// describe prints a packet in the notation of the scripts.
func describe(p mqttcodec.Packet) string {
	var b strings.Builder
	b.WriteString(p.Type().String())
	for _, f := range fieldsOf(p) {
		text, present := f.value()
		if !present {
			continue
		}
		switch f.ref.(type) {
		case *string, *[]byte, *mqttcodec.Optional[string]:
			if len(text) > 200 {
				text = fmt.Sprintf("%.200s... (%d bytes)", text, len(text))
			}
			text = strconv.Quote(text)
		}
		fmt.Fprintf(&b, " %s=%s", f.name, text)
	}
	return b.String()
}
