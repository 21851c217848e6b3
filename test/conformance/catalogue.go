package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A catalogue is a list of statements that a test may cite.
type catalogue struct {
	title    string
	file     string
	cite     string // what stands in a citation before the number
	columns  []string
	sections []section
}

// A section is what stands between two headings of a catalogue.
type section struct {
	title   string
	clauses []clause
}

// A clause is one statement.
type clause struct {
	id      string // as it is cited, without brackets: "MQTT-3.1.2-3", "3.1.1 MQTT-3.1.2-3", "case 36"
	number  string // as the page shows it
	binds   string // whom; of a case: the versions it is about
	what    string
	related string // of a case: the clauses that it rests on
	why     string // why no test cites it
	note    string // what is to be said of the statement itself
}

// client is the value of binds for what a broker can neither keep nor break.
const client = "client"

// The catalogues and how they are laid out: tab-separated columns, of which those at the end may be left out. A line that
// starts with # is the heading of a section.
func emptyCatalogues() []*catalogue {
	clauses := []string{"clause", "binds", "what", "why", "note"}
	return []*catalogue{
		{title: "MQTT 5.0", file: "mqtt5.tsv", cite: "MQTT-", columns: clauses},
		{title: "MQTT 3.1.1", file: "mqtt311.tsv", cite: "3.1.1 MQTT-", columns: clauses},
		{title: "Hard cases", file: "cases.tsv", cite: "case ", columns: []string{"case", "versions", "what", "clauses", "why", "note"}},
	}
}

func loadCatalogues(root string) ([]*catalogue, error) {
	all := emptyCatalogues()
	for _, c := range all {
		path := filepath.Join(root, "docs", "conformance", c.file)
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := c.parse(string(content)); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return all, nil
}

func (c *catalogue) parse(content string) error {
	header, rows, _ := strings.Cut(content, "\n")
	if header != strings.Join(c.columns, "\t") {
		return fmt.Errorf("line 1: columns are %q, want %q", header, strings.Join(c.columns, "\t"))
	}
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(rows, "\n"), "\n") {
		if title, isHeading := strings.CutPrefix(line, "# "); isHeading {
			c.sections = append(c.sections, section{title: title})
			continue
		}
		row, err := c.parseClause(line)
		switch {
		case err != nil:
			return fmt.Errorf("line %d: %w", i+2, err)
		case seen[row.id]:
			return fmt.Errorf("line %d: a second %s", i+2, row.number)
		case len(c.sections) == 0:
			return fmt.Errorf("line %d: %s stands before the first heading", i+2, row.number)
		}
		seen[row.id] = true
		last := &c.sections[len(c.sections)-1]
		last.clauses = append(last.clauses, row)
	}
	return nil
}

func (c *catalogue) parseClause(line string) (clause, error) {
	fields := strings.Split(line, "\t")
	if len(fields) < 3 || len(fields) > len(c.columns) || slices.Contains(fields[:3], "") {
		return clause{}, fmt.Errorf("want the columns %s, have %q", strings.Join(c.columns, ", "), line)
	}
	column := func(name string) string {
		if at := slices.Index(c.columns, name); at >= 0 && at < len(fields) {
			return fields[at]
		}
		return ""
	}
	return clause{
		id:      c.cite + fields[0],
		number:  fields[0],
		binds:   fields[1],
		what:    fields[2],
		related: column("clauses"),
		why:     column("why"),
		note:    column("note"),
	}, nil
}

// all are the clauses in the order of the catalogue.
func (c *catalogue) all() []clause {
	var all []clause
	for _, s := range c.sections {
		all = append(all, s.clauses...)
	}
	return all
}
