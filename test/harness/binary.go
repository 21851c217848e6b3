package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// build is the broker's program, built on first use.
var build struct {
	once sync.Once
	path string
	dir  string // to be removed at the end; empty when the program was given
	err  error
}

// Run runs a package's tests and removes the program that was built for them. For TestMain.
func Run(m *testing.M) int {
	code := m.Run()
	if build.dir != "" {
		if err := os.RemoveAll(build.dir); err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
		}
	}
	return code
}

// Binary is the path of the broker's program.
func Binary(t testing.TB) string {
	t.Helper()
	build.once.Do(buildBinary)
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

func buildBinary() {
	if given := os.Getenv("DUNLIN_BINARY"); given != "" {
		build.path, build.err = filepath.Abs(given)
		return
	}
	build.dir, build.err = os.MkdirTemp("", "dunlin-test-")
	if build.err != nil {
		return
	}
	if build.err = noteSources(); build.err != nil {
		return
	}
	build.path = filepath.Join(build.dir, "dunlin")
	args := []string{"build", "-o", build.path}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "dunlin/cmd/dunlin")...).CombinedOutput()
	if err != nil {
		build.err = fmt.Errorf("build the broker: %w\n%s", err, out)
	}
}

// noteSources looks at every source of the program. The test cache knows what a test looked at, so a result is not used
// again when a source has changed: go test does not see that a test builds a program.
func noteSources() error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if _, err := os.Stat(mod); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Dir(mod), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != filepath.Dir(mod) && (entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".")):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go":
			_, err = os.Stat(path)
		}
		return err
	})
}

// Program is the path of a client program that a test needs. When it is missing the test is skipped, or fails
// where REQUIRE_INTEGRATION=1 says that nothing may be missing.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, fmt.Sprintf("program %s: %v", name, err))
	}
	return path
}

// Missing skips a test that needs something which this machine does not have, or fails it under REQUIRE_INTEGRATION=1.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("REQUIRE_INTEGRATION") == "1" {
		t.Fatalf("MISSING (and REQUIRE_INTEGRATION=1): %s", what)
	}
	t.Skipf("SKIPPED, NOT TESTED: missing %s", what)
}
