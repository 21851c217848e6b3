package sessions

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// modelClient is a client that keeps to the specification and remembers what it was promised.
type modelClient struct {
	w           *world
	connections ConnectionID
	connection  ConnectionID // 0: none
	version     mqttcodec.Version
	// answered: CONNACK was read. known: on some connection before.
	answered, known bool
	// undetected are connections that are gone, which the broker has not noticed.
	undetected []ConnectionID
	// wire is what the broker sent and the client has not read; replies are what it has yet to send.
	wire, replies []mqttcodec.Packet
	congested     bool

	// Session state: what it publishes, and the QoS 2 messages that it has received.
	number     int
	nextID     uint16
	unfinished []*modelPublish
	published  []*modelPublish
	held       map[uint16]string
	wills      []*modelWill
	d          modelSubscription

	// deliveries counts the live copies of each payload; last is where this connection is in the log.
	deliveries map[string]int
	last       uint64
	// newest is, by topic, the last retained message that came on this connection, live or for a SUBSCRIBE; owed is the one
	// that has to come, or a newer one, for a SUBSCRIBE answered on this connection.
	newest, owed, retainedNow map[string]uint64
	// seen is newest on whatever connection, kept what of owed outlives the connection.
	seen, kept map[string]uint64
}

// modelPublish is a message that the client publishes.
type modelPublish struct {
	number   int
	id       uint16
	qos      mqttcodec.QoS
	topic    string
	payload  []byte
	released bool // PUBREC was read
	failed   bool // refused
}

// modelWill is the will of one connection.
type modelWill struct {
	payload  string
	delayed  bool
	accepted bool
	forgiven bool // a DISCONNECT was sent
}

// modelSubscription is the one subscription that comes and goes.
type modelSubscription struct {
	// made: SUBACK was read, and what has come into the log since is owed. ended: UNSUBACK was, and nothing behind it may come.
	made, ended   bool
	since, behind uint64
	// first is where the log was when it was first asked for: nothing up to there may come.
	first         uint64
	asked         bool
	subscribing   uint16
	unsubscribing uint16
}

func newModelClient(w *world) modelClient {
	return modelClient{w: w, held: map[uint16]string{}, deliveries: map[string]int{}, newest: map[string]uint64{}, seen: map[string]uint64{}}
}

// payload is one that no other message has.
func (c *modelClient) payload() []byte {
	c.number++
	return fmt.Appendf(nil, "m%d", c.number)
}

func (c *modelClient) id() uint16 {
	c.nextID = c.nextID%20 + 1
	for slices.ContainsFunc(c.unfinished, func(p *modelPublish) bool { return p.id == c.nextID }) {
		c.nextID = c.nextID%20 + 1
	}
	return c.nextID
}

func (c *modelClient) connect() {
	c.connections++
	c.connection, c.answered, c.wire, c.replies = c.connections, false, nil, nil
	c.newest, c.owed = map[string]uint64{}, nil
	p := &mqttcodec.Connect{Version: mqttcodec.V5, ClientID: "c"}
	if rapid.IntRange(0, 3).Draw(c.w.t, "version") == 0 {
		p.Version = mqttcodec.V311
	} else {
		p.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(7 * 24 * 3600))
		p.Properties.ReceiveMaximum = uint16(rapid.IntRange(0, 3).Draw(c.w.t, "receive maximum"))
	}
	will := rapid.IntRange(0, 5).Draw(c.w.t, "will")
	m := &modelWill{delayed: will == 2 && p.Version == mqttcodec.V5}
	if will > 0 && will < 3 {
		p.Will = &mqttcodec.Will{Topic: "w", QoS: mqttcodec.QoS(will), Payload: c.payload()}
		if m.delayed {
			p.Will.DelaySeconds = 2
		}
		m.payload = string(p.Will.Payload)
	}
	c.wills = append(c.wills, m)
	c.version = p.Version
	c.w.node.nonces++
	c.w.post(Connect{
		Connection: c.connection, Packet: p, Nonce: fmt.Sprintf("n%d", c.w.node.nonces), Head: c.w.router.head,
	})
}

func (c *modelClient) send(p mqttcodec.Packet) {
	c.w.post(PacketReceived{Connection: c.connection, Packet: p, Handed: c.w.router.head})
}

// publish starts a message of the client's own.
func (c *modelClient) publish(topic string, qos mqttcodec.QoS) {
	p := &modelPublish{qos: qos, topic: topic, payload: c.payload()}
	p.number = c.number
	if qos > 0 {
		p.id = c.id()
		c.unfinished = append(c.unfinished, p)
		c.published = append(c.published, p)
	}
	c.send(p.packet(false))
}

func (p *modelPublish) packet(again bool) mqttcodec.Packet {
	if p.released {
		return &mqttcodec.Pubrel{PacketID: p.id}
	}
	return &mqttcodec.Publish{Topic: p.topic, Payload: p.payload, QoS: p.qos, PacketID: p.id, Duplicate: again}
}

// lost is the end of the connection, as the client sees it.
func (c *modelClient) lost() {
	if c.connection != 0 {
		c.undetected = append(c.undetected, c.connection)
	}
	c.connection, c.answered, c.wire, c.replies = 0, false, nil, nil
	if c.d.unsubscribing != 0 {
		c.d = modelSubscription{first: c.d.first, asked: true}
	}
	c.newest, c.owed = map[string]uint64{}, nil
	c.d.subscribing, c.d.unsubscribing = 0, 0
}

// closed: the broker has closed a connection.
func (c *modelClient) closed(id ConnectionID) {
	if id == c.connection && id != 0 {
		c.lost()
		c.undetected = slices.DeleteFunc(c.undetected, func(u ConnectionID) bool { return u == id })
	}
}

// detect lets the broker notice that a connection is gone.
func (c *modelClient) detect() {
	if len(c.undetected) > 0 {
		c.w.post(ConnectionLost{Connection: c.undetected[0]})
		c.undetected = c.undetected[1:]
	}
}

func (c *modelClient) disconnect() {
	c.wills[len(c.wills)-1].forgiven = true
	c.send(&mqttcodec.Disconnect{})
	c.lost()
}

// receive takes what the broker puts on the wire, and holds it against what it promises.
func (c *modelClient) receive(e Send) {
	if e.Connection != c.connection {
		return
	}
	if err := sent(c.version, e.Packet); err != nil {
		c.w.t.Fatalf("%+v: %v", e.Packet, err)
	}
	c.w.checkPromise(e.Packet)
	c.wire = append(c.wire, e.Packet)
}

func (c *modelClient) dropped(e Drop) {
	switch e.Reason {
	case DropNotStored, DropSlowConsumer:
	default:
		c.w.t.Fatalf("%d messages are dropped: %s", e.Count, e.Reason)
	}
}

// read takes the oldest packet off the wire.
func (c *modelClient) read() {
	p := c.wire[0]
	c.wire = c.wire[1:]
	switch p := p.(type) {
	case *mqttcodec.Connack:
		c.onConnack(p)
	case *mqttcodec.Publish:
		c.onPublish(p)
	case *mqttcodec.Pubrel:
		delete(c.held, p.PacketID)
		c.replies = append(c.replies, &mqttcodec.Pubcomp{PacketID: p.PacketID})
	case *mqttcodec.Puback:
		c.finish(p.PacketID, 1, p.Reason)
	case *mqttcodec.Pubrec:
		c.onPubrec(p)
	case *mqttcodec.Pubcomp:
		c.finish(p.PacketID, 2, 0)
	case *mqttcodec.Suback:
		if p.PacketID == c.d.subscribing && c.d.subscribing != 0 {
			c.d.subscribing = 0
			if !c.d.made {
				c.d.made, c.d.since = true, c.w.store.head()
			}
			c.owed, c.kept = c.retainedNow, map[string]uint64{}
			for topic, seq := range c.owed {
				if e, _ := c.w.store.entry(seq); e.Message.QoS > 0 { // messages to be sent are session state (4.1)
					c.kept[topic] = seq
				}
			}
		}
	case *mqttcodec.Unsuback:
		if p.PacketID == c.d.unsubscribing && c.d.unsubscribing != 0 {
			c.d = modelSubscription{ended: true, behind: c.w.store.head(), first: c.d.first, asked: true}
			c.owed, c.kept = nil, nil
		}
	case *mqttcodec.Disconnect:
		c.lost()
	}
}

func (c *modelClient) onConnack(p *mqttcodec.Connack) {
	if p.Reason.Failed() {
		c.lost()
		return
	}
	if c.known && !p.SessionPresent { // [MQTT-3.2.2-3]
		c.w.t.Fatalf("the session is gone")
	}
	c.answered, c.known, c.last = true, true, 0
	c.wills[len(c.wills)-1].accepted = true
	for _, p := range c.unfinished { // [MQTT-4.4.0-1]
		c.replies = append(c.replies, p.packet(true))
	}
}

// onPublish takes a message. At QoS 2 it is the application's when it comes, and is known until PUBREL. (4.3.3 method A)
func (c *modelClient) onPublish(p *mqttcodec.Publish) {
	payload := string(p.Payload)
	switch p.QoS {
	case 0:
		c.deliver(p)
		return
	case 1:
		c.inOrder(p)
		c.deliver(p)
		c.replies = append(c.replies, &mqttcodec.Puback{PacketID: p.PacketID})
		return
	}
	c.inOrder(p)
	before, again := c.held[p.PacketID]
	if again && (before != payload || !p.Duplicate) {
		c.w.t.Fatalf("PUBLISH %d with %s, dup=%v: the identifier is in use for %s", p.PacketID, payload, p.Duplicate, before)
	}
	if !again {
		c.held[p.PacketID] = payload
		c.deliver(p)
	}
	c.replies = append(c.replies, &mqttcodec.Pubrec{PacketID: p.PacketID})
}

func (c *modelClient) deliver(p *mqttcodec.Publish) {
	payload := string(p.Payload)
	c.checkRetained(p)
	if p.Retain {
		return // for a new subscription: one more copy
	}
	c.deliveries[payload]++
	if p.QoS == 0 && c.deliveries[payload] > max(1, len(c.w.sequences(payload))) { // [MQTT-4.3.1-1]
		c.w.t.Fatalf("%s comes again at QoS 0", payload)
	}
	if p.QoS == 2 && c.deliveries[payload] > 1 {
		c.w.t.Fatalf("%s comes twice at QoS 2", payload)
	}
	if seqs := c.w.sequences(payload); c.d.ended && p.Topic[0] == 'd' && len(seqs) > 0 && seqs[0] > c.d.behind {
		c.w.t.Fatalf("%s comes after UNSUBACK", payload)
	}
	if seqs := c.w.sequences(payload); p.Topic[0] == 'd' && len(seqs) > 0 && seqs[len(seqs)-1] <= c.d.first {
		c.w.t.Fatalf("%s at %v is older than the subscription, made at %d", payload, seqs, c.d.first)
	}
}

// checkRetained: of the retained messages of a topic none comes after a newer one. [MQTT-3.3.1-8]
func (c *modelClient) checkRetained(p *mqttcodec.Publish) {
	seqs := c.w.sequences(string(p.Payload))
	if len(seqs) == 0 || !c.w.retains(seqs[0]) {
		return
	}
	if p.Retain && seqs[0] < c.newest[p.Topic] && !p.Duplicate {
		c.w.t.Fatalf("retained %s at %d comes after %d of its topic", p.Payload, seqs[0], c.newest[p.Topic])
	}
	c.newest[p.Topic] = max(c.newest[p.Topic], seqs[0])
	c.seen[p.Topic] = max(c.seen[p.Topic], seqs[0])
}

// inOrder: on one connection messages at QoS 1 and 2 come in log order. [MQTT-4.6.0-6]
func (c *modelClient) inOrder(p *mqttcodec.Publish) {
	if p.Retain {
		return
	}
	for _, seq := range c.w.sequences(string(p.Payload)) {
		if seq > c.last {
			c.last = seq
			return
		}
	}
	c.w.t.Fatalf("%s comes behind sequence %d, its own are %v", p.Payload, c.last, c.w.sequences(string(p.Payload)))
}

func (c *modelClient) onPubrec(p *mqttcodec.Pubrec) {
	if p.Reason.Failed() {
		c.finish(p.PacketID, 2, p.Reason)
		return
	}
	for _, m := range c.unfinished {
		if m.id == p.PacketID && m.qos == 2 {
			m.released = true
			c.replies = append(c.replies, m.packet(false))
			return
		}
	}
	c.w.t.Fatalf("PUBREC for %d, which is not in use", p.PacketID)
}

func (c *modelClient) finish(id uint16, qos mqttcodec.QoS, reason mqttcodec.ReasonCode) {
	i := slices.IndexFunc(c.unfinished, func(p *modelPublish) bool { return p.id == id && p.qos == qos })
	if i < 0 {
		c.w.t.Fatalf("acknowledgement of %d at QoS %d, which is not in use", id, qos)
	}
	c.unfinished[i].failed = reason.Failed()
	c.unfinished = slices.Delete(c.unfinished, i, i+1)
}

// subscribe asks for d/#, again or anew; retained messages come with it.
func (c *modelClient) subscribe() {
	if !c.d.asked {
		c.d.asked, c.d.first = true, c.w.router.head
	}
	c.retainedNow = c.w.retainedUpTo(c.w.router.head, 'd')
	c.d.ended, c.d.subscribing = false, c.id()
	c.send(&mqttcodec.Subscribe{PacketID: c.d.subscribing, Requests: []mqttcodec.SubscriptionRequest{request("d/#:2")}})
}

func (c *modelClient) unsubscribe() {
	c.d.made, c.d.unsubscribing, c.owed, c.kept = false, c.id(), nil, nil
	c.send(&mqttcodec.Unsubscribe{PacketID: c.d.unsubscribing, Filters: []string{"d/#"}})
}

func (c *modelClient) busy() bool {
	return c.connection == 0 && c.known || len(c.wire)+len(c.replies)+len(c.undetected) > 0 || c.congested
}

// progress lets one thing happen that the client has to do.
func (c *modelClient) progress() {
	switch {
	case c.congested:
		c.congested = false
		c.w.post(Congestion{})
	case len(c.undetected) > 0:
		c.detect()
	case len(c.wire) > 0:
		c.read()
	case len(c.replies) > 0:
		c.reply()
	case c.connection == 0:
		c.connect()
	}
}

// reply sends the oldest of what has to be sent.
func (c *modelClient) reply() {
	c.send(c.replies[0])
	c.replies = c.replies[1:]
}
