package sessions

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"unsafe"
)

func TestLevelMapHoldsWhatItNeedsForFewAndForMany(t *testing.T) {
	var m LevelMap[int]
	want := map[string]*int{}
	check := func(isMap bool) {
		t.Helper()
		if got := maps.Collect(m.All()); !maps.Equal(got, want) || m.Len() != len(want) {
			t.Fatalf("it holds %v, %d in number, want %v", got, m.Len(), want)
		}
		for level, node := range want {
			if m.Child(level) != node || m.ChildOrNew(level) != node {
				t.Fatalf("level %q has another child", level)
			}
		}
		if m.Child("no such level") != nil {
			t.Fatal("it has a child that nobody made")
		}
		if (m.many != nil) != isMap || (isMap && m.list != nil) {
			t.Fatalf("%d children: map %v, list %v", len(want), m.many, m.list)
		}
	}
	check(false)
	for i := range 3 * levelListMax {
		level := fmt.Sprint(i)
		want[level] = m.ChildOrNew(level)
		check(i >= levelListMax)
	}
	for _, level := range slices.Sorted(maps.Keys(want)) {
		m.Delete(level)
		m.Delete(level) // the second time does nothing
		delete(want, level)
		check(len(want) > levelMapMin)
	}
	if m.list != nil {
		t.Fatalf("the empty map keeps %v", m.list)
	}
}

func TestLevelMapCanBeLeftMidway(t *testing.T) {
	for _, n := range []int{levelListMax, levelListMax + 1} {
		var m LevelMap[int]
		for i := range n {
			m.ChildOrNew(fmt.Sprint(i))
		}
		visited := 0
		for range m.All() {
			visited++
			break
		}
		if visited != 1 {
			t.Fatalf("visited %d of %d, want 1", visited, n)
		}
	}
}

func TestLevelMapKeepsNoPartOfAFilter(t *testing.T) {
	var m LevelMap[int]
	filter := "level/of/a/long/filter"
	m.ChildOrNew(filter[:5])
	if unsafe.StringData(m.list[0].level) == unsafe.StringData(filter) {
		t.Fatal("the level keeps the whole filter in memory")
	}
}
