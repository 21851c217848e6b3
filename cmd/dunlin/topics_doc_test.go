package main

import (
	"os"
	"strings"
	"testing"

	"dunlin/jetstream"
)

const topicsDoc = "../../docs/TOPICS.md"

// TestTopicsDocIsCurrent fails when a row of a table of topics or filters does not have the subjects that the program makes.
// go test ./cmd/dunlin -run Doc -rewrite updates the columns of subjects.
func TestTopicsDocIsCurrent(t *testing.T) {
	content, err := os.ReadFile(topicsDoc)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(content), "\n")
	rows := map[string]int{}
	kind := "" // of the table
	for i, line := range lines {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			kind = ""
			continue
		}
		if kind == "" {
			if kind = strings.TrimSpace(cells[1]); kind != "topic" && kind != "filter" {
				t.Fatalf("%s has a table of %q", topicsDoc, kind)
			}
			continue
		}
		name, quoted := strings.CutPrefix(strings.TrimSpace(cells[1]), "`")
		if !quoted {
			continue // the line below the head
		}
		name = strings.TrimSuffix(name, "`")
		rows[kind]++
		for column, mapping := range map[int]jetstream.Mapping{2: jetstream.MappingDefault, 3: jetstream.MappingNATSCompat} {
			cells[column] = " " + documentedSubjects(mapping, kind, name) + " "
		}
		current := strings.Join(cells, "|")
		if current != line && !*rewrite {
			t.Errorf("%s has\n%s\nand should have\n%s\nupdate it with: go test ./cmd/dunlin -run Doc -rewrite", topicsDoc, line, current)
		}
		lines[i] = current
	}
	if rows["topic"] < 20 || rows["filter"] < 20 {
		t.Errorf("%s has so few rows: %v", topicsDoc, rows)
	}
	if current := strings.Join(lines, "\n"); *rewrite && current != string(content) {
		if err := os.WriteFile(topicsDoc, []byte(current), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// documentedSubjects are the subjects of a topic or filter as a cell of a table, under the default prefix.
func documentedSubjects(m jetstream.Mapping, kind, name string) string {
	if !m.Represents(name) {
		return "refused"
	}
	subjects := m.Subjects(name)
	if kind == "topic" {
		subject, _ := m.Subject(name)
		subjects = []string{subject}
	}
	prefix := jetstream.DefaultConfig().Names.Subjects + "."
	return "`" + prefix + strings.Join(subjects, "` `"+prefix) + "`"
}
