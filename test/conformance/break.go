package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// breakAll breaks the behaviours whose description matches only, one after the other, and says of each whether its test
// noticed. The sources stay as they are: the Go tool is given the broken file in the place of the real one, also where a
// test builds the program.
func breakAll(root string, mutations []mutation, only *regexp.Regexp, stdout io.Writer) error {
	var missed []error
	for _, m := range mutations {
		if !only.MatchString(m.what) {
			continue
		}
		began := time.Now()
		err := m.isNoticed(root)
		verdict := "noticed"
		if err != nil {
			verdict = "MISSED"
			missed = append(missed, fmt.Errorf("%s: %s: %w", m.citations[0].place, m.what, err))
		}
		if _, err := fmt.Fprintf(stdout, "%-8s %5.1f s  %s (%s)\n", verdict, time.Since(began).Seconds(), m.what, m.test.name); err != nil {
			return err
		}
	}
	return errors.Join(missed...)
}

// isNoticed runs the mutation's test with the broken file, and reports what is wrong unless the test fails.
func (m *mutation) isNoticed(root string) error {
	folder, err := os.MkdirTemp("", "dunlin-break-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	overlay, err := m.overlay(root, folder)
	if err != nil {
		return err
	}
	pkg, pattern := m.test.command()
	command := exec.Command("go", "test", "-count=1", "-vet=off", "-timeout=3m", "-run", pattern, pkg)
	command.Dir = root
	// By the environment, since a black-box test runs the Go tool too.
	command.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	combined, err := command.CombinedOutput()
	out := string(combined)
	switch {
	case err == nil:
		return fmt.Errorf("go test -run '%s' %s passes", pattern, pkg)
	case strings.Contains(out, "[build failed]"), strings.Contains(out, "build the broker: "):
		return fmt.Errorf("the broken program does not compile:\n%s", out)
	case !strings.Contains(out, "--- FAIL: "):
		return fmt.Errorf("go test -run '%s' %s fails, but not by a test: %w\n%s", pattern, pkg, err, out)
	}
	return nil
}

// overlay writes the broken file, and the list that puts it in the place of the real one.
func (m *mutation) overlay(root, folder string) (string, error) {
	content, err := m.apply(root)
	if err != nil {
		return "", err
	}
	original, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return "", err
	}
	broken := filepath.Join(folder, path.Base(m.file))
	if err := os.WriteFile(broken, []byte(content), 0o644); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(folder, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o644)
}

// command is the package and the pattern with which go test runs this test alone.
func (t test) command() (pkg, pattern string) {
	if folder, ok := folderOf(t.file); ok {
		return "./" + folder.pkg, "^" + folder.test + "$/^" + strings.ReplaceAll(t.name, "/", "$/^") + "$"
	}
	return "./" + path.Dir(t.file), "^" + t.name + "$"
}
