package sessions

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dunlin/mqttcodec"
)

// recordExample is a record as plain NATS tools show it.
const recordExample = `{
	"format": 2, "client_id": "c", "incarnation": "n1", "owner": "boot1", "epoch": 12, "nonce": "n7", "principal": "alice", "protocol": 5,
	"expiry_seconds": 60, "detached_at": "2026-01-01T00:00:10Z",
	"subscriptions": [
		{"filter": "a/#", "qos": 1, "no_local": true, "retain_as_published": true, "retain_handling": 2, "identifier": 9,
		 "since": {"shard": 0, "sequence": 41, "time": "2026-01-01T00:00:00Z"}},
		{"filter": "b", "qos": 0, "since": {"sequence": 50}}
	],
	"will": {"Topic": "w", "Payload": "eA==", "QoS": 1, "DelaySeconds": 30}
}`

func TestRecordReadsAsItStands(t *testing.T) {
	r, err := DecodeRecord([]byte(recordExample))
	if err != nil {
		t.Fatal(err)
	}
	left := start.Add(10 * time.Second)
	want := &Record{
		Format: 2, ClientID: "c", Incarnation: "n1", Owner: "boot1", Epoch: 12, Nonce: "n7", Principal: "alice", Protocol: mqttcodec.V5,
		ExpirySeconds: 60, DetachedAt: &left,
		Subscriptions: []Subscription{
			{
				Filter: "a/#", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Identifier: 9,
				Since: Position{Sequence: 41, Time: start},
			},
			{Filter: "b", Since: Position{Sequence: 50}},
		},
		Will: &mqttcodec.Will{Topic: "w", Payload: []byte("x"), QoS: 1, DelaySeconds: 30},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("\n got %+v\nwant %+v", r, want)
	}
}

// What a session writes is the session that is restored.
func TestRecordComesBackAsItWent(t *testing.T) {
	cfg := DefaultConfig("boot1")
	s, err := Restore(&cfg, Stored{ClientID: "c", Record: []byte(recordExample)}, Recovery{Now: start})
	if err != nil {
		t.Fatal(err)
	}
	s.will.Properties = mqttcodec.MessageProperties{
		PayloadFormat: mqttcodec.Some(byte(1)), MessageExpirySeconds: mqttcodec.Some(uint32(0)), ContentType: mqttcodec.Some(""),
		ResponseTopic: "r", CorrelationData: []byte{0, 0xFF}, UserProperties: []mqttcodec.UserProperty{{Key: "k", Value: "<&>"}, {Key: "k"}},
	}
	r, err := DecodeRecord(s.encodeRecord())
	if err != nil {
		t.Fatal(err)
	}
	want, _ := DecodeRecord([]byte(recordExample))
	want.Will = s.will
	if !reflect.DeepEqual(r, want) {
		t.Errorf("\n got %+v\nwant %+v", r, want)
	}
}

// What is appended is what encoding/json makes of it, and reads.
func TestRecordIsJSON(t *testing.T) {
	text := rapid.OneOf(rapid.StringMatching(`[a-zA-Z0-9/_+#$-]{0,9}`), rapid.String())
	when := rapid.Custom(func(t *rapid.T) time.Time {
		return start.Add(time.Duration(rapid.Int64Range(-1e18, 1e18).Draw(t, "nanoseconds")))
	})
	number := func(most uint64) *rapid.Generator[uint64] {
		return rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Max(most))
	}
	position := rapid.Custom(func(t *rapid.T) (p Position) {
		if rapid.Bool().Draw(t, "somewhere") {
			p = Position{Shard: rapid.Uint16().Draw(t, "shard"), Sequence: rapid.Uint64().Draw(t, "sequence"), Time: when.Draw(t, "time")}
		}
		return p
	})
	subscription := rapid.Custom(func(t *rapid.T) Subscription {
		return Subscription{
			Filter: text.Draw(t, "filter"), QoS: mqttcodec.QoS(number(2).Draw(t, "qos")),
			NoLocal: rapid.Bool().Draw(t, "no local"), RetainAsPublished: rapid.Bool().Draw(t, "retain as published"),
			RetainHandling: mqttcodec.RetainHandling(number(2).Draw(t, "retain handling")),
			Identifier:     uint32(number(maxSubscriptionIdentifier).Draw(t, "identifier")), Since: position.Draw(t, "since"),
			FormerQoS: mqttcodec.QoS(number(2).Draw(t, "former qos")), FormerUntil: position.Draw(t, "former until"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		r := Record{
			Format: int(rapid.Byte().Draw(t, "format")), ClientID: text.Draw(t, "client"), Incarnation: text.Draw(t, "incarnation"),
			Owner: text.Draw(t, "owner"), Epoch: number(math.MaxUint64).Draw(t, "epoch"), Nonce: text.Draw(t, "nonce"),
			Principal: text.Draw(t, "principal"), Protocol: mqttcodec.Version(rapid.Byte().Draw(t, "protocol")),
			ExpirySeconds: rapid.Uint32().Draw(t, "expiry"), Subscriptions: rapid.SliceOfN(subscription, 0, 3).Draw(t, "subscriptions"),
		}
		if rapid.Bool().Draw(t, "detached") {
			left := when.Draw(t, "left")
			r.DetachedAt = &left
		}
		if rapid.Bool().Draw(t, "will") {
			r.Will = &mqttcodec.Will{Topic: text.Draw(t, "topic"), Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"), QoS: 1}
		}
		want, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.append(nil); !bytes.Equal(got, want) {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	})
}

// A record of before principals is that of an anonymous client.
func TestRecordOfFormat1IsAnonymous(t *testing.T) {
	old := strings.Replace(strings.Replace(recordExample, `"format": 2`, `"format": 1`, 1), `"principal": "alice", `, "", 1)
	cfg := DefaultConfig("boot1")
	s, err := Restore(&cfg, Stored{ClientID: "c", Record: []byte(old)}, Recovery{Now: start})
	if err != nil || s.identity.Principal != "" || len(s.subs.list) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestDamagedRecordIsRefused(t *testing.T) {
	for claim, data := range map[string]string{
		"nothing":                "",
		"not JSON":               "x",
		"half of it":             recordExample[:len(recordExample)/2],
		"a format of the future": strings.Replace(recordExample, `"format": 2`, `"format": 3`, 1),
		"no format":              strings.Replace(recordExample, `"format"`, `"formal"`, 1),
		"no client identifier":   strings.Replace(recordExample, `"client_id"`, `"client"`, 1),
		"no incarnation":         strings.Replace(recordExample, `"n1"`, `""`, 1),
		"an expiry below 0":      strings.Replace(recordExample, `60`, `-1`, 1),
		"another client's":       strings.Replace(recordExample, `"client_id": "c"`, `"client_id": "d"`, 1),
		"a filter that is none":  strings.Replace(recordExample, `"filter": "`, `"filter": "#`, 1),
		"a will for a filter":    strings.Replace(recordExample, `"Topic": "`, `"Topic": "#`, 1),
		"a time that is none":    strings.Replace(recordExample, `00:00:10Z`, `soon`, 1),
	} {
		if r, err := (Stored{ClientID: "c", Record: []byte(data)}).DecodeRecord(); err == nil {
			t.Errorf("%s: %+v", claim, r)
		}
		cfg := DefaultConfig("boot1")
		if s, err := Restore(&cfg, Stored{ClientID: "c", Record: []byte(data)}, Recovery{}); err == nil || s != nil {
			t.Errorf("%s: restored %v, %v", claim, s, err)
		}
	}
}

// The deadlines that a record tells are those of the session that it becomes. [MQTT-3.1.2-8] [MQTT-3.1.2-23]
func TestRecordTellsTheDeadlinesOfItsSession(t *testing.T) {
	left := start.Add(10 * time.Second)
	for _, c := range []struct {
		expiry, delay uint32
		will          bool
		ends, fires   time.Duration // after the end of the connection; -1: never
	}{
		{60, 30, true, 60 * time.Second, 30 * time.Second},
		{60, 90, true, 60 * time.Second, 60 * time.Second},
		{60, 0, false, 60 * time.Second, -1},
		{0, 30, true, 0, 0},
		{neverSeconds, 30, true, -1, 30 * time.Second},
		{neverSeconds, math.MaxUint32, true, -1, math.MaxUint32 * time.Second},
	} {
		r := Record{Format: 1, ClientID: "c", Incarnation: "n1", Protocol: mqttcodec.V5, ExpirySeconds: c.expiry, DetachedAt: &left}
		if c.will {
			r.Will = &mqttcodec.Will{Topic: "w", DelaySeconds: c.delay}
		}
		after := func(d time.Duration) time.Time {
			if d < 0 {
				return time.Time{}
			}
			return left.Add(d)
		}
		if got := r.ExpiresAt(left); !got.Equal(after(c.ends)) {
			t.Errorf("%+v: ends at %v", c, got)
		}
		if got := r.WillAt(left); !got.Equal(after(c.fires)) {
			t.Errorf("%+v: will at %v", c, got)
		}
		data, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig("boot1")
		cfg.MaxExpiry = Never
		s, err := Restore(&cfg, Stored{ClientID: "c", Record: data}, Recovery{})
		if err != nil {
			t.Fatal(err)
		}
		want := r.ExpiresAt(left)
		if will := r.WillAt(left); !will.IsZero() && (want.IsZero() || will.Before(want)) {
			want = will
		}
		if got := s.Deadline(); !got.Equal(want) {
			t.Errorf("%+v: the session has something to do at %v, its record at %v", c, got, want)
		}
	}
}

// When a session was left is told by its record, by the last sign of life of its owner, or not at all.
func TestSessionWasLeftWhenItsOwnerWasLastAlive(t *testing.T) {
	recorded, seen, now := start, start.Add(time.Hour), start.Add(2*time.Hour)
	before, longBefore := seen.Add(-staleFor), seen.Add(-staleFor-1)
	recovery := Recovery{Checkpoints: map[string]*Checkpoint{"boot1": {Time: seen}, "boot2": {Time: seen, Released: true}}, Now: now}
	for claim, c := range map[string]struct {
		r    Record
		want time.Time
	}{
		"recorded":           {Record{Owner: "boot1", DetachedAt: &recorded}, recorded},
		"before owner died":  {Record{Owner: "boot1", DetachedAt: &before}, seen}, // the client may have been back
		"long before":        {Record{Owner: "boot1", DetachedAt: &longBefore}, longBefore},
		"after last word":    {Record{Owner: "boot1", DetachedAt: &now}, now},
		"owner went down":    {Record{Owner: "boot2", DetachedAt: &before}, before},
		"recorded, no word":  {Record{Owner: "boot0", DetachedAt: &before}, before},
		"owner died":         {Record{Owner: "boot1"}, seen},
		"owner left no word": {Record{Owner: "boot0"}, now},
	} {
		if got := LeftAt(&c.r, recovery); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", claim, got, c.want)
		}
	}
}

// A cap that was lowered counts for the sessions that are there. (3.2.2.3.2)
func TestStoredExpiryIsCappedToo(t *testing.T) {
	for _, c := range []struct {
		stored uint32
		limit  time.Duration
		want   time.Duration
	}{
		{60, time.Hour, time.Minute},
		{7200, time.Hour, time.Hour},
		{neverSeconds, time.Hour, time.Hour},
		{neverSeconds, Never, Never},
	} {
		cfg := DefaultConfig("boot1")
		cfg.MaxExpiry = c.limit
		r, _ := DecodeRecord([]byte(recordExample))
		r.ExpirySeconds = c.stored
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Restore(&cfg, Stored{ClientID: "c", Record: data}, Recovery{})
		if err != nil || s.expiry != c.want {
			t.Errorf("%d seconds, at most %v: %v, %v", c.stored, c.limit, s.expiry, err)
		}
	}
}

func TestQueuedFiltersAreThoseAboveQoS0(t *testing.T) {
	r, _ := DecodeRecord([]byte(recordExample))
	for qos0, want := range map[bool][]string{false: {"a/#"}, true: {"a/#", "b"}} {
		cfg := DefaultConfig("boot1")
		cfg.QueueQoS0 = qos0
		s, err := Restore(&cfg, Stored{ClientID: "c", Record: []byte(recordExample)}, Recovery{})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.QueuedFilters(qos0); !slices.Equal(got, want) || !slices.Equal(s.QueuedFilters(), want) {
			t.Errorf("with QoS 0 %v: record %v, session %v, want %v", qos0, got, s.QueuedFilters(), want)
		}
	}
}

func TestIncarnationIsReadFromAnIdentity(t *testing.T) {
	for id, want := range map[string]string{publishID("n1", 7, 9): "n1", willID("n1", "n7"): "n1", "": "", "from elsewhere": ""} {
		if got := IncarnationOf(id); got != want {
			t.Errorf("%q is of %q, want %q", id, got, want)
		}
	}
}

// FuzzDecodeRecord: whatever the bytes, they are refused or restored as a session that can be written again.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(recordExample))
	f.Add([]byte(`{"format":1,"client_id":"c","incarnation":"n"}`))
	cfg := DefaultConfig("boot1")
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Restore(&cfg, Stored{Record: b}, Recovery{Now: start})
		if err != nil {
			return
		}
		s.Step(start.Add(time.Hour), Awake{}, nil)
		s.Flush(start.Add(time.Hour), nil)
		if s.Absent() || s.state == stateEnding {
			return
		}
		if _, err := DecodeRecord(s.encodeRecord()); err != nil {
			t.Fatalf("%s is written as %s: %v", b, s.encodeRecord(), err)
		}
	})
}
