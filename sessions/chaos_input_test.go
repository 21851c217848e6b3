package sessions

import (
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// input draws what happens next.
func (c *chaos) input() Input {
	switch c.number(0, 19) {
	default:
		return c.packetReceived()
	case 0, 1:
		return c.connect(c.connectPacket())
	case 2:
		in := ConnectionLost{Connection: c.someConnection()}
		if c.chance(2) {
			in.Err = &mqttcodec.ProtocolError{
				Reason: rapid.SampledFrom([]mqttcodec.ReasonCode{
					mqttcodec.MalformedPacket, mqttcodec.TopicAliasInvalid, mqttcodec.TopicFilterInvalid, mqttcodec.PacketTooLarge,
				}).Draw(c.t, "reason"),
				Detail: "read: not MQTT",
			}
		}
		return in
	case 3, 4:
		return Delivered{Entries: c.entries()}
	case 5:
		in := Routed{Messages: []*Message{c.message(), c.message()}}
		for _, m := range in.Messages {
			m.QoS = 0
		}
		return in
	case 6:
		c.now = c.now.Add(time.Duration(c.number(0, 4000)) * 10 * time.Millisecond)
		return TimerFired{Timer: Timer(c.number(0, int(timers))), Withheld: c.chance(4)}
	case 7:
		return c.oddInput()
	case 8, 9, 10, 11, 12, 13:
		if len(c.owed) > 0 {
			return c.answerTo(c.number(0, len(c.owed)-1), false)
		}
		return c.packetReceived()
	}
}

// oddInput is one that fits nothing, or comes at any time.
func (c *chaos) oddInput() Input {
	token := uint64(c.number(0, 9))
	switch c.number(0, 9) {
	case 0:
		return Overrun{}
	case 1:
		return Awake{}
	case 2:
		return Shutdown{}
	case 3:
		return JournalTurn{}
	case 4:
		return Persisted{[]Result{{Token: 1000 + token}}}
	case 5:
		return Fetched{Token: 1000 + token, Entries: c.entries(), Live: c.chance(2), UpTo: at(token)}
	case 6:
		return Loaded{Token: 1000 + token, Entries: c.entries()}
	case 7:
		return Subscribed{Token: 1000 + token}
	default:
		return Congestion{Congested: c.chance(2)}
	}
}

func (c *chaos) someConnection() ConnectionID {
	if id := c.s.Connection(); id != 0 && !c.chance(5) {
		return id
	}
	return ConnectionID(c.number(0, len(c.connections)))
}

func (c *chaos) connect(p *mqttcodec.Connect) Input {
	c.nonce++
	conn := &chaosConnection{id: ConnectionID(c.nonce), connect: p}
	c.connections = append(c.connections, conn)
	return Connect{
		Connection: conn.id, Packet: p, Assigned: c.chance(4), Nonce: "n" + string(rune('0'+c.nonce%10)), Head: uint64(c.number(0, 20)),
	}
}

func (c *chaos) connectPacket() *mqttcodec.Connect {
	p := &mqttcodec.Connect{
		Version:    rapid.SampledFrom([]mqttcodec.Version{mqttcodec.V31, mqttcodec.V311, mqttcodec.V5, mqttcodec.V5, mqttcodec.V5}).Draw(c.t, "version"),
		CleanStart: c.chance(3), ClientID: "c", KeepAliveSeconds: uint16(c.number(0, 3)),
	}
	if c.chance(3) {
		p.Will = &mqttcodec.Will{
			Topic: "w", QoS: mqttcodec.QoS(c.number(0, 2)), Retain: c.chance(2),
			DelaySeconds: rapid.SampledFrom([]uint32{0, 1, 100, 1 << 31}).Draw(c.t, "delay"),
		}
	}
	if p.Version == mqttcodec.V5 {
		if c.chance(4) {
			p.Properties.SessionExpirySeconds = mqttcodec.Some(uint32(0))
		} else {
			p.Properties.SessionExpirySeconds = mqttcodec.Some(rapid.SampledFrom([]uint32{0, 1, 60, neverSeconds}).Draw(c.t, "expiry"))
		}
		p.Properties.ReceiveMaximum = uint16(c.number(0, 3))
		p.Properties.MaximumPacketSize = rapid.SampledFrom([]uint32{0, 0, 12, 40}).Draw(c.t, "max packet")
	}
	return p
}

func (c *chaos) topic() string {
	return rapid.SampledFrom([]string{"a", "a/b", "b", "$SYS/x", "too/long", "$delayed/5/a"}).Draw(c.t, "topic")
}

func (c *chaos) message() *Message {
	m := &Message{
		Topic: c.topic(), Payload: make([]byte, c.number(0, 30)), QoS: mqttcodec.QoS(c.number(0, 2)), Retain: c.chance(3), PublishedAt: c.now,
	}
	if c.chance(4) {
		m.Publisher = "c"
	}
	if c.chance(4) {
		m.Properties.MessageExpirySeconds = mqttcodec.Some(uint32(c.number(0, 20)))
	}
	return m
}

// entries are in order, of which the session may have seen some.
func (c *chaos) entries() (list []Entry) { return c.entriesAfter(uint64(c.number(0, 20))) }

// entriesAfter are some behind a sequence.
func (c *chaos) entriesAfter(seq uint64) (list []Entry) {
	for range c.number(0, 4) {
		seq += uint64(c.number(1, 2))
		e := Entry{Position: at(seq), Message: c.message()}
		if c.chance(8) {
			e.Message = nil
		}
		list = append(list, e)
	}
	return list
}

func (c *chaos) packetReceived() Input {
	in := PacketReceived{Connection: c.someConnection()}
	id := uint16(c.number(1, 4))
	reason := rapid.SampledFrom([]mqttcodec.ReasonCode{0, 0, 0, mqttcodec.UnspecifiedError}).Draw(c.t, "reason")
	if len(c.s.inflight) > 0 && c.chance(2) {
		id = c.s.inflight[c.number(0, len(c.s.inflight)-1)].packetID
	}
	switch c.number(0, 16) {
	default:
		m := c.message()
		p := &mqttcodec.Publish{QoS: m.QoS, Topic: m.Topic, Payload: m.Payload, Retain: m.Retain, Properties: m.Properties}
		if m.QoS > 0 {
			p.PacketID = id
		}
		in.Packet = p
	case 0, 1:
		in.Packet = &mqttcodec.Puback{PacketID: id, Reason: reason}
	case 2, 3:
		in.Packet = &mqttcodec.Pubrec{PacketID: id, Reason: reason}
	case 4, 5:
		in.Packet = &mqttcodec.Pubcomp{PacketID: id}
	case 6, 7:
		in.Packet = &mqttcodec.Pubrel{PacketID: id}
	case 8, 9:
		p := &mqttcodec.Subscribe{PacketID: id, SubscriptionIdentifier: uint32(c.number(0, 2))}
		for range c.number(1, 3) {
			p.Requests = append(p.Requests, request(rapid.SampledFrom([]string{
				"a:1", "a:2:rap", "a/#:2", "#:1:nl", "b", "+/b:2:rh1", "$share/g/a:1", "a/#/b", "too/long:1", "$replay/first/#:2", "$replay/1h/a:1:nl", "$replay/soon/a",
			}).Draw(c.t, "filter")))
		}
		in.Packet = p
	case 10:
		in.Packet = &mqttcodec.Unsubscribe{PacketID: id, Filters: []string{"a", "#", "none", "$replay/first/#"}[c.number(0, 2):c.number(3, 4)]}
	case 11:
		p := &mqttcodec.Disconnect{Reason: rapid.SampledFrom([]mqttcodec.ReasonCode{0, mqttcodec.DisconnectWithWill}).Draw(c.t, "reason")}
		if c.chance(3) {
			p.SessionExpirySeconds = mqttcodec.Some(uint32(c.number(0, 2)))
		}
		in.Packet = p
	case 12:
		in.Packet = rapid.SampledFrom([]mqttcodec.Packet{
			&mqttcodec.Pingreq{}, &mqttcodec.Pingreq{}, &mqttcodec.Auth{}, &mqttcodec.Connect{}, &mqttcodec.Connack{}, &mqttcodec.Suback{},
		}).Draw(c.t, "packet")
	}
	return in
}

// answerTo answers one effect that is owed an answer: right away, or with whatever may happen.
func (c *chaos) answerTo(i int, right bool) Input {
	e := c.owed[i]
	c.owed = slices.Delete(c.owed, i, i+1)
	var err error
	if !right && c.chance(6) {
		err = rapid.SampledFrom([]error{ErrUnavailable, ErrRejected, ErrConflict}).Draw(c.t, "error")
	}
	written := err == nil || c.chance(2)
	switch e := e.(type) {
	case Persist:
		if errors.Is(err, ErrConflict) {
			err = errors.New("something else") // a message replaces nothing
		}
		return Persisted{[]Result{{Token: e.Token, Sequence: 1, Err: err}}}
	case SaveRecord:
		return RecordSaved{c.save(e, written, err)}
	case SaveJournal:
		return JournalSaved{c.save(e, written, err)}
	case Discard:
		return Discarded{c.save(e, written, err)}
	case Subscribe:
		in := Subscribed{Token: e.Token, Position: at(uint64(c.number(0, 20))), Err: err}
		for _, wanted := range e.WantRetained {
			var part RetainedPart
			if wanted {
				part = c.retainedPart()
			}
			in.Retained = append(in.Retained, part)
		}
		return in
	case FindReplays:
		in := ReplaysFound{Token: e.Token}
		for range e.Starts {
			in.Found = append(in.Found, ReplayFound{After: at(uint64(c.number(0, 20))), Err: err})
		}
		return in
	case ReadReplay:
		return ReplayRead{Token: e.Token, Filter: e.Filter, Entries: c.entriesAfter(e.After.Sequence), UpTo: at(e.After.Sequence + 10)}
	case ReadRetained:
		return RetainedRead{Token: e.Token, Filter: e.Filter, RetainedPart: c.retainedPart()}
	case Join:
		return Fetched{Token: e.Token, UpTo: at(uint64(c.number(0, 20))), Live: err == nil, Err: err}
	case Fetch:
		in := Fetched{Token: e.Token, Entries: c.entries(), Live: right || c.chance(2), Err: err, UpTo: at(e.After.Sequence + uint64(c.number(0, 5)))}
		in.Head, in.Queued, in.Lost = at(uint64(c.number(0, 30))), uint64(c.number(0, 6)), uint64(c.number(0, 1))
		return in
	case Leave:
		return Left{Position: at(uint64(c.number(0, 20)))}
	case Load:
		return c.loaded(e, err)
	}
	return JournalTurn{}
}

func (c *chaos) retainedPart() RetainedPart {
	entries := slices.DeleteFunc(c.entries(), func(e Entry) bool { return e.Message == nil })
	return RetainedPart{Entries: entries, UpTo: "a", More: c.chance(2)}
}

func (c *chaos) save(e Effect, written bool, err error) Result {
	var r Result
	if written {
		if r = c.store.save(e); r.Err != nil {
			c.t.Fatalf("%T: %v", e, r.Err)
		}
	}
	if err != nil {
		r = Result{Token: r.Token, Err: err}
	}
	return r
}

func (c *chaos) loaded(e Load, err error) Input {
	in := Loaded{Token: e.Token, Err: err}
	for _, seq := range e.Sequences {
		found := Entry{Position: at(seq), Message: c.message()}
		switch c.number(0, 5) {
		case 0:
			continue
		case 1:
			found.Message = nil
		case 2:
			found.Time = found.Time.Add(time.Hour)
		}
		in.Entries = append(in.Entries, found)
	}
	return in
}
