package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// After a time of much work (thousands of clients that connect at once, a backlog that was read) up to half of the heap is
// garbage which nobody collects while the node is quiet, and the memory of what was collected before goes back to the
// system slowly. memoryKeeper sees to both, once, when quiet has come; while there is work the runtime's own pace is best.

const (
	// memoryLook is how often it is looked whether the node is quiet.
	memoryLook = time.Second
	// quietAllocation is how much a quiet node allocates in that time, at most: what it does in the background, as making the
	// queues of sessions that went offline, goes on.
	quietAllocation = 16 << 20
	// worthReleasing is how much must have been allocated since memory was given back last; half of what is live, if that is
	// more: so the heap is looked through at most about twice as often as at the runtime's own pace.
	worthReleasing = 32 << 20
	// releaseEvery is the least time between two releases: each looks through the whole heap.
	releaseEvery = 5 * time.Second
)

// memoryKeeper decides when memory is given back. The zero value has seen nothing.
type memoryKeeper struct {
	// allocated is how much was allocated up to the last look, atRelease up to the last release, released when that was.
	allocated, atRelease uint64
	released             time.Time
}

// look takes note of how much was allocated up to now and how much of it is live, and reports whether memory is to be given back.
func (k *memoryKeeper) look(now time.Time, allocated, live uint64) bool {
	quiet := allocated-k.allocated <= quietAllocation
	k.allocated = allocated
	if !quiet || allocated-k.atRelease < max(worthReleasing, live/2) || now.Sub(k.released) < releaseEvery {
		return false
	}
	k.atRelease, k.released = allocated, now
	return true
}

// keepMemory gives memory back whenever the node has become quiet, until ctx ends.
func keepMemory(ctx context.Context) {
	tick := time.NewTicker(memoryLook)
	defer tick.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	var k memoryKeeper
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			metrics.Read(sample)
			if k.look(now, sample[0].Value.Uint64(), sample[1].Value.Uint64()) {
				debug.FreeOSMemory()
			}
		}
	}
}
