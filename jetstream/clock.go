package jetstream

import (
	"sync/atomic"
	"time"
)

// logClock tells what the server of the log has for now, which stamps its messages: its clock need not agree with ours. Safe
// for concurrent use.
type logClock struct {
	// ahead is by how much the server's clock is ahead of ours.
	ahead atomic.Int64
	// told is what was logged of it.
	told atomic.Int64
}

// maxRoundTrip is how long a question may take whose answer sets the clock: half of it may be the error.
const maxRoundTrip = time.Second

// set learns from an answer that was stamped with the server's time, and reports whether the difference is worth telling.
func (c *logClock) set(stamp, asked, answered time.Time) (difference time.Duration, telling bool) {
	if stamp.IsZero() || answered.Sub(asked) > maxRoundTrip {
		return 0, false
	}
	difference = stamp.Sub(asked.Add(answered.Sub(asked) / 2))
	c.ahead.Store(int64(difference))
	if (difference - time.Duration(c.told.Load())).Abs() < maxClockDifference {
		return difference, false
	}
	c.told.Store(int64(difference))
	return difference, true
}

// maxClockDifference is how far the clocks of two machines may be apart without a word.
const maxClockDifference = time.Second

// at is what the server has at a time of ours.
func (c *logClock) at(ours time.Time) time.Time { return ours.Add(time.Duration(c.ahead.Load())) }

// ours is at reversed.
func (c *logClock) ours(at time.Time) time.Time { return at.Add(-time.Duration(c.ahead.Load())) }
