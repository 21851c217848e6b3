package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A mutation is a behaviour that can be broken, and the test that notices.
type mutation struct {
	what      string // what the broken program does
	citations []citation
	file      string // from the root, with slashes
	test      test
	before    string // what stands in file, once
	after     string // what breaks it
}

const mutationsFile = "docs/conformance/mutations.txt"

// loadMutations reads the list. Mutations are apart by an empty line; each is
//
//	# What the broken program does. [MQTT-3.12.4-1] [case 179]
//	file sessions/session.go
//	test test/integration/basic_test.go TestPing      (a script has no name: it is its file)
//	 	lines of the file as they are, with a space before them, "-" where they are taken out
//	-	return s.send(&mqttcodec.Pingresp{}, dst)
//	+	return dst
func loadMutations(root string) ([]mutation, error) {
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(mutationsFile)))
	if err != nil {
		return nil, err
	}
	var all []mutation
	line := 1
	for block := range strings.SplitSeq(strings.TrimSpace(string(content)), "\n\n") {
		m, err := parseMutation(block, line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", mutationsFile, line, err)
		}
		all = append(all, m)
		line += strings.Count(block, "\n") + 2
	}
	return all, nil
}

func parseMutation(block string, line int) (m mutation, err error) {
	var before, after strings.Builder
	for i, text := range strings.Split(block, "\n") {
		word, rest, _ := strings.Cut(text, " ")
		switch {
		case word == "#":
			m.what = strings.TrimSpace(bracketed.ReplaceAllString(rest, ""))
			m.citations = citationsIn(rest, mutationsFile, line+i, test{})
		case word == "file":
			m.file = rest
		case word == "test":
			m.test.file, m.test.name, _ = strings.Cut(rest, " ")
			if m.test.name == "" {
				m.test.name = scriptName(m.test.file)
			}
		case strings.HasPrefix(text, "-"):
			before.WriteString(text[1:] + "\n")
		case strings.HasPrefix(text, "+"):
			after.WriteString(text[1:] + "\n")
		case strings.HasPrefix(text, " "):
			before.WriteString(text[1:] + "\n")
			after.WriteString(text[1:] + "\n")
		default:
			return m, fmt.Errorf("line %d: cannot read %q", i+1, text)
		}
	}
	m.before, m.after = before.String(), after.String()
	if m.what == "" || len(m.citations) == 0 || m.file == "" || m.test.file == "" || m.before == m.after {
		return m, errors.New("want a claim with its citations, a file, a test, and lines taken out or put in")
	}
	return m, nil
}

// checkMutations holds the list against the catalogues, the tests and the sources: each mutation must still have its
// place, and its test cite what is broken.
func checkMutations(root string, mutations []mutation, covered coverage) error {
	var faults []error
	for _, m := range mutations {
		for _, c := range m.citations {
			if !covered.by(c.id, m.test) {
				faults = append(faults, fmt.Errorf("%s: %s in %s does not cite [%s]", c.place, m.test.name, m.test.file, c.id))
			}
		}
		if _, err := m.apply(root); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", m.citations[0].place, err))
		}
	}
	return errors.Join(faults...)
}

// apply is the content of the mutation's file, broken.
func (m *mutation) apply(root string) (string, error) {
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(content), m.before); n != 1 {
		return "", fmt.Errorf("%s has %d times, and not once:\n%s", m.file, n, m.before)
	}
	return strings.Replace(string(content), m.before, m.after, 1), nil
}
