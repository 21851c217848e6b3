package sessions

import (
	"testing"
	"time"
)

func TestReplayBeginsWhereItsFilterSays(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		filter, topics string
		sequence       uint64
		at             time.Time
	}{
		{"$replay/first/a/#", "a/#", 0, time.Time{}},
		{"$replay/0/a", "a", 0, time.Time{}},
		{"$replay/17/#", "#", 17, time.Time{}},
		{"$replay/18446744073709551615/+/a", "+/a", 1<<64 - 1, time.Time{}},
		{"$replay/1h30m//", "/", 0, now.Add(-90 * time.Minute)},
		{"$replay/0s/$SYS/#", "$SYS/#", 0, now},
		{"$replay/2026-05-04T11:59:59Z/a", "a", 0, now.Add(-time.Second)},
		{"$replay/2026-05-04T06:59:59.5-05:00/a", "a", 0, now.Add(-500 * time.Millisecond)},
		{"$replay/2026-05-04T12:00:00Z/a", "a", 0, now},
	} {
		start, ok := parseReplay(c.filter, now)
		if !ok || start.Filter != c.filter || start.Topics != c.topics || start.Sequence != c.sequence || !start.Time.Equal(c.at) {
			t.Errorf("%s: %+v, %v", c.filter, start, ok)
		}
	}
	for _, filter := range []string{
		"$replay/first", "$replay/first/", "$replay//a", "$replay/#", "$replay/+/a", "$replay/-1/a", "$replay/+1/a", "$replay/18446744073709551616/a",
		"$replay/-1s/a", "$replay/1/a#", "$replay/1/$share/g/a", "$replay/1/$replay/1/a", "$replay/2026-05-04/a", "$replay/2026-05-04T12:00:00.1Z/a",
		"$replay/First/a", "$replay/1d/a",
	} {
		if start, ok := parseReplay(filter, now); ok {
			t.Errorf("%s is taken for %+v", filter, start)
		}
	}
}
