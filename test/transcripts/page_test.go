package transcripts

import (
	"fmt"
	"slices"
	"strings"
)

// page is a page of documentation: its lines, and what is to be run among them.
type page struct {
	parts []part
}

// part is either lines of text or a block.
type part struct {
	text  []string // with the fences of a block that follows or came before
	block *block
}

// block is what stands between two fences.
type block struct {
	line       int // of its opening fence
	words      []string
	steps      []*step
	eventually bool
}

// step is a command and what it prints.
type step struct {
	shown      []string // the lines of the command as the page has them
	command    string
	background bool
	output     []string
}

const (
	fenceOpen = "```console"
	fence     = "```"
	prompt    = "$ "
)

var knownWords = []string{"embedded", "external", "eventually"}

// parsePage reads a page.
func parsePage(content string) (*page, error) {
	p := &page{}
	var text []string
	lines := strings.Split(content, "\n")
	for i := 0; i < len(lines); i++ {
		text = append(text, lines[i])
		words, opens := strings.CutPrefix(lines[i], fenceOpen)
		if !opens {
			continue
		}
		b := &block{line: i + 1, words: strings.Fields(words)}
		for _, w := range b.words {
			if !slices.Contains(knownWords, w) {
				return nil, fmt.Errorf("line %d: unknown word %q", b.line, w)
			}
		}
		b.eventually = slices.Contains(b.words, "eventually")
		end := slices.Index(lines[i+1:], fence)
		if end < 0 {
			return nil, fmt.Errorf("line %d: the block has no end", b.line)
		}
		if err := b.parse(lines[i+1 : i+1+end]); err != nil {
			return nil, fmt.Errorf("line %d: %w", b.line, err)
		}
		p.parts = append(p.parts, part{text: text}, part{block: b})
		text = nil
		i += end // its closing fence is text
	}
	p.parts = append(p.parts, part{text: text})
	return p, nil
}

// parse reads the lines of a block.
func (b *block) parse(lines []string) error {
	for i := 0; i < len(lines); i++ {
		command, is := strings.CutPrefix(lines[i], prompt)
		if !is {
			if len(b.steps) == 0 {
				return fmt.Errorf("a block begins with a command, not with %q", lines[i])
			}
			last := b.steps[len(b.steps)-1]
			last.output = append(last.output, lines[i])
			continue
		}
		s := &step{shown: []string{lines[i]}}
		for strings.HasSuffix(command, "\\") && i+1 < len(lines) {
			i++
			s.shown = append(s.shown, lines[i])
			command += "\n" + lines[i]
		}
		s.command, s.background = strings.CutSuffix(command, " &")
		if s.background && b.eventually {
			return fmt.Errorf("%q runs in the background of a block that is repeated", s.command)
		}
		b.steps = append(b.steps, s)
	}
	if len(b.steps) == 0 {
		return fmt.Errorf("an empty block")
	}
	return nil
}

// isFor reports whether the block is run with NATS where mode says.
func (b *block) isFor(mode string) bool {
	other := map[string]string{"embedded": "external", "external": "embedded"}[mode]
	return !slices.Contains(b.words, other) || slices.Contains(b.words, mode)
}

// blocks are those of a mode.
func (p *page) blocks(mode string) []*block {
	var blocks []*block
	for _, part := range p.parts {
		if part.block != nil && part.block.isFor(mode) {
			blocks = append(blocks, part.block)
		}
	}
	return blocks
}

// String is the page as its file has it.
func (p *page) String() string {
	var lines []string
	for _, part := range p.parts {
		lines = append(lines, part.text...)
		if part.block == nil {
			continue
		}
		for _, s := range part.block.steps {
			lines = append(append(lines, s.shown...), s.output...)
		}
	}
	return strings.Join(lines, "\n")
}
