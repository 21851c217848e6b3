package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// splitWords splits a line at its spaces, but not within quotes and brackets. A comment starts with # at the start of a
// word that is no value.
func splitWords(line string) (words []string, err error) {
	start, depth, quoted := -1, 0, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		space := c == ' ' || c == '\t' || c == '\n' || c == '\r'
		switch {
		case quoted:
			if c == '\\' {
				i++
			}
			quoted = c != '"'
			continue
		case c == '#' && start < 0:
			return words, nil
		case space && depth == 0:
			if start >= 0 {
				words = append(words, line[start:i])
			}
			start = -1
			continue
		case c == '"':
			quoted = true
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		}
		if start < 0 && !space {
			start = i
		}
	}
	switch {
	case quoted:
		return nil, errors.New(`a " is not closed`)
	case depth != 0:
		return nil, errors.New("brackets do not match")
	case start >= 0:
		words = append(words, line[start:])
	}
	return words, nil
}

// references are $a, which is a name that only this script has, and ${x}, which is a value that it took.
var references = regexp.MustCompile(`\$(?:\{([a-z][a-z0-9-]*)\}|([a-z][0-9]*)\b)`)

// expand puts values in place of references.
func (p *player) expand(text string) (expanded string, err error) {
	expanded = references.ReplaceAllStringFunc(text, func(found string) string {
		part := references.FindStringSubmatch(found)
		if part[2] != "" {
			return part[2] + p.unique
		}
		value, ok := p.values[part[1]]
		if !ok {
			err = fmt.Errorf("%s has no value yet", found)
		}
		return value
	})
	return expanded, err
}

var repeated = regexp.MustCompile(`^(.*["\)\]])\*(\d+)$`)

// repetition splits what stands in quotes or brackets from how often it is meant.
func repetition(word string) (one string, times int) {
	if found := repeated.FindStringSubmatch(word); found != nil {
		times, _ = strconv.Atoi(found[2]) // of digits
		return found[1], times
	}
	return word, 1
}

// text is the value of a word: bare, in quotes as Go has them, or hex:00ff.
func (p *player) text(word string) (string, error) {
	word, times := repetition(word)
	switch {
	case strings.HasPrefix(word, `"`):
		unquoted, err := strconv.Unquote(word)
		if err != nil {
			return "", fmt.Errorf("%s: %w", word, err)
		}
		word = unquoted
	case strings.HasPrefix(word, "hex:"):
		b, err := hex.DecodeString(word[len("hex:"):])
		if err != nil {
			return "", fmt.Errorf("%s: %w", word, err)
		}
		return string(b), nil
	}
	word, err := p.expand(word)
	return strings.Repeat(word, times), err
}

// list is the items of (a, b) or [1 2], and how often they are meant, one behind the other.
func (p *player) list(word string) (items []string, times int, err error) {
	inner, times := repetition(word)
	if len(inner) < 2 || !strings.Contains("([", inner[:1]) {
		return nil, 0, fmt.Errorf("%s: a list stands in ( ) or [ ]", word)
	}
	items, err = splitWords(separateCommas(inner[1 : len(inner)-1]))
	return items, times, err
}

// separateCommas puts spaces in place of the commas outside quotes.
func separateCommas(text string) string {
	b := []byte(text)
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case b[i] == ',' && !quoted:
			b[i] = ' '
		}
	}
	return string(b)
}

// cutItem splits an item at the first colon outside quotes.
func cutItem(item string) (before, after string) {
	quoted := false
	for i := 0; i < len(item); i++ {
		switch {
		case quoted && item[i] == '\\':
			i++
		case item[i] == '"':
			quoted = !quoted
		case item[i] == ':' && !quoted:
			return item[:i], item[i+1:]
		}
	}
	return item, ""
}
