//go:build race

package harness

// raceEnabled: the tests run with the race detector, so the broker does too.
const raceEnabled = true
