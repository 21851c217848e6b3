package jetstream

import (
	"testing"
	"time"
)

func TestLogClockFollowsTheServers(t *testing.T) {
	var c logClock
	asked := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answered := asked.Add(20 * time.Millisecond)
	if got := c.at(asked); !got.Equal(asked) {
		t.Errorf("before anything is known: %v", got)
	}
	if _, telling := c.set(asked.Add(5*time.Minute), asked, answered); !telling {
		t.Error("five minutes are not worth telling")
	}
	if want, got := asked.Add(5*time.Minute-10*time.Millisecond), c.at(asked); !got.Equal(want) {
		t.Errorf("at = %v, want %v", got, want)
	}
	if _, telling := c.set(asked.Add(5*time.Minute), asked, answered); telling {
		t.Error("told twice")
	}
	c.set(asked, asked, asked.Add(2*maxRoundTrip))
	if want, got := asked.Add(5*time.Minute-10*time.Millisecond), c.at(asked); !got.Equal(want) {
		t.Errorf("a slow answer set the clock: at = %v, want %v", got, want)
	}
}
