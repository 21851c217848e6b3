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
	fields, err := processStat(b.PID())
	if err != nil {
		return 0, err
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

// Asleep is nil when a process with one thread waits for something.
func Asleep(pid int) error {
	fields, err := processStat(pid)
	if err == nil && string(fields[0]) != "S" {
		err = fmt.Errorf("process %d is in state %s", pid, fields[0])
	}
	return err
}

// processStat are the fields of /proc/PID/stat behind the name of the program.
func processStat(pid int) ([][]byte, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, found := bytes.Cut(stat, []byte(") "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 13 {
		return nil, errors.New("not the fields of /proc/PID/stat")
	}
	return fields, nil
}

// PID is the process identifier of the broker.
func (b *Broker) PID() int { return b.process.cmd.Process.Pid }
