package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// StopLimit is how long the broker may take to end on SIGTERM.
const StopLimit = 5 * time.Second

// startLimit is how long the broker may take until it is ready.
const startLimit = 60 * time.Second

// Broker is one broker: a data directory, its addresses, and the process that serves them now.
type Broker struct {
	// MQTT is the address of the MQTT listener, the same over restarts.
	MQTT string
	// WebSocket is the address of the WebSocket listener, empty when it is off.
	WebSocket string
	// NATS is the address of the NATS listener, empty when it is off.
	NATS string
	// DataDir is the data directory, as the broker names it in its ready line.
	DataDir string

	t       testing.TB
	dir     string // the working directory of the process
	args    []string
	process *process // nil while the broker is down
	drain   time.Duration
	paused  bool
	log     *logLines // of all its processes
}

// process is one run of the broker's program.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed after err is set
	err    error
}

// DrainWithin is how long the broker takes, when it ends, to send its clients to others.
func DrainWithin(d time.Duration) Option {
	return func(s *settings) {
		s.drain = d
		s.set = append(s.set, fmt.Sprint("nodes.drain_timeout=", d))
	}
}

// Option changes how Start starts a broker.
type Option func(*settings)

type settings struct {
	nats      bool
	webSocket bool
	noDataDir bool
	drain     time.Duration
	external  []string
	set       []string
}

// WithNATS makes the broker listen for NATS clients too.
func WithNATS() Option { return func(s *settings) { s.nats = true } }

// WithWebSocket makes the broker listen for WebSocket clients too.
func WithWebSocket() Option { return func(s *settings) { s.webSocket = true } }

// WithExternalNATS makes the broker use servers of their own, with more flags to log in to them.
func WithExternalNATS(urls string, flags ...string) Option {
	return func(s *settings) { s.external = append([]string{"--nats", urls}, flags...) }
}

// Set sets a configuration key.
func Set(key string, value any) Option {
	return func(s *settings) { s.set = append(s.set, fmt.Sprintf("%s=%v", key, value)) }
}

// WithoutDataDir leaves the data directory to the broker's default, in an empty working directory.
func WithoutDataDir() Option { return func(s *settings) { s.noDataDir = true } }

// Start starts a broker with an empty data directory on free ports and waits until it is ready. The test ends it
// with SIGTERM, which must succeed.
func Start(t testing.TB, options ...Option) *Broker {
	t.Helper()
	b := newBroker(t, options)
	b.Up()
	t.Cleanup(b.cleanup)
	return b
}

// newBroker is a broker that is not started.
func newBroker(t testing.TB, options []Option) *Broker {
	t.Helper()
	var s settings
	for _, o := range options {
		o(&s)
	}
	b := &Broker{t: t, dir: t.TempDir(), log: &logLines{}, MQTT: FreeAddress(t), drain: s.drain}
	webSocketListen, natsListen := "off", "off"
	if s.webSocket {
		webSocketListen = FreeAddress(t)
	}
	if s.nats {
		natsListen = FreeAddress(t)
		b.NATS = natsListen
	}
	b.args = []string{"serve", "--mqtt-listen", b.MQTT, "--ws-listen", webSocketListen}
	if s.external != nil {
		b.args = append(b.args, s.external...)
	} else {
		b.args = append(b.args, "--nats-listen", natsListen)
	}
	if !s.noDataDir {
		b.args = append(b.args, "--data-dir", t.TempDir())
	}
	for _, kv := range s.set {
		b.args = append(b.args, "--set", kv)
	}
	return b
}

// Up starts the process and waits for its ready line.
func (b *Broker) Up() {
	b.t.Helper()
	b.Begin()()
}

// Begin starts the process; what it returns waits for its ready line.
func (b *Broker) Begin() (ready func()) {
	b.t.Helper()
	var firstLine <-chan string
	b.process, firstLine = b.startProcess()
	return func() {
		b.t.Helper()
		if err := b.becomeReady(firstLine); err != nil {
			b.Kill()
			b.t.Fatalf("%v\nlog of the broker:\n%s", err, b.log.tail(40))
		}
	}
}

// FalseStart starts the process and kills it after a while, ready or not.
func (b *Broker) FalseStart(after time.Duration) {
	b.t.Helper()
	b.process, _ = b.startProcess()
	Wait(after)
	b.Kill()
}

func (b *Broker) startProcess() (p *process, firstLine <-chan string) {
	b.t.Helper()
	cmd := exec.Command(Binary(b.t), b.args...)
	cmd.Dir = b.dir
	cmd.Stderr = b.log
	DieWithParent(cmd)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	p = &process{cmd: cmd, exited: make(chan struct{})}
	line := make(chan string, 1)
	go p.watch(stdout, line)
	return p, line
}

// watch passes on the first line of the process's standard output, reads the rest away and waits for the process.
func (p *process) watch(stdout io.Reader, firstLine chan<- string) {
	lines := bufio.NewScanner(stdout)
	if lines.Scan() {
		firstLine <- lines.Text()
	}
	close(firstLine)
	for lines.Scan() {
		continue
	}
	p.err = p.cmd.Wait()
	close(p.exited)
}

var readyLine = regexp.MustCompile(`^dunlin ready: mqtt (\S+), ws (\S+), nats (\S+), data (.+)$`)

func (b *Broker) becomeReady(firstLine <-chan string) error {
	var line string
	select {
	case line = <-firstLine:
	case <-time.After(startLimit):
		return fmt.Errorf("the broker was not ready within %v", startLimit)
	}
	found := readyLine.FindStringSubmatch(line)
	if found == nil {
		return fmt.Errorf("not the ready line on standard output: %q", line)
	}
	if found[1] != b.MQTT {
		return fmt.Errorf("ready line names mqtt %s, asked for %s", found[1], b.MQTT)
	}
	if b.WebSocket = found[2]; b.WebSocket == "off" {
		b.WebSocket = ""
	}
	if b.NATS = found[3]; b.NATS == "off" {
		b.NATS = ""
	}
	b.DataDir = found[4]
	return nil
}

// kill ends the process at once and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended already
	<-p.exited
}

// Kill ends the broker with SIGKILL.
func (b *Broker) Kill() {
	b.process.kill()
	b.process, b.paused = nil, false
}

// Stop ends the broker with SIGTERM; it must exit with code 0 within StopLimit, and the time that it may drain. It returns how long that took.
func (b *Broker) Stop() time.Duration {
	b.t.Helper()
	begin := time.Now()
	b.Terminate()
	b.AwaitExit(StopLimit + b.drain)
	return time.Since(begin)
}

// Terminate sends SIGTERM.
func (b *Broker) Terminate() {
	b.t.Helper()
	if err := b.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Errorf("SIGTERM: %v\nlog of the broker:\n%s", err, b.log.tail(40))
	}
}

// AwaitExit waits until the broker, which was told to end, has exited: with code 0, within limit.
func (b *Broker) AwaitExit(limit time.Duration) {
	b.t.Helper()
	p := b.process
	b.process = nil
	if err := p.awaitExit(limit); err != nil {
		b.t.Errorf("the end of the broker: %v\nits log:\n%s", err, b.log.tail(40))
	}
}

func (p *process) awaitExit(limit time.Duration) error {
	if raceEnabled {
		limit *= 4
	}
	select {
	case <-p.exited:
	case <-time.After(limit):
		// The stacks of a broker that hangs say why: SIGQUIT writes them to its log.
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-p.exited:
		case <-time.After(time.Second):
			p.kill()
		}
		return fmt.Errorf("it did not exit within %v", limit)
	}
	if p.err != nil {
		return fmt.Errorf("it ended badly: %w", p.err)
	}
	return nil
}

// For is the broker as a subtest uses it that did not start it: what goes wrong fails the subtest.
func (b *Broker) For(t testing.TB) *Broker {
	view := *b
	view.t = t
	return &view
}

// Log is what the broker has logged so far.
func (b *Broker) Log() string { return b.log.String() }

// cleanup ends the broker and checks what can be said of any run.
func (b *Broker) cleanup() {
	if b.paused {
		b.Continue()
	}
	if b.process != nil {
		b.Stop()
	}
	if alarm := Alarm(b.log.String()); alarm != "" {
		b.t.Errorf("the broker logged: %s", alarm)
	}
	b.log.show(b.t, "the broker at "+b.MQTT)
}

// RunToExit runs the broker's program with these arguments, for a start that must fail or a command that comes to its end, and
// returns its exit code, standard output and standard error.
func RunToExit(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, Binary(t), args...)
	cmd.Dir = t.TempDir()
	cmd.Env = os.Environ()
	DieWithParent(cmd)
	var out, errOut logLines
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("%v did not exit within %v; standard output %q", args, startLimit, out.String())
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return code, out.String(), errOut.String()
}
