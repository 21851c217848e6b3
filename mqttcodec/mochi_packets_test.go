package mqttcodec

import mochi "github.com/mochi-mqtt/server/v2/packets"

// fromMochi is a packet of mochi's in our terms.
func fromMochi(p *mochi.Packet) Packet {
	id, reason, of := p.PacketID, ReasonCode(p.ReasonCode), &p.Properties
	ack := AckProperties{ReasonString: of.ReasonString, UserProperties: mochiUsers(of.User)}
	switch p.FixedHeader.Type {
	case mochi.Connect:
		return mochiConnect(p)
	case mochi.Connack:
		return mochiConnack(p)
	case mochi.Publish:
		return &Publish{
			Duplicate: p.FixedHeader.Dup, QoS: QoS(p.FixedHeader.Qos), Retain: p.FixedHeader.Retain, PacketID: id, Topic: p.TopicName,
			Payload: p.Payload, Properties: mochiMessage(of), TopicAlias: of.TopicAlias, SubscriptionIdentifiers: mochiIdentifiers(of),
		}
	case mochi.Puback:
		return &Puback{id, reason, ack}
	case mochi.Pubrec:
		return &Pubrec{id, reason, ack}
	case mochi.Pubrel:
		return &Pubrel{id, reason, ack}
	case mochi.Pubcomp:
		return &Pubcomp{id, reason, ack}
	case mochi.Subscribe:
		return mochiSubscribe(p)
	case mochi.Suback:
		return &Suback{id, mochiReasons(p.ReasonCodes), ack}
	case mochi.Unsubscribe:
		u := &Unsubscribe{PacketID: id, UserProperties: ack.UserProperties}
		for _, f := range p.Filters {
			u.Filters = append(u.Filters, f.Filter)
		}
		return u
	case mochi.Unsuback:
		return &Unsuback{id, mochiReasons(p.ReasonCodes), ack}
	case mochi.Pingreq:
		return &Pingreq{}
	case mochi.Pingresp:
		return &Pingresp{}
	case mochi.Disconnect:
		return &Disconnect{
			Reason: reason, SessionExpirySeconds: optionalIf(of.SessionExpiryIntervalFlag, of.SessionExpiryInterval),
			ReasonString: ack.ReasonString, UserProperties: ack.UserProperties, ServerReference: of.ServerReference,
		}
	case mochi.Auth:
		return &Auth{
			Reason: reason, AuthenticationMethod: optionalIf(of.AuthenticationMethod != "", of.AuthenticationMethod),
			AuthenticationData: of.AuthenticationData, ReasonString: ack.ReasonString, UserProperties: ack.UserProperties,
		}
	}
	panic("unknown packet")
}

func mochiConnect(p *mochi.Packet) *Connect {
	of, c := &p.Properties, &p.Connect
	connect := &Connect{
		Version: Version(p.ProtocolVersion), CleanStart: c.Clean, KeepAliveSeconds: c.Keepalive, ClientID: c.ClientIdentifier,
		Username: optionalIf(c.UsernameFlag, string(c.Username)), Password: c.Password,
		Properties: ConnectProperties{
			SessionExpirySeconds: optionalIf(of.SessionExpiryIntervalFlag, of.SessionExpiryInterval), ReceiveMaximum: of.ReceiveMaximum,
			MaximumPacketSize: of.MaximumPacketSize, TopicAliasMaximum: of.TopicAliasMaximum,
			RequestResponseInformation: of.RequestResponseInfo == 1,
			RequestProblemInformation:  optionalIf(of.RequestProblemInfoFlag, of.RequestProblemInfo == 1), UserProperties: mochiUsers(of.User),
			AuthenticationMethod: optionalIf(of.AuthenticationMethod != "", of.AuthenticationMethod), AuthenticationData: of.AuthenticationData,
		},
	}
	if c.WillFlag {
		connect.Will = &Will{
			Topic: c.WillTopic, Payload: c.WillPayload, QoS: QoS(c.WillQos), Retain: c.WillRetain,
			DelaySeconds: c.WillProperties.WillDelayInterval, Properties: mochiMessage(&c.WillProperties),
		}
	}
	return connect
}

func mochiConnack(p *mochi.Packet) *Connack {
	of := &p.Properties
	reason := ReasonCode(p.ReasonCode)
	if p.ProtocolVersion < byte(V5) && int(reason) < len(returnCodes) {
		reason = returnCodes[reason]
	}
	return &Connack{SessionPresent: p.SessionPresent, Reason: reason, Properties: ConnackProperties{
		SessionExpirySeconds: optionalIf(of.SessionExpiryIntervalFlag, of.SessionExpiryInterval), ReceiveMaximum: of.ReceiveMaximum,
		MaximumQoS: optionalIf(of.MaximumQosFlag, of.MaximumQos), RetainAvailable: optionalIf(of.RetainAvailableFlag, of.RetainAvailable == 1),
		MaximumPacketSize: of.MaximumPacketSize, AssignedClientID: of.AssignedClientID, TopicAliasMaximum: of.TopicAliasMaximum,
		ReasonString: of.ReasonString, UserProperties: mochiUsers(of.User),
		WildcardSubscriptionAvailable:   optionalIf(of.WildcardSubAvailableFlag, of.WildcardSubAvailable == 1),
		SubscriptionIdentifierAvailable: optionalIf(of.SubIDAvailableFlag, of.SubIDAvailable == 1),
		SharedSubscriptionAvailable:     optionalIf(of.SharedSubAvailableFlag, of.SharedSubAvailable == 1),
		ServerKeepAliveSeconds:          optionalIf(of.ServerKeepAliveFlag, of.ServerKeepAlive),
		ResponseInformation:             optionalIf(of.ResponseInfo != "", of.ResponseInfo), ServerReference: of.ServerReference,
		AuthenticationMethod: optionalIf(of.AuthenticationMethod != "", of.AuthenticationMethod), AuthenticationData: of.AuthenticationData,
	}}
}

func mochiSubscribe(p *mochi.Packet) *Subscribe {
	s := &Subscribe{PacketID: p.PacketID, UserProperties: mochiUsers(p.Properties.User)}
	for _, id := range mochiIdentifiers(&p.Properties) {
		s.SubscriptionIdentifier = id
	}
	for _, f := range p.Filters {
		s.Requests = append(s.Requests, SubscriptionRequest{Filter: f.Filter, Options: SubscriptionOptions{
			QoS: QoS(f.Qos), NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: RetainHandling(f.RetainHandling),
		}})
	}
	return s
}

func mochiMessage(of *mochi.Properties) MessageProperties {
	return MessageProperties{
		PayloadFormat:        optionalIf(of.PayloadFormatFlag, of.PayloadFormat),
		MessageExpirySeconds: optionalIf(of.MessageExpiryInterval != 0, of.MessageExpiryInterval),
		ContentType:          optionalIf(of.ContentType != "", of.ContentType), ResponseTopic: of.ResponseTopic,
		CorrelationData: of.CorrelationData, UserProperties: mochiUsers(of.User),
	}
}

func mochiUsers(list []mochi.UserProperty) (users []UserProperty) {
	for _, u := range list {
		users = append(users, UserProperty{Key: u.Key, Value: u.Val})
	}
	return users
}

func mochiIdentifiers(of *mochi.Properties) (list []uint32) {
	for _, id := range of.SubscriptionIdentifier {
		list = append(list, uint32(id))
	}
	return list
}

func mochiReasons(b []byte) (reasons []ReasonCode) {
	for _, code := range b {
		reasons = append(reasons, ReasonCode(code))
	}
	return reasons
}

func optionalIf[T any](present bool, v T) Optional[T] {
	if !present {
		return Optional[T]{}
	}
	return Some(v)
}
