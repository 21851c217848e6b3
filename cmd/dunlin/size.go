package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sizeUnits from the largest to the smallest of each family, so that a size is written in the largest that divides it.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40},
	{"GiB", gibibyte},
	{"MiB", mebibyte},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
}

// sizeValue is a number of bytes.
type sizeValue struct {
	to        *int64
	min, max  int64
	mayBeAuto bool // auto is stored as 0
}

func (v sizeValue) set(text string) error {
	if v.mayBeAuto && text == wordAuto {
		*v.to = 0
		return nil
	}
	n, ok := parseSize(text)
	if !ok || n < v.min || n > v.max {
		return errNotAllowed
	}
	*v.to = n
	return nil
}

func (v sizeValue) text() string {
	if v.mayBeAuto && *v.to == 0 {
		return wordAuto
	}
	return formatSize(*v.to)
}

func (v sizeValue) allowed() string {
	text := "a size such as 64KiB, 1MiB or 10GiB, at least " + formatSize(v.min)
	if v.max < math.MaxInt64 {
		text += ", at most " + formatSize(v.max)
	}
	if v.mayBeAuto {
		text += ", or auto"
	}
	return text
}

// parseSize reads a whole number of bytes, alone or with a unit.
func parseSize(text string) (int64, bool) {
	number, factor := text, int64(1)
	for _, unit := range sizeUnits {
		if rest, found := strings.CutSuffix(text, unit.name); found {
			number, factor = strings.TrimSpace(rest), unit.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/factor {
		return 0, false
	}
	return int64(n) * factor, true
}

func formatSize(bytes int64) string {
	if bytes > 0 {
		for _, unit := range sizeUnits {
			if bytes%unit.bytes == 0 {
				return fmt.Sprintf("%d%s", bytes/unit.bytes, unit.name)
			}
		}
	}
	return fmt.Sprintf("%dB", bytes)
}
