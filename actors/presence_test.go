package actors

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

func showPresences(list []sessions.Presence) (all []string) {
	for _, p := range list {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s", p.State, p.Reason)))
	}
	return all
}

// wantPresence checks what was written of a client since its storage was made.
func (b *testBroker) wantPresence(clientID string, want ...string) {
	b.t.Helper()
	synctest.Wait()
	history := b.storage.PresenceHistory(clientID)
	if got := showPresences(history); !slices.Equal(got, want) {
		b.t.Errorf("%s was %v, want %v", clientID, got, want)
	}
	if n := b.storage.Overlaps(); n > 0 {
		b.t.Errorf("%d writes overlapped", n)
	}
}

// A client is online from CONNACK until its connection has ended and none has taken its place.
func TestPresenceFollowsTheClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		who := &passwords{known: map[string]string{"ann": "1"}}
		b := startKeepingPresence(t, sessionstest.New(), "boot", namedNode, explosive, authenticatedBy(who))
		ann := as("ann", "1")
		c := b.connected("c", ann)
		b.wantPresence("c", "online")
		came := time.Now().UTC()
		want := sessions.Presence{
			Version: 1, State: sessions.Online, ClientID: "c", Since: came, Node: "node", Boot: "boot", Principal: "ann", Protocol: "5.0", Remote: "pipe",
		}
		if got := b.storage.Presences()["c"]; got != want {
			t.Errorf("presence is %+v, want %+v", got, want)
		}
		elapse(time.Second)
		c.disconnect()
		b.wantPresence("c", "online", "offline normal_disconnection")
		want.State, want.Since, want.Reason = sessions.Offline, came.Add(time.Second), "normal_disconnection"
		if got := b.storage.Presences()["c"]; got != want {
			t.Errorf("presence is %+v, want %+v", got, want)
		}

		b.connected("moving", ann)
		b.connected("moving", ann, clean)
		c = b.connected("moving", ann)
		b.wantPresence("moving", "online", "online", "online")
		c.send(&mqttcodec.Publish{QoS: 1, PacketID: 1, Topic: "boom"})
		c.wantEnd()
		b.wantPresence("moving", "online", "online", "online", "offline unspecified_error")

		b.connected("moving", ann).close()
		wrong := b.client(mqttcodec.V5)
		wrong.send(connectPacket(mqttcodec.V5, "moving", as("ann", "2")))
		expect[*mqttcodec.Connack](wrong)
		b.wantPresence("moving", "online", "online", "online", "offline unspecified_error", "online", "offline connection_lost")

		made := b.client(mqttcodec.V5)
		made.send(connectPacket(mqttcodec.V5, "", ann, clean))
		id := expect[*mqttcodec.Connack](made).Properties.AssignedClientID
		b.wantPresence(id, "online")
		b.connected("stays", ann)
		b.shutdown()
		b.wantPresence("stays", "online", "offline server_shutting_down")
		b.wantPresence(id, "online", "offline server_shutting_down")
		if !b.storage.Presences()[id].AssignedID || b.storage.Presences()["stays"].AssignedID {
			t.Error("it is not told whose client identifier was made up")
		}
	})
}

// Who takes a client's place and is not let in has set it offline.
func TestPresenceOfATakeoverThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startKeepingPresence(t, sessionstest.New(), "boot", namedNode)
		b.connected("c")
		b.wantPresence("c", "online")
		b.storage.Fail(sessions.ErrUnavailable, sessionstest.SaveRecord)
		c := b.client(mqttcodec.V5)
		c.send(connectPacket(mqttcodec.V5, "c"))
		if ack := expect[*mqttcodec.Connack](c); !ack.Reason.Failed() {
			t.Fatal("a client was let in whose claim was not stored")
		}
		b.wantPresence("c", "online", "offline session_taken_over")
		b.storage.Fail(nil)
	})
}

// Nobody waits for presence: while the bucket is away clients come and go, and of each the newest state is written in the end.
func TestPresenceIsWrittenBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startKeepingPresence(t, sessionstest.New(), "boot", namedNode)
		b.storage.Hold(sessionstest.PutPresence)
		for range 10 {
			b.connected("c").disconnect()
		}
		b.connected("d")
		b.storage.Release(sessionstest.PutPresence)
		b.wantPresence("c", "online", "offline normal_disconnection")
		b.wantPresence("d", "online")

		b.storage.Fail(sessions.ErrUnavailable, sessionstest.PutPresence)
		clients := make([]*testClient, 2*maxPresenceWrites)
		for i := range clients {
			clients[i] = b.connected(fmt.Sprint("client ", i))
		}
		b.connected("c")
		for i, c := range clients {
			if i%2 == 0 {
				c.disconnect()
			}
		}
		elapse(10 * time.Second)
		b.wantPresence("c", "online", "offline normal_disconnection")
		b.storage.Fail(nil)
		elapse(2 * presenceRetry)
		b.wantPresence("c", "online", "offline normal_disconnection", "online")
		for i := range clients {
			want := "online"
			if i%2 == 0 {
				want = "offline normal_disconnection"
			}
			b.wantPresence(fmt.Sprint("client ", i), want)
		}
		b.storage.Fail(sessions.ErrRejected, sessionstest.PutPresence)
		b.connected("refused")
		elapse(10 * time.Second)
		b.wantPresence("refused")
		if n := b.stats.presenceLeftOut.Load(); n != 1 {
			t.Errorf("%d are counted as left out, want the one that was refused", n)
		}
		b.storage.Fail(nil)
	})
}

// A start sets those offline, and no others, that a boot which was killed has left online.
func TestPresenceOfABootThatDied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startKeepingPresence(t, sessionstest.New(), "boot-1", namedNode)
		const n = 3 * maxPresenceWrites
		for i := range n {
			b.connected(fmt.Sprintf("lost %03d", i))
		}
		b.connected("back")
		b.connected("quick")
		b.connected("gone").disconnect()
		elapse(1500 * time.Millisecond)
		synctest.Wait()
		died := time.Now()
		storage := b.crash()
		elapse(time.Minute)

		storage.Fail(sessions.ErrUnavailable, sessionstest.ReadPresence)
		b = startKeepingPresence(t, storage, "boot-2", namedNode)
		b.connected("quick") // before it was looked at
		synctest.Wait()
		storage.Fail(nil)
		storage.Hold(sessionstest.PutPresence)
		elapse(2 * presenceRetry)
		b.connected("back") // while it is
		storage.Release(sessionstest.PutPresence)
		synctest.Wait()
		all := storage.Presences()
		for i := range n {
			p := all[fmt.Sprintf("lost %03d", i)]
			if ago := died.Sub(p.Since); p.State != sessions.Offline || p.Reason != reasonServerDied || p.Boot != "boot-1" || ago < 0 || ago > 2*checkpointEvery {
				t.Fatalf("who was lost with its node is %+v, which died at %v", p, died)
			}
		}
		for _, clientID := range []string{"back", "quick"} {
			if p := all[clientID]; p.State != sessions.Online || p.Boot != "boot-2" {
				t.Errorf("who came back is %+v", p)
			}
		}
		b.wantPresence("quick", "online")
		b.wantPresence("gone") // it was offline, and is as it was
		if p := all["gone"]; p.Reason != "normal_disconnection" || p.Boot != "boot-1" {
			t.Errorf("who had left before is %+v", p)
		}
	})
}

// What there was no room for is made good for when there is.
func TestPresenceThatWasLeftOutIsMadeGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startKeepingPresence(t, sessionstest.New(), "boot", namedNode)
		leaves, stays, comes := b.connected("leaves"), b.connected("stays"), b.client(mqttcodec.V5)
		b.wantPresence("stays", "online")
		b.storage.Hold(sessionstest.PutPresence)
		for i := range maxPresence {
			b.presence.put(sessions.Presence{State: sessions.Offline, ClientID: fmt.Sprint("x", i)}, nil)
		}
		leaves.disconnect()
		comes.send(connectPacket(mqttcodec.V5, "comes"))
		expect[*mqttcodec.Connack](comes)
		synctest.Wait()
		if n, waiting := b.stats.presenceLeftOut.Load(), b.presence.pending(); n != 2 || waiting != maxPresence {
			t.Fatalf("%d were left out while %d waited", n, waiting)
		}
		b.storage.Release(sessionstest.PutPresence)
		elapse(time.Second)
		b.wantPresence("leaves", "online", "offline unknown")
		b.wantPresence("comes", "online")
		b.wantPresence("stays", "online", "online")
		stays.disconnect()
	})
}

// What makes good for something never overwrites what came after it, on its way or stored.
func TestAmendedPresenceGivesWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startKeepingPresence(t, sessionstest.New(), "boot", namedNode)
		state := func(clientID string, is sessions.PresenceState) sessions.Presence {
			return sessions.Presence{State: is, ClientID: clientID, Reason: "amended"}
		}
		b.connected("stored")
		b.connected("stored")
		b.wantPresence("stored", "online", "online")
		b.presence.amend(state("stored", sessions.Offline), 1) // it is at 2
		b.wantPresence("stored", "online", "online")
		b.presence.amend(state("stored", sessions.Offline), 2)
		b.wantPresence("stored", "online", "online", "offline amended")

		b.connected("waits") // stored at 4
		b.wantPresence("waits", "online")
		b.storage.Hold(sessionstest.PutPresence)
		for i := range maxPresenceWrites {
			b.presence.put(state(fmt.Sprint("x", i), sessions.Offline), nil)
		}
		b.connected("waits")
		b.presence.amend(state("waits", sessions.Offline), 4)
		b.connected("under way")
		b.presence.amend(state("under way", sessions.Offline), 7)
		b.presence.amend(state("amended first", sessions.Offline), 7)
		b.connected("amended first")
		b.storage.Release(sessionstest.PutPresence)
		b.wantPresence("waits", "online", "online")
		b.wantPresence("under way", "online")
		b.wantPresence("amended first", "online")
	})
}

// However many clients come, few of their writes are under way at a time, and a shutdown waits for all.
func TestShutdownWaitsForPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := startKeepingPresence(t, sessionstest.New(), "boot", namedNode)
		b.storage.Hold(sessionstest.PutPresence)
		const n = 2 * maxPresenceWrites
		for i := range n {
			b.connected(fmt.Sprint("c", i))
		}
		synctest.Wait()
		if waiting := b.storage.Waiting(sessionstest.PutPresence); waiting != maxPresenceWrites {
			t.Errorf("%d writes are under way", waiting)
		}
		done := make(chan struct{})
		go func() {
			b.shutdown()
			close(done)
		}()
		elapse(5 * time.Second)
		select {
		case <-done:
			t.Error("the shutdown did not wait")
		default:
		}
		b.storage.Release(sessionstest.PutPresence)
		<-done
		for i := range n {
			if p := b.storage.Presences()[fmt.Sprint("c", i)]; p.State != sessions.Offline {
				t.Fatalf("it left %+v", p)
			}
		}
	})
}
