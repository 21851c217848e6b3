package integration

import (
	"bytes"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// The same client identifier again: the old connection is told, closed, and the new one has the session.
// [MQTT-3.1.4-3] [3.1.1 MQTT-3.1.4-2] [case 36] [MQTT-3.14.4-2]
func TestTakeoverClosesTheOldConnection(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		first := b.ConnectRaw(t, harness.PersistentConnect(v, "c"))
		first.Subscribe(harness.Filter("a", 1))
		second := b.Resume(t, v, "c")
		last := first.ExpectClosed()
		if v == mqttcodec.V5 {
			if len(last) != 1 {
				t.Fatalf("got %v before the close, want DISCONNECT", last)
			}
			if d, ok := last[0].(*mqttcodec.Disconnect); !ok || d.Reason != mqttcodec.SessionTakenOver {
				t.Errorf("got %T %+v before the close, want DISCONNECT 0x8E", last[0], last[0])
			}
		} else if len(last) != 0 {
			t.Errorf("a 3.1.1 client got %v before the close", last)
		}
		b.ConnectRaw(t, harness.CleanConnect(v, "p")).Publish(mqttcodec.Publish{Topic: "a", QoS: 1})
		harness.Expect[*mqttcodec.Publish](second)
	})
}

// What was unacknowledged on the old connection is resent on the new one. [MQTT-4.4.0-1] [case 142]
func TestTakeoverResendsInFlight(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	first := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "c"))
	first.Subscribe(harness.Filter("a", 2))
	p := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
	p.PublishAll(mixed("a", 0, 10))
	sent := receiveUnanswered(first, 10)
	second := b.Resume(t, mqttcodec.V5, "c")
	p.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, Payload: []byte("new")})
	again := readResent(t, second)
	for i := range sent {
		if i >= len(again.publishes) || again.publishes[i] != sent[i] {
			t.Fatalf("resent %v, want %v", again.publishes, sent)
		}
	}
	finish(t, second, again, []string{"new"})
}

// A connection that takes nothing does not hold up the one that takes over from it. [MQTT-3.1.4-3] [3.1.1 MQTT-3.1.4-2]
// [case 195]
func TestTakeoverDoesNotWaitForTheOldConnection(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		stuck := b.ConnectRaw(t, harness.PersistentConnect(v, "c"))
		stuck.Subscribe(harness.Filter("flood", 1))
		p := b.ConnectRaw(t, harness.CleanConnect(v, "p"))
		flood := make([]mqttcodec.Publish, 40) // more than the sockets hold
		for i := range flood {
			flood[i] = mqttcodec.Publish{Topic: "flood", QoS: mqttcodec.QoS(i % 2), Payload: make([]byte, 1<<19)}
		}
		p.PublishAll(flood)
		begin := time.Now()
		fresh := b.ConnectRaw(t, harness.CleanConnect(v, "c"))
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("CONNACK came after %v", took)
		}
		if fresh.Connack.SessionPresent {
			t.Error("session present is 1 after a clean start")
		}
		fresh.Subscribe(harness.Filter("a", 1))
		p.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, Payload: []byte("new")})
		if m := harness.Expect[*mqttcodec.Publish](fresh); string(m.Payload) != "new" {
			t.Errorf("got %q of the old session", m.Payload)
		}
	})
}

// A session of a connection with expiry 0 is not inherited by the connection that takes over. (3.1.2.11.2) [MQTT-3.2.2-3]
// [3.1.1 MQTT-3.1.2-6] [3.1.1 MQTT-3.2.2-3] [case 38]
func TestTakeoverOfPassingSessionInheritsNothing(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		first := b.ConnectRaw(t, harness.CleanConnect(v, "c"))
		first.Subscribe(harness.Filter("a", 1))
		if b.ConnectRaw(t, harness.PersistentConnect(v, "c")).Connack.SessionPresent {
			t.Error("session present is 1 for a session that ended with its connection")
		}
	})
}

// A client that is silent for one and a half times its keep alive is gone, its will published; PINGREQ keeps it.
// [MQTT-3.1.2-22] [3.1.1 MQTT-3.1.2-24] [case 29]
func TestKeepAliveTimeout(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		watcher := harness.NewDevice(v, "watcher").Connect(b, harness.Ephemeral)
		watcher.Subscribe("will", 1)
		connect := harness.CleanConnect(v, "silent")
		connect.KeepAliveSeconds = 1
		connect.Will = &mqttcodec.Will{Topic: "will", Payload: []byte("silent"), QoS: 1}
		silent := b.ConnectRaw(t, connect)
		for range 4 {
			harness.Wait(500 * time.Millisecond)
			silent.Send(&mqttcodec.Pingreq{})
			harness.Expect[*mqttcodec.Pingresp](silent)
		}
		begin := time.Now()
		last := silent.ExpectClosed()
		if took := time.Since(begin); took < 1400*time.Millisecond || took > 6*time.Second {
			t.Errorf("closed after %v, want 1.5 s and a little", took)
		}
		if d, ok := firstPacket(last).(*mqttcodec.Disconnect); v == mqttcodec.V5 && (!ok || d.Reason != mqttcodec.KeepAliveTimeout) {
			t.Errorf("got %v before the close, want DISCONNECT 0x8D", last)
		}
		watcher.ExpectPayloads("silent")
	})
}

func firstPacket(packets []mqttcodec.Packet) mqttcodec.Packet {
	if len(packets) == 0 {
		return nil
	}
	return packets[0]
}

// PINGREQ is answered at once, n for n. [MQTT-3.12.4-1] [3.1.1 MQTT-3.12.4-1] [case 179]
func TestPing(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V311, "c"))
	c.Send(&mqttcodec.Pingreq{}, &mqttcodec.Pingreq{}, &mqttcodec.Pingreq{})
	for range 3 {
		harness.Expect[*mqttcodec.Pingresp](c)
	}
}

// Never more than the client's Receive Maximum is unacknowledged; QoS 0 and answers pass by it; the next connection
// counts afresh. [MQTT-3.3.4-9] [MQTT-4.9.0-2] [MQTT-4.9.0-3] [MQTT-3.3.4-10] [case 146] [case 147]
func TestReceiveMaximumOfTheClientHolds(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	connect := harness.PersistentConnect(mqttcodec.V5, "c")
	connect.Properties.ReceiveMaximum = 3
	c := b.ConnectRaw(t, connect)
	c.Subscribe(harness.Filter("a", 2), harness.Filter("zero", 0))
	p := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
	p.PublishAll(mixed("a", 0, 10))
	sent := receiveUnanswered(c, 3)
	p.Publish(mqttcodec.Publish{Topic: "zero", Payload: []byte("passes")})
	p.Publish(mqttcodec.Publish{Topic: "sync", QoS: 1})
	if m := harness.Expect[*mqttcodec.Publish](c); m.Topic != "zero" {
		t.Fatalf("a fourth message came with three unacknowledged: %+v", m)
	}
	c.Send(&mqttcodec.Pingreq{})
	harness.Expect[*mqttcodec.Pingresp](c)
	for _, m := range sent {
		c.Answer(&mqttcodec.Publish{QoS: m.qos, PacketID: m.id})
	}
	_, qos2 := identifiersByQoS(sent)
	open, most := len(qos2), 0 // a QoS 2 message counts until its PUBCOMP
	for received := 3; received < 10 || open > 0; {
		r := c.Read()
		switch r := r.(type) {
		case *mqttcodec.Publish:
			received++
			open++
			most = max(most, open)
			if r.QoS == 1 {
				open--
			}
		case *mqttcodec.Pubrel:
			open--
		default:
			t.Fatalf("got %T", r)
		}
		c.Answer(r)
	}
	if most > 3 {
		t.Errorf("%d messages unacknowledged at once, Receive Maximum is 3", most)
	}
}

// A client that sends more than the broker's Receive Maximum allows is disconnected. [MQTT-3.3.4-7] [case 91]
func TestReceiveMaximumOfTheBrokerIsEnforced(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c"))
	limit := c.Connack.Properties.ReceiveMaximum
	if limit == 0 {
		t.Fatal("CONNACK names no Receive Maximum")
	}
	var burst []mqttcodec.Packet
	for id := range limit + 1 {
		burst = append(burst, &mqttcodec.Publish{Topic: "a", QoS: 2, PacketID: id + 1})
	}
	c.Send(burst...)
	last := c.ExpectClosed()
	if len(last) == 0 {
		t.Fatal("closed without DISCONNECT")
	}
	if d, ok := last[len(last)-1].(*mqttcodec.Disconnect); !ok || d.Reason != mqttcodec.ReceiveMaximumExceeded {
		t.Errorf("last packet %T %+v, want DISCONNECT 0x93", last[len(last)-1], last[len(last)-1])
	}
}

// A message too large for a subscriber is left out for it alone, and those behind it flow. [MQTT-3.1.2-24] [MQTT-3.1.2-25]
// [case 149]
func TestMaximumPacketSizeOfTheClientHolds(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	connect := harness.CleanConnect(mqttcodec.V5, "small")
	connect.Properties.MaximumPacketSize = 100
	small := b.ConnectRaw(t, connect)
	small.Subscribe(harness.Filter("a", 2))
	large := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "large"))
	large.Subscribe(harness.Filter("a", 2))
	p := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
	// PUBLISH at QoS 1: 2 bytes fixed header, 3 topic, 2 identifier, 1 property length: 92 bytes of payload make 100.
	sizes := []int{93, 92, 5000, 1}
	for _, size := range sizes {
		p.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, Payload: make([]byte, size)})
	}
	for _, want := range []int{92, 1} {
		m := harness.Expect[*mqttcodec.Publish](small)
		small.Answer(m)
		if len(m.Payload) != want {
			t.Errorf("the small client got %d bytes, want %d", len(m.Payload), want)
		}
	}
	for _, want := range sizes {
		m := harness.Expect[*mqttcodec.Publish](large)
		large.Answer(m)
		if len(m.Payload) != want {
			t.Errorf("the large client got %d bytes, want %d", len(m.Payload), want)
		}
	}
}

// A packet larger than the broker's limit ends the connection, for the same reason in CONNACK and DISCONNECT. (3.2.2.3.6)
// [MQTT-3.2.2-15] [case 93]
func TestMaximumPacketSizeOfTheBrokerIsEnforced(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, harness.Set("limits.max_packet", "64KiB"))
	c := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "c"))
	limit := c.Connack.Properties.MaximumPacketSize
	if limit != 64<<10 {
		t.Fatalf("CONNACK names Maximum Packet Size %d, want 64 KiB", limit)
	}
	header := 1 + 3 + 3 + 1
	c.Send(&mqttcodec.Publish{Topic: "a", Payload: make([]byte, int(limit)-header)})
	c.Send(&mqttcodec.Pingreq{})
	harness.Expect[*mqttcodec.Pingresp](c)
	// Only the fixed header: the broker refuses without waiting for the body.
	c.SendBytes(0x30, 0x81, 0x80, 0x04)
	last := c.ExpectClosed()
	if d, ok := firstPacket(last).(*mqttcodec.Disconnect); !ok || d.Reason != mqttcodec.PacketTooLarge {
		t.Errorf("got %v, want DISCONNECT 0x95", last)
	}
}

// A message that expired while it was queued is not delivered; one that did not carries what is left. [MQTT-3.3.2-5] [MQTT-3.3.2-6]
// [case 150]
func TestMessageExpiry(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "c"))
	c.Subscribe(harness.Filter("a", 1))
	c.Disconnect()
	p := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
	expiring := func(payload string, seconds uint32) {
		m := mqttcodec.Publish{Topic: "a", QoS: 1, Retain: true, Payload: []byte(payload)}
		m.Properties.MessageExpirySeconds = mqttcodec.Some(seconds)
		p.Publish(m)
	}
	expiring("lives", 100)
	expiring("dies", 1)
	harness.Wait(2100 * time.Millisecond)
	b.Restart(harness.Kill9, p)
	c = b.Resume(t, mqttcodec.V5, "c")
	m := harness.Expect[*mqttcodec.Publish](c)
	left := m.Properties.MessageExpirySeconds
	if string(m.Payload) != "lives" || !left.Present || left.Value > 98 || left.Value < 70 {
		t.Errorf("got %q with expiry %+v, want the one that lives, with less than 98 s", m.Payload, left)
	}
	c.Answer(m)
	p = b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "p"))
	p.Publish(mqttcodec.Publish{Topic: "a", QoS: 1, Payload: []byte("next")})
	if m := harness.Expect[*mqttcodec.Publish](c); string(m.Payload) != "next" || m.Properties.MessageExpirySeconds.Present {
		t.Errorf("got %+v, want the next message, without expiry", m)
	}
	// The retained message of the topic was the one that died.
	fresh := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "fresh"))
	fresh.Subscribe(harness.Filter("a", 1), harness.Filter("b", 1))
	p.Publish(mqttcodec.Publish{Topic: "b", QoS: 1})
	if m := harness.Expect[*mqttcodec.Publish](fresh); m.Topic != "b" {
		t.Errorf("an expired retained message was sent: %+v", m)
	}
}

// Bytes that are no MQTT, of no or of a broken client, end that connection and nothing else.
// [MQTT-3.1.0-1] [MQTT-3.1.0-2] [MQTT-3.1.2-3] [MQTT-3.8.3-2]
func TestBadBytesEndOneConnection(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	bystander := harness.NewDevice(mqttcodec.V5, "bystander").Connect(b, harness.Ephemeral)
	bystander.Subscribe("a", 1)
	connect := []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1, 'x'}
	cases := map[string][]byte{
		"no CONNECT":               {0xC0, 0},
		"reserved type":            {0x00, 0},
		"HTTP":                     []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"endless length":           {0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		"huge PUBLISH first":       {0x30, 0xFF, 0xFF, 0xFF, 0x7F},
		"unknown protocol":         {0x10, 13, 0, 4, 'M', 'Q', 'X', 'X', 4, 2, 0, 0, 0, 1, 'x'},
		"second CONNECT":           append(bytes.Clone(connect), connect...),
		"reserved connect flag":    {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 3, 0, 0, 0, 1, 'x'},
		"SUBSCRIBE without filter": append(bytes.Clone(connect), 0x82, 2, 0, 1),
		"SUBSCRIBE cut off":        append(bytes.Clone(connect), 0x82, 6, 0x12, 0x34, 0, 0, 1, 0x70),
		"QoS 3":                    append(bytes.Clone(connect), 0x36, 5, 0, 1, 'a', 0, 1),
		"wildcard in a topic":      append(bytes.Clone(connect), 0x30, 3, 0, 1, '#'),
		"packet identifier 0":      append(bytes.Clone(connect), 0x32, 5, 0, 1, 'a', 0, 0),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			r := b.Dial(t, mqttcodec.V311)
			r.SendBytes(data...)
			r.ExpectClosed()
		})
	}
	bystander.Publish("a", 1, "unharmed")
	bystander.ExpectPayloads("unharmed")
}
