package main

import (
	"slices"
	"testing"
	"time"
)

// Memory is given back once when a busy node becomes quiet: not while it works, not for little, and not again and again.
func TestMemoryIsGivenBackWhenTheNodeIsQuiet(t *testing.T) {
	const busy, quiet = 2 * quietAllocation, quietAllocation
	var k memoryKeeper
	now, allocated, live := time.Unix(1000, 0), uint64(0), uint64(10<<20)
	var given []int
	look := func(times int, growth uint64) {
		for range times {
			now = now.Add(memoryLook)
			allocated += growth
			if k.look(now, allocated, live) {
				given = append(given, int(now.Unix()-1000))
			}
		}
	}
	look(5, busy)        // 1-5
	look(2, quiet/2)     // 6-7: given back at 6
	look(1, 2*busy)      // 8
	look(13, quiet/1024) // 9-21: at 11, not sooner after the last time
	look(20, quiet/1024) // 22-41: nothing has happened
	look(1, busy-1<<20)  // 42
	look(20, quiet/1024) // 43-62: too little
	live = 1 << 30
	look(15, busy)      // 63-77
	look(9, quiet/1024) // 78-86: too little for what is live
	look(1, busy)       // 87
	look(9, quiet/1024) // 88-96: given back at 88
	if want := []int{6, 11, 88}; !slices.Equal(given, want) {
		t.Errorf("given back at %v, want %v", given, want)
	}
}
