package harness

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// logLines keeps what a broker process wrote. It is safe for concurrent use.
type logLines struct {
	mu   sync.Mutex
	data bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.Write(p)
}

// String is the whole log.
func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.String()
}

// tail is the last n lines.
func (l *logLines) tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// show hands the end of the log of a test that has failed to the test's log, and all of it to a file in DUNLIN_LOGS, if that names
// a directory.
func (l *logLines) show(t testing.TB, name string) {
	if !t.Failed() {
		return
	}
	t.Logf("last lines of the log of %s:\n%s", name, l.tail(60))
	if dir := os.Getenv("DUNLIN_LOGS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".log"), []byte(l.String()), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// Alarm is the first line of a broker's log that tells of a bug whatever the test saw, or empty: what the Go runtime writes, or
// the broker's word of an actor that panicked. Nothing else counts: client identifiers are in the log too, and may spell anything.
func Alarm(log string) string {
	for line := range strings.Lines(log) {
		for _, begin := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.HasPrefix(line, begin) {
				return strings.TrimSpace(line)
			}
		}
		if strings.Contains(line, `level=ERROR msg="actor failed"`) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
