package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Proc observes the broker's process and its descendants through /proc.
type Proc struct {
	pid int
}

// statFields are the fields of /proc/PID/stat after the command's name.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(b[i+1:]))
}

// tree is the process and its descendants.
func (p *Proc) tree() []int {
	if p.pid == 0 {
		return nil
	}
	kids := map[int][]int{}
	ents, _ := os.ReadDir("/proc")
	for _, e := range ents {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := statFields(n); len(f) > 1 {
			pp, _ := strconv.Atoi(f[1])
			kids[pp] = append(kids[pp], n)
		}
	}
	out := []int{p.pid}
	for i := 0; i < len(out); i++ {
		out = append(out, kids[out[i]]...)
	}
	return out
}

// cpu is the user and system time of all threads, in microseconds.
func (p *Proc) cpu() float64 {
	var t float64
	for _, pid := range p.tree() {
		if f := statFields(pid); len(f) > 12 {
			u, _ := strconv.ParseFloat(f[11], 64)
			s, _ := strconv.ParseFloat(f[12], 64)
			t += (u + s) * 1e4 // USER_HZ is 100
		}
	}
	return t
}

// rest returns when the processes have used no CPU time for a while, or after 5 s for those that never rest: what they do after
// their start, or after what came before, is not to be counted with what comes.
func (p *Proc) rest() {
	const quiet = 300 * time.Millisecond
	last, since := p.cpu(), time.Now()
	sample := time.NewTicker(20 * time.Millisecond) // two clock ticks, in which the system counts CPU time
	defer sample.Stop()
	for end := time.Now().Add(5 * time.Second); time.Since(since) < quiet && time.Now().Before(end); {
		<-sample.C
		if now := p.cpu(); now > last {
			last, since = now, time.Now()
		}
	}
}

// statusKB is a figure of /proc/PID/status.
func statusKB(pid int, key string) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, key+":") {
			f := strings.Fields(l)
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// sum adds a figure of all processes up, in MB.
func (p *Proc) sum(key string) float64 {
	var n int64
	for _, pid := range p.tree() {
		n += statusKB(pid, key)
	}
	return float64(n) / 1024
}

// rss is the resident set, in MB.
func (p *Proc) rss() float64 { return p.sum("VmRSS") }

// pss is the proportional set size, in MB.
func (p *Proc) pss() float64 {
	var n int64
	for _, pid := range p.tree() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for _, l := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(l, "Pss:") {
				k, _ := strconv.ParseInt(strings.Fields(l)[1], 10, 64)
				n += k
			}
		}
	}
	return float64(n) / 1024
}

// resetPeak clears the kernel's high-water mark of the resident set.
func (p *Proc) resetPeak() {
	for _, pid := range p.tree() {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// peakRSS is the largest resident set since resetPeak, in MB.
func (p *Proc) peakRSS() float64 { return p.sum("VmHWM") }

// selfCPU is the CPU time of the generator itself, in microseconds.
func selfCPU() float64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Sec+r.Stime.Sec)*1e6 + float64(r.Utime.Usec+r.Stime.Usec)
}

// diskMB is what the files below dir occupy (allocated blocks).
func diskMB(dir string) float64 {
	if dir == "" {
		return 0
	}
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if i, err := d.Info(); err == nil {
			if st, ok := i.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
		return nil
	})
	return float64(n) / (1 << 20)
}
