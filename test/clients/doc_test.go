package clients

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/test/harness"
)

var rewrite = flag.Bool("rewrite", false, "update docs/CLIENTS.md")

// docs/CLIENTS.md names the clients and releases that run here. go test ./test/clients -run Doc -rewrite updates it.
func TestDocOfClientsIsCurrent(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "CLIENTS.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- clients -->\n", "<!-- /clients -->"
	head, rest, begun := strings.Cut(string(page), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !begun || !ended {
		t.Fatalf("%s has no place for the table", path)
	}
	want := head + begin + clientTable(t) + end + tail
	if want == string(page) {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is not what the tests run; update it with: go test ./test/clients -run Doc -rewrite", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func clientTable(t *testing.T) string {
	t.Helper()
	var table strings.Builder
	table.WriteString("\n| client | release | MQTT | WebSocket | topic aliases, out and in | subscription identifiers | publishes what it could not while away |\n")
	table.WriteString("|---|---|---|---|---|---|---|\n")
	for _, k := range kinds {
		release, err := k.release()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range k.versions {
			names = append(names, harness.VersionName(v))
		}
		fmt.Fprintf(&table, "| [%s](%s) | %s | %s | %s | %s, %s | %s | %s |\n", k.name, k.link, release, strings.Join(names, ", "),
			k.yes(speaksWebSocket), k.yes(usesAliases), k.yes(resolvesAliases), k.yes(seesIdentifiers), k.yes(keepsUnsent))
	}
	return table.String() + "\n"
}

func (k kind) yes(a ability) string {
	if k.can&a != 0 {
		return "yes"
	}
	return "no"
}

// goModule is the release of a module that go.mod names.
func goModule(path string) func() (string, error) {
	return func() (string, error) {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path).Output()
		return strings.TrimSpace(string(out)), err
	}
}

// npmPackage is the release of a package that js/package.json names.
func npmPackage(name string) func() (string, error) {
	return func() (string, error) {
		text, err := os.ReadFile(filepath.Join("js", "package.json"))
		if err != nil {
			return "", err
		}
		var manifest struct{ Dependencies map[string]string }
		err = json.Unmarshal(text, &manifest)
		return manifest.Dependencies[name], err
	}
}

// debian is the release in Debian 12; CI takes what its distribution has.
func debian(release string) func() (string, error) {
	return func() (string, error) { return release + " (Debian 12)", nil }
}
