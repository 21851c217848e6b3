package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ours = "../.."

// TestRepositoryIsConsistent looks at this repository: a clause that no specification has, a bracket that is no citation
// and a mutation that has lost its place are told with their place.
func TestRepositoryIsConsistent(t *testing.T) {
	if _, err := read(ours); err != nil {
		t.Error(err)
	}
}

func TestCataloguesAreComplete(t *testing.T) {
	catalogues, err := loadCatalogues(ours)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{251, 141, 198} { // the appendices B have that many, our list of cases 198
		if got := len(catalogues[i].all()); got != want {
			t.Errorf("%s has %d clauses, want %d", catalogues[i].title, got, want)
		}
	}
}

// tree makes a repository of files with catalogues of their own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("docs/conformance/mqtt5.tsv", "clause\tbinds\twhat\twhy\tnote\n# 3.1 CONNECT\n3.1.2-3\tserver\tReserved\n3.1.2-20\tclient\tPings\n3.1.2-22\tserver\tKeep alive\tlater\n")
	write("docs/conformance/mqtt311.tsv", "clause\tbinds\twhat\twhy\tnote\n# 3.1 CONNECT\n3.1.2-3\tserver\tReserved\n")
	write("docs/conformance/cases.tsv", "case\tversions\twhat\tclauses\twhy\tnote\n# 1. Connecting\n9\tall\tReserved bit\t[MQTT-3.1.2-3]\n")
	write("b/b.go", "package b\n\nfunc one() int {\n\treturn 1\n}\n")
	write("b/b_test.go", "package b\n\nimport \"testing\"\n\n// [case 9]\nfunc TestOne(t *testing.T) {\n\tif one() != 1 {\n\t\tt.Error(one())\n\t}\n}\n")
	write("go.mod", "module b\n")
	write(mutationsFile, mutated("-\treturn 1\n+\treturn 2\n"))
	for name, content := range files {
		write(name, content)
	}
	return root
}

// mutated is a list of one mutation, of b.go, with these lines.
func mutated(lines string) string {
	return "# One is two. [case 9]\nfile b/b.go\ntest b/b_test.go TestOne\n func one() int {\n" + lines + " }\n"
}

func TestCitationCountsWhereTheTestIs(t *testing.T) {
	root := tree(t, map[string]string{
		"a/a_test.go": `// Package a. [case 9]
package a

// helper does. [MQTT-3.1.2-22]
func helper() {}

// TestReserved is about it. [3.1.1 MQTT-3.1.2-3]
func TestReserved(t *testing.T) {
	for _, c := range []int{
		1, // [MQTT-3.1.2-3]
		2, // [MQTT-3.1.2-3]
	} {
		expect("MQTT-3.1.2-20")
		t.Error("no answer [MQTT-3.1.2-20]")
	}
}

// TestMain runs. [MQTT-3.1.2-22]
func TestMain(m *testing.M) {}
`,
		"a/a.go":                              "package a\n\n// TestThing is no test. [MQTT-3.1.2-22]\nfunc TestThing() {}\n",
		"sessions/testdata/connect.txt":       "# A script. [MQTT-3.1.2-3]\n# More of it.\nconnect [MQTT-3.1.2-22]\n----\nok\n\n# Later. [MQTT-3.1.2-3]\n",
		"test/wire/testdata/deep/reserve.txt": "# [case 9]\n",
		"test/harness/notes.txt":              "# [no MQTT- citation]\n",
		"tools/x_test.go":                     "package x // [MQTT-9.9.9-9]\n",
	})
	r, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]test{
		"MQTT-3.1.2-3":       {{"TestReserved", "a/a_test.go"}, {"connect", "sessions/testdata/connect.txt"}},
		"MQTT-3.1.2-20":      {{"TestReserved", "a/a_test.go"}},
		"3.1.1 MQTT-3.1.2-3": {{"TestReserved", "a/a_test.go"}},
		"case 9":             {{"TestOne", "b/b_test.go"}, {"deep/reserve", "test/wire/testdata/deep/reserve.txt"}},
	}
	if len(r.covered) != len(want) {
		t.Errorf("covered %v, want %v", r.covered, want)
	}
	for id, tests := range want {
		if got := r.covered[id]; len(got) != len(tests) || got[0] != tests[0] || got[len(got)-1] != tests[len(tests)-1] {
			t.Errorf("%s is cited by %v, want %v", id, got, tests)
		}
	}
}

func TestFaultyCitationIsToldWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"unknown clause":   {"package a\n\n// [MQTT-3.1.2-33]\nfunc f() {}\n", "a/a.go:3: there is no [MQTT-3.1.2-33]; the nearest is [MQTT-3.1.2-3]"},
		"unknown case":     {"package a // [case 8]\n", "a/a.go:1: there is no [case 8]; the nearest is [case 9]"},
		"two in a bracket": {"package a // [MQTT-3.1.2-3, MQTT-3.1.2-22]\n", "a/a.go:1: [MQTT-3.1.2-3, MQTT-3.1.2-22] is no citation"},
		"wrong version":    {"package a // [5.0 MQTT-3.1.2-3]\n", "a/a.go:1: [5.0 MQTT-3.1.2-3] is no citation"},
		"clause of error":  {"package a\n\nconst clause = \"MQTT-3.1.2-4\"\n", "a/a.go:3: there is no [MQTT-3.1.2-4]; the nearest is [MQTT-3.1.2-3]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(tree(t, map[string]string{"a/a.go": c.content}))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestPageSaysWhatIsTestedAndWhyNot(t *testing.T) {
	root := tree(t, map[string]string{"a/a_test.go": "package a\n\n// TestA does. [MQTT-3.1.2-3]\nfunc TestA() {}\n"})
	var stdout strings.Builder
	if err := run([]string{"-root", root}, &stdout); err != nil {
		t.Fatal(err)
	}
	if want := "MQTT 5.0: 3, of which 1 are tested and 2 are not (binds the client 1, later 1)\n"; !strings.HasPrefix(stdout.String(), want) {
		t.Errorf("printed %q, want %q first", stdout.String(), want)
	}
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 3.1.2-3 | server | Reserved | [TestA](../a/a_test.go) |\n",
		"| 3.1.2-20 | client | Pings | none: binds the client |\n",
		"| 3.1.2-22 | server | Keep alive | none: later |\n",
		"| 9 | all | Reserved bit [MQTT-3.1.2-3] | [TestOne](../b/b_test.go) |\n",
		"| One is two. | [case 9] | [b/b.go](../b/b.go) | [TestOne](../b/b_test.go) |\n",
	} {
		if !strings.Contains(string(content), want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestCheckFailsWhenThePageIsOld(t *testing.T) {
	root := tree(t, nil)
	if err := run([]string{"-root", root}, new(strings.Builder)); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-root", root, "-check"}, new(strings.Builder)); err != nil {
		t.Errorf("the page just written: %v", err)
	}
	path := filepath.Join(root, "a_test.go")
	if err := os.WriteFile(path, []byte("package a\n\n// TestA does. [case 9]\nfunc TestA() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-root", root, "-check"}, new(strings.Builder)); err == nil {
		t.Error("a test was added and the page is said to be current")
	}
}
