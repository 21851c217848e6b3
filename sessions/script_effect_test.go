package sessions

import (
	"fmt"
	"strings"
	"time"

	"dunlin/mqttcodec"
)

// show prints an effect.
func (sc *script) show(e Effect) string {
	switch e := e.(type) {
	case Send:
		text := showPacket(sc.versions[e.Connection], e.Packet)
		if err := sent(sc.versions[e.Connection], e.Packet); err != nil {
			sc.t.Errorf("%s: %v", text, err)
		}
		return "send " + text + sc.ofOld(e.Connection)
	case Refuse:
		return "refuse" + hex(" reason", e.Reason) + showErr(e.Err) + sc.ofOld(e.Connection)
	case ConnectAgain:
		return fmt.Sprintf("connect-again held=%d%s%s", len(e.Held), showErr(e.Err), sc.ofOld(e.Connection))
	case Close:
		return "close" + hex(" reason", e.Reason) + showErr(e.Err) + sc.ofOld(e.Connection)
	case Authenticate:
		text := "authenticate"
		if e.Begin {
			text += " begin"
		}
		return text + optional(" data", string(e.Data)) + sc.ofOld(e.Connection)
	case Persist:
		text := fmt.Sprintf("persist token=%d%s ", e.Token, optional(" message-id", e.ID))
		if e.Delay > 0 {
			text += fmt.Sprintf("delay=%v ", e.Delay)
		}
		return text + showMessage(e.Message)
	case Route:
		return "route " + showMessage(e.Message)
	case Answer:
		return fmt.Sprintf("answer token=%s %s", e.Token, showMessage(e.Message))
	case Ask:
		return fmt.Sprintf("ask id=%s %s", e.ID, showMessage(e.Message))
	case SaveRecord:
		return "save-record " + showUrgency(e.Urgency) + showRecord(e.Data, sc.now)
	case SaveJournal:
		return "save-journal " + showUrgency(e.Urgency) + showJournal(e.Data)
	case RequestJournalTurn:
		return "request-journal-turn"
	case Discard:
		return "discard"
	case Subscribe:
		text := fmt.Sprintf("subscribe %v want-retained=%v", e.Filters, e.WantRetained)
		return text + showShares(" shares", e.Shares)
	case ReadRetained:
		return fmt.Sprintf("read-retained %s%s max=%d", e.Filter, optional(" after", e.After), e.Max)
	case Attach:
		return strings.TrimSpace("attach "+strings.Join(e.Filters, " ")) + showShares(" shares", e.Shares)
	case Unsubscribe:
		return fmt.Sprintf("unsubscribe %v", e.Filters) + showShares(" shares", e.Shares)
	case LeaveShares:
		return "leave" + showShares(" shares", e.Shares)
	case ShareRoom:
		return fmt.Sprintf("share-room %d", e.Room)
	case Settle:
		return fmt.Sprintf("settle %s %d", e.Share, e.Sequence)
	case GiveBack:
		text := "give-back " + e.Share
		for _, entry := range e.Entries {
			text += fmt.Sprintf(" %d", entry.Sequence)
			if entry.Message == nil {
				text += "(unread)"
			}
		}
		return text + optional(" why", string(e.Why))
	case FindReplays:
		text := "find-replays"
		for _, r := range e.Starts {
			text += " " + r.Topics
			switch {
			case r.Sequence > 0:
				text += fmt.Sprintf(" from=%d", r.Sequence)
			case !r.Time.IsZero():
				text += fmt.Sprintf(" from=%v", r.Time.Sub(sc.now))
			}
		}
		return text
	case ReadReplay:
		return fmt.Sprintf("read-replay %s after=%d max=%d", e.Filter, e.After.Sequence, e.Max)
	case EndReplay:
		return "end-replay " + e.Filter
	case Join:
		return "join"
	case Fetch:
		text := fmt.Sprintf("fetch after=%d max=%d", e.After.Sequence, e.Max)
		if e.Durable {
			text += " durable"
		}
		return text
	case Leave:
		return "leave"
	case Load:
		text := fmt.Sprintf("load %v", e.Sequences)
		if len(e.Retained) > 0 {
			text += fmt.Sprintf(" retained=%v", e.Retained)
		}
		if len(e.Foreign) > 0 {
			text += fmt.Sprintf(" foreign=%v", e.Foreign)
		}
		return text
	case SetTimer:
		if e.At.IsZero() {
			return "timer " + timerNames[e.Timer] + " off"
		}
		return fmt.Sprintf("timer %s in %v", timerNames[e.Timer], e.At.Sub(sc.now))
	case Drop:
		return fmt.Sprintf("drop %d %s", e.Count, e.Reason)
	case Expired:
		return "expired" + optional(" principal", e.Principal)
	}
	return fmt.Sprintf("unknown effect %T", e)
}

func showShares(name string, shares []string) string {
	if len(shares) == 0 {
		return ""
	}
	return fmt.Sprintf("%s=%v", name, shares)
}

// ofOld marks what goes to another connection than the script's last.
func (sc *script) ofOld(c ConnectionID) string {
	if c == sc.connection {
		return ""
	}
	return fmt.Sprintf(" connection=%d", c)
}

func showPacket(v mqttcodec.Version, p mqttcodec.Packet) string {
	switch p := p.(type) {
	case *mqttcodec.Publish:
		return showPublish(p)
	case *mqttcodec.Connack:
		return showConnack(v, p)
	case *mqttcodec.Puback:
		return fmt.Sprintf("PUBACK id=%d%s", p.PacketID, hex(" reason", p.Reason))
	case *mqttcodec.Pubrec:
		return fmt.Sprintf("PUBREC id=%d%s", p.PacketID, hex(" reason", p.Reason))
	case *mqttcodec.Pubrel:
		return fmt.Sprintf("PUBREL id=%d%s", p.PacketID, hex(" reason", p.Reason))
	case *mqttcodec.Pubcomp:
		return fmt.Sprintf("PUBCOMP id=%d%s", p.PacketID, hex(" reason", p.Reason))
	case *mqttcodec.Suback:
		return fmt.Sprintf("SUBACK id=%d reasons=%s", p.PacketID, showReasons(p.Reasons))
	case *mqttcodec.Unsuback:
		return fmt.Sprintf("UNSUBACK id=%d reasons=%s", p.PacketID, showReasons(p.Reasons))
	case *mqttcodec.Disconnect:
		return "DISCONNECT" + hex(" reason", p.Reason) + optional(" reference", p.ServerReference)
	case *mqttcodec.Auth:
		return "AUTH" + hex(" reason", p.Reason) + optional(" method", p.AuthenticationMethod.Value) + optional(" data", string(p.AuthenticationData))
	}
	return p.Type().String()
}

func showConnack(v mqttcodec.Version, p *mqttcodec.Connack) string {
	text := fmt.Sprintf("CONNACK session-present=%v%s", p.SessionPresent, hex(" reason", p.Reason))
	if p.Reason.Failed() || v != mqttcodec.V5 {
		return text
	}
	q := p.Properties
	if q.SessionExpirySeconds.Present {
		text += fmt.Sprintf(" expiry=%d", q.SessionExpirySeconds.Value)
	}
	text += optional(" assigned", q.AssignedClientID)
	text += optional(" method", q.AuthenticationMethod.Value) + optional(" data", string(q.AuthenticationData))
	if q.ServerKeepAliveSeconds.Present {
		text += fmt.Sprintf(" keep-alive=%d", q.ServerKeepAliveSeconds.Value)
	}
	if def := DefaultConfig(""); q.ReceiveMaximum != def.ReceiveMaximum || q.MaximumPacketSize != def.MaxPacketSize {
		text += fmt.Sprintf(" receive-maximum=%d max-packet=%d", q.ReceiveMaximum, q.MaximumPacketSize)
	}
	if q.TopicAliasMaximum != DefaultConfig("").TopicAliasMaximum {
		text += fmt.Sprintf(" topic-alias-maximum=%d", q.TopicAliasMaximum)
	}
	return text
}

func showPublish(p *mqttcodec.Publish) string {
	var b strings.Builder
	b.WriteString("PUBLISH")
	if p.QoS > 0 {
		fmt.Fprintf(&b, " id=%d qos=%d dup=%v", p.PacketID, p.QoS, p.Duplicate)
	} else {
		b.WriteString(" qos=0")
	}
	b.WriteString(" topic=" + p.Topic + optional(" payload", string(p.Payload)))
	if p.Retain {
		b.WriteString(" retain")
	}
	if len(p.SubscriptionIdentifiers) > 0 {
		fmt.Fprintf(&b, " identifiers=%v", p.SubscriptionIdentifiers)
	}
	b.WriteString(showProperties(&p.Properties))
	return b.String()
}

func showMessage(m *Message) string {
	text := fmt.Sprintf("topic=%s qos=%d%s", m.Topic, m.QoS, optional(" payload", string(m.Payload)))
	if m.Retain {
		text += " retain"
	}
	return text + optional(" publisher", m.Publisher) + showProperties(&m.Properties)
}

func showProperties(p *mqttcodec.MessageProperties) (text string) {
	if p.MessageExpirySeconds.Present {
		text += fmt.Sprintf(" message-expiry=%d", p.MessageExpirySeconds.Value)
	}
	if p.ContentType.Present {
		text += " content-type=" + p.ContentType.Value
	}
	text += optional(" response-topic", p.ResponseTopic)
	for _, u := range p.UserProperties {
		text += fmt.Sprintf(" %s=%s", u.Key, u.Value)
	}
	return text
}

func showReasons(reasons []mqttcodec.ReasonCode) string {
	list := make([]string, len(reasons))
	for i, r := range reasons {
		list[i] = fmt.Sprintf("%#02x", byte(r))
	}
	return "[" + strings.Join(list, " ") + "]"
}

func hex(name string, reason mqttcodec.ReasonCode) string {
	if reason == 0 {
		return ""
	}
	return fmt.Sprintf("%s=%#02x", name, byte(reason))
}

func optional(name, value string) string {
	if value == "" {
		return ""
	}
	return name + "=" + value
}

func showErr(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf(" err=%q", err)
}

var stateNames = map[state]string{
	stateAbsent: "absent", stateConnecting: "connecting", stateConnected: "connected", stateDetached: "detached",
	stateEnding: "ending", stateFenced: "fenced",
}

var modeNames = map[mode]string{modeParked: "parked", modeCatchingUp: "catching-up", modeLive: "live"}

// showState prints where the session is.
func (sc *script) showState() string {
	s := sc.s
	text := fmt.Sprintf("%s %s position=%d", stateNames[s.state], modeNames[s.mode], s.position().Sequence)
	for i := range s.inflight {
		o := &s.inflight[i]
		text += fmt.Sprintf(" outbound %d@%d:%s", o.packetID, o.entry.Sequence, outboundStateNames[o.state])
	}
	for _, id := range s.inboundIDs() {
		text += fmt.Sprintf(" inbound %d/%d", id, s.inbound[id].generation)
	}
	if n := len(s.backlog); n > 0 {
		text += fmt.Sprintf(" backlog=%d", n)
	}
	if s.will != nil {
		text += " will=" + s.will.Topic
	}
	if at := s.Deadline(); !at.IsZero() {
		text += fmt.Sprintf(" deadline=%v", at.Sub(sc.now).Round(time.Millisecond))
	}
	if s.Settled() < s.lastToken {
		text += fmt.Sprintf(" settled=%d/%d", s.Settled(), s.lastToken)
	}
	if s.Quiet() {
		text += " quiet"
	}
	return text
}

func showUrgency(u Urgency) string {
	if u == Soon {
		return "soon "
	}
	return ""
}
