package clients

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"dunlin/test/harness"
)

// program is a client in another language: a process that reads a command per line from its standard input, and writes
// an answer to each, and the messages that arrive, to its standard output. All lines are JSON:
//
//	{"do": "connect", "options": {...}}     {"answer": {"sessionPresent": false}}
//	{"do": "publish", "messages": [...]}    {"answer": {}}     when all are acknowledged
//	{"do": "send", "messages": [...]}       {"answer": {}}     at once
//	{"do": "disconnect"}                    {"answer": {}}     when the connection is closed; the process ends
//	                                        {"message": {...}} for each message that arrives
//	                                        {"error": "..."}   instead of an answer
//
// Options and messages are those of client_test.go. The process has one connection in its life; what a library keeps
// of a session in memory is lost with it.
type program struct {
	command  []string
	received chan message
	process  *process
	// A client that subscribes whenever it connects is given its filters again when a test resumes a session.
	subscribesAgain bool
	filters         []string
	qos             byte
}

func newProgram(command ...string) *program {
	return &program{command: command, received: inbox()}
}

// process is one run of the program.
type process struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers chan answer // closed when the process has ended
	stderr  strings.Builder
	end     sync.Once
}

// answer is a line from the process, unless it is a message.
type answer struct {
	SessionPresent bool `json:"sessionPresent"`
	err            error
}

func startProcess(command []string, received chan<- message) (*process, error) {
	p := &process{cmd: exec.Command(command[0], command[1:]...), answers: make(chan answer, 1)}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.read(stdout, received)
	return p, nil
}

func (p *process) read(stdout io.Reader, received chan<- message) {
	defer close(p.answers)
	defer p.cmd.Wait() //nolint:errcheck // ended by us, or its last line says why
	lines := bufio.NewReader(stdout)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var line struct {
			Answer  *answer
			Message *message
			Error   string
		}
		switch err := json.Unmarshal(text, &line); {
		case err != nil:
			p.answers <- answer{err: fmt.Errorf("%w: %q", err, text)}
		case line.Message != nil:
			received <- *line.Message
		case line.Answer != nil:
			p.answers <- *line.Answer
		default:
			p.answers <- answer{err: errors.New(line.Error)}
		}
	}
}

// do sends a command and waits for its answer.
func (p *program) do(command any) (answer, error) {
	line, err := json.Marshal(command)
	if err != nil {
		return answer{}, err
	}
	if _, err := p.process.stdin.Write(append(line, '\n')); err != nil {
		return answer{}, fmt.Errorf("%w\n%s", err, p.process.kill())
	}
	select {
	case a, running := <-p.process.answers:
		if !running {
			return a, fmt.Errorf("the program has ended\n%s", p.process.kill())
		}
		return a, a.err
	case <-time.After(harness.Patience):
		return answer{}, fmt.Errorf("no answer to %.200s within %v\n%s", line, harness.Patience, p.process.kill())
	}
}

// kill ends the process and returns what it wrote to standard error.
func (p *process) kill() string {
	p.end.Do(func() {
		p.stdin.Close()
		_ = p.cmd.Process.Kill() // fails only when it has ended already
		for range p.answers {    // until it has
			continue
		}
	})
	return p.stderr.String()
}

type command struct {
	Do       string    `json:"do"`
	Options  *options  `json:"options,omitempty"`
	Messages []message `json:"messages,omitempty"`
}

func (p *program) connect(o options) (sessionPresent bool, err error) {
	if p.subscribesAgain && len(o.Filters) == 0 {
		o.Filters, o.QoS = p.filters, p.qos
	}
	p.filters, p.qos = o.Filters, o.QoS
	if p.process, err = startProcess(p.command, p.received); err != nil {
		return false, err
	}
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
	_, err := p.do(command{Do: "disconnect"})
	p.process.kill()
	return err
}

func (p *program) abandon() {
	if p.process != nil {
		p.process.kill()
	}
}
