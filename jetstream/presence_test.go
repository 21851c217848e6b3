package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/jetstream"
	"dunlin/jetstream/jetstreamtest"
	"dunlin/sessions"
)

// openPresence opens storage with presence that is kept, of clients that are offline as long as is said.
func openPresence(t *testing.T, d jetstream.Durability, offlineTTL time.Duration) (*jetstreamtest.NATS, *jetstream.Storage) {
	t.Helper()
	server := jetstream.DefaultEmbeddedConfig(t.TempDir())
	server.Listen, server.Durability = jetstream.ListenOff, d
	n := jetstreamtest.StartNATSWith(t, server)
	c := testConfig()
	c.Durability, c.AckTimeout = d, time.Minute
	c.Presence = jetstream.PresenceConfig{Enabled: true, OfflineTTL: offlineTTL}
	return n, openStorage(t, n, c)
}

func present(state sessions.PresenceState, clientID string) sessions.Presence {
	return sessions.Presence{
		Version: sessions.PresenceVersion, State: state, ClientID: clientID, Since: time.Unix(1, 5).UTC(), Node: "node", Boot: "boot",
		Principal: "ann", Protocol: "5.0", Remote: "127.0.0.1:1", Reason: "why",
	}
}

func putPresence(t *testing.T, s *jetstream.Storage, p sessions.Presence, expect uint64) sessions.Result {
	t.Helper()
	sink := make(jetstreamtest.Sink, 1)
	s.Presence().Put(p, expect, sink, 7)
	r := <-sink
	if r.Token != 7 {
		t.Errorf("the result has token %d", r.Token)
	}
	return r
}

func allPresent(t *testing.T, s *jetstream.Storage) (all map[string]sessions.Presence, revisions map[string]uint64) {
	t.Helper()
	all, revisions = map[string]sessions.Presence{}, map[string]uint64{}
	err := s.Presence().Each(testContext(t), func(p sessions.Presence, revision uint64) {
		if _, twice := all[p.ClientID]; twice {
			t.Errorf("%q is visited twice", p.ClientID)
		}
		all[p.ClientID], revisions[p.ClientID] = p, revision
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, revisions
}

// presenceBucket is the bucket as a NATS program sees it.
func presenceBucket(t *testing.T, n *jetstreamtest.NATS) natsjs.KeyValue {
	t.Helper()
	kv, err := newJS(t, n.Conn).KeyValue(testContext(t), "mqtt_presence")
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// There is a bucket, known as ours, when presence is kept, and none when it is not.
func TestPresenceBucketIsMadeWhenItIsNeeded(t *testing.T) {
	n, s := newStorage(t)
	js := newJS(t, n.Conn)
	if _, err := js.KeyValue(testContext(t), "mqtt_presence"); !errors.Is(err, natsjs.ErrBucketNotFound) || s.Presence() != nil {
		t.Fatalf("presence is not kept: %v", err)
	}
	n, _ = openPresence(t, jetstream.Process, time.Hour)
	stream, err := newJS(t, n.Conn).Stream(testContext(t), "KV_mqtt_presence")
	if err != nil {
		t.Fatal(err)
	}
	if m := stream.CachedInfo().Config.Metadata; m["dunlin.kind"] != "presence" || m["dunlin.format"] != "1" {
		t.Errorf("its metadata is %v", m)
	}
}

// Presence comes back as it was put, under a key that any NATS program can name, whatever the client calls itself.
func TestPresenceIsKeptByClientIdentifier(t *testing.T) {
	for _, d := range []jetstream.Durability{jetstream.Process, jetstream.Fsync} {
		t.Run(string(d), func(t *testing.T) {
			n, s := openPresence(t, d, time.Hour)
			kv := presenceBucket(t, n)
			for _, clientID := range []string{"c", "a.b", "a/b > *", "größe/漢", strings.Repeat("x", 65535), strings.Repeat("x", 65534) + "y"} {
				for _, state := range []sessions.PresenceState{sessions.Online, sessions.Offline} {
					want := present(state, clientID)
					r := putPresence(t, s, want, 0)
					if r.Err != nil {
						t.Fatal(r.Err)
					}
					all, revisions := allPresent(t, s)
					if all[clientID] != want || revisions[clientID] != r.Sequence {
						t.Errorf("%.20q is %+v with revision %d, want %+v with %d", clientID, all[clientID], revisions[clientID], want, r.Sequence)
					}
					entry, err := kv.Get(testContext(t), jetstream.EncodeToken(clientID))
					if err != nil {
						t.Fatal(err)
					}
					var got sessions.Presence
					if err := json.Unmarshal(entry.Value(), &got); err != nil || got != want {
						t.Errorf("%.20q is %s for a NATS program (%v)", clientID, entry.Value(), err)
					}
				}
			}
		})
	}
}

// What names a revision replaces that alone.
func TestPresenceReplacesARevision(t *testing.T) {
	for _, d := range []jetstream.Durability{jetstream.Process, jetstream.Fsync} {
		t.Run(string(d), func(t *testing.T) {
			_, s := openPresence(t, d, time.Hour)
			first := putPresence(t, s, present(sessions.Online, "c"), 0)
			second := putPresence(t, s, present(sessions.Online, "c"), 0)
			if r := putPresence(t, s, present(sessions.Offline, "c"), first.Sequence); !errors.Is(r.Err, sessions.ErrConflict) {
				t.Errorf("over what is not there any more: %v", r.Err)
			}
			if all, _ := allPresent(t, s); all["c"].State != sessions.Online {
				t.Errorf("it is %+v", all["c"])
			}
			if r := putPresence(t, s, present(sessions.Offline, "c"), second.Sequence); r.Err != nil {
				t.Error(r.Err)
			}
			if all, _ := allPresent(t, s); all["c"].State != sessions.Offline {
				t.Errorf("it is %+v", all["c"])
			}
		})
	}
}

// What is said of a client that is offline ends itself, and who watches is told; what is said of one that is online stays.
func TestPresenceOfOfflineClientsEnds(t *testing.T) {
	n, s := openPresence(t, jetstream.Process, time.Second)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	watcher, err := presenceBucket(t, n).WatchAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if entry := <-watcher.Updates(); entry != nil {
		t.Fatalf("%s is there from the start", entry.Key())
	}
	for _, p := range []sessions.Presence{
		present(sessions.Online, "stays"), present(sessions.Offline, "back"), present(sessions.Online, "back"), present(sessions.Offline, "gone"),
	} {
		if r := putPresence(t, s, p, 0); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for told := false; !told; {
		select {
		case entry := <-watcher.Updates():
			ended := entry.Operation() != natsjs.KeyValuePut
			if told = ended && entry.Key() == "gone"; ended && !told {
				t.Errorf("%s has ended", entry.Key())
			}
		case <-ctx.Done():
			t.Fatal("who watches is not told")
		}
	}
	if all, _ := allPresent(t, s); len(all) != 2 || all["stays"].State != sessions.Online || all["back"].State != sessions.Online {
		t.Errorf("there is %v", all)
	}
}

// Of clients whose identifier was made up it is told for a shorter time, as the server has it.
func TestPresenceOfMadeUpIdentifiersEndsSooner(t *testing.T) {
	n, s := openPresence(t, jetstream.Process, 100*time.Hour)
	for clientID, want := range map[string]string{"own": "360000", "made": "3600"} {
		p := present(sessions.Offline, clientID)
		p.AssignedID = clientID == "made"
		if r := putPresence(t, s, p, 0); r.Err != nil {
			t.Fatal(r.Err)
		}
		stream, err := newJS(t, n.Conn).Stream(testContext(t), "KV_mqtt_presence")
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.GetLastMsgForSubject(testContext(t), "$KV.mqtt_presence."+clientID)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get("Nats-TTL"); got != want {
			t.Errorf("%s lasts %s seconds, want %s", clientID, got, want)
		}
	}
}

// What somebody else has put into the bucket is passed over, and counted.
func TestForeignPresenceIsPassedOver(t *testing.T) {
	n, s := openPresence(t, jetstream.Process, time.Hour)
	kv := presenceBucket(t, n)
	if r := putPresence(t, s, present(sessions.Online, "c"), 0); r.Err != nil {
		t.Fatal(r.Err)
	}
	other, err := json.Marshal(present(sessions.Online, "c"))
	if err != nil {
		t.Fatal(err)
	}
	newer := present(sessions.Online, "newer")
	newer.Version++
	later, err := json.Marshal(newer)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string][]byte{"x": []byte("no JSON"), "y": other, "a.b": other, "newer": later, "z": []byte("{}")} {
		if _, err := kv.Put(testContext(t), key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Delete(testContext(t), "z"); err != nil {
		t.Fatal(err)
	}
	if all, _ := allPresent(t, s); len(all) != 1 {
		t.Errorf("there is %v", all)
	}
	if n := s.Stats().InvalidPresence.Load(); n != 4 {
		t.Errorf("%d are counted, want 4", n)
	}
}
