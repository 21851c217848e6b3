package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dunlin/jetstream"
)

// Words that some keys take in place of a value.
const (
	wordOff   = "off"
	wordAuto  = "auto"
	wordNever = "never"
)

// errNotAllowed is all that a value says about a text it refuses: what is allowed is in allowed.
var errNotAllowed = errors.New("not allowed")

// value reads and writes one field of a Config as text.
type value interface {
	set(text string) error
	text() string
	// allowed completes the sentence "it must be …".
	allowed() string
}

type addressValue struct {
	to       *string
	mayBeOff bool
}

func (v addressValue) set(text string) error {
	if v.mayBeOff && text == wordOff {
		*v.to = text
		return nil
	}
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return errNotAllowed
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errNotAllowed
	}
	*v.to = text
	return nil
}

func (v addressValue) text() string { return *v.to }

func (v addressValue) allowed() string {
	if v.mayBeOff {
		return "host:port or off"
	}
	return "host:port"
}

type pathValue struct {
	to         *string
	mayBeEmpty bool
}

func (v pathValue) set(text string) error {
	if text == "" && !v.mayBeEmpty || strings.ContainsRune(text, 0) {
		return errNotAllowed
	}
	*v.to = text
	return nil
}

func (v pathValue) text() string    { return *v.to }
func (v pathValue) allowed() string { return "a path" }

// textValue is a text that somebody else reads; empty when it is not set.
type textValue struct {
	to *string
	// what it must be, in words.
	what string
	// hide makes of a text what may be printed of it; nil for all.
	hide func(text string) string
}

// hidden is what is printed of a secret.
func hidden(string) string { return "(secret)" }

func (v textValue) set(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errNotAllowed
	}
	*v.to = text
	return nil
}

func (v textValue) text() string {
	if v.hide != nil && *v.to != "" {
		return v.hide(*v.to)
	}
	return *v.to
}

func (v textValue) allowed() string { return v.what }

// replicasValue is an odd number of servers.
type replicasValue struct{ to *int } // auto is stored as 0

func (v replicasValue) set(text string) error {
	n, err := strconv.Atoi(text)
	switch {
	case text == wordAuto:
		n = 0
	case err != nil || n < 1 || n > 5 || n%2 == 0:
		return errNotAllowed
	}
	*v.to = n
	return nil
}

func (v replicasValue) text() string {
	if *v.to == 0 {
		return wordAuto
	}
	return strconv.Itoa(*v.to)
}

func (v replicasValue) allowed() string { return "1, 3, 5 or auto" }

// prefixValue is the beginning of NATS subjects.
type prefixValue struct{ to *string }

func (v prefixValue) set(text string) error {
	if !jetstream.ValidPrefix(text) {
		return errNotAllowed
	}
	*v.to = text
	return nil
}

func (v prefixValue) text() string { return *v.to }

func (v prefixValue) allowed() string {
	return "one or more tokens of A-Z a-z 0-9 _ - with dots between them, at most 100 bytes"
}

type boolValue struct{ to *bool }

func (v boolValue) set(text string) error {
	switch text {
	case "true", "false":
		*v.to = text == "true"
		return nil
	}
	return errNotAllowed
}

func (v boolValue) text() string    { return strconv.FormatBool(*v.to) }
func (v boolValue) allowed() string { return "true or false" }

type choiceValue struct {
	to      *string
	options []string
}

func (v choiceValue) set(text string) error {
	if !slices.Contains(v.options, text) {
		return errNotAllowed
	}
	*v.to = text
	return nil
}

func (v choiceValue) text() string { return *v.to }

func (v choiceValue) allowed() string {
	last := len(v.options) - 1
	return strings.Join(v.options[:last], ", ") + " or " + v.options[last]
}

type intValue struct {
	to       *int
	min, max int
}

func (v intValue) set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < v.min || n > v.max {
		return errNotAllowed
	}
	*v.to = n
	return nil
}

func (v intValue) text() string    { return strconv.Itoa(*v.to) }
func (v intValue) allowed() string { return fmt.Sprintf("a whole number from %d to %d", v.min, v.max) }

type durationValue struct {
	to           *time.Duration
	min, max     time.Duration
	mayBeNever   bool
	wholeSeconds bool
}

func (v durationValue) set(text string) error {
	if v.mayBeNever && text == wordNever {
		*v.to = Never
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < v.min || d > v.max || v.wholeSeconds && d%time.Second != 0 {
		return errNotAllowed
	}
	*v.to = d
	return nil
}

func (v durationValue) text() string { return formatDuration(*v.to) }

func (v durationValue) allowed() string {
	text := "a duration such as 90s, 10m or 168h, at least " + formatDuration(v.min)
	if v.max < Never-1 {
		text += ", at most " + formatDuration(v.max)
	}
	if v.wholeSeconds {
		text += ", in whole seconds"
	}
	if v.mayBeNever {
		text += ", or never"
	}
	return text
}

// formatDuration is Duration.String without the zero minutes and seconds at its end.
func formatDuration(d time.Duration) string {
	if d == Never {
		return wordNever
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
