package sessions

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// matchesByLevels is the definition of a match, level by level. (4.7.1)
func matchesByLevels(filter, topic []string) bool {
	if len(filter) > 0 && filter[0] == "#" {
		return true
	}
	if len(filter) == 0 || len(topic) == 0 {
		return len(filter) == len(topic)
	}
	return (filter[0] == "+" || filter[0] == topic[0]) && matchesByLevels(filter[1:], topic[1:])
}

func naiveMatch(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false // [MQTT-4.7.2-1]
	}
	return matchesByLevels(strings.Split(filter, "/"), strings.Split(topic, "/"))
}

// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.2-1] [case 120] [case 121]
func TestFilterTreeMatchesAsTheStandardSays(t *testing.T) {
	cases := []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true},
		{"a", "A", false},
		{"a", "a/", false},
		{"a", "/a", false},
		{"a b", "a b", true},
		{"#", "a/b/c", true},
		{"#", "/", true},
		{"a/#", "a", true},
		{"a/#", "a/", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/b/#", "a/b", true},
		{"a/b/#", "a", false},
		{"+/#", "a", true},
		{"/#", "a", false},
		{"/#", "/", true},
		{"+", "a", true},
		{"+", "/a", false},
		{"+/+", "/x", true},
		{"/+", "/x", true},
		{"/+", "x", false},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a//c", true},
		{"a/+/c", "a/c", false},
		{"+/b", "a/b", true},
		{"//", "//", true},
		{"//", "/", false},
		{"+//+", "a//b", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"+/#", "$SYS/x", false},
		{"+", "$SYS", false},
		{"#", "$", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/+", "$SYS/x", true},
		{"$SYS/#", "$SYS", true},
		{"a/#", "a/$SYS", true},
		{"a/+", "a/$x", true},
	}
	for _, c := range cases {
		var tree FilterTree[int]
		tree.Add(c.filter, 1)
		if got := len(matches(tree.MatchAppend(c.topic, nil))) == 1; got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.filter, c.topic, got, c.want)
		}
		if naiveMatch(c.filter, c.topic) != c.want {
			t.Errorf("the matcher of the tests is wrong about %q and %q", c.filter, c.topic)
		}
	}
}

type filterAndValue struct {
	filter string
	value  int
}

// countNodes counts the nodes below one, and checks that each is there for something.
func countNodes[V comparable](t interface{ Fatalf(string, ...any) }, n *filterNode[V]) int {
	below := slices.Collect(func(yield func(*filterNode[V]) bool) {
		for _, child := range n.children.All() {
			yield(child)
		}
		if n.plus != nil {
			yield(n.plus)
		}
	})
	nodes := len(below)
	for _, child := range below {
		if child.empty() {
			t.Fatalf("an empty node is left")
		}
		nodes += countNodes(t, child)
	}
	return nodes
}

// wantNodes is how many nodes some filters need: one for each of their different beginnings.
func wantNodes(pairs map[filterAndValue]bool) int {
	beginnings := map[string]bool{}
	for p := range pairs {
		filter, _ := strings.CutSuffix("/"+p.filter, "/#")
		for filter != "" {
			beginnings[filter] = true
			filter = filter[:strings.LastIndexByte(filter, '/')]
		}
	}
	return len(beginnings)
}

var (
	anyLevel  = rapid.SampledFrom([]string{"", "a", "b", "c", "$SYS", "a b", "é"})
	anyTopic  = rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(anyLevel, 1, 6).Draw(t, "levels"), "/") })
	anyFilter = rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.OneOf(anyLevel, rapid.Just("+")), 0, 5).Draw(t, "levels")
		if len(levels) == 0 || rapid.Bool().Draw(t, "hash") {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	})
)

func TestFilterTreeAgreesWithTheNaiveMatcher(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree FilterTree[int]
		model := map[filterAndValue]bool{}
		anyValue := rapid.IntRange(0, 80)
		match := func(t *rapid.T, topic string) {
			var want []int
			for p := range model {
				if naiveMatch(p.filter, topic) {
					want = append(want, p.value)
				}
			}
			slices.Sort(want)
			if got := slices.Sorted(slices.Values(matches(tree.MatchAppend(topic, nil)))); !slices.Equal(got, want) {
				t.Fatalf("MatchAppend(%q) is %v, want %v", topic, got, want)
			}
			var visited []int
			tree.Match(topic, func(v int) { visited = append(visited, v) })
			if slices.Sort(visited); !slices.Equal(visited, want) {
				t.Fatalf("Match(%q) visits %v, want %v", topic, visited, want)
			}
		}
		add := func(t *rapid.T, p filterAndValue) {
			if tree.Add(p.filter, p.value) == model[p] {
				t.Fatalf("Add(%q, %d) is %v", p.filter, p.value, model[p])
			}
			model[p] = true
		}
		remove := func(t *rapid.T, p filterAndValue) {
			if tree.Remove(p.filter, p.value) != model[p] {
				t.Fatalf("Remove(%q, %d) is %v", p.filter, p.value, !model[p])
			}
			delete(model, p)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add":    func(t *rapid.T) { add(t, filterAndValue{anyFilter.Draw(t, "filter"), anyValue.Draw(t, "value")}) },
			"remove": func(t *rapid.T) { remove(t, filterAndValue{anyFilter.Draw(t, "filter"), anyValue.Draw(t, "value")}) },
			"add many to one filter": func(t *rapid.T) {
				filter := anyFilter.Draw(t, "filter")
				for v := range anyValue.Draw(t, "n") {
					add(t, filterAndValue{filter, v})
				}
			},
			"add many siblings": func(t *rapid.T) {
				for i := range anyValue.Draw(t, "n") {
					add(t, filterAndValue{"a/" + fmt.Sprint(i), 0})
				}
			},
			"remove many": func(t *rapid.T) {
				n := anyValue.Draw(t, "n")
				for p := range maps.Clone(model) {
					if n--; n < 0 {
						break
					}
					remove(t, p)
				}
			},
			"match": func(t *rapid.T) { match(t, anyTopic.Draw(t, "topic")) },
			"": func(t *rapid.T) {
				if tree.Len() != len(model) {
					t.Fatalf("Len is %d, want %d", tree.Len(), len(model))
				}
				if got, want := countNodes(t, &tree.root), wantNodes(model); got != want {
					t.Fatalf("%d nodes for %v, want %d", got, model, want)
				}
			},
		})
	})
}

func TestFilterTreeEmptiedHoldsNothing(t *testing.T) {
	var tree FilterTree[int]
	filters := []string{"#", "+", "a/#", "a/+/#", "a/b/c/d/e", "", "/", "$SYS/#"}
	for i := range 1000 {
		filters = append(filters, fmt.Sprintf("many/%d/x", i))
	}
	for _, f := range filters {
		for v := range 100 {
			tree.Add(f, v)
		}
	}
	for _, f := range filters {
		for v := range 100 {
			if !tree.Remove(f, v) {
				t.Fatalf("Remove(%q, %d) found nothing", f, v)
			}
		}
	}
	if n := countNodes(t, &tree.root); n != 0 || !tree.root.empty() || tree.root.children.list != nil || tree.root.children.many != nil {
		t.Fatalf("%d nodes are left", n)
	}
}

func TestFilterTreeMatchIsInTheOrderOfItsHistory(t *testing.T) {
	build := func() []int {
		var tree FilterTree[int]
		for v := range 100 {
			tree.Add([]string{"a/b", "+/b", "a/+", "#", "a/#", "+/+"}[v%6], v)
		}
		for v := 0; v < 100; v += 7 {
			tree.Remove([]string{"a/b", "+/b", "a/+", "#", "a/#", "+/+"}[v%6], v)
		}
		return matches(tree.MatchAppend("a/b", nil))
	}
	if first, second := build(), build(); !slices.Equal(first, second) {
		t.Fatalf("the same history matched %v and %v", first, second)
	}
}

func TestFilterTreeMatchAllocatesNothing(t *testing.T) {
	var tree FilterTree[int]
	deep := strings.Repeat("a/", 127) + "a"
	for i, f := range []string{deep, strings.Repeat("+/", 127) + "+", strings.Repeat("+/", 126) + "#", "#", "a/#", strings.Repeat("a/+/", 63) + "a/a"} {
		tree.Add(f, i)
	}
	dst, n := make([]int, 0, 16), 0
	allocs := testing.AllocsPerRun(100, func() {
		dst = matches(tree.MatchAppend(deep, dst[:0]))
		tree.Match(deep, func(int) { n++ })
	})
	if allocs != 0 || len(dst) != 6 || n == 0 {
		t.Fatalf("%v allocations for %d matches, want 0 for 6", allocs, len(dst))
	}
}

// TestFilterTreeStandsTheDeepestFilters: no client may choose filters that make a match anything but linear, or fail.
func TestFilterTreeStandsTheDeepestFilters(t *testing.T) {
	var tree FilterTree[int]
	longest := strings.Repeat("/", 65_535)
	wild := strings.Repeat("+/", 32_767) + "#"
	tree.Add(longest, 1)
	tree.Add(wild, 2)
	if got := matches(tree.MatchAppend(longest, nil)); len(got) != 2 {
		t.Fatalf("matched %v, want both", got)
	}
	if !tree.Remove(longest, 1) || !tree.Remove(wild, 2) || countNodes(t, &tree.root) != 0 {
		t.Fatal("the filters could not be removed")
	}
}

// filled is a tree of n filters of the kinds that devices use, one in ten with a wildcard.
func filled(n int) *FilterTree[int] {
	tree := &FilterTree[int]{}
	for i := range n {
		filter := fmt.Sprintf("site/%d/device/%d/command", i%50, i)
		if i%10 == 9 {
			filter = fmt.Sprintf("site/%d/device/+/event/%d", i%50, i)
		}
		tree.Add(filter, i)
	}
	return tree
}

func BenchmarkFilterTreeMatch(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint("filters=", n), func(b *testing.B) {
			tree := filled(n)
			topics := make([]string, 1024)
			for i := range topics {
				topics[i] = fmt.Sprintf("site/%d/device/%d/command", i*97%n%50, i*97%n)
			}
			var dst []int
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				dst = matches(tree.MatchAppend(topics[i&1023], dst[:0]))
				i++
			}
		})
	}
}

func BenchmarkFilterTreeMatchThousandOfOneTopic(b *testing.B) {
	var tree FilterTree[int]
	for v := range 1000 {
		tree.Add("news/today", v)
	}
	var dst []int
	b.ReportAllocs()
	for b.Loop() {
		dst = matches(tree.MatchAppend("news/today", dst[:0]))
	}
}

func BenchmarkFilterTreeAddRemove(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint("subscribers=", n), func(b *testing.B) {
			var tree FilterTree[int]
			for v := range n {
				tree.Add("news/today", v)
			}
			v := 0
			b.ReportAllocs()
			for b.Loop() {
				tree.Remove("news/today", v)
				tree.Add("news/today", v)
				v = (v + 7919) % n
			}
		})
	}
}

func BenchmarkFilterTreeMemory(b *testing.B) {
	const n = 100_000
	kinds := map[string]func(i int) string{
		"own filters": func(i int) string { return fmt.Sprintf("device/%d/command", i) },
		"one filter":  func(int) string { return "news/today" },
	}
	for name, filter := range kinds {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				tree := &FilterTree[int]{}
				for i := range n {
					tree.Add(filter(i), i)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/subscription")
				runtime.KeepAlive(tree)
			}
		})
	}
}

// matches are those of MatchAppend, without the number of filters.
func matches[V any](matches []V, _ int) []V { return matches }
