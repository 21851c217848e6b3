package actors

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/mqttcodec"
	"dunlin/sessions"
	"dunlin/sessions/sessionstest"
)

// foreign has somebody who is no node write a retained message; an empty payload removes.
func foreign(s *sessionstest.Storage, topic, payload string) {
	elapse(time.Millisecond) // no two writes have the same time
	s.Retained().PutForeign(&sessions.Message{Topic: topic, Payload: []byte(payload), QoS: 1})
}

// publishRetained has a message come into the log.
func publishRetained(s *sessionstest.Storage, topic, payload string) {
	elapse(time.Millisecond)
	s.Log().Put(&sessions.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true})
}

// retainedNow is what a new subscriber would get, as "topic=payload".
func (b *testBroker) retainedNow() []string {
	synctest.Wait()
	return topicsOf(b.router.retained.match("#", "", 3, time.Now()))
}

func (b *testBroker) wantRetained(want ...string) {
	b.t.Helper()
	if got := b.retainedNow(); !slices.Equal(got, want) {
		b.t.Fatalf("a new subscriber gets %v, want %v", got, want)
	}
}

// inBucket is what the bucket holds, as "topic=payload".
func inBucket(s *sessionstest.Storage, topics ...string) (list []string) {
	for _, topic := range topics {
		if e, ok := s.RetainedMessage(topic); ok {
			list = append(list, topic+"="+string(e.Message.Payload))
		}
	}
	return list
}

func TestForeignWritesAreForNewSubscribers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		foreign(storage, "before", "1") // while the broker is down
		foreign(storage, "gone", "1")
		foreign(storage, "gone", "")
		b := startOnPipes(t, storage, "boot")
		early := b.connected("early", clean)
		early.subscribe(1, "+")
		early.takeAll("1")
		foreign(storage, "a", "1")
		b.wantRetained("a=1", "before=1")
		foreign(storage, "before", "")
		b.wantRetained("a=1")
		late := b.connected("late", clean)
		late.subscribe(1, "+")
		late.takeAll("1")
		if got := early.received(); len(got) > 0 {
			t.Errorf("who was subscribed got %v", got)
		}
		publisher := b.connected("publisher", clean)
		publisher.send(&mqttcodec.Publish{Topic: "a", QoS: 1, Retain: true, Payload: []byte("2"), PacketID: 1})
		expect[*mqttcodec.Puback](publisher)
		b.wantRetained("a=2")
		if got := inBucket(storage, "a", "before"); !slices.Equal(got, []string{"a=2"}) {
			t.Errorf("the bucket holds %v", got)
		}
	})
}

// What others write is bounded as what clients publish is. What is not taken has no predecessor any more.
func TestForeignWritesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		start := func(boot string) *testBroker {
			return startOnPipes(t, storage, boot, func(cfg *Config) {
				cfg.MaxRetained = 3
				cfg.Sessions.MaxPacketSize = 1024
				cfg.Sessions.TopicFits = func(topic string, _ bool) bool { return strings.Count(topic, "/") < 2 }
			})
		}
		b := start("boot")
		foreign(storage, "a", "1")
		foreign(storage, "b", "1")
		foreign(storage, "b", strings.Repeat("x", 1024))
		foreign(storage, "too/deep/x", "1")
		b.wantRetained("a=1")
		foreign(storage, "c", "1")
		foreign(storage, "d", "1")
		foreign(storage, "e", "no room")
		b.wantRetained("a=1", "c=1", "d=1")
		want := map[sessions.DropReason]uint64{dropRetainedForeign: 2, dropRetainedFull: 1}
		if got := b.Stats().Drops(); !maps.Equal(got, want) {
			t.Errorf("dropped %v, want %v", got, want)
		}
		storage = b.crash()
		b = start("next")
		b.wantRetained("a=1", "c=1", "d=1")
		if got := b.Stats().Drops(); !maps.Equal(got, want) {
			t.Errorf("at the start dropped %v, want %v", got, want)
		}
	})
}

// The write behind the log of an older message must not take the place of what others wrote meanwhile.
func TestWriteBehindLosesAgainstALaterForeignWrite(t *testing.T) {
	for _, watching := range []bool{false, true} {
		for _, payload := range []string{"theirs", ""} {
			t.Run(fmt.Sprintf("watching=%v payload=%q", watching, payload), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					storage := sessionstest.New()
					b := startOnPipes(t, storage, "boot")
					storage.Hold(sessionstest.PutRetained)
					if !watching {
						storage.HoldWatch()
					}
					publishRetained(storage, "a", "ours")
					synctest.Wait()
					foreign(storage, "a", payload)
					synctest.Wait()
					storage.Release(sessionstest.PutRetained)
					synctest.Wait()
					var want []string
					if payload != "" {
						want = []string{"a=" + payload}
					}
					b.wantRetained(want...)
					if got := inBucket(storage, "a"); !slices.Equal(got, want) {
						t.Errorf("the bucket holds %v, want %v", got, want)
					}
					if at := b.router.complete(); at.Sequence != 1 {
						t.Errorf("the checkpoint stays at %d", at.Sequence)
					}
					storage.ReleaseWatch()
					b.wantRetained(want...)
				})
			})
		}
	}
}

// A message in the log takes the place of what others wrote before it, also when the node hears of that later.
func TestWriteBehindWinsAgainstAnEarlierForeignWrite(t *testing.T) {
	for _, payload := range []string{"ours", ""} {
		t.Run(fmt.Sprintf("payload=%q", payload), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := sessionstest.New()
				b := startOnPipes(t, storage, "boot")
				storage.HoldWatch()
				foreign(storage, "a", "theirs")
				publishRetained(storage, "a", payload)
				var want []string
				if payload != "" {
					want = []string{"a=" + payload}
				}
				b.wantRetained(want...)
				storage.ReleaseWatch()
				b.wantRetained(want...)
				if got := inBucket(storage, "a"); !slices.Equal(got, want) {
					t.Errorf("the bucket holds %v, want %v", got, want)
				}
			})
		})
	}
}

// Of all that was written for a topic, through the log or not, the last counts: for new subscribers, in the bucket, and after
// kill -9 at any time; whatever is heard of late, or not stored at first.
func TestTheLastWriteForATopicCounts(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := &writeHistory{t: t, Rand: rand.New(rand.NewPCG(seed, 0)), storage: sessionstest.New(), model: map[string]string{}}
				h.storage.Latency(slow)
				h.start()
				for range 60 {
					h.step()
				}
				h.check()
			})
		})
	}
}

// writeHistory is a broker whose retained messages are written by clients and by others.
type writeHistory struct {
	*rand.Rand
	t       *testing.T
	storage *sessionstest.Storage
	broker  *testBroker
	boots   int
	writes  int
	// model is the last write of each topic, as "topic=payload".
	model map[string]string
}

var historyTopics = []string{"a", "b"}

func (h *writeHistory) start() {
	h.boots++
	h.broker = startOnPipes(h.t, h.storage, fmt.Sprint("boot", h.boots))
}

// step does one thing.
func (h *writeHistory) step() {
	switch h.IntN(16) {
	case 0, 1, 2:
		h.write(publishRetained)
	case 3, 4, 5:
		h.write(foreign)
	case 6, 7:
		synctest.Wait()
	case 8:
		elapse(1100 * time.Millisecond)
	case 9:
		h.storage.Hold(sessionstest.PutRetained)
	case 10:
		h.storage.HoldWatch()
	case 11:
		h.storage.HoldTail()
	case 12:
		h.storage.Release(sessionstest.PutRetained)
		h.storage.ReleaseWatch()
		h.storage.ReleaseTail()
	case 13:
		stored := h.IntN(2) == 0
		h.storage.Intercept(func(o sessionstest.Operation) (out sessionstest.Outcome) {
			if o.Kind == sessionstest.PutRetained {
				out = sessionstest.Outcome{Err: sessions.ErrUnavailable, Stored: stored}
			}
			return out
		})
	case 14:
		h.storage.Fail(nil)
	case 15:
		if h.IntN(3) == 0 {
			h.check()
			return
		}
		h.kill()
	}
}

// kill is kill -9 and a start. What that reads must be enough for new subscribers, before any topic is looked up.
func (h *writeHistory) kill() {
	h.storage = h.broker.crash()
	h.storage.Intercept(func(o sessionstest.Operation) (out sessionstest.Outcome) {
		if o.Kind == sessionstest.Read && o.Topic != "" {
			out.Err = sessions.ErrUnavailable
		}
		return out
	})
	h.storage.Latency(slow)
	h.start()
	h.broker.wantRetained(h.want()...)
	h.storage.Fail(nil)
}

// slow makes writes and lookups of retained messages take their time.
func slow(o sessionstest.Operation) time.Duration {
	if o.Kind == sessionstest.PutRetained || o.Kind == sessionstest.Read && o.Topic != "" {
		return 700 * time.Microsecond
	}
	return 0
}

func (h *writeHistory) write(how func(s *sessionstest.Storage, topic, payload string)) {
	h.writes++
	topic, payload := historyTopics[h.IntN(len(historyTopics))], ""
	if h.IntN(3) > 0 {
		payload = fmt.Sprint(h.writes)
	}
	how(h.storage, topic, payload)
	if delete(h.model, topic); payload != "" {
		h.model[topic] = topic + "=" + payload
	}
}

func (h *writeHistory) want() []string { return slices.Sorted(maps.Values(h.model)) }

// check lets everything go and compares what comes of it with the model.
func (h *writeHistory) check() {
	h.t.Helper()
	h.storage.Fail(nil)
	h.storage.Release(sessionstest.PutRetained)
	h.storage.ReleaseWatch()
	h.storage.ReleaseTail()
	elapse(3 * time.Second)
	h.broker.wantRetained(h.want()...)
	if got := inBucket(h.storage, historyTopics...); !slices.Equal(got, h.want()) {
		h.t.Fatalf("the bucket holds %v, want %v", got, h.want())
	}
	if at, last := h.broker.router.complete(), h.broker.router.Head(); at.Sequence != last.Sequence {
		h.t.Fatalf("the checkpoint stays at %d of %d", at.Sequence, last.Sequence)
	}
}

// What others wrote and is heard of when it is not there any more changes nothing.
func TestForeignWriteThatIsHeardOfLateChangesNothing(t *testing.T) {
	for _, later := range []string{"ours", ""} {
		t.Run(fmt.Sprintf("later=%q", later), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRetaining(sessionstest.New())
				foreign(r.s, "a", "theirs")
				late, err := r.s.Retained().Load(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				publishRetained(r.s, "a", later)
				r.deliver(r.s.Entries())
				synctest.Wait()
				r.adopt(late)
				synctest.Wait()
				var want []string
				if later != "" {
					want = []string{"a=" + later}
				}
				if got := topicsOf(r.retained.match("#", "", 3, time.Now())); !slices.Equal(got, want) {
					t.Fatalf("a new subscriber gets %v, want %v", got, want)
				}
				foreign(r.s, "a", "theirs again")
				late, err = r.s.Retained().Load(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				r.adopt(late)
				synctest.Wait()
				if got := topicsOf(r.retained.match("#", "", 3, time.Now())); !slices.Equal(got, []string{"a=theirs again"}) {
					t.Fatalf("a new subscriber gets %v", got)
				}
			})
		})
	}
}

// A retained message that others wrote and that was not acknowledged comes again on the next connection, also to the next boot.
func TestUnacknowledgedForeignMessageComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := sessionstest.New()
		foreign(storage, "a", "1")
		foreign(storage, "b", "1")
		b := startOnPipes(t, storage, "boot")
		c := b.connected("c")
		c.subscribe(1, "+")
		elapse(time.Second)
		if got := c.received(); len(got) != 2 {
			t.Fatalf("got %v", got)
		}
		elapse(time.Second) // journaled
		storage = b.crash()
		b = startOnPipes(t, storage, "next")
		foreign(storage, "b", "2") // another one: nobody promised that to this client
		elapse(3 * time.Second)
		c = b.connected("c")
		synctest.Wait()
		if got := expect[*mqttcodec.Publish](c); got.Topic != "a" || !got.Duplicate || !got.Retain {
			t.Fatalf("got %v, want a again", got)
		}
		if n := c.waiting(); n > 0 {
			t.Errorf("%d more came", n)
		}
		if n := b.Stats().Drops()[sessions.DropReplaced]; n != 1 {
			t.Errorf("%d are counted as replaced", n)
		}
	})
}
