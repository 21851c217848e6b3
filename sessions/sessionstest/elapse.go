package sessionstest

import "time"

// Elapse lets virtual time pass, which costs no real time. It is for bubbles of testing/synctest alone, and panics elsewhere: a
// test that waits in real time is slow on a fast machine and fails on a slow one.
func Elapse(d time.Duration) {
	if time.Now().Year() != 2000 { // where the time of a bubble begins
		panic("sessionstest.Elapse outside of a bubble would wait in real time")
	}
	<-time.After(d) // at once, when all goroutines of the bubble wait
}
