package sessions

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dunlin/mqttcodec"
)

// args are the arguments of a command.
type args struct {
	t    *testing.T
	cmd  string
	list []datadriven.CmdArg
	// lines is what follows the command: more of the same, one a line.
	lines string
}

func (a args) find(key string) (datadriven.CmdArg, bool) {
	for _, arg := range a.list {
		if arg.Key == key {
			return arg, true
		}
	}
	return datadriven.CmdArg{}, false
}

func (a args) has(key string) bool {
	_, ok := a.find(key)
	return ok
}

func (a args) text(key, otherwise string) string {
	if arg, ok := a.find(key); ok && len(arg.Vals) > 0 {
		return arg.Vals[0]
	}
	return otherwise
}

func (a args) texts(key string) []string {
	arg, _ := a.find(key)
	return arg.Vals
}

func (a args) uint64(key string, otherwise uint64) uint64 {
	v := a.text(key, "")
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 0, 64)
	if err != nil {
		a.t.Fatalf("%s: %v", a.cmd, err)
	}
	return n
}

func (a args) int(key string, otherwise int) int { return int(a.uint64(key, uint64(otherwise))) }

func (a args) seconds(key string) mqttcodec.Optional[uint32] {
	switch v := a.text(key, ""); v {
	case "":
		return mqttcodec.Optional[uint32]{}
	case "never":
		return mqttcodec.Some(uint32(neverSeconds))
	default:
		return mqttcodec.Some(uint32(a.uint64(key, 0)))
	}
}

func (a args) duration(key string, otherwise time.Duration) time.Duration {
	v := a.text(key, "")
	switch v {
	case "":
		return otherwise
	case "never":
		return Never
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		a.t.Fatalf("%s: %v", a.cmd, err)
	}
	return d
}

func (a args) reason() mqttcodec.ReasonCode { return mqttcodec.ReasonCode(a.uint64("reason", 0)) }

func (a args) optionalText(key string) (v mqttcodec.Optional[string]) {
	if a.has(key) {
		v = mqttcodec.Some(a.text(key, ""))
	}
	return v
}

// data is what the argument of that name says, nil without.
func (a args) data() []byte {
	if v := a.text("data", ""); v != "" {
		return []byte(v)
	}
	return nil
}

// each is the command once for every line that follows it, or once as it stands.
func (a args) each() (list []args) {
	if a.lines == "" {
		return []args{a}
	}
	for line := range strings.Lines(a.lines) {
		_, more, err := datadriven.ParseLine("x " + line)
		if err != nil {
			a.t.Fatal(err)
		}
		list = append(list, args{a.t, a.cmd, more, ""})
	}
	return list
}

var timerNames = [timers]string{"keep-alive", "will", "expiry", "record", "persist-retry", "fetch-retry", "replay"}

// input are the commands that happen to a session by themselves.
func (sc *script) input(a args) bool {
	switch a.cmd {
	// connect clean-start=false expiry=60 receive-maximum=2 will-topic=w will-qos=1 will-delay=5
	// connect principal=alice limited method=riddle data=welcome
	case "connect":
		sc.connect(a)
	// packet PUBLISH id=1 qos=1 topic=a/b payload=x
	// packet PUBACK id=1 connection=1
	case "packet":
		sc.step(PacketReceived{
			Connection: ConnectionID(a.uint64("connection", uint64(sc.connection))), Packet: sc.packet(a), Handed: sc.store.handed,
		})
	// connection-lost
	// connection-lost reason=0x81
	case "connection-lost":
		in := ConnectionLost{Connection: ConnectionID(a.uint64("connection", uint64(sc.connection))), Err: fmt.Errorf("reset by peer")}
		if a.has("reason") {
			in.Err = &mqttcodec.ProtocolError{Reason: a.reason(), Detail: "read: not MQTT"}
		}
		sc.step(in)
	// delivered seq=41 topic=a/b qos=1
	case "delivered": // and the log holds it
		entries := sc.entries(a)
		for _, e := range entries {
			sc.store.put(e)
		}
		sc.store.handed = max(sc.store.handed, sc.store.head())
		sc.step(Delivered{Entries: entries})
	// routed topic=a/b payload=x
	case "routed":
		var in Routed
		for _, m := range a.each() {
			in.Messages = append(in.Messages, sc.message(m))
		}
		sc.step(in)
	// answered topic=$reply/1 payload=x
	case "answered":
		sc.step(Answered{Message: sc.message(a)})
	// shared-delivered share=$share/g/a seq=41 topic=a qos=1
	case "shared-delivered": // and the log holds it
		entries := sc.entries(a)
		for _, e := range entries {
			sc.store.put(e)
		}
		sc.step(SharedDelivered{Share: a.text("share", ""), Entries: entries})
	// shared-routed share=$share/g/a topic=a payload=x
	case "shared-routed":
		sc.step(SharedRouted{Share: a.text("share", ""), Messages: []*Message{sc.message(a)}})
	// timer will
	case "timer": // fires, whatever it was set to
		for i, name := range timerNames {
			if name == a.list[0].Key {
				sc.timers[i] = time.Time{}
				sc.step(TimerFired{Timer: Timer(i), Withheld: a.has("withheld")})
			}
		}
	case "congested":
		sc.step(Congestion{Congested: true})
	case "decongested":
		sc.step(Congestion{})
	case "overrun":
		sc.step(Overrun{})
	case "awake":
		sc.step(Awake{})
	case "shutdown":
		sc.step(Shutdown{})
	case "relinquish":
		sc.step(Relinquish{})
	default:
		return false
	}
	return true
}

func (sc *script) connect(a args) {
	sc.connects++
	sc.connection = ConnectionID(sc.connects)
	p := &mqttcodec.Connect{
		Version: mqttcodec.Version(a.int("version", 5)), CleanStart: a.text("clean-start", "") == "true", ClientID: "c",
		KeepAliveSeconds: uint16(a.int("keep-alive", 0)),
	}
	sc.versions[sc.connection] = p.Version
	p.Properties.SessionExpirySeconds = a.seconds("expiry")
	p.Properties.ReceiveMaximum = uint16(a.int("receive-maximum", 0))
	p.Properties.MaximumPacketSize = uint32(a.int("max-packet", 0))
	p.Properties.AuthenticationMethod = a.optionalText("method")
	if a.has("will-topic") {
		p.Will = &mqttcodec.Will{
			Topic: a.text("will-topic", ""), Payload: []byte(a.text("will-payload", "")), QoS: mqttcodec.QoS(a.int("will-qos", 0)),
			Retain: a.has("will-retain"), DelaySeconds: uint32(a.int("will-delay", 0)),
		}
	}
	sc.step(Connect{
		Connection: sc.connection, Packet: p, Identity: sc.identity(a), AuthenticationData: a.data(), Assigned: a.has("assigned"),
		Nonce: fmt.Sprintf("n%d", sc.connects), Head: sc.store.handed,
	})
}

// entries are the log entries that a command names: seq=41 topic=a/b qos=1.
func (sc *script) entries(a args) (list []Entry) {
	for _, a := range a.each() {
		e := Entry{Position: at(a.uint64("seq", 0)), ID: a.text("message-id", "")}
		if !a.has("undecodable") {
			e.Message = sc.message(a)
		}
		list = append(list, e)
	}
	return list
}

// at is the position of a sequence: message n was stored n milliseconds after the start.
func at(sequence uint64) Position {
	if sequence == 0 {
		return Position{}
	}
	return Position{Sequence: sequence, Time: start.Add(time.Duration(sequence) * time.Millisecond)}
}

func (sc *script) message(a args) *Message {
	m := &Message{
		Topic: a.text("topic", ""), Payload: []byte(a.text("payload", "")), QoS: mqttcodec.QoS(a.int("qos", 0)),
		Retain: a.has("retain"), Publisher: a.text("publisher", ""), PublishedAt: sc.now,
	}
	m.Properties.MessageExpirySeconds = a.seconds("message-expiry")
	if v := a.text("content-type", ""); v != "" {
		m.Properties.ContentType = mqttcodec.Some(v)
	}
	if v := a.text("request", ""); v != "" { // what the driver makes of one
		m.Request = true
		m.Properties.ResponseTopic = ReplyTopic(v)
	}
	return m
}

// packet is the packet that a command names.
func (sc *script) packet(a args) mqttcodec.Packet {
	id := uint16(a.int("id", 0))
	switch kind := a.list[0].Key; kind {
	case "PUBLISH":
		m := sc.message(a)
		return &mqttcodec.Publish{
			PacketID: id, QoS: m.QoS, Topic: m.Topic, Payload: m.Payload, Retain: m.Retain, Duplicate: a.has("dup"), Properties: m.Properties,
		}
	case "PUBACK":
		return &mqttcodec.Puback{PacketID: id, Reason: a.reason()}
	case "PUBREC":
		return &mqttcodec.Pubrec{PacketID: id, Reason: a.reason()}
	case "PUBREL":
		return &mqttcodec.Pubrel{PacketID: id, Reason: a.reason()}
	case "PUBCOMP":
		return &mqttcodec.Pubcomp{PacketID: id, Reason: a.reason()}
	case "SUBSCRIBE":
		p := &mqttcodec.Subscribe{PacketID: id, SubscriptionIdentifier: uint32(a.int("identifier", 0))}
		for _, f := range a.texts("filters") {
			p.Requests = append(p.Requests, request(f))
		}
		return p
	case "UNSUBSCRIBE":
		return &mqttcodec.Unsubscribe{PacketID: id, Filters: a.texts("filters")}
	case "PINGREQ":
		return &mqttcodec.Pingreq{}
	case "DISCONNECT":
		return &mqttcodec.Disconnect{Reason: a.reason(), SessionExpirySeconds: a.seconds("expiry")}
	case "CONNECT":
		return &mqttcodec.Connect{Version: mqttcodec.V5, ClientID: "c"}
	case "AUTH":
		return &mqttcodec.Auth{Reason: a.reason(), AuthenticationMethod: a.optionalText("method"), AuthenticationData: a.data()}
	case "CONNACK":
		return &mqttcodec.Connack{}
	default:
		a.t.Fatalf("unknown packet %q", kind)
		return nil
	}
}

// request reads a filter with its options: a/b:1:nl:rap:rh2 is QoS 1, No Local, Retain As Published, Retain Handling 2.
func request(text string) mqttcodec.SubscriptionRequest {
	filter, options, _ := strings.Cut(text, ":")
	r := mqttcodec.SubscriptionRequest{Filter: filter}
	for option := range strings.SplitSeq(options, ":") {
		switch option {
		case "1", "2":
			r.Options.QoS = mqttcodec.QoS(option[0] - '0')
		case "nl":
			r.Options.NoLocal = true
		case "rap":
			r.Options.RetainAsPublished = true
		case "rh1", "rh2":
			r.Options.RetainHandling = mqttcodec.RetainHandling(option[2] - '0')
		}
	}
	return r
}
