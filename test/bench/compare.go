package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is one line of the brokers' file: name|port|data directory|command.
type target struct{ name, port, dir, cmd string }

// readTargets reads the brokers' file.
func readTargets(file string) (ts []target) {
	f, err := os.Open(file)
	if err != nil {
		fatal("%v", err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		l := strings.TrimSpace(sc.Text())
		if l == "" || l[0] == '#' {
			continue
		}
		p := strings.SplitN(l, "|", 4)
		if len(p) != 4 {
			fatal("%s: %q is not name|port|datadir|command", file, l)
		}
		for i := range p {
			p[i] = strings.TrimSpace(p[i])
		}
		ts = append(ts, target{p[0], p[1], p[2], p[3]})
	}
	return
}

// freshDir empties a data directory, but only one which this program created:
// a mark beside it says so.
func freshDir(dir string) error {
	if dir == "" || dir == "-" {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	mark := dir + ".bench-owned"
	if _, err := os.Stat(dir); err == nil {
		if _, err := os.Stat(mark); err != nil {
			return fmt.Errorf("%s exists and is not mine (no %s); remove it yourself", dir, filepath.Base(mark))
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

// compare runs the scenarios against each broker in turn, round by round, and prints the table of all results.
func compare(args []string) {
	fs := flag.NewFlagSet("compare", flag.ExitOnError)
	file := fs.String("brokers", "", "file with lines name|port|datadir|command; $PORT and $DATADIR are set for the command")
	list := fs.String("scenarios", "qos0-pairs,qos1-pairs", "which, comma separated; a scenario's own flags may follow it, separated by blanks")
	only := fs.String("only", "", "only these brokers, comma separated")
	rounds := fs.Int("rounds", 3, "rounds, interleaved")
	out := fs.String("out", "bench-results.jsonl", "append every result to this file")
	limit := fs.Duration("limit", 4*time.Minute, "end a scenario after this time")
	logs := fs.String("logs", "", "directory for the brokers' output")
	_ = fs.Parse(args) // it exits on an error
	ts := readTargets(*file)
	if *only != "" {
		want := strings.Split(*only, ",")
		ts = slices.DeleteFunc(ts, func(t target) bool { return !slices.Contains(want, t.name) })
	}
	if _, err := raiseFD(); err != nil {
		fatal("%v", err)
	}
	self, err := os.Executable()
	if err != nil {
		fatal("%v", err)
	}
	of, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fatal("%v", err)
	}
	defer of.Close()
	bad := 0
	var all []*Result
	for round := 1; round <= *rounds; round++ {
		for _, sc := range strings.Split(*list, ",") {
			f := strings.Fields(sc)
			if len(f) == 0 {
				continue
			}
			for _, t := range ts {
				r := one(self, t, f, *limit, *logs)
				r.Broker, r.Round = t.name, round
				if len(f) > 1 {
					r.Scenario = strings.Join(f, " ")
				}
				b, _ := json.Marshal(r)
				if _, err := of.Write(append(b, '\n')); err != nil {
					fatal("%v", err)
				}
				all = append(all, r)
				st := "ok"
				if !r.OK {
					st, bad = fmt.Sprintf("FAILED %q", r.Errors), bad+1
				}
				fmt.Fprintf(os.Stderr, "%s round %d %-16s %-18s %9.0f/s %8.2f us/msg  %s\n",
					time.Now().Format("15:04:05"), round, r.Scenario, t.name, r.Rate, r.CPUus, st)
			}
		}
	}
	render(all)
	if bad > 0 {
		os.Exit(1)
	}
}

// one runs a scenario against a fresh broker, with a generator in a process of its own.
func one(self string, t target, sc []string, limit time.Duration, logs string) *Result {
	res := &Result{Scenario: sc[0]}
	fail := func(f string, a ...any) *Result {
		res.OK = false
		res.Errors = append(res.Errors, fmt.Sprintf(f, a...))
		return res
	}
	if err := freshDir(t.dir); err != nil {
		return fail("%v", err)
	}
	addr := "127.0.0.1:" + t.port
	logFile := ""
	if logs != "" {
		if err := os.MkdirAll(logs, 0o755); err != nil {
			return fail("%v", err)
		}
		logFile = filepath.Join(logs, t.name+".log")
	}
	args := append([]string{"-scenario"}, sc...)
	args = append(args, "-addr", addr, "-datadir", t.dir, "-json", "-name", t.name)
	if sc[0] == "kill9" {
		args = append(args, "-start", t.cmd)
	} else {
		br, err := startBroker(t.cmd, addr, t.dir, logFile)
		if err != nil {
			return fail("start: %v", err)
		}
		defer br.stop()
		(&Proc{pid: br.cmd.Process.Pid}).rest()
		args = append(args, "-pid", strconv.Itoa(br.cmd.Process.Pid))
		defer func() {
			select {
			case <-br.done:
				fail("the broker died: %v", br.cmd.ProcessState)
			default:
			}
		}()
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "BENCH_BROKER_LOG="+logFile)
	var so bytes.Buffer
	cmd.Stdout, cmd.Stderr = &so, os.Stderr
	if err := cmd.Start(); err != nil {
		return fail("%v", err)
	}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		return fail("not finished after %v", limit)
	}
	if e := json.Unmarshal(so.Bytes(), res); e != nil {
		return fail("no result from the generator: %v, %v", err, e)
	}
	return res
}
