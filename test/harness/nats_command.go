package harness

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"
)

// NATSCommand is the nats command line, as a NATS user has it, for one server and with flags of the user's.
type NATSCommand struct {
	path  string
	flags []string
}

// NewNATSCommand is the nats command line for the server at an address host:port.
func NewNATSCommand(t testing.TB, address string, flags ...string) NATSCommand {
	t.Helper()
	return NATSCommand{path: Tool(t, "nats"), flags: append([]string{"--server", "nats://" + address, "--no-context"}, flags...)}
}

// Command is a command line that is not started yet. It ends with the test process.
func (c NATSCommand) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.path, append(args, c.flags...)...)
	cmd.Env = append(cmd.Environ(), "HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent", "NO_COLOR=1")
	DieWithParent(cmd)
	return cmd
}

// Try runs a command line to its end and returns all that it has printed.
func (c NATSCommand) Try(args ...string) (string, error) {
	out, err := c.Command(args...).CombinedOutput()
	return string(out), err
}

// Run is Try for a command that must succeed.
func (c NATSCommand) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.Try(args...)
	if err != nil {
		t.Fatalf("nats %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Lines runs a command line until the test ends and returns what it prints, line by line.
func (c NATSCommand) Lines(t testing.TB, args ...string) <-chan string {
	t.Helper()
	cmd := c.Command(args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1<<10)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails only when it has ended already
		for range lines {
			continue
		}
		_ = cmd.Wait() // killed
	})
	return lines
}
