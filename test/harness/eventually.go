package harness

import (
	"testing"
	"time"
)

// Patience is how long a test waits for something that must happen. It is long because the machine may be busy and
// the race detector slow; a passing test does not use it up.
const Patience = 20 * time.Second

// Eventually calls check until it returns nil, and fails the test with its last error when within has passed.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	if err := Within(within, check); err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}

// Within calls check until it returns nil, and returns its last error when within has passed.
func Within(within time.Duration, check func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond) // what is waited for is in other processes, which tell nobody
	defer look.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-deadline.C:
			return check() // what has come meanwhile counts
		}
	}
}

// Wait lets time pass where the passing of time is what the test is about, such as an expiry interval.
func Wait(d time.Duration) { <-time.After(d) }
