package sessions

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// drawPosition draws a place in the log.
func drawPosition(t *rapid.T) Position {
	p := Position{Shard: rapid.Uint16().Draw(t, "shard"), Sequence: rapid.Uint64().Draw(t, "sequence")}
	if rapid.Bool().Draw(t, "time is known") {
		p.Time = time.Unix(0, rapid.Int64Range(1, 1<<62).Draw(t, "time")).UTC()
	}
	return p
}

// drawJournaled draws a session with whatever a journal can hold.
func drawJournaled(t *rapid.T) *Session {
	cfg := DefaultConfig(rapid.String().Draw(t, "boot"))
	s := New(&cfg, "c", Stored{})
	s.incarnation, s.epoch = rapid.String().Draw(t, "incarnation"), rapid.Uint64().Draw(t, "epoch")
	s.looked, s.generation = drawPosition(t), rapid.Uint64().Draw(t, "generation")
	if rapid.Bool().Draw(t, "live") {
		s.mode = modeLive
	}
	s.ids.setNext(rapid.Uint16().Draw(t, "next identifier"))
	for _, id := range rapid.SliceOfDistinct(rapid.Uint16Range(1, maxPacketID), rapid.ID[uint16]).Draw(t, "outbound") {
		s.inflight = append(s.inflight, outbound{
			packetID: id, qos: mqttcodec.QoS(rapid.IntRange(1, 2).Draw(t, "qos")),
			state: outboundState(rapid.IntRange(0, int(outboundStates)-1).Draw(t, "state")), entry: Entry{Position: drawPosition(t)},
			retained: rapid.Bool().Draw(t, "retained"), retain: rapid.Bool().Draw(t, "retain"), sent: rapid.Bool().Draw(t, "sent"),
			identifiers: drawIdentifiers(t),
		})
	}
	s.inbound = map[uint16]*inboundMessage{}
	for _, id := range rapid.SliceOf(rapid.Uint16Range(1, maxPacketID)).Draw(t, "inbound") {
		s.inbound[id] = &inboundMessage{generation: rapid.Uint64().Draw(t, "generation"), stored: rapid.Bool().Draw(t, "stored")}
	}
	return s
}

func drawIdentifiers(t *rapid.T) []uint32 {
	identifiers := rapid.SliceOfN(rapid.Uint32Range(1, maxSubscriptionIdentifier), 0, 3).Draw(t, "identifiers")
	if len(identifiers) == 0 {
		return nil
	}
	return identifiers
}

func TestJournalComesBackAsItWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawJournaled(t)
		b := s.appendJournal([]byte("before"))
		j, err := decodeJournal(b[len("before"):])
		if err != nil || string(b[:len("before")]) != "before" {
			t.Fatalf("%q: %v", b[:len("before")], err)
		}
		if want := journalOf(s); !reflect.DeepEqual(j, want) {
			t.Fatalf("\n got %+v\nwant %+v", j, want)
		}
	})
}

// A journal that was cut anywhere, or has something behind it, is refused.
func TestTruncatedJournalIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawJournaled(t).appendJournal(nil)
		for n := range b {
			if j, err := decodeJournal(b[:n]); err == nil {
				t.Fatalf("the first %d of %d bytes decode: %+v", n, len(b), j)
			}
		}
		if _, err := decodeJournal(append(b, 0)); err == nil {
			t.Fatal("one more byte decodes")
		}
	})
}

func TestDamagedJournalIsRefused(t *testing.T) {
	header := []byte{journalFormat, 0, 1, 'n', 1, 'b', 0, 0, 0, 0}
	for claim, b := range map[string][]byte{
		"nothing":                            nil,
		"a format of the future":             {journalFormat + 1},
		"an incarnation longer than it all":  {journalFormat, 0, 200, 1, 'n'},
		"a length past 64 bits":              {journalFormat, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F},
		"next packet identifier 0":           append(header[:10:10], 0, 0, 0, 0),
		"next packet identifier past 65,535": append(header[:10:10], 0x80, 0x80, 0x04, 0, 0, 0),
		"more deliveries than bytes":         append(header[:10:10], 1, 2, 1, 0x10, 0, 0, 0, 0, 0, 0),
		"a delivery at QoS 3":                append(header[:10:10], 1, 1, 1, 0x30, 0, 0, 0, 0, 0, 0),
		"a delivery in an unknown state":     append(header[:10:10], 1, 1, 1, 0x15, 0, 0, 0, 0, 0, 0),
		"a subscription identifier of 0":     append(header[:10:10], 1, 1, 1, 0x10, 16, 0, 0, 0, 1, 0, 0, 0),
		"a subscription identifier past all": append(header[:10:10], 1, 1, 1, 0x10, 16, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 1, 0, 0),
		"an inbound identifier of 0":         append(header[:10:10], 1, 0, 0, 1, 0, 1, 1),
	} {
		if j, err := decodeJournal(b); err == nil {
			t.Errorf("%s: %+v", claim, j)
		}
	}
	if _, err := decodeJournal(append(header[:10:10], 1, 1, 1, 0x10, 0, 0, 0, 0, 0, 0)); err != nil {
		t.Errorf("what those differ from: %v", err)
	}
}

// A session whose journal cannot be read is restored all the same, behind its first SUBSCRIBE, and says so.
func TestDamagedJournalDoesNotLoseTheSession(t *testing.T) {
	cfg := DefaultConfig("boot2")
	stored := Stored{ClientID: "c", Record: []byte(recordExample), RecordRevision: 3, Journal: []byte("damaged"), JournalRevision: 4}
	s, err := Restore(&cfg, stored, Recovery{Now: start})
	if err == nil || s == nil {
		t.Fatalf("session %v, %v", s, err)
	}
	if s.Position().Sequence != 41 || len(s.Filters()) != 2 || !s.foreign {
		t.Errorf("position %d, filters %v, to be written anew: %v", s.Position().Sequence, s.Filters(), s.foreign)
	}
}

// The journal of an earlier session under the client identifier is nobody's.
func TestJournalOfAnotherIncarnationIsIgnored(t *testing.T) {
	cfg := DefaultConfig("boot1")
	other := New(&cfg, "c", Stored{})
	other.incarnation, other.looked, other.generation = "another", at(100), 7
	other.inflight = []outbound{{packetID: 5, qos: 1, entry: Entry{Position: at(99)}}}
	other.inbound = map[uint16]*inboundMessage{1: {generation: 7, stored: true}}
	stored := Stored{ClientID: "c", Record: []byte(recordExample), RecordRevision: 3, Journal: other.appendJournal(nil), JournalRevision: 4}
	s, err := Restore(&cfg, stored, Recovery{Now: start})
	if err != nil {
		t.Fatal(err)
	}
	if s.Position().Sequence != 41 || len(s.inflight)+len(s.inbound) > 0 || s.generation != 0 {
		t.Errorf("position %d, %d outbound, %d inbound", s.Position().Sequence, len(s.inflight), len(s.inbound))
	}
}

// FuzzDecodeJournal: whatever the bytes, they are refused or restored; what is restored is written as it was read.
func FuzzDecodeJournal(f *testing.F) {
	cfg := DefaultConfig("boot1")
	s := New(&cfg, "c", Stored{})
	s.incarnation, s.looked, s.mode = "n1", at(300), modeLive
	f.Add(s.appendJournal(nil))
	s.inflight = []outbound{
		{packetID: 1, qos: 1, entry: Entry{Position: at(7)}, sent: true, state: awaitingPuback},
		{packetID: 65535, qos: 2, entry: Entry{Position: at(299)}, retained: true, state: pubrecSeen},
	}
	s.inbound = map[uint16]*inboundMessage{3: {generation: 1, stored: true}, 4: {generation: 2}}
	f.Add(s.appendJournal(nil))
	f.Add([]byte(strings.Repeat("\x01", 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := decodeJournal(b)
		if err != nil {
			return
		}
		restored, err := Restore(&cfg, Stored{ClientID: "c", Record: []byte(recordExample), Journal: b}, Recovery{Now: start})
		if err != nil {
			t.Fatalf("%+v: %v", j, err)
		}
		if again, err := decodeJournal(restored.appendJournal(nil)); err != nil || !reflect.DeepEqual(again, journalOf(restored)) {
			t.Fatalf("%+v is written as %+v: %v", j, again, err)
		}
	})
}
