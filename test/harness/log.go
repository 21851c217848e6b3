package harness

import (
	"bytes"
	"strings"
	"sync"
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

// alarm is the first line that tells of a bug whatever the test saw, or empty.
func (l *logLines) alarm() string {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, "DATA RACE") || strings.Contains(strings.ToLower(line), "panic") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
