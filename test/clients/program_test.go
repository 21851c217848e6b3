package clients

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dunlin/test/harness"
)

// host is a process that runs the clients of a library in another language, as many as the tests need: starting one for
// each would be most of the tests' work. It reads a command per line from its standard input, and writes an answer to
// each, and the messages that arrive, to its standard output. All lines are JSON:
//
//	{"client": 1, "do": "connect", "options": {...}}     {"client": 1, "answer": {"sessionPresent": false}}
//	{"client": 1, "do": "publish", "messages": [...]}    {"client": 1, "answer": {}}  when all are acknowledged
//	{"client": 1, "do": "send", "messages": [...]}       {"client": 1, "answer": {}}  at once
//	{"client": 1, "do": "disconnect"}                    {"client": 1, "answer": {}}  when the connection is closed
//	{"client": 1, "do": "abandon"}                       the same, when the wire is cut
//	                                                     {"client": 1, "message": {...}}  for each that arrives
//	                                                     {"client": 1, "error": "..."}    instead of an answer
//
// Options and messages are those of client_test.go. The process ends with its standard input.
type host struct {
	command func() []string // interpreter and script
	start   sync.Once
	err     error // of the start
	cmd     *exec.Cmd
	stderr  strings.Builder // to be read after ended
	ended   chan struct{}   // closed when the process has

	mu      sync.Mutex
	stdin   io.WriteCloser   // guarded by mu
	clients map[int]*program // guarded by mu
}

func newHost(command func() []string) *host {
	return &host{command: command, ended: make(chan struct{}), clients: map[int]*program{}}
}

// run starts the process. It looks at the sources, so that the result of a test is not used again when one has changed.
func (h *host) run() error {
	command := h.command()
	sources, err := os.ReadDir(filepath.Dir(command[1]))
	if err != nil {
		return err
	}
	for _, s := range sources {
		if _, err := os.Stat(filepath.Join(filepath.Dir(command[1]), s.Name())); err != nil {
			return err
		}
	}
	h.cmd = exec.Command(command[0], command[1:]...)
	h.cmd.Stderr = &h.stderr
	harness.DieWithParent(h.cmd)
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := h.cmd.Start(); err != nil {
		return err
	}
	go h.read(stdout)
	return nil
}

// read hands what the process writes to the clients.
func (h *host) read(stdout io.Reader) {
	defer close(h.ended)
	defer h.cmd.Wait() //nolint:errcheck // what it said last is in stderr
	for lines := bufio.NewReader(stdout); ; {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var line struct {
			Client  int
			Answer  *answer
			Message *message
			Error   string
		}
		if err := json.Unmarshal(text, &line); err != nil {
			panic(fmt.Sprintf("%v wrote %q: %v", h.cmd, text, err))
		}
		h.mu.Lock()
		c := h.clients[line.Client]
		h.mu.Unlock()
		switch {
		case line.Message != nil:
			c.received <- *line.Message
		case line.Answer != nil:
			c.answers <- *line.Answer
		default:
			c.answers <- answer{err: errors.New(line.Error)}
		}
	}
}

// end ends the process, if it was started.
func (h *host) end() {
	h.start.Do(func() { h.err = errors.New("not started") })
	if h.err == nil {
		h.stdin.Close()
		<-h.ended
	}
}

// program is one client of a host.
type program struct {
	host     *host
	number   int // in the host
	received chan message
	answers  chan answer
	open     bool // connected, and neither disconnected nor abandoned
	// A client that subscribes whenever it connects is given its filters again when a test resumes a session.
	subscribesAgain bool
	filters         []string
	qos             byte
}

// answer is what a command came to.
type answer struct {
	SessionPresent bool `json:"sessionPresent"`
	err            error
}

type command struct {
	Client   int       `json:"client"`
	Do       string    `json:"do"`
	Options  *options  `json:"options,omitempty"`
	Messages []message `json:"messages,omitempty"`
}

func newProgram(h *host) *program {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &program{host: h, number: len(h.clients) + 1, received: inbox(), answers: make(chan answer, 1)}
	h.clients[p.number] = p
	return p
}

// do sends a command and waits for its answer.
func (p *program) do(c command) (answer, error) {
	c.Client = p.number
	line, err := json.Marshal(c)
	if err != nil {
		return answer{}, err
	}
	p.host.start.Do(func() { p.host.err = p.host.run() })
	if p.host.err != nil {
		return answer{}, p.host.err
	}
	p.host.mu.Lock()
	_, err = p.host.stdin.Write(append(line, '\n'))
	p.host.mu.Unlock()
	if err != nil {
		return answer{}, fmt.Errorf("%v: %w", p.host.cmd, err)
	}
	select {
	case a := <-p.answers:
		return a, a.err
	case <-p.host.ended:
		return answer{}, fmt.Errorf("%v has ended\n%s", p.host.cmd, &p.host.stderr)
	case <-time.After(harness.Patience):
		return answer{}, fmt.Errorf("no answer to %.200s within %v", line, harness.Patience)
	}
}

func (p *program) connect(o options) (sessionPresent bool, err error) {
	if p.subscribesAgain && len(o.Filters) == 0 {
		o.Filters, o.QoS = p.filters, p.qos
	}
	p.filters, p.qos, p.open = o.Filters, o.QoS, true
	a, err := p.do(command{Do: "connect", Options: &o})
	return a.SessionPresent, err
}

func (p *program) publish(messages []message) error {
	_, err := p.do(command{Do: "publish", Messages: messages})
	return err
}

func (p *program) send(messages []message) error {
	_, err := p.do(command{Do: "send", Messages: messages})
	return err
}

func (p *program) messages() <-chan message { return p.received }

func (p *program) disconnect() error {
	p.open = false
	_, err := p.do(command{Do: "disconnect"})
	return err
}

func (p *program) abandon() {
	if p.open {
		p.open = false
		_, _ = p.do(command{Do: "abandon"}) // nobody needs it any more
	}
}
