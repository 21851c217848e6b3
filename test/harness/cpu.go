package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit in which the kernel says how much CPU time a process has used.
const tick = 10 * time.Millisecond

// CPU is the user and system time that the broker's process has used, to a hundredth of a second. It works where there
// is /proc.
func (b *Broker) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.PID()))
	if err != nil {
		return 0, err
	}
	_, rest, found := bytes.Cut(stat, []byte(") ")) // behind the name of the program
	fields := bytes.Fields(rest)
	if !found || len(fields) < 13 {
		return 0, errors.New("not the fields of /proc/PID/stat")
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// PID is the process identifier of the broker.
func (b *Broker) PID() int { return b.process.cmd.Process.Pid }
