package actors

import (
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"dunlin/mqttcodec"
	"dunlin/sessions"

	"pgregory.net/rapid"
)

var retainedAt = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// retainedEntry is an entry with a retained message.
func retainedEntry(sequence uint64, topic, payload string) sessions.Entry {
	return sessions.Entry{
		Position: sessions.Position{Sequence: sequence, Time: retainedAt},
		Message:  &sessions.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true, PublishedAt: retainedAt},
	}
}

// expiring gives an entry's message an expiry interval.
func expiring(e sessions.Entry, seconds uint32) sessions.Entry {
	e.Message.Properties.MessageExpirySeconds = mqttcodec.Some(seconds)
	return e
}

// match is all of a walk, in parts of at most max messages and a few visits.
func (x *retainedIndex) match(filter, after string, max int, now time.Time) (entries []sessions.Entry) {
	w := x.walk(filter, after)
	for {
		visits := max + 6 // more than the levels that lead to where it goes on
		part, ready := w.next(max, &visits, now)
		if !ready {
			w.sort()
			continue
		}
		entries = append(entries, part.Entries...)
		if !part.More {
			return entries
		}
		if max%2 == 0 { // or another walk goes on
			w = x.walk(filter, part.UpTo)
		}
	}
}

// topicsOf are the topics and payloads of entries, as "topic=payload".
func topicsOf(entries []sessions.Entry) []string {
	var topics []string
	for _, e := range entries {
		topics = append(topics, e.Message.Topic+"="+string(e.Message.Payload))
	}
	return topics
}

func wantMatch(t *testing.T, x *retainedIndex, filter string, want ...string) {
	t.Helper()
	if got := topicsOf(x.match(filter, "", 3, retainedAt)); !slices.Equal(got, want) {
		t.Fatalf("%q matches %v, want %v", filter, got, want)
	}
}

func TestRetainedMatchHonoursWildcardsInTopicOrder(t *testing.T) {
	x := newRetainedIndex(0)
	for i, topic := range []string{"b", "a/c", "a", "a/b/c", "/", "$SYS/x", "a/", "$SYS", "/x"} {
		x.apply(retainedEntry(uint64(i+1), topic, "1"))
	}
	for filter, want := range map[string][]string{
		"#":      {"/", "/x", "a", "a/", "a/b/c", "a/c", "b"},
		"+":      {"a", "b"},
		"+/+":    {"/", "/x", "a/", "a/c"},
		"/+":     {"/", "/x"},
		"/#":     {"/", "/x"},
		"a/#":    {"a", "a/", "a/b/c", "a/c"},
		"a/b/#":  {"a/b/c"},
		"a/c/#":  {"a/c"},
		"a/+":    {"a/", "a/c"},
		"a/+/c":  {"a/b/c"},
		"a/+/#":  {"a/", "a/b/c", "a/c"},
		"a":      {"a"},
		"a/":     {"a/"},
		"a/b":    nil,
		"c":      nil,
		"$SYS/#": {"$SYS", "$SYS/x"},
		"$SYS/+": {"$SYS/x"},
		"+/x":    {"/x"}, // and not $SYS/x [MQTT-4.7.2-1]
	} {
		var got []string
		for _, e := range x.match(filter, "", 3, retainedAt) {
			got = append(got, e.Message.Topic)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q matches %q, want %q", filter, got, want)
		}
	}
}

func TestOnlyANewerMessageReplacesARetainedOne(t *testing.T) {
	x := newRetainedIndex(0)
	x.apply(retainedEntry(5, "a", "five"))
	x.apply(retainedEntry(4, "a", "four"))
	x.apply(retainedEntry(5, "a", "five again"))
	x.apply(retainedEntry(4, "a", ""))
	wantMatch(t, x, "a", "a=five")
	x.apply(retainedEntry(6, "a", "six"))
	wantMatch(t, x, "a", "a=six")
	if e := x.match("a", "", 3, retainedAt)[0]; e.Sequence != 6 || !e.Time.Equal(retainedAt) {
		t.Fatalf("the entry's position is %v", e.Position)
	}
}

func TestEmptyPayloadRemovesTheRetainedMessage(t *testing.T) {
	x := newRetainedIndex(0)
	x.apply(retainedEntry(1, "a/b", "1"))
	x.apply(retainedEntry(2, "a/b", ""))
	x.apply(retainedEntry(3, "never/there", ""))
	wantMatch(t, x, "#")
	if x.messages != 0 || x.bytes != 0 || x.root.children.Len() != 0 {
		t.Fatalf("%d messages, %d bytes, %d children are left", x.messages, x.bytes, x.root.children.Len())
	}
}

func TestMessageWithoutRetainChangesNothing(t *testing.T) {
	x := newRetainedIndex(1)
	x.apply(retainedEntry(1, "a", "1"))
	plain := retainedEntry(2, "a", "2")
	plain.Message.Retain = false
	if x.apply(plain) != (applied{}) || x.apply(sessions.Entry{Position: sessions.Position{Sequence: 3}}) != (applied{}) {
		t.Fatal("an entry that is not retained changes something")
	}
	wantMatch(t, x, "#", "a=1")
}

func TestFullRetainedIndexRefusesNewTopicsOnly(t *testing.T) {
	x := newRetainedIndex(2)
	for i, topic := range []string{"a", "b"} {
		if !x.apply(retainedEntry(uint64(i+1), topic, "1")).taken {
			t.Fatalf("%q was refused", topic)
		}
	}
	if !x.apply(retainedEntry(3, "c", "1")).full {
		t.Fatal("a third topic was taken")
	}
	if !x.apply(retainedEntry(4, "b", "2")).taken || !x.apply(retainedEntry(5, "a", "")).taken || !x.apply(retainedEntry(6, "c", "")).taken {
		t.Fatal("a replacement or a removal was refused")
	}
	if !x.apply(retainedEntry(7, "c", "1")).taken {
		t.Fatal("there was room for one more")
	}
	wantMatch(t, x, "#", "b=2", "c=1")
}

func TestExpiredRetainedMessagesAreNotDeliveredAndGo(t *testing.T) {
	x := newRetainedIndex(0)
	x.apply(expiring(retainedEntry(1, "a/b", "short"), 10))
	x.apply(expiring(retainedEntry(2, "a/c", "long"), 20))
	if got := topicsOf(x.match("a/+", "", 3, retainedAt.Add(9*time.Second))); !slices.Equal(got, []string{"a/b=short", "a/c=long"}) {
		t.Fatalf("after 9 s: %v", got)
	}
	if got := topicsOf(x.match("a/+", "", 3, retainedAt.Add(10*time.Second))); !slices.Equal(got, []string{"a/c=long"}) {
		t.Fatalf("after 10 s: %v", got)
	}
	if x.messages != 1 {
		t.Fatalf("%d messages are held, want 1", x.messages)
	}
}

func TestExpiredRetainedMessagesMakeRoom(t *testing.T) {
	x := newRetainedIndex(2)
	x.apply(expiring(retainedEntry(1, "a/b", "short"), 10))
	x.apply(retainedEntry(2, "b", "stays"))
	publishedAfter := func(e sessions.Entry, d time.Duration) sessions.Entry {
		e.Message.PublishedAt = retainedAt.Add(d)
		return e
	}
	if !x.apply(publishedAfter(retainedEntry(3, "c", "too early"), 9*time.Second)).full {
		t.Fatal("taken although full")
	}
	if !x.apply(publishedAfter(retainedEntry(4, "c", "soon after"), 11*time.Second)).full {
		t.Fatal("the full index was searched twice within 2 s")
	}
	if !x.apply(publishedAfter(retainedEntry(5, "c", "later"), 19*time.Second)).taken {
		t.Fatal("the expired message made no room")
	}
	wantMatch(t, x, "#", "b=stays", "c=later")
}

// fill sets every field below v, and returns the memory that strings and slices in it refer to.
func fill(v reflect.Value) (memory []unsafe.Pointer) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Clone("text"))
		memory = append(memory, unsafe.Pointer(unsafe.StringData(v.String())))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		memory = append(memory, v.UnsafePointer())
		for i := range v.Len() {
			memory = append(memory, fill(v.Index(i))...)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(retainedAt))
			return nil
		}
		for i := range v.NumField() {
			memory = append(memory, fill(v.Field(i))...)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	default:
		panic(fmt.Sprintf("a message has a field of kind %v: teach cloneMessage and this test", v.Kind()))
	}
	return memory
}

// memoryOf is the memory that strings and slices below v refer to.
func memoryOf(v reflect.Value) (memory []unsafe.Pointer) {
	isTime := v.Type() == reflect.TypeFor[time.Time]()
	switch kind := v.Kind(); {
	case kind == reflect.String:
		memory = append(memory, unsafe.Pointer(unsafe.StringData(v.String())))
	case kind == reflect.Slice:
		memory = append(memory, v.UnsafePointer())
		for i := range v.Len() {
			memory = append(memory, memoryOf(v.Index(i))...)
		}
	case kind == reflect.Struct && !isTime:
		for i := range v.NumField() {
			memory = append(memory, memoryOf(v.Field(i))...)
		}
	}
	return memory
}

func TestCloneOfAMessageSharesNoMemory(t *testing.T) {
	var m sessions.Message
	original := fill(reflect.ValueOf(&m).Elem())
	c := cloneMessage(&m)
	if !reflect.DeepEqual(c, &m) {
		t.Fatalf("the clone is %+v, want %+v", c, m)
	}
	for _, p := range memoryOf(reflect.ValueOf(c).Elem()) {
		if slices.Contains(original, p) {
			t.Fatal("the clone refers to memory of the original")
		}
	}
	if empty := cloneMessage(&sessions.Message{}); !reflect.DeepEqual(empty, &sessions.Message{}) {
		t.Fatalf("the clone of an empty message is %+v", empty)
	}
}

func TestRetainedMessageKeepsNoNetworkBuffer(t *testing.T) {
	x := newRetainedIndex(0)
	freed := make(chan struct{})
	func() {
		buffer := new([1 << 20]byte)
		copy(buffer[:], "a/topic")
		runtime.AddCleanup(buffer, func(struct{}) { close(freed) }, struct{}{})
		e := retainedEntry(1, unsafe.String(&buffer[0], 7), "")
		e.Message.Payload = buffer[7:10]
		x.apply(e)
	}()
	for range 100 {
		runtime.GC()
		select {
		case <-freed:
			if x.messages != 1 {
				t.Fatal("the message is gone")
			}
			return
		default:
			runtime.Gosched()
		}
	}
	t.Fatal("the retained message keeps the buffer that it came in")
}

// compareLevels is the order of a walk.
func compareLevels(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// TestRetainedIndexAgreesWithAPlainMap also compares its two trees with one another: the filters that match a topic,
// and the topics that match a filter.
func TestRetainedIndexAgreesWithAPlainMap(t *testing.T) {
	level := rapid.SampledFrom([]string{"", "a", "b", "c", "$SYS"})
	anyTopic := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(level, 1, 5).Draw(t, "levels"), "/") })
	anyFilter := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.OneOf(level, rapid.Just("+")), 1, 5).Draw(t, "levels")
		if rapid.Bool().Draw(t, "hash") {
			levels[len(levels)-1] = "#"
		}
		return strings.Join(levels, "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		x := newRetainedIndex(0)
		model := map[string]sessions.Entry{}
		sequence, now := uint64(0), retainedAt
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				sequence++
				e := retainedEntry(sequence, anyTopic.Draw(t, "topic"), rapid.SampledFrom([]string{"", "x", "yy"}).Draw(t, "payload"))
				e.Message.PublishedAt = now
				if seconds := rapid.Uint32Range(0, 5).Draw(t, "expiry"); seconds > 0 {
					expiring(e, seconds)
				}
				x.apply(e)
				if len(e.Message.Payload) == 0 {
					delete(model, e.Message.Topic)
				} else {
					model[e.Message.Topic] = e
				}
			},
			"time passes": func(*rapid.T) { now = now.Add(time.Second) },
			"match": func(t *rapid.T) {
				filter := anyFilter.Draw(t, "filter")
				var tree sessions.FilterTree[bool]
				tree.Add(filter, true)
				var want []sessions.Entry
				for _, topic := range slices.Sorted(maps.Keys(model)) {
					if !model[topic].Message.Expired(now) && len(matches(tree.MatchAppend(topic, nil))) > 0 {
						want = append(want, model[topic])
					}
				}
				slices.SortFunc(want, func(a, b sessions.Entry) int { return compareLevels(a.Message.Topic, b.Message.Topic) })
				after := rapid.OneOf(rapid.Just(""), anyTopic).Draw(t, "after")
				if after != "" {
					want = slices.DeleteFunc(want, func(e sessions.Entry) bool { return compareLevels(e.Message.Topic, after) <= 0 })
				}
				got := x.match(filter, after, rapid.IntRange(1, 4).Draw(t, "max"), now)
				if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
					t.Fatalf("%q matches %v behind %q, want %v", filter, topicsOf(got), after, topicsOf(want))
				}
			},
			"": func(t *rapid.T) {
				live, bytes := 0, int64(0)
				x.root.visitAll(func(n *retainedNode) {
					live++
					bytes += int64(n.entry.Message.Memory())
				})
				if x.messages != live || x.bytes != bytes || live > len(model) {
					t.Fatalf("counted %d messages and %d bytes, want %d and %d", x.messages, x.bytes, live, bytes)
				}
				wantNoEmptyNodes(t, &x.root)
			},
		})
	})
}

func wantNoEmptyNodes(t *rapid.T, n *retainedNode) {
	for level, child := range n.children.All() {
		if child.entry == nil && child.children.Len() == 0 {
			t.Fatalf("an empty node is left at level %q", level)
		}
		wantNoEmptyNodes(t, child)
	}
}

func BenchmarkRetainedApply(b *testing.B) {
	x := newRetainedIndex(0)
	entries := make([]sessions.Entry, 100_000)
	for i := range entries {
		entries[i] = retainedEntry(0, fmt.Sprintf("device/%d/state", i), "a payload of 24 bytes...")
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		e := entries[i%len(entries)]
		i++
		e.Sequence = uint64(i)
		x.apply(e)
	}
}

func BenchmarkRetainedMatch(b *testing.B) {
	x := newRetainedIndex(0)
	for i := range 100_000 {
		x.apply(retainedEntry(uint64(i+1), fmt.Sprintf("site/%d/device/%d/state", i%1000, i), "on"))
	}
	for _, filter := range []string{"site/7/device/1007/state", "site/7/device/+/state", "site/#"} {
		b.Run(strings.ReplaceAll(filter, "/", "."), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.match(filter, "", retainedAtOnce+1, retainedAt)
			}
		})
	}
}

func BenchmarkRetainedMemory(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		x := newRetainedIndex(0)
		for i := range n {
			x.apply(retainedEntry(uint64(i+1), fmt.Sprintf("device/%d/state", i), "on"))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/message")
		runtime.KeepAlive(x)
	}
}

// matches are those of MatchAppend, without the number of filters.
func matches[V any](matches []V, _ int) []V { return matches }
