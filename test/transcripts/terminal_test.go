package transcripts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dunlin/test/harness"
)

// terminal is where the commands of a page run: a directory, the programs that a page uses, and the brokers' addresses.
type terminal struct {
	t          testing.TB
	dir        string
	env        []string
	real       *strings.Replacer // of a command as the page has it
	documented *strings.Replacer // of output as it is
	served     *job              // dunlin serve, nil while there is none
}

// pageAddresses are those a page uses, in the order MQTT, WebSocket, NATS.
var pageAddresses = [3]string{"127.0.0.1:1883", "127.0.0.1:8083", "127.0.0.1:4222"}

// newTerminal is a terminal for a page. server is the address of a nats-server that runs, empty when the broker has its own.
func newTerminal(t testing.TB, server string) *terminal {
	t.Helper()
	addresses := [3]string{harness.FreeAddress(t), harness.FreeAddress(t), server}
	s := &terminal{t: t, dir: t.TempDir()}
	s.env = append(os.Environ(), "DUNLIN_LISTENERS__MQTT="+addresses[0], "DUNLIN_LISTENERS__WS="+addresses[1],
		"HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent", "NO_COLOR=1", "TZ=UTC")
	if server == "" {
		addresses[2] = harness.FreeAddress(t)
		s.env = append(s.env, "DUNLIN_NATS__LISTEN="+addresses[2])
	}
	var there, back []string
	for i, address := range addresses {
		there = append(there, pageAddresses[i], address)
		back = append(back, address, pageAddresses[i])
	}
	s.real, s.documented = strings.NewReplacer(there...), strings.NewReplacer(append(back, s.dir+"/", "/home/you/")...)

	bin := t.TempDir()
	s.env = append(s.env, "PATH="+bin+":"+os.Getenv("PATH"))
	host, port, _ := strings.Cut(addresses[0], ":")
	mosquitto := func(name string) string { return fmt.Sprintf("%s -h %s -p %s", harness.Program(t, name), host, port) }
	nats := fmt.Sprintf("%s --server nats://%s --no-context", harness.Tool(t, "nats"), addresses[2])
	for name, script := range map[string]string{
		"dunlin":        `exec ` + harness.Binary(t) + ` "$@"`,
		"mosquitto_pub": `exec ` + mosquitto("mosquitto_pub") + ` "$@"`,
		"mosquitto_rr":  `exec ` + mosquitto("mosquitto_rr") + ` "$@"`,
		"mosquitto_sub": `exec ` + harness.Program(t, "stdbuf") + ` -oL ` + mosquitto("mosquitto_sub") + ` $MOSQUITTO_SUB "$@"`,
		"nats": `if [ "$1 $2" = "stream view" ]; then` + "\n" + // it wants a terminal
			`	for a; do quoted="$quoted '$a'"; done` + "\n" +
			`	exec ` + harness.Program(t, "script") + ` -qec "` + nats + ` $quoted" /dev/null` + "\n" +
			`fi` + "\n" +
			`exec ` + nats + ` "$@"`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.endServed)
	return s
}

// command is a command line of a page that is not started yet.
func (s *terminal) command(line string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", s.real.Replace(line))
	cmd.Dir, cmd.Env = s.dir, slices.Clone(s.env)
	cmd.WaitDelay = time.Second // for children that have its output too
	harness.DieWithParent(cmd)
	return cmd
}

// run runs a command to its end and returns what it printed.
func (s *terminal) run(line string) []string {
	s.t.Helper()
	cmd := s.command(line)
	impatience := time.AfterFunc(harness.Patience, func() { _ = cmd.Process.Kill() }) // fails only when it has ended
	defer impatience.Stop()
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		s.t.Errorf("%s: %v", line, err)
	} else if err != nil && exit.ExitCode() < 0 {
		s.t.Errorf("%s: %v, after %v at most", line, err, harness.Patience)
	}
	return clean(s.documented.Replace(string(out)))
}

// job is a command in the background.
type job struct {
	line   string
	cmd    *exec.Cmd
	exited chan struct{} // closed after err is set
	err    error

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed and replaced when there is more
	written bytes.Buffer  // guarded by mu
}

// Write implements io.Writer.
func (j *job) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
	return j.written.Write(p)
}

// text is what the job has written, and a channel that is closed when there is more.
func (j *job) text() (string, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.written.String(), j.changed
}

// chatter is what mosquitto_sub says of itself when it is asked to, for us to see when it is subscribed.
var (
	chatter    = regexp.MustCompile(`(?m)^(Client .* (sending|received) [A-Z]+.*|Subscribed \(mid: .*)\n`)
	subscribed = regexp.MustCompile(`(?m)^Subscribed \(mid: `)
)

// quiet is how long something that may go on writing has written nothing when we take it to be done.
const quiet = time.Second

// start starts a command in the background and waits until it does its work.
func (s *terminal) start(line string) *job {
	s.t.Helper()
	isServe := strings.HasPrefix(line, "dunlin serve")
	if isServe {
		s.endServed()
	}
	j := &job{line: line, cmd: s.command("exec " + line), exited: make(chan struct{}), changed: make(chan struct{})}
	ready := regexp.MustCompile(`\n`)
	if strings.HasPrefix(line, "mosquitto_sub ") {
		j.cmd.Env = append(j.cmd.Env, "MOSQUITTO_SUB=-d")
		ready = subscribed
	}
	j.cmd.Stdout, j.cmd.Stderr = j, j
	if err := j.cmd.Start(); err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	go func() {
		j.err = j.cmd.Wait()
		close(j.exited)
	}()
	if isServe {
		s.served = j
	}
	j.await(harness.Patience, ready.MatchString)
	if !isServe && ready != subscribed { // nats says what it is about to do
		j.await(quiet, func(string) bool { return false })
	}
	return j
}

// await waits until the job has written something that will do, has ended, or has had its time, which begins anew whenever it
// writes.
func (j *job) await(patience time.Duration, enough func(text string) bool) {
	for {
		text, more := j.text()
		if enough(text) {
			return
		}
		select {
		case <-more:
		case <-j.exited:
			return
		case <-time.After(patience):
			return
		}
	}
}

// shown is what the job has written so far, as a page shows it.
func (s *terminal) shown(text string) []string {
	return clean(s.documented.Replace(chatter.ReplaceAllString(text, "")))
}

// endServed ends the broker, which must succeed, and looks into its log.
func (s *terminal) endServed() {
	s.t.Helper()
	j := s.served
	if j == nil {
		return
	}
	s.served = nil
	if err := j.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Errorf("%s has ended: %v", j.line, err)
	}
	select {
	case <-j.exited:
	case <-time.After(harness.Patience):
		_ = j.cmd.Process.Kill() // fails only when it has ended
		<-j.exited
	}
	if j.err != nil {
		s.t.Errorf("%s: on SIGTERM: %v", j.line, j.err)
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		if alarm := harness.Alarm(string(text)); alarm != "" {
			s.t.Errorf("the broker logged: %s", alarm)
		}
		if s.t.Failed() {
			s.t.Logf("%s of %s:\n%s", filepath.Base(path), j.line, text)
		}
	}
}
