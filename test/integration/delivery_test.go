package integration

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// Of fifty connections with one client identifier at once exactly one stays, and it works. [MQTT-3.1.4-3] [case 37]
func TestTakeoverRaceLeavesOne(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	const n = 50
	connections := make([]*harness.Raw, n)
	for i := range connections {
		connections[i] = b.Dial(t, mqttcodec.V5)
	}
	var connecting sync.WaitGroup
	for _, c := range connections {
		connecting.Go(func() {
			if err := c.TrySend(harness.PersistentConnect(mqttcodec.V5, "one")); err == nil {
				_, _ = c.TryRead() // CONNACK, or taken over before it
			}
		})
	}
	connecting.Wait()
	// The next connection of the client ends whichever has stayed: then all must be over.
	last := b.Resume(t, mqttcodec.V5, "one")
	takenOver := 0
	for _, c := range connections {
		for _, p := range c.ExpectClosed() {
			if d, ok := p.(*mqttcodec.Disconnect); ok && d.Reason == mqttcodec.SessionTakenOver {
				takenOver++
			}
		}
	}
	if takenOver == 0 {
		t.Error("nobody was told that the session was taken over")
	}
	last.Subscribe(harness.Filter("a", 1))
	last.Send(&mqttcodec.Publish{Topic: "a", QoS: 1, PacketID: 1})
	for left := 2; left > 0; left-- {
		last.Read() // PUBACK and the message
	}
}

// A session goes on when its client comes back with another version; properties stay with those who know them. (4.1)
// [case 46]
func TestSessionOutlivesAChangeOfVersion(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V311, "c"))
	c.Subscribe(harness.Filter("a", 2))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	m := mqttcodec.Publish{Topic: "a", QoS: 1, Payload: []byte("x")}
	m.Properties.ContentType = mqttcodec.Some("text")
	publisher.Publish(m)
	sent := receiveUnanswered(c, 1)
	for _, v := range []mqttcodec.Version{mqttcodec.V5, mqttcodec.V311, mqttcodec.V31, mqttcodec.V5} {
		c.Disconnect()
		c = b.ConnectRaw(t, harness.PersistentConnect(v, "c"))
		if present := c.Connack.SessionPresent; present != (v != mqttcodec.V31) {
			t.Errorf("session present is %v for version %s", present, harness.VersionName(v))
		}
		again := harness.Expect[*mqttcodec.Publish](c)
		if inflightOf(again) != sent[0] || !again.Duplicate || again.Properties.ContentType.Present != (v == mqttcodec.V5) {
			t.Errorf("version %s got %+v", harness.VersionName(v), again)
		}
	}
}

// Messages stay in order, and none is missing, while the subscriber comes and goes in the middle of a burst: from
// queue to live and back, by leaving, by breaking off, by takeover. [MQTT-4.6.0-5] [MQTT-4.6.0-6] [case 144] [case 145]
// [case 191]
func TestOrderHoldsWhileTheSubscriberComesAndGoes(t *testing.T) {
	t.Parallel()
	harness.EachVersion(t, func(t *testing.T, v mqttcodec.Version) {
		b := harness.Start(t)
		const n = 6000
		c := b.ConnectRaw(t, harness.PersistentConnect(v, "c"))
		c.Subscribe(harness.Filter("a", 1))
		publisher := b.ConnectRaw(t, harness.CleanConnect(v, "publisher"))
		var publishing sync.WaitGroup
		publishing.Go(func() {
			if err := publisher.TryPublishAll(harness.Messages("a", 1, "", n)); err != nil {
				t.Error(err)
			}
		})
		seen := make([]bool, n)
		next := 0 // the lowest number that has not come
		for turn := 0; next < n; turn++ {
			for until := min(n, next+1+turn*37%400); next < until; {
				m := harness.Expect[*mqttcodec.Publish](c)
				c.Answer(m)
				var number int
				if _, err := fmt.Sscan(string(m.Payload), &number); err != nil {
					t.Fatal(err)
				}
				switch {
				case number == next:
					seen[next] = true
					next++
				case number > next:
					t.Fatalf("%d came before %d", number, next)
				case !m.Duplicate:
					t.Fatalf("%d came again without DUP, %d was due", number, next)
				}
			}
			switch turn % 3 {
			case 0:
				c.Disconnect()
			case 1:
				c.Drop()
			case 2: // taken over
			}
			c = b.Resume(t, v, "c")
		}
		publishing.Wait()
	})
}

// A refusal ends the exchange: PUBREC 0x80 and above is followed by no PUBREL and no resending, and frees the slot; so
// does PUBACK. [MQTT-4.3.3-4] [MQTT-4.4.0-2] [case 148]
func TestRefusedDeliveryIsOver(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	connect := harness.PersistentConnect(mqttcodec.V5, "c")
	connect.Properties.ReceiveMaximum = 1
	c := b.ConnectRaw(t, connect)
	c.Subscribe(harness.Filter("a", 2))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.PublishAll(mixed("a", 0, 4))
	for i := range 4 {
		m := harness.Expect[*mqttcodec.Publish](c)
		if string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", m.Payload, i)
		}
		if m.QoS == 1 {
			c.Send(&mqttcodec.Puback{PacketID: m.PacketID, Reason: mqttcodec.QuotaExceeded})
		} else {
			c.Send(&mqttcodec.Pubrec{PacketID: m.PacketID, Reason: mqttcodec.UnspecifiedError})
		}
	}
	expectNothingLeft(t, b, c, mqttcodec.V5, "c")
}

// Acknowledgements may come in any order, repeated, or for nothing; each frees its identifier once, and one of the
// wrong kind ends the connection. [MQTT-4.4.0-2] [case 88] [case 159]
func TestAcknowledgementsOfTheClient(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	c := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, "c"))
	c.Subscribe(harness.Filter("a", 2))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	publisher.PublishAll(harness.Messages("a", 1, "", 10))
	sent := receiveUnanswered(c, 10)
	slices.Reverse(sent)
	for _, m := range sent {
		c.Send(&mqttcodec.Puback{PacketID: m.id}, &mqttcodec.Puback{PacketID: m.id})
	}
	c.Send(&mqttcodec.Puback{PacketID: 5000}, &mqttcodec.Pubcomp{PacketID: 5000}, &mqttcodec.Pubrec{PacketID: 5000})
	if rel := harness.Expect[*mqttcodec.Pubrel](c); rel.PacketID != 5000 || rel.Reason != mqttcodec.PacketIdentifierNotFound {
		t.Errorf("PUBREL %+v for an unknown identifier, want 0x92", rel)
	}
	expectNothingLeft(t, b, c, mqttcodec.V5, "c")

	c = b.Resume(t, mqttcodec.V5, "c")
	publisher.Publish(mqttcodec.Publish{Topic: "a", QoS: 1})
	m := harness.Expect[*mqttcodec.Publish](c)
	c.Send(&mqttcodec.Pubrec{PacketID: m.PacketID})
	last := c.ExpectClosed()
	if d, ok := firstPacket(last).(*mqttcodec.Disconnect); !ok || d.Reason != mqttcodec.ProtocolErrorReason {
		t.Errorf("PUBREC for %+v: got %T %+v before the close, want DISCONNECT 0x82", m, firstPacket(last), firstPacket(last))
	}
}

// Subscribers that read nothing cost bounded memory and hold nobody up, at QoS 0 and at QoS 1. (4.3.1) [case 156]
func TestSlowReaderHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	for qos := range mqttcodec.QoS(2) {
		slow := b.ConnectRaw(t, harness.PersistentConnect(mqttcodec.V5, fmt.Sprint("slow", qos)))
		slow.Subscribe(harness.Filter("flood", qos))
	}
	fast := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "fast"))
	fast.Subscribe(harness.Filter("sync", 1))
	publisher := b.ConnectRaw(t, harness.CleanConnect(mqttcodec.V5, "publisher"))
	before, err := b.RSS()
	if err != nil {
		harness.Missing(t, err.Error())
	}
	const chunks, chunk, size = 20, 100, 128 << 10 // 250 MiB
	flood := make([]mqttcodec.Publish, chunk)
	for i := range flood {
		flood[i] = mqttcodec.Publish{Topic: "flood", Payload: make([]byte, size)}
	}
	for range chunks {
		publisher.PublishAll(append(flood[:chunk:chunk], mqttcodec.Publish{Topic: "sync", QoS: 1}))
		fast.Answer(harness.Expect[*mqttcodec.Publish](fast))
	}
	after, err := b.RSS()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("RSS %d MiB before, %d MiB after %d MiB for clients that read nothing", before>>20, after>>20, chunks*chunk*size>>20)
	if after-before > 120<<20 {
		t.Errorf("RSS grew by %d MiB", (after-before)>>20)
	}
}
