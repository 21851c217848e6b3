package transcripts

import (
	"regexp"
	"slices"
	"strings"
)

// masks are what differs from run to run, and what is put in its place for a comparison.
var masks = []struct {
	what *regexp.Regexp
	mask string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( \+0000 UTC|Z)?`), "<time>"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "<time>"},
	{regexp.MustCompile(`\((\d+(\.\d+)?(ns|µs|ms|s|m|h))+\)`), "(<ago>)"},
	{regexp.MustCompile(`│ +(\d+(\.\d+)?(ns|µs|ms|s|m|h))+ +│`), "│ <ago> │"},
	{regexp.MustCompile(`with rtt .*`), "with rtt <ago>"},
	{regexp.MustCompile(`is [-\d.]+(ns|µs|ms|s) (ahead of|behind) ours`), "is <ago> from ours"},
	{regexp.MustCompile(`\b\d+(\.\d+)? (B|KiB|MiB|GiB|TiB)\b`), "<size>"},
	{regexp.MustCompile(`"(node|remote)":"[^"]*"`), `"$1":<of this machine>`},
	{regexp.MustCompile(`"epoch":\d+`), `"epoch":<n>`},
	{regexp.MustCompile(`"since":\{[^}]*\}`), `"since":<position>`},
	{regexp.MustCompile(`_INBOX\.[\w.]+`), "_INBOX.<id>"},
	{regexp.MustCompile(`\b[A-Za-z0-9]{22}\b|\b[A-Z2-7]{26}\b|\bN[A-Z2-7]{55}\b`), "<id>"}, // nuid, identifiers of ours, servers
	{regexp.MustCompile(`\b2\.\d+\.\d+\b`), "<version>"},                                   // of nats-server
	{regexp.MustCompile(`─+`), "─"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

var (
	escapes    = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
	spinners   = regexp.MustCompile(`^[ ]*[\x{2800}-\x{28ff}]`)
	tableRow   = regexp.MustCompile(`^ ?│`)
	headerLine = regexp.MustCompile(`^ ?[A-Za-z][A-Za-z0-9-]*: .`)
)

// clean makes lines for a page out of what a program wrote.
func clean(output string) []string {
	output = escapes.ReplaceAllString(strings.ReplaceAll(output, "\r\n", "\n"), "")
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		line = line[strings.LastIndexByte(line, '\r')+1:] // what was before is overwritten
		if !spinners.MatchString(line) {
			lines = append(lines, strings.TrimRight(line, " \t"))
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// mask makes of lines what is compared: what differs from run to run is gone, empty lines too, and rows of a table and headers,
// which the nats command line writes in any order, are in one order.
func mask(lines []string) []string {
	masked := make([]string, 0, len(lines))
	for _, line := range lines {
		for _, m := range masks {
			line = m.what.ReplaceAllString(line, m.mask)
		}
		if line = strings.TrimRight(line, " "); line != "" {
			masked = append(masked, line)
		}
	}
	for _, kind := range []*regexp.Regexp{tableRow, headerLine} {
		for i := 0; i < len(masked); i++ {
			end := i
			for end < len(masked) && kind.MatchString(masked[end]) {
				end++
			}
			slices.Sort(masked[i:end])
			i = max(i, end-1)
		}
	}
	return masked
}
