package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// mostTests is how many tests a clause shows.
const mostTests = 6

const preamble = `# Conformance

Which test holds what. Made by ` + "`make conformance`" + ` from the catalogues in [conformance/](conformance) and from the tests,
which cite what they would catch: ` + "`[MQTT-3.1.2-3]`" + ` is a clause of MQTT 5.0, ` + "`[3.1.1 MQTT-3.1.2-3]`" + ` one of MQTT 3.1.1,
and ` + "`[case 36]`" + ` one of the hard cases. Do not edit it.

The specifications' normative statements are told in our own words, a line each; their text is at
[docs.oasis-open.org/mqtt](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html).
`

const brokenHeading = `
## Broken on purpose

To cite is not to test. ` + "`make conformance-break`" + ` breaks each of these behaviours in a copy of the file, as
[conformance/mutations.txt](conformance/mutations.txt) says, and fails unless the test beside it fails.

| the broken program | holds no longer | in | noticed by |
|---|---|---|---|
`

// render makes the page.
func (r *repository) render() []byte {
	var b bytes.Buffer
	b.WriteString(preamble + "\n")
	for _, c := range r.catalogues {
		fmt.Fprintf(&b, "- %s\n", c.count(r.covered))
	}
	fmt.Fprintf(&b, "- [%d behaviours](#broken-on-purpose) are broken on purpose, to see that their tests notice\n", len(r.mutations))
	for _, c := range r.catalogues {
		fmt.Fprintf(&b, "\n## %s\n", c.title)
		for _, s := range c.sections {
			fmt.Fprintf(&b, "\n### %s\n\n| %s | %s | what | tests |\n|---|---|---|---|\n", s.title, c.columns[0], c.columns[1])
			for _, clause := range s.clauses {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", clause.number, clause.binds, clause.told(), clause.shown(r.covered[clause.id]))
			}
		}
	}
	b.WriteString(brokenHeading)
	for _, m := range r.mutations {
		fmt.Fprintf(&b, "| %s | %s | [%s](../%s) | %s |\n", escape(m.what), m.cited(), m.file, m.file, m.test.link())
	}
	return b.Bytes()
}

// cited are the citations of a mutation.
func (m *mutation) cited() string {
	var all []string
	for _, c := range m.citations {
		all = append(all, "["+c.id+"]")
	}
	return strings.Join(all, " ")
}

func (t test) link() string { return fmt.Sprintf("[%s](../%s)", t.name, t.file) }

// told is the statement with what it rests on and what is to be said of it.
func (c clause) told() string {
	told := escape(c.what)
	if c.related != "" {
		told += " " + escape(c.related)
	}
	if c.note != "" {
		told += "<br>*" + escape(c.note) + "*"
	}
	return told
}

// shown is the tests that cite a clause, or why there are none.
func (c clause) shown(tests []test) string {
	if len(tests) == 0 {
		return "none: " + escape(c.untested())
	}
	var links []string
	for _, t := range tests[:min(len(tests), mostTests)] {
		links = append(links, t.link())
	}
	if more := len(tests) - mostTests; more > 0 {
		links = append(links, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(links, ", ")
}

// untested says why no test cites a clause.
func (c clause) untested() string {
	switch {
	case c.why != "":
		return c.why
	case c.binds == client:
		return "binds the client"
	default:
		return "no test yet"
	}
}

// count says of a catalogue how much is tested, and why the rest is not, the most frequent reason first.
func (c *catalogue) count(covered coverage) string {
	total, tested, reasons := 0, 0, map[string]int{}
	for _, clause := range c.all() {
		total++
		if len(covered[clause.id]) > 0 {
			tested++
		} else {
			reasons[clause.untested()]++
		}
	}
	var whys []string
	for why := range reasons {
		whys = append(whys, why)
	}
	slices.SortFunc(whys, func(a, b string) int {
		if reasons[a] != reasons[b] {
			return reasons[b] - reasons[a]
		}
		return strings.Compare(a, b)
	})
	line := fmt.Sprintf("%s: %d, of which %d are tested", c.title, total, tested)
	if tested == total {
		return line
	}
	for i, why := range whys {
		whys[i] = fmt.Sprintf("%s %d", why, reasons[why])
	}
	return fmt.Sprintf("%s and %d are not (%s)", line, total-tested, strings.Join(whys, ", "))
}

// escape keeps text inside its cell of a table.
func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(text)
}
