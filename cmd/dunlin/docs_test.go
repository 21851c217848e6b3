package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "update docs/CONFIGURATION.md and docs/TOPICS.md")

const configurationDoc = "../../docs/CONFIGURATION.md"

// TestConfigurationDocIsCurrent fails when a key, its default, its bounds or a flag is not in the documentation as the
// program has it. go test ./cmd/dunlin -rewrite updates the documentation.
func TestConfigurationDocIsCurrent(t *testing.T) {
	content, err := os.ReadFile(configurationDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, help, _ := runLine(t, "serve", "--help")
	current := replaceBetween(t, string(content), "keys", keyTables())
	current = replaceBetween(t, current, "help", "```\n$ dunlin serve --help\n"+help+"```\n")
	if current == string(content) {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is not what the program says; update it with: go test ./cmd/dunlin -rewrite", configurationDoc)
	}
	if err := os.WriteFile(configurationDoc, []byte(current), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replaceBetween puts text between the comments <!-- name --> and <!-- /name -->.
func replaceBetween(t *testing.T, content, name, text string) string {
	t.Helper()
	before, rest, opened := strings.Cut(content, "<!-- "+name+" -->\n")
	_, after, closed := strings.Cut(rest, "<!-- /"+name+" -->\n")
	if !opened || !closed {
		t.Fatalf("%s has no pair of comments <!-- %s --> and <!-- /%s -->", configurationDoc, name, name)
	}
	return before + "<!-- " + name + " -->\n" + text + "<!-- /" + name + " -->\n" + after
}

// keyTables is one table for each section.
func keyTables() string {
	var b strings.Builder
	sectionName := ""
	for i := range keys {
		k := &keys[i]
		if section, _, _ := strings.Cut(k.name, "."); section != sectionName {
			sectionName = section
			fmt.Fprintf(&b, "\n### %s\n\n| key | default | values | meaning |\n|---|---|---|---|\n", section)
		}
		name, preset := "`"+k.name+"`", "`"+k.preset+"`"
		if k.flag != "" {
			name += "<br>`--" + k.flag + "`"
		}
		switch {
		case k.preset == "" && k.follows == "":
			preset = "none"
		case k.follows != "":
			preset = "as `" + k.follows + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, preset, k.bind(new(Config)).allowed(), k.meaning)
	}
	return b.String() + "\n"
}

func TestDocLinksLeadSomewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.md", "*/*.md"} {
		more, err := filepath.Glob(filepath.Join(root, "docs", pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	for _, page := range pages {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(content), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), found[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, found[1], err)
			}
		}
	}
}
