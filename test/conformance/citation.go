package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A citation is one clause named at one place.
type citation struct {
	id    string // without brackets
	place string // file:line
	test  test   // zero when the place is no test, where a citation counts for nothing
}

// A test is a test function, or a script that a test function plays.
type test struct {
	name string
	file string // from the root, with slashes
}

// bracketed finds whatever wants to be a citation; wellFormed says whether it is one.
var (
	bracketed  = regexp.MustCompile(`\[[^\[\]]*(?:MQTT-|case )[^\[\]]*\]`)
	wellFormed = regexp.MustCompile(`^(?:(?:3\.1\.1 )?MQTT-\d+\.\d+\.\d+-\d+|case \d+)$`)
	bare       = regexp.MustCompile(`^(?:3\.1\.1 )?MQTT-\d[\d.-]*$`)
)

// citationsIn finds the citations in a text that starts on a line of a file.
func citationsIn(text, file string, line int, of test) []citation {
	var found []citation
	for i, content := range strings.Split(text, "\n") {
		for _, match := range bracketed.FindAllString(content, -1) {
			found = append(found, citation{id: match[1 : len(match)-1], place: fmt.Sprintf("%s:%d", file, line+i), test: of})
		}
	}
	return found
}

// coverage is the tests that cite each clause, in the order of their files and names.
type coverage map[string][]test

// by reports whether a test cites a clause.
func (c coverage) by(id string, t test) bool { return slices.Contains(c[id], t) }

// cover sorts citations by clause. A citation of what no catalogue has is an error.
func cover(catalogues []*catalogue, citations []citation) (coverage, error) {
	known := map[string]bool{}
	covered := coverage{}
	var faults []error
	for _, c := range catalogues {
		for _, clause := range c.all() {
			known[clause.id] = true
		}
		for _, clause := range c.all() {
			for _, related := range citationsIn(clause.related+clause.note, "docs/conformance/"+c.file, 0, test{}) {
				related.place = fmt.Sprintf("docs/conformance/%s, %s", c.file, clause.id)
				citations = append(citations, related)
			}
		}
	}
	for _, cited := range citations {
		switch {
		case !wellFormed.MatchString(cited.id):
			faults = append(faults, fmt.Errorf("%s: [%s] is no citation; the forms are [MQTT-3.1.2-3], [3.1.1 MQTT-3.1.2-3] and [case 36], one to a bracket", cited.place, cited.id))
		case !known[cited.id]:
			faults = append(faults, fmt.Errorf("%s: there is no [%s]; the nearest is [%s]", cited.place, cited.id, nearest(cited.id, known)))
		case cited.test != test{} && !covered.by(cited.id, cited.test):
			covered[cited.id] = append(covered[cited.id], cited.test)
		}
	}
	for _, tests := range covered {
		slices.SortFunc(tests, func(a, b test) int {
			return strings.Compare(a.file+"\x00"+a.name, b.file+"\x00"+b.name)
		})
	}
	return covered, errors.Join(faults...)
}

// nearest is the known clause that takes the fewest changed letters, the first of them in order.
func nearest(id string, known map[string]bool) string {
	best, fewest := "", -1
	for candidate := range known {
		changes := distance(id, candidate)
		if fewest < 0 || changes < fewest || changes == fewest && candidate < best {
			best, fewest = candidate, changes
		}
	}
	return best
}

// distance is how many letters must be put in, left out or replaced to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
