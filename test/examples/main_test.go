// Package examples runs the programs in examples/ against the broker, as their README says.
package examples

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }

// program is a program that runs, and all that it has printed.
type program struct {
	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{} // closed after err is set
	err    error

	mu      sync.Mutex
	printed bytes.Buffer // guarded by mu
}

// example builds a program of examples/.
func example(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	if out, err := exec.Command("go", "build", "-o", path, "dunlin/examples/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// start runs a program until the test ends.
func start(t testing.TB, path string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(path, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	harness.DieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%v printed:\n%s", p.cmd, p.text())
		}
	})
	return p
}

// Write implements io.Writer.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.printed.Write(b)
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.printed.String()
}

// expect waits until the program has printed something.
func (p *program) expect(text string) {
	p.t.Helper()
	harness.Eventually(p.t, harness.Patience, fmt.Sprintf("%s prints %q", filepath.Base(p.cmd.Path), text), func() error {
		if printed := p.text(); !strings.Contains(printed, text) {
			return fmt.Errorf("it has printed %q", printed)
		}
		return nil
	})
}

// kill ends the program at once, if it runs.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.exited
}

// end asks the program to end, which must succeed.
func (p *program) end() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(harness.Patience):
		p.t.Fatalf("%v did not end", p.cmd)
	}
	if p.err != nil {
		p.t.Errorf("%v: %v", p.cmd, p.err)
	}
}
