package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestMutationIsNoticedByItsTest(t *testing.T) {
	t.Parallel()
	var stdout strings.Builder
	if err := run([]string{"-root", tree(t, nil), "-break"}, &stdout); err != nil {
		t.Fatal(err)
	}
	if got := stdout.String(); !strings.HasPrefix(got, "noticed") || !strings.HasSuffix(got, "One is two. (TestOne)\n") {
		t.Errorf("printed %q", got)
	}
}

func TestMutationThatNoTestNoticesIsAFault(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ lines, want string }{
		"same behaviour": {"-\treturn 1\n+\treturn 2 - 1\n", "passes"},
		"no program":     {"-\treturn 1\n+\treturn one\n", "does not compile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout strings.Builder
			err := run([]string{"-root", tree(t, map[string]string{mutationsFile: mutated(c.lines)}), "-break"}, &stdout)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(stdout.String(), "MISSED") {
				t.Errorf("got %v, printed %q, want %q", err, stdout.String(), c.want)
			}
		})
	}
}

func TestFaultyMutationIsToldWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct{ list, want string }{
		"the source changed": {mutated("-\treturn 3\n+\treturn 2\n"), "mutations.txt:1: b/b.go has 0 times, and not once:\nfunc one() int {\n\treturn 3\n}\n"},
		"cited by no test":   {strings.Replace(mutated("-\treturn 1\n"), "case 9", "MQTT-3.1.2-3", 1), "mutations.txt:1: TestOne in b/b_test.go does not cite [MQTT-3.1.2-3]"},
		"nothing changes":    {mutated(""), "mutations.txt:1: want a claim"},
		"unreadable":         {mutated("return 3\n"), `line 5: cannot read "return 3"`},
		"the second of two":  {mutated("-\treturn 1\n") + "\n" + mutated("-\treturn 3\n"), "mutations.txt:8: b/b.go has 0 times"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(tree(t, map[string]string{mutationsFile: c.list}))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestScriptIsRunByItsName(t *testing.T) {
	for file, want := range map[string][2]string{
		"sessions/testdata/will.txt":                   {"./sessions", "^TestScripts$/^will$"},
		"test/wire/testdata/connecting/keep_alive.txt": {"./test/wire", "^TestWire$/^connecting$/^keep_alive$"},
	} {
		pkg, pattern := test{name: scriptName(file), file: file}.command()
		if got := [2]string{pkg, pattern}; got != want {
			t.Errorf("%s is run by %v, want %v", file, got, want)
		}
	}
	if pkg, pattern := (test{"TestPing", filepath.ToSlash("test/integration/basic_test.go")}).command(); pkg != "./test/integration" || pattern != "^TestPing$" {
		t.Errorf("TestPing is run by %s %s", pkg, pattern)
	}
}
