package transcripts

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/test/harness"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands print into the pages")

// pages are those whose terminal sessions are run, in docs.
var pages = []string{"NATS.md"}

// What the documentation shows is what happens, with the NATS server inside and with one outside.
func TestDocTranscripts(t *testing.T) {
	for _, name := range pages {
		path := filepath.Join("..", "..", "docs", name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePage(string(content))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		seen := map[*block]bool{} // written by this run
		for _, mode := range []string{"embedded", "external"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				nats := ""
				if mode == "external" {
					nats = harness.StartNATSServer(t).Address
				}
				s := newTerminal(t, nats)
				for _, b := range p.blocks(mode) {
					r := run{terminal: s, page: path, block: b, rewrite: *rewrite && !seen[b]}
					r.play()
					seen[b] = true
				}
			})
		}
		if !*rewrite || p.String() == string(content) {
			continue
		}
		if err := os.WriteFile(path, []byte(p.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// run is one run of a block.
type run struct {
	*terminal
	page    string
	block   *block
	rewrite bool
}

// play runs the block and compares what it prints with what the page says, or puts it there.
func (r run) play() {
	r.t.Helper()
	outputs := r.once()
	if r.block.eventually {
		outputs = r.repeat(outputs)
	}
	for i, step := range r.block.steps {
		if same(outputs[i], step.output) {
			continue
		}
		if !r.rewrite {
			r.t.Errorf("%s:%d: after %s\n%s\nthe page has\n%s\nupdate it with: go test ./test/transcripts -rewrite; where NATS inside and outside differ, write two blocks",
				r.page, r.block.line, strings.Join(step.shown, "\n"), strings.Join(outputs[i], "\n"), strings.Join(step.output, "\n"))
			continue
		}
		for _, line := range outputs[i] {
			if strings.HasPrefix(line, prompt) || line == fence {
				r.t.Errorf("%s: after %s: a page cannot show the line %q", r.page, step.command, line)
			}
		}
		step.output = outputs[i]
	}
}

func same(a, b []string) bool { return slices.Equal(mask(a), mask(b)) }

// repeat runs the block until it prints what the page says, or, for what is to be written there, the same twice.
func (r run) repeat(outputs [][]string) [][]string {
	for deadline := time.Now().Add(harness.Patience); time.Now().Before(deadline); {
		var done bool
		if r.rewrite {
			harness.Wait(quiet)
			before := outputs
			outputs = r.once()
			done = slices.EqualFunc(outputs, before, same)
		} else if done = r.matches(outputs); !done {
			outputs = r.once()
		}
		if done {
			break
		}
	}
	return outputs
}

func (r run) matches(outputs [][]string) bool {
	for i, step := range r.block.steps {
		if !same(outputs[i], step.output) {
			return false
		}
	}
	return true
}

// once runs the commands of the block and returns what each has printed.
func (r run) once() [][]string {
	r.t.Helper()
	outputs := make([][]string, len(r.block.steps))
	jobs := make([]*job, len(r.block.steps))
	for i, step := range r.block.steps {
		if step.background {
			jobs[i] = r.start(step.command)
		} else {
			outputs[i] = r.run(step.command)
		}
	}
	for i, j := range jobs {
		if j == nil {
			continue
		}
		if want := r.block.steps[i].output; r.rewrite {
			j.await(quiet, func(string) bool { return false })
		} else {
			j.await(harness.Patience, func(text string) bool { return same(r.shown(text), want) })
		}
		text, _ := j.text()
		outputs[i] = r.shown(text)
		if j != r.served {
			_ = j.cmd.Process.Kill() // fails only when it has ended
			<-j.exited
		}
	}
	return outputs
}
