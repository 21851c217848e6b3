package actors

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// firing is one call of timerFired.
type firing struct {
	kind       uint8
	generation uint32
}

// firings is a target that writes down what fires. onFire, if set, is called too.
type firings struct {
	got    []firing
	onFire func(generation uint32)
}

func (f *firings) timerFired(kind uint8, generation uint32) {
	f.got = append(f.got, firing{kind, generation})
	if f.onFire != nil {
		f.onFire(generation)
	}
}

func (f *firings) generations() []uint32 {
	var generations []uint32
	for _, x := range f.got {
		generations = append(generations, x.generation)
	}
	return generations
}

var wheelStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// turnedWheel is a wheel that stands still but for the returned function, which moves its clock.
func turnedWheel(tick time.Duration) (*timerWheel, func(time.Duration)) {
	now := wheelStart
	w := makeTimerWheel(tick, func() time.Time { return now })
	return w, func(d time.Duration) {
		now = now.Add(d)
		w.advance(now)
	}
}

func TestTimerFiresAtTheTickAtOrAfterItsTime(t *testing.T) {
	for _, c := range []struct{ at, early, due time.Duration }{
		{at: time.Second, early: 999 * time.Millisecond, due: time.Second},
		{at: 1001 * time.Millisecond, early: 1999 * time.Millisecond, due: 2 * time.Second},
		{at: 24 * time.Hour, early: 24*time.Hour - 1, due: 24 * time.Hour},
		{at: 0, early: 999 * time.Millisecond, due: time.Second},
		{at: -time.Hour, early: 999 * time.Millisecond, due: time.Second},
	} {
		w, advance := turnedWheel(time.Second)
		target := &firings{}
		w.Schedule(wheelStart.Add(c.at), target, 7, 9)
		advance(c.early)
		if len(target.got) != 0 {
			t.Errorf("the timer for %v fired at %v", c.at, c.early)
		}
		advance(c.due - c.early)
		if want := []firing{{7, 9}}; !slices.Equal(target.got, want) {
			t.Errorf("the timer for %v had fired %v at %v, want %v", c.at, target.got, c.due, want)
		}
	}
}

func TestMissedTicksFireAllThatIsDueInOrder(t *testing.T) {
	for _, pause := range []time.Duration{5 * time.Second, 20 * 365 * 24 * time.Hour} { // few ticks, and more than can be counted through
		w, advance := turnedWheel(time.Millisecond)
		target := &firings{}
		for _, g := range []uint32{4, 1, 3, 0, 2} {
			w.Schedule(wheelStart.Add(time.Duration(g)*time.Second), target, 0, g)
		}
		w.Schedule(wheelStart.Add(pause+time.Hour), target, 0, 99)
		advance(pause)
		if want := []uint32{0, 1, 2, 3, 4}; !slices.Equal(target.generations(), want) {
			t.Errorf("after %v fired %v, want %v", pause, target.generations(), want)
		}
		advance(time.Hour)
		if n := len(target.got); n != 6 || len(w.buckets) != 0 {
			t.Errorf("after an hour more %d timers had fired and %d buckets were left, want 6 and 0", n, len(w.buckets))
		}
	}
}

func TestClockThatGoesBackFiresNothing(t *testing.T) {
	w, advance := turnedWheel(time.Second)
	target := &firings{}
	w.Schedule(wheelStart.Add(10*time.Second), target, 0, 1)
	advance(5 * time.Second)
	advance(-4 * time.Second)
	advance(8 * time.Second)
	if len(target.got) != 0 {
		t.Fatal("fired 1 s early")
	}
	advance(time.Second)
	if len(target.got) != 1 {
		t.Fatal("did not fire")
	}
}

func TestTimerScheduledByATargetFiresInALaterTick(t *testing.T) {
	w, advance := turnedWheel(time.Second)
	target := &firings{}
	target.onFire = func(g uint32) { w.Schedule(wheelStart, target, 0, g+1) }
	w.Schedule(wheelStart, target, 0, 0)
	advance(time.Second)
	advance(time.Second)
	if want := []uint32{0, 1}; !slices.Equal(target.generations(), want) {
		t.Fatalf("fired %v, want %v", target.generations(), want)
	}
}

func TestTimerForNeverDoesNotFire(t *testing.T) {
	w, advance := turnedWheel(time.Second)
	advance(time.Hour)
	target := &firings{}
	w.Schedule(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), target, 0, 0)
	advance(time.Hour)
	if len(target.got) != 0 {
		t.Fatal("a timer of the year 9999 fired")
	}
}

func TestDeadlineFromStorageCountsFromTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := makeTimerWheel(time.Second, time.Now)
		target := &firings{}
		w.Schedule(time.Now().Round(0).Add(3*time.Second), target, 0, 0) // no monotonic reading
		elapse(2999 * time.Millisecond)
		w.advance(time.Now())
		if len(target.got) != 0 {
			t.Fatal("fired early")
		}
		elapse(time.Millisecond)
		w.advance(time.Now())
		if len(target.got) != 1 {
			t.Fatal("did not fire")
		}
	})
}

// dueTick is the tick at which a timer set at a time must fire: the first which starts neither before its time, nor
// before the wheel could turn again.
func dueTick(at, turned time.Time, tick time.Duration) int64 {
	n := int64(turned.Sub(wheelStart)/tick) + 1
	for wheelStart.Add(time.Duration(n) * tick).Before(at) {
		n++
	}
	return n
}

func TestTimersAreNeverEarlyAndAtMostATickLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tick := time.Duration(rapid.IntRange(1, 1000).Draw(t, "tick"))
		now, turned := wheelStart, wheelStart
		w := makeTimerWheel(tick, func() time.Time { return now })
		target := &firings{}
		var timers, waiting []uint32 // generations; waiting is in the order of scheduling
		due := make(map[uint32]int64)
		turn := func(t *rapid.T, by time.Duration) {
			now = now.Add(by)
			var want []uint32
			waiting = slices.DeleteFunc(waiting, func(g uint32) bool {
				isDue := due[g] <= int64(now.Sub(wheelStart)/tick)
				if isDue {
					want = append(want, g)
				}
				return isDue
			})
			slices.SortStableFunc(want, func(a, b uint32) int { return cmp.Compare(due[a], due[b]) })
			target.got = nil
			w.advance(now)
			turned = now
			if !slices.Equal(target.generations(), want) {
				t.Fatalf("fired %v, want %v", target.generations(), want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"schedule": func(t *rapid.T) {
				at, g := now.Add(time.Duration(rapid.IntRange(-100, 5000).Draw(t, "in"))), uint32(len(timers))
				timers, waiting = append(timers, g), append(waiting, g)
				due[g] = dueTick(at, turned, tick)
				w.Schedule(at, target, 0, g)
			},
			"time passes": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "by"))) },
			"turn":        func(t *rapid.T) { turn(t, time.Duration(rapid.IntRange(0, 3000).Draw(t, "by"))) },
		})
		turn(t, time.Hour)
		if len(waiting) != 0 || len(w.buckets) != 0 {
			t.Fatalf("%v still wait in %d buckets", waiting, len(w.buckets))
		}
	})
}

// counter is a target that anybody may read.
type counter struct{ n atomic.Int32 }

func (c *counter) timerFired(uint8, uint32) { c.n.Add(1) }

func TestWheelTurnsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTimerWheel(100*time.Millisecond, time.Now)
		defer w.Stop()
		target := &counter{}
		w.Schedule(time.Now().Add(90*time.Second), target, 0, 0)
		elapse(90*time.Second - time.Millisecond)
		synctest.Wait()
		if n := target.n.Load(); n != 0 {
			t.Fatal("fired early")
		}
		elapse(101 * time.Millisecond)
		synctest.Wait()
		if n := target.n.Load(); n != 1 {
			t.Fatalf("fired %d times by 100 ms after its time, want once", n)
		}
	})
}

func TestNothingFiresAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTimerWheel(time.Second, time.Now)
		target := &counter{}
		w.Schedule(time.Now().Add(time.Second), target, 0, 0)
		w.Stop()
		w.Stop() // a second time is harmless
		elapse(time.Minute)
		if target.n.Load() != 0 {
			t.Fatal("a timer fired after Stop")
		}
	}) // the bubble does not end before the wheel's goroutine has
}

func TestSchedulingFromManyGoroutinesLosesNothing(t *testing.T) {
	const goroutines, timers = 8, 200
	synctest.Test(t, func(t *testing.T) {
		w := newTimerWheel(time.Millisecond, time.Now)
		defer w.Stop()
		target := &counter{}
		var scheduling sync.WaitGroup
		for range goroutines {
			scheduling.Go(func() {
				for i := range timers {
					w.Schedule(time.Now().Add(time.Duration(i)*time.Millisecond), target, 0, 0)
					if i%50 == 0 {
						elapse(time.Millisecond)
					}
				}
			})
		}
		scheduling.Wait()
		elapse(time.Second)
		synctest.Wait()
		if n := target.n.Load(); n != goroutines*timers {
			t.Fatalf("%d timers fired, want %d", n, goroutines*timers)
		}
	})
}

func BenchmarkTimerWheelSchedule(b *testing.B) {
	w := makeTimerWheel(100*time.Millisecond, time.Now)
	target := &counter{}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i++; i%1_000_000 == 0 {
			w.advance(time.Now().Add(time.Hour))
		}
		w.Schedule(time.Now().Add(time.Duration(i%600)*100*time.Millisecond), target, 0, 0)
	}
}
