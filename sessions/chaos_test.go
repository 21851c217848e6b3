package sessions

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// TestSessionSurvivesAnyInput feeds inputs that fit together or not: late, repeated, for connections and tokens that were or
// never were. Nothing may panic, break an invariant or send what may not be sent, and the session must come to rest.
func TestSessionSurvivesAnyInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChaos(t)
		for range rapid.IntRange(1, 60).Draw(t, "batches") {
			for range rapid.IntRange(1, 4).Draw(t, "inputs") {
				c.step(c.input())
			}
			c.flush()
		}
		c.comeToRest()
	})
}

// chaos is a session that anything happens to.
type chaos struct {
	t     *rapid.T
	cfg   Config
	now   time.Time
	s     *Session
	store memoryStore
	nonce int
	// connections are those that the session knows or knew, with the version and size limit of their CONNECT.
	connections []*chaosConnection
	owed        []Effect
	boots       int
}

type chaosConnection struct {
	id               ConnectionID
	connect          *mqttcodec.Connect
	answered, closed bool
}

func newChaos(t *rapid.T) *chaos {
	c := &chaos{t: t, now: start, boots: 1}
	c.cfg = DefaultConfig("boot1")
	c.cfg.SendWindow = c.number(1, 3)
	c.cfg.ReceiveMaximum = uint16(c.number(1, 4))
	c.cfg.MaxQueuedMessages = c.number(0, 3)
	c.cfg.Overflow = rapid.SampledFrom([]Overflow{DropOldest, DropNewest}).Draw(t, "overflow")
	c.cfg.QueueQoS0 = c.chance(3)
	c.cfg.MaxSubscriptions = c.number(1, 4)
	c.cfg.BacklogMessages = c.number(1, 3)
	c.cfg.BacklogBytes = c.number(1, 40)
	c.cfg.MaxKeepAlive = time.Duration(c.number(0, 2)) * time.Second
	c.cfg.MaxExpiry = rapid.SampledFrom([]time.Duration{Never, time.Minute}).Draw(t, "max expiry")
	c.cfg.DefaultExpiryV3 = time.Minute
	c.cfg.TopicFits = func(topic string, stored bool) bool { return len(topic) < 8 || !stored }
	if err := c.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	c.s = New(&c.cfg, "c", Stored{})
	return c
}

func (c *chaos) number(from, to int) int { return rapid.IntRange(from, to).Draw(c.t, "n") }

// chance is true once in n.
func (c *chaos) chance(n int) bool { return c.number(1, n) == 1 }

func (c *chaos) step(in Input) {
	if in == nil {
		return
	}
	c.trace(">", in)
	c.perform(c.s.Step(c.now, in, nil))
	checkInvariants(c.t, c.s)
}

// trace tells what happens, with -v.
func (c *chaos) trace(what string, v any) {
	if testing.Verbose() {
		c.t.Logf("%s %T%+v", what, v, v)
	}
}

func (c *chaos) flush() {
	c.perform(c.s.Flush(c.now, nil))
	checkInvariants(c.t, c.s)
	checkFlushed(c.t, c.s)
	if c.s.Fenced() || c.chance(40) {
		c.crash()
	}
}

// perform checks what effects are always held to.
func (c *chaos) perform(effects []Effect) {
	for _, e := range effects {
		c.trace("<", e)
		switch e := e.(type) {
		case Send:
			c.checkSend(e)
		case Close:
			conn := c.connection(e.Connection)
			if conn.closed {
				c.t.Fatalf("connection %d is closed twice", e.Connection)
			}
			conn.closed = true
		case SaveRecord:
			if c.s.expiry == 0 && c.s.will == nil && c.s.state == stateConnected {
				c.t.Fatalf("a record is written of a session that ends with its connection")
			}
			if _, err := DecodeRecord(e.Data); err != nil || c.s.Absent() {
				c.t.Fatalf("a record of an absent session: %v", err)
			}
			c.owe(e)
		case Persist, SaveJournal, Discard, Subscribe, FindReplays, ReadReplay, ReadRetained, Join, Fetch, Leave, Load, RequestJournalTurn:
			c.owe(e)
		}
	}
}

// owe: of each document one write is in flight.
func (c *chaos) owe(e Effect) {
	same := func(old Effect) bool {
		switch old.(type) {
		case SaveRecord, Discard:
			_, record := e.(SaveRecord)
			_, discard := e.(Discard)
			return record || discard
		case SaveJournal:
			_, journal := e.(SaveJournal)
			return journal
		}
		return false
	}
	if slices.ContainsFunc(c.owed, same) {
		c.t.Fatalf("%T while a write of the document is in flight", e)
	}
	c.owed = append(c.owed, e)
}

func (c *chaos) connection(id ConnectionID) *chaosConnection {
	for _, conn := range c.connections {
		if conn.id == id {
			return conn
		}
	}
	c.t.Fatalf("there is no connection %d", id)
	return nil
}

func (c *chaos) checkSend(e Send) {
	conn := c.connection(e.Connection)
	ack, connack := e.Packet.(*mqttcodec.Connack)
	switch {
	case conn.closed:
		c.t.Fatalf("%T after the end of the connection", e.Packet)
	case connack == conn.answered: // [MQTT-3.2.0-1] [MQTT-3.2.0-2]
		c.t.Fatalf("%T, CONNACK was sent: %v", e.Packet, conn.answered)
	case connack && ack.Reason.Failed() && ack.SessionPresent: // [MQTT-3.2.2-6]
		c.t.Fatalf("a refusal with session present")
	}
	conn.answered = true
	if err := sent(conn.connect.Version, e.Packet); err != nil {
		c.t.Fatalf("%+v: %v", e.Packet, err)
	}
	if p, ok := e.Packet.(*mqttcodec.Publish); ok && conn.connect.Properties.MaximumPacketSize > 0 {
		if n, _ := mqttcodec.Size(conn.connect.Version, p); n > int(conn.connect.Properties.MaximumPacketSize) { // [MQTT-3.1.2-24]
			c.t.Fatalf("PUBLISH of %d bytes", n)
		}
	}
}

// crash reads the session again from what is durable, with whatever recovery may find.
func (c *chaos) crash() {
	c.owed = nil
	for _, conn := range c.connections {
		conn.closed = true
	}
	recovery := Recovery{Now: c.now}
	if c.chance(2) {
		before := c.cfg.Boot
		c.boots++
		c.cfg.Boot = fmt.Sprintf("boot%d", c.boots)
		recovery.Checkpoints = map[string]*Checkpoint{before: {Boot: before, Time: c.now, Position: at(uint64(c.number(0, 20)))}}
	}
	for range c.number(0, 3) {
		recovery.IDs = append(recovery.IDs, fmt.Sprintf("n%d/%d/%d", c.number(0, c.nonce), c.number(0, 70000), c.number(0, 5)), "n1/will/n1", "x")
	}
	stored := c.store.stored()
	if stored.Record == nil {
		c.s = New(&c.cfg, "c", stored)
		return
	}
	s, err := Restore(&c.cfg, stored, recovery)
	if err != nil {
		c.t.Fatal(err)
	}
	c.s = s
	checkInvariants(c.t, s)
}

// comeToRest answers all that is owed: without a connection the session is quiet then, and after a clean start gone.
func (c *chaos) comeToRest() {
	c.settle()
	if id := c.s.Connection(); id != 0 {
		c.step(ConnectionLost{Connection: id})
	}
	c.settle()
	if !c.s.Quiet() {
		c.t.Fatalf("a session without connection does not come to rest in state %d", c.s.state)
	}
	c.step(c.connect(&mqttcodec.Connect{Version: mqttcodec.V5, CleanStart: true}))
	c.settle()
	if c.s.state != stateConnected || c.store.record != nil {
		c.t.Fatalf("a clean start ends in state %d", c.s.state)
	}
	c.step(ConnectionLost{Connection: c.s.Connection()})
	c.settle()
	if !c.s.Absent() || !c.s.Quiet() || c.store.record != nil || c.store.journal != nil {
		c.t.Fatalf("something is left of a session that is over")
	}
}

// settle answers until nothing is owed, or turns to a new value when the session was given up.
func (c *chaos) settle() {
	for round := 0; ; round++ {
		c.perform(c.s.Flush(c.now, nil))
		if c.s.Fenced() {
			c.crash()
		}
		switch {
		case len(c.owed) > 0:
			c.step(c.answerTo(0, true))
		case c.s.stalled:
			c.step(TimerFired{Timer: TimerPersistRetry})
		default:
			return
		}
		if round > 10_000 {
			c.t.Fatalf("the session does not come to rest")
		}
	}
}
