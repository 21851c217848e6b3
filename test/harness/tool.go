package harness

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// tools are the programs of tools/go.mod that were asked for: each a func() (path string, err error) that finds it once.
var tools sync.Map

// Tool is the path of a program of tools/go.mod, such as "nats" or "nats-server". The first use ever compiles it.
func Tool(t testing.TB, name string) string {
	t.Helper()
	find, _ := tools.LoadOrStore(name, sync.OnceValues(func() (string, error) { return buildTool(name) }))
	path, err := find.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func buildTool(name string) (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	list := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "tools", "go.mod")
	build := exec.Command("go", "tool", "-modfile="+list, "-n", name)
	build.Stderr = new(strings.Builder)
	path, err := build.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, build.Stderr)
	}
	return strings.TrimSpace(string(path)), nil
}
