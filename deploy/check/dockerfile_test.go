package check

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// stages parses the Dockerfile as BuildKit does; its linter must have nothing to say.
func stages(t *testing.T) []instructions.Stage {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("Dockerfile: %s", w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, where []parser.Range) {
		t.Errorf("Dockerfile, line %d: %s: %s", where[0].Start.Line, rule, message)
	}})
	list, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// image is the last stage's commands, and its data volume.
func image(t *testing.T) (commands []instructions.Command, data string) {
	t.Helper()
	list := stages(t)
	commands = list[len(list)-1].Commands
	volumes := only[*instructions.VolumeCommand](t, commands).Volumes
	if len(volumes) != 1 {
		t.Fatalf("volumes %q, want one", volumes)
	}
	return commands, volumes[0]
}

// only is the one command of its kind.
func only[C instructions.Command](t *testing.T, commands []instructions.Command) C {
	t.Helper()
	var found []C
	for _, c := range commands {
		if c, ok := c.(C); ok {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d commands %T, want one", len(found), found)
	}
	return found[0]
}

func TestImageRunsTheBrokerAsNobody(t *testing.T) {
	commands, data := image(t)
	user := only[*instructions.UserCommand](t, commands).User
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) { // scratch has no names
		t.Errorf("user %q, want the numbers of a user and a group other than root", user)
	}
	program := ""
	for _, c := range commands {
		c, ok := c.(*instructions.CopyCommand)
		switch {
		case !ok:
		case c.DestPath == data && c.Chown != user:
			t.Errorf("%s belongs to %q, want %q", data, c.Chown, user)
		case filepath.Base(c.DestPath) == "dunlin" && c.DestPath != data:
			program = c.DestPath
		}
	}
	if entry := []string(only[*instructions.EntrypointCommand](t, commands).CmdLine); program == "" || !slices.Equal(entry, []string{program}) {
		t.Errorf("the entry point is %q, want the program that is copied, %q", entry, program)
	}
	if test := only[*instructions.HealthCheckCommand](t, commands).Health.Test; !slices.Equal(test, []string{"CMD", program, "health"}) {
		t.Errorf("the health check is %q", test)
	}
	if ports := only[*instructions.ExposeCommand](t, commands).Ports; !slices.Equal(slices.Sorted(slices.Values(ports)), []string{"1883", "4222", "8083"}) {
		t.Errorf("the ports are %q", ports)
	}
	variables := only[*instructions.EnvCommand](t, commands).Env
	if !slices.Contains(variables, instructions.KeyValuePair{Key: "DUNLIN_STORAGE__DATA_DIR", Value: data}) {
		t.Errorf("the volume is at %s, and the variables are %v", data, variables)
	}
}

func TestStagesCopyFromOneAnotherWhatIsThere(t *testing.T) {
	list := stages(t)
	for i, stage := range list {
		for _, c := range stage.Commands {
			c, ok := c.(*instructions.CopyCommand)
			if !ok {
				continue
			}
			if c.From != "" {
				if !slices.ContainsFunc(list[:i], func(s instructions.Stage) bool { return s.Name == c.From }) {
					t.Errorf("%s: no stage %q before it", c, c.From)
				}
				continue
			}
			for _, source := range c.SourcePaths {
				if _, err := os.Stat(filepath.Join(root, source)); err != nil {
					t.Errorf("%s: %v", c, err)
				}
			}
		}
	}
}

// The image's Go has to be one that go.mod takes.
func TestBuildStageHasTheModulesGo(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if base := stages(t)[0].BaseName; found == nil || base != "golang:"+string(found[1]) {
		t.Errorf("the program is built with %s, and go.mod says %q", base, found)
	}
}

// What is left out of the build context must be out of the repository too: the version would say that the checkout was changed.
func TestBuildContextIsTheRepository(t *testing.T) {
	lines := func(name string) (patterns []string) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				patterns = append(patterns, strings.TrimPrefix(strings.TrimPrefix(line, "**/"), "/"))
			}
		}
		return patterns
	}
	ignored := lines(".gitignore")
	for _, pattern := range lines(".dockerignore") {
		if !slices.Contains(ignored, pattern) {
			t.Errorf(".dockerignore leaves out %s, which .gitignore does not", pattern)
		}
	}
}

func parsePort(t *testing.T, text string) uint32 {
	t.Helper()
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(port)
}
