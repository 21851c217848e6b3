package harness

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// RaceFactor is how many times the memory the broker may take that it takes without the race detector.
func RaceFactor() int64 {
	if raceEnabled {
		return 3
	}
	return 1
}

// RSS is the resident memory of the broker's process in bytes. It works where there is /proc.
func (b *Broker) RSS() (int64, error) { return b.memory("VmRSS:") }

// Reserved is the memory that the broker's process has reserved, in bytes, whether it has used it or not.
func (b *Broker) Reserved() (int64, error) { return b.memory("VmSize:") }

func (b *Broker) memory(which string) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", b.PID()))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, found := strings.CutPrefix(lines.Text(), which); found {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", which, f.Name())
}
