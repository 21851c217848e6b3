package sessions

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// checkPacketIDs compares an allocator with the set it must stand for.
func checkPacketIDs(t interface{ Fatalf(string, ...any) }, p *packetIDs, used map[uint16]bool) {
	if p.len() != len(used) {
		t.Fatalf("%d identifiers are in use, want %d", p.len(), len(used))
	}
	for id := range used {
		if !p.inUse(id) {
			t.Fatalf("identifier %d is not in use", id)
		}
	}
	switch {
	case p.inUse(0):
		t.Fatalf("0 is in use")
	case p.bitmap == nil && (len(p.list) != len(used) || !slices.IsSorted(p.list)):
		t.Fatalf("the list of %d identifiers is %v", len(used), p.list)
	case p.bitmap != nil && (p.list != nil || len(used) <= packetIDListMax/2):
		t.Fatalf("a bitmap for %d identifiers", len(used))
	case len(used) == 0 && cap(p.list) > packetIDListKept:
		t.Fatalf("room for %d identifiers is kept for none", cap(p.list))
	}
}

// TestPacketIDInUseIsNeverHandedOut compares with the obvious allocator: a set, searched one by one. [MQTT-2.2.1-4]
// [3.1.1 MQTT-2.3.1-4] [case 157]
func TestPacketIDInUseIsNeverHandedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p packetIDs
		used, next := map[uint16]bool{}, uint16(1)
		after := func(id uint16) uint16 { return max(id+1, 1) }
		anyID := rapid.OneOf(rapid.Uint16(), rapid.Uint16Range(0, 200), rapid.Uint16Range(65_400, 65_535))
		actions := map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				want := next
				for used[want] {
					want = after(want)
				}
				id, ok := p.allocate()
				if !ok || id != want {
					t.Fatalf("allocated %d (%v), want %d", id, ok, want)
				}
				used[id], next = true, after(id)
			},
			"allocate many": func(t *rapid.T) {
				for range rapid.IntRange(1, 2*packetIDListMax).Draw(t, "n") {
					id, ok := p.allocate()
					if !ok || id == 0 || used[id] {
						t.Fatalf("allocated %d (%v), in use: %v", id, ok, used[id])
					}
					used[id], next = true, after(id)
				}
			},
			"take": func(t *rapid.T) {
				id := anyID.Draw(t, "id")
				if want := id != 0 && !used[id]; p.take(id) != want {
					t.Fatalf("take(%d) is %v", id, !want)
				}
				if id != 0 {
					used[id] = true
				}
			},
			"release": func(t *rapid.T) {
				id := anyID.Draw(t, "id")
				if want := used[id]; p.release(id) != want {
					t.Fatalf("release(%d) is %v", id, !want)
				}
				delete(used, id)
			},
			"release many": func(t *rapid.T) {
				ids := slices.Sorted(maps.Keys(used))
				for _, id := range ids[:rapid.IntRange(0, len(ids)).Draw(t, "n")] {
					if !p.release(id) {
						t.Fatalf("%d could not be released", id)
					}
					delete(used, id)
				}
			},
			"set cursor": func(t *rapid.T) {
				next = anyID.Draw(t, "id")
				p.setNext(next)
				next = max(next, 1)
			},
			"skip ahead": func(t *rapid.T) {
				n := anyID.Draw(t, "n")
				p.skipAhead(n)
				for range n {
					next = after(next)
				}
			},
			"": func(t *rapid.T) {
				checkPacketIDs(t, &p, used)
				if p.nextID() != next {
					t.Fatalf("the cursor is at %d, want %d", p.nextID(), next)
				}
			},
		}
		t.Repeat(actions)
	})
}

func TestAllPacketIDsAreUsableAndThenNone(t *testing.T) {
	for _, start := range []uint16{0, 1, 2, 64, 40_000, maxPacketID} {
		t.Run(fmt.Sprint("from ", start), func(t *testing.T) {
			var p packetIDs
			p.setNext(start)
			want := max(start, 1)
			for i := range maxPacketID {
				if id, ok := p.allocate(); !ok || id != want {
					t.Fatalf("identifier %d of 65,535 is %d (%v), want %d", i+1, id, ok, want)
				}
				want = max(want+1, 1)
			}
			if id, ok := p.allocate(); ok {
				t.Fatalf("one more identifier: %d", id)
			}
			if !p.release(777) {
				t.Fatal("777 was not in use")
			}
			if id, ok := p.allocate(); !ok || id != 777 {
				t.Fatalf("got %d (%v), want the only unused one, 777", id, ok)
			}
		})
	}
}

func TestPacketIDsStartAnewPastThoseInUse(t *testing.T) {
	var p packetIDs
	for _, id := range []uint16{maxPacketID - 1, maxPacketID, 1, 2} {
		p.take(id)
	}
	p.setNext(maxPacketID - 1)
	if id, _ := p.allocate(); id != 3 {
		t.Fatalf("got %d, want 3", id)
	}
}

func TestFreedPacketIDIsUsedAgainLast(t *testing.T) {
	var p packetIDs
	first, _ := p.allocate()
	p.release(first)
	if second, _ := p.allocate(); second == first {
		t.Fatal("a freed identifier was used again at once")
	}
}

func TestSessionWithNothingInFlightHoldsNoPacketIDs(t *testing.T) {
	var p packetIDs
	var used []uint16
	for range 1000 {
		id, _ := p.allocate()
		used = append(used, id)
	}
	for _, id := range used {
		p.release(id)
	}
	if p.bitmap != nil || cap(p.list) > packetIDListKept {
		t.Fatalf("with none in use: bitmap %v, room for %d", p.bitmap != nil, cap(p.list))
	}
	allocs := testing.AllocsPerRun(100, func() {
		id, _ := p.allocate()
		p.release(id)
	})
	if allocs > 0 {
		t.Fatalf("%v allocations for one identifier after another", allocs)
	}
}

func BenchmarkPacketIDs(b *testing.B) {
	for _, window := range []int{1, 32, 256, 20_000} {
		b.Run(fmt.Sprint("in use=", window), func(b *testing.B) {
			var p packetIDs
			inFlight := make([]uint16, window)
			for i := range inFlight {
				inFlight[i], _ = p.allocate()
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				p.release(inFlight[i])
				inFlight[i], _ = p.allocate()
				if i++; i == window {
					i = 0
				}
			}
		})
	}
}
