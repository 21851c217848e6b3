package scale

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dunlin/test/harness"
)

// settle is how long the broker is left alone before its memory is read: what it frees it frees in the background.
func settle() {
	if full() {
		harness.Wait(3 * time.Second)
	}
}

// rss is the broker's resident memory in bytes.
func rss(t *testing.T, b *harness.Broker) int64 {
	t.Helper()
	n, err := b.RSS()
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: cannot read the broker's memory: %v", err)
	}
	return n
}

// cpu is the CPU time that the broker has used.
func cpu(t *testing.T, b *harness.Broker) time.Duration {
	t.Helper()
	d, err := b.CPU()
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: cannot read the broker's CPU time: %v", err)
	}
	return d
}

// idleCPU is the CPU time that the broker uses in a second while nothing happens.
func idleCPU(t *testing.T, b *harness.Broker) time.Duration {
	t.Helper()
	period := 100 * time.Millisecond
	if full() {
		period = 3 * time.Second
	}
	before := cpu(t, b)
	harness.Wait(period)
	return time.Duration(float64(cpu(t, b)-before) / period.Seconds())
}

// restart takes the broker down and says how long the start took until it was ready.
func restart(b *harness.Broker, how harness.Ending, connected ...harness.Connection) time.Duration {
	b.Down(how, connected...)
	begin := time.Now()
	b.Up()
	return time.Since(begin)
}

// table is what a test prints at its end, in Markdown.
type table struct{ lines []string }

func newTable(columns ...string) *table {
	t := &table{}
	t.lines = append(t.lines, "| "+strings.Join(columns, " | ")+" |", "|"+strings.Repeat("---|", len(columns)))
	return t
}

func (t *table) row(cells ...any) {
	parts := make([]string, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case float64:
			parts[i] = fmt.Sprintf("%.1f", c)
		case time.Duration:
			parts[i] = c.Round(time.Millisecond).String()
		default:
			parts[i] = fmt.Sprint(c)
		}
	}
	t.lines = append(t.lines, "| "+strings.Join(parts, " | ")+" |")
}

func (t *table) print(tb testing.TB) { tb.Logf("\n%s", strings.Join(t.lines, "\n")) }

// each is the growth from one reading of memory to the next, in KiB for each of n things; nothing for none.
func each(before, after int64, n int) any {
	if n == 0 {
		return "-"
	}
	return float64(after-before) / 1024 / float64(n)
}

// mib is a number of bytes in MiB.
func mib(n int64) float64 { return float64(n) / (1 << 20) }
