package harness

import "testing"

func TestAlarmTellsBugsFromClientIdentifiers(t *testing.T) {
	for _, c := range []struct {
		line  string
		alarm bool
	}{
		{"WARNING: DATA RACE", true},
		{"panic: runtime error: index out of range [3] with length 2", true},
		{"fatal error: concurrent map writes", true},
		{`time=2026-01-02T03:04:05.678Z level=ERROR msg="actor failed" actor=session/7 reason=boom stack="goroutine 9"`, true},
		{`time=2026-01-02T03:04:05.678Z level=INFO msg="connection closed" client=dunlin-XPANICJTXK5FBKQO7KH4USX66OH connection=1`, false},
	} {
		if got := Alarm("first\n" + c.line + "\nlast\n"); (got == c.line) != c.alarm || !c.alarm && got != "" {
			t.Errorf("%s: the alarm is %q", c.line, got)
		}
	}
}
