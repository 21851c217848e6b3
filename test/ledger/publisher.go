package ledger

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// publisherWindow is how many messages a publisher has unacknowledged at most.
const publisherWindow = 16

// Publisher numbers its messages and does by the book what a client owes a message until it is acknowledged: after a
// reconnect it sends again, with DUP, in order, under the same identifiers. Owned by one goroutine at a time.
type Publisher struct {
	client
	qos    mqttcodec.QoS
	topics []string // the messages go to one after another

	unfinished []outgoing // in the order of sending
	next       int        // the number of the next message
	nextID     uint16
	starts     []int         // next at the start of each connection, to tell the round of a number
	finishing  atomic.Bool   // no new messages: complete what is open and return
	pace       time.Duration // at least so long from one batch to the next
}

func newPublisher(id string, v mqttcodec.Version, qos mqttcodec.QoS, topics ...string) *Publisher {
	return &Publisher{client: client{id: id, version: v}, qos: qos, topics: topics}
}

// outgoing is one message that is not acknowledged in full.
type outgoing struct {
	number   int
	packetID uint16
	released bool // PUBREC has come: only PUBREL is sent
}

// sent is how many messages went to one of its topics; their payloads number them.
func (p *Publisher) sent(topic int) int { return (p.next + len(p.topics) - 1 - topic) / len(p.topics) }

// Run is one connection: until it ends, or all is acknowledged and the publisher is finishing.
func (p *Publisher) Run(t testing.TB, address string) error {
	r, err := p.connect(t, address)
	if err != nil {
		return err
	}
	p.starts = append(p.starts, p.next)
	err = p.serve(r)
	p.end(r, err)
	return err
}

func (p *Publisher) serve(r *harness.Raw) error {
	if err := p.resend(r); err != nil {
		return err
	}
	for {
		if err := p.fill(r); err != nil {
			return err
		}
		if len(p.unfinished) == 0 {
			return r.TryDisconnect()
		}
		packet, err := r.TryRead()
		if err != nil {
			return err
		}
		if err := p.take(r, packet); err != nil {
			return err
		}
		if err := p.move(); err != nil {
			return err
		}
	}
}

// connectionOf is the connection, counted from 1, on which a number was sent for the first time.
func (p *Publisher) connectionOf(number int) int {
	n, _ := slices.BinarySearch(p.starts, number+1)
	return n
}

// describe lists the first of some numbers of a topic, each with its connection.
func (p *Publisher) describe(topic int, numbers []int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d messages:", len(numbers), p.sent(topic))
	for _, n := range numbers[:min(20, len(numbers))] {
		fmt.Fprintf(&b, " %d (connection %d)", n, p.connectionOf(n*len(p.topics)+topic))
	}
	return b.String()
}

// resend repeats what is unfinished. [MQTT-4.4.0-1]
func (p *Publisher) resend(r *harness.Raw) error {
	for _, o := range p.unfinished {
		var packet mqttcodec.Packet = p.packet(o, true)
		if o.released {
			packet = &mqttcodec.Pubrel{PacketID: o.packetID}
		}
		if err := r.TrySend(packet); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) packet(o outgoing, duplicate bool) *mqttcodec.Publish {
	return &mqttcodec.Publish{
		Topic: p.topics[o.number%len(p.topics)], QoS: p.qos, PacketID: o.packetID, Duplicate: duplicate,
		Payload: fmt.Append(nil, o.number/len(p.topics)),
	}
}

// fill sends new messages until the window is full.
func (p *Publisher) fill(r *harness.Raw) error {
	var batch []mqttcodec.Packet
	for len(p.unfinished) < publisherWindow && !p.finishing.Load() {
		p.nextID = p.nextID%60_000 + 1
		o := outgoing{number: p.next, packetID: p.nextID}
		p.next++
		p.unfinished = append(p.unfinished, o)
		batch = append(batch, p.packet(o, false))
	}
	if len(batch) == 0 {
		return nil
	}
	harness.Wait(p.pace)
	return r.TrySend(batch...)
}

// take handles an acknowledgement.
func (p *Publisher) take(r *harness.Raw, packet mqttcodec.Packet) error {
	switch a := packet.(type) {
	case *mqttcodec.Puback:
		return p.finish(a.PacketID, a.Reason)
	case *mqttcodec.Pubcomp:
		return p.finish(a.PacketID, a.Reason)
	case *mqttcodec.Pubrec:
		for i := range p.unfinished {
			if p.unfinished[i].packetID == a.PacketID && !a.Reason.Failed() {
				p.unfinished[i].released = true
				return r.TrySend(&mqttcodec.Pubrel{PacketID: a.PacketID})
			}
		}
		return fmt.Errorf("%w: PUBREC %+v at %s", ErrBroken, a, p.id)
	case *mqttcodec.Disconnect:
		p.loss.Farewell = a.Reason
		return nil // the close follows
	}
	return fmt.Errorf("%w: %T for a publisher", ErrBroken, packet)
}

// finish takes a message off the list.
func (p *Publisher) finish(id uint16, reason mqttcodec.ReasonCode) error {
	for i, o := range p.unfinished {
		if o.packetID == id {
			// PUBCOMP 0x92 answers a PUBREL whose first PUBCOMP was lost with the connection. [MQTT-4.3.3-11]
			if reason.Failed() && reason != mqttcodec.PacketIdentifierNotFound {
				return fmt.Errorf("%w: message %d refused with %#x", ErrBroken, o.number, reason)
			}
			p.unfinished = append(p.unfinished[:i:i], p.unfinished[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("%w: %s was sent an acknowledgement of %d, which is not open", ErrBroken, p.id, id)
}
