package wire

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"dunlin/mqttcodec"
)

// act does what several lines would do, for the parts of a script that are not what it is about.
func (p *player) act(name, verb string, words []string) error {
	if verb == "dial" || verb == "connect" {
		if p.connections[name] != nil {
			return fmt.Errorf("%s is connected", name)
		}
		if _, err := p.open(name); err != nil {
			return err
		}
	}
	c, err := p.existing(name)
	if err != nil {
		return err
	}
	switch verb {
	// a dial
	case "dial": // connects, and sends nothing
		return nil
	// a apart
	case "apart": // from now on each byte goes out by itself
		c.raw.ByteByByte()
		return nil
	// a connect keep-alive=5
	case "connect": // CONNECT with clean start, accepted
		return p.sendAndReceive(c, append([]string{"CONNECT", "clean-start=true"}, words...), "CONNACK", "reason=0x00")
	// a subscribe filters=($t:1)
	case "subscribe": // SUBSCRIBE, granted as asked
		return p.subscribe(c, words)
	// a unsubscribe filters=($t)
	case "unsubscribe":
		id := c.nextID()
		return p.sendAndReceive(c, append([]string{"UNSUBSCRIBE", id}, words...), "UNSUBACK", id)
	// a publish topic=$t qos=2 payload=x
	case "publish": // PUBLISH, and the whole exchange
		return p.publish(c, words)
	// a ack
	case "ack": // acknowledges the last message received, the whole exchange
		return p.acknowledge(c)
	// a disconnect
	case "disconnect": // DISCONNECT, and the broker closes
		if err := p.send(name, append([]string{"DISCONNECT"}, words...)); err != nil {
			return err
		}
		return p.receiveClosed(c)
	// a drop
	case "drop": // ends the connection without DISCONNECT; the broker has noticed
		delete(p.connections, name)
		return c.raw.DropNoticed()
	// a reset
	case "reset": // RST; the broker will notice
		delete(p.connections, name)
		c.raw.Reset()
		return nil
	}
	return fmt.Errorf("unknown action %q", verb)
}

// nextID is a packet identifier that the connection has not used, as a word.
func (c *connection) nextID() string {
	c.id++
	return "id=" + strconv.Itoa(int(c.id))
}

func (p *player) sendAndReceive(c *connection, packet []string, answer ...string) error {
	if err := p.send(c.name, packet); err != nil {
		return err
	}
	return p.receivePacket(c, answer)
}

func (p *player) subscribe(c *connection, words []string) error {
	id := c.nextID()
	packet, err := p.packet(append([]string{"SUBSCRIBE", id}, words...), c.name)
	if err != nil {
		return err
	}
	want := "reasons=["
	for _, q := range packet.(*mqttcodec.Subscribe).Requests {
		want += fmt.Sprintf(" %d", q.Options.QoS)
	}
	return p.sendAndReceive(c, append([]string{"SUBSCRIBE", id}, words...), "SUBACK", id, want+"]")
}

func (p *player) publish(c *connection, words []string) error {
	id := c.nextID()
	switch {
	case slices.Contains(words, "qos=1"):
		return p.sendAndReceive(c, append([]string{"PUBLISH", id}, words...), "PUBACK", id, "reason=0x00")
	case slices.Contains(words, "qos=2"):
		if err := p.sendAndReceive(c, append([]string{"PUBLISH", id}, words...), "PUBREC", id, "reason=0x00"); err != nil {
			return err
		}
		return p.sendAndReceive(c, []string{"PUBREL", id}, "PUBCOMP", id, "reason=0x00")
	}
	return p.send(c.name, append([]string{"PUBLISH"}, words...))
}

func (p *player) acknowledge(c *connection) error {
	if c.publish == nil {
		return errors.New("no message was received")
	}
	id := fmt.Sprintf("id=%d", c.publish.PacketID)
	switch c.publish.QoS {
	case 1:
		return p.send(c.name, []string{"PUBACK", id})
	case 2:
		if err := p.sendAndReceive(c, []string{"PUBREC", id}, "PUBREL", id); err != nil {
			return err
		}
		return p.send(c.name, []string{"PUBCOMP", id})
	}
	return errors.New("the last message was at QoS 0")
}
