package wire

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"dunlin/mqttcodec"
)

// script is a file of testdata: what its head says, and its statements.
type script struct {
	versions  []mqttcodec.Version
	ownBroker bool
	timed     bool        // it lets time pass, or measures it
	settings  [][2]string // key and value
	statements
}

// statements are lines to be played one after the other.
type statements []*statement

// statement is a line of a script, with the lines in braces that belong to it.
type statement struct {
	place string // file:line
	// versions are those in which the line is played, nil for all of the script's.
	versions []mqttcodec.Version
	words    []string
	block    statements
}

// errorf is an error that says where in the script it is.
func (st *statement) errorf(format string, values ...any) error {
	return fmt.Errorf("%s: %s\n\t%w", st.place, strings.Join(st.words, " "), fmt.Errorf(format, values...))
}

var versionNames = map[string]mqttcodec.Version{"3.1": mqttcodec.V31, "3.1.1": mqttcodec.V311, "5.0": mqttcodec.V5}

func versionsOf(names []string) (versions []mqttcodec.Version, err error) {
	for _, name := range names {
		v, ok := versionNames[name]
		if !ok {
			return nil, fmt.Errorf("unknown version %q", name)
		}
		versions = append(versions, v)
	}
	return versions, nil
}

func loadScript(path string) (*script, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseScript(path, string(text))
}

func parseScript(name, text string) (*script, error) {
	s := &script{}
	open := []*statements{&s.statements} // the blocks that the line is in, innermost last
	number := 0
	for line := range strings.Lines(text) {
		number++
		st := &statement{place: fmt.Sprintf("%s:%d", name, number)}
		words, err := splitWords(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", st.place, err)
		}
		if len(words) > 0 && strings.HasPrefix(words[0], "[") {
			if st.versions, err = versionsOf(strings.Fields(strings.Trim(words[0], "[]"))); err != nil {
				return nil, fmt.Errorf("%s: %w", st.place, err)
			}
			words = words[1:]
		}
		st.words = words
		switch {
		case len(words) == 0:
			continue
		case len(words) == 1 && words[0] == "}":
			if len(open) == 1 {
				return nil, st.errorf("closes nothing")
			}
			open = open[:len(open)-1]
			continue
		case len(s.statements) == 0:
			if isHead, err := s.head(words); err != nil {
				return nil, st.errorf("%w", err)
			} else if isHead {
				continue
			}
		}
		s.timed = s.timed || words[0] == "after" || words[0] == "clock"
		block := open[len(open)-1]
		*block = append(*block, st)
		if last := len(words) - 1; words[last] == "{" {
			st.words = words[:last]
			open = append(open, &st.block)
		}
	}
	switch {
	case len(open) > 1:
		return nil, fmt.Errorf("%s: a { is not closed", name)
	case len(s.versions) == 0:
		return nil, fmt.Errorf("%s: the head names no versions", name)
	}
	return s, nil
}

// head takes a line before the first statement that is about the whole script.
func (s *script) head(words []string) (isHead bool, err error) {
	switch {
	// versions 3.1 3.1.1 5.0
	case words[0] == "versions":
		s.versions, err = versionsOf(words[1:])
		return true, err
	// broker own
	case slices.Equal(words, []string{"broker", "own"}):
		s.ownBroker = true
		return true, nil
	// broker set limits.max_packet=64KiB
	case len(words) == 3 && words[0] == "broker" && words[1] == "set":
		key, value, ok := strings.Cut(words[2], "=")
		if !ok {
			return true, fmt.Errorf("not key=value")
		}
		s.ownBroker = true
		s.settings = append(s.settings, [2]string{key, value})
		return true, nil
	}
	return false, nil
}
