package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runLine executes a command line in this process.
func runLine(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestMistakesAreOneLineOnStderrAndExitCode1(t *testing.T) {
	dir := t.TempDir()
	regularFile := filepath.Join(dir, "file")
	if err := os.WriteFile(regularFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	notYAML := filepath.Join(dir, "not.yaml")
	if err := os.WriteFile(notYAML, []byte("storage: [\nlog"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"unknown command", []string{"serv"}, []string{`"serv"`, "dunlin --help"}},
		{"unknown command of config", []string{"config", "edit"}, []string{`"edit"`, "dunlin config --help"}},
		{"operand of serve", []string{"serve", "now"}, []string{`"now"`, "dunlin serve --help"}},
		{"unknown flag", []string{"serve", "--port", "1"}, []string{"--port", "dunlin serve --help"}},
		{"set without value", []string{"serve", "--set", "log.level"}, []string{"section.key=value"}},
		{"no such file", []string{"serve", "--config", filepath.Join(dir, "none")}, []string{"none", "--config"}},
		{"not YAML", []string{"serve", "--config", notYAML}, []string{"not.yaml", "yaml"}},
		{"unknown key", []string{"serve", "--set", "storage.dir=x"}, []string{"storage.dir", "flag --set", "storage.data_dir"}},
		{"value out of bounds", []string{"serve", "--set", "sessions.send_window=0"}, []string{"sessions.send_window", `"0"`, "from 1 to 256"}},
		{"MQTT reachable by others", []string{"serve", "--mqtt-listen", "0.0.0.0:0"}, []string{"0.0.0.0:0", "--allow-anonymous"}},
		{"WebSocket reachable by others", []string{"serve", "--ws-listen", "0.0.0.0:0"}, []string{"listeners.ws", "--allow-anonymous"}},
		{"NATS reachable by others", []string{"serve", "--nats-listen", ":0"}, []string{"nats.listen", "--allow-anonymous"}},
		{"data directory is a file", []string{"serve", "--data-dir", regularFile}, []string{regularFile, "--data-dir"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runLine(t, c.args...)
			if code != 1 || stdout != "" {
				t.Errorf("exit code %d and stdout %q, want 1 and nothing", code, stdout)
			}
			if !strings.HasPrefix(stderr, "dunlin: ") || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") {
				t.Errorf("stderr is not one line that starts with dunlin: %q", stderr)
			}
			for _, part := range c.says {
				if !strings.Contains(stderr, part) {
					t.Errorf("stderr does not say %q: %s", part, stderr)
				}
			}
		})
	}
}

func TestVersionNamesEachPart(t *testing.T) {
	code, stdout, stderr := runLine(t, "version")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	for _, part := range []string{"dunlin ", "nats-server ", "go1."} {
		if !strings.Contains(stdout, part) {
			t.Errorf("version does not say %q: %s", part, stdout)
		}
	}
}

func TestHelpIsNoMistake(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"config"}, {"serve", "--help"}} {
		code, stdout, stderr := runLine(t, args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("dunlin %v: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}

func TestConfigCheckAcceptsWhatServeAccepts(t *testing.T) {
	if code, stdout, stderr := runLine(t, "config", "check", "--set", "log.level=debug"); code != 0 || stdout == "" {
		t.Errorf("valid: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if code, _, stderr := runLine(t, "config", "check", "--set", "log.level=loud"); code != 1 || !strings.Contains(stderr, "debug, info, warn or error") {
		t.Errorf("invalid: exit code %d, stderr %q", code, stderr)
	}
}
