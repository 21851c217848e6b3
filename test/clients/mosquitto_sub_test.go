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
	"syscall"
	"time"

	"dunlin/test/harness"
)

// mosquittoSub is one run of mosquitto_sub -d -F %j.
type mosquittoSub struct {
	cmd    *exec.Cmd
	suback chan string // the codes, as printed
	exited chan struct{}

	mu  sync.Mutex
	log strings.Builder // guarded by mu: what it printed that is no message
}

func startMosquittoSub(args []string, received chan<- message) (*mosquittoSub, error) {
	// Written to a pipe, what -d prints stays in the program's buffer: stdbuf has it written line by line.
	s := &mosquittoSub{cmd: exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...), suback: make(chan string, 10), exited: make(chan struct{})}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = s
	harness.DieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go s.read(stdout, received)
	return s, nil
}

// Write takes what the program writes to standard error.
func (s *mosquittoSub) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *mosquittoSub) read(stdout io.Reader, received chan<- message) {
	defer close(s.exited)
	defer s.cmd.Wait() //nolint:errcheck // ended by us, or its output says why
	for lines := bufio.NewReader(stdout); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		_, codes, subscribed := strings.Cut(line, "Subscribed (mid: 1): ")
		switch {
		case strings.HasPrefix(line, "{"):
			m, err := parseMosquitto(line)
			if err != nil {
				m.Payload = err.Error()
			}
			received <- m
		case subscribed:
			s.suback <- strings.TrimSpace(codes)
		default:
			_, _ = s.Write([]byte(line)) // does not fail
		}
	}
}

// parseMosquitto reads a message as mosquitto_sub -F %j prints it.
func parseMosquitto(line string) (message, error) {
	var j struct {
		Topic, Payload string
		QoS, Retain    byte
		Properties     struct {
			ContentType            string          `json:"content-type"`
			ResponseTopic          string          `json:"response-topic"`
			CorrelationData        string          `json:"correlation-data"`
			PayloadFormat          byte            `json:"payload-format-indicator"`
			MessageExpiry          uint32          `json:"message-expiry-interval"`
			SubscriptionIdentifier uint32          `json:"subscription-identifier"`
			User                   json.RawMessage `json:"user-properties"`
		}
	}
	if err := json.Unmarshal([]byte(line), &j); err != nil {
		return message{}, fmt.Errorf("%w: %s", err, line)
	}
	p := j.Properties
	m := message{
		Topic: j.Topic, Payload: j.Payload, QoS: j.QoS, Retain: j.Retain == 1,
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData,
		Format: p.PayloadFormat, ExpirySeconds: p.MessageExpiry,
	}
	if p.SubscriptionIdentifier != 0 {
		m.Identifiers = []uint32{p.SubscriptionIdentifier}
	}
	var err error
	m.User, err = userProperties(p.User)
	return m, err
}

// userProperties reads an object whose names may repeat and whose order matters, which encoding/json has no type for.
func userProperties(object json.RawMessage) (user [][2]string, err error) {
	if object == nil {
		return nil, nil
	}
	var tokens []string
	for d := json.NewDecoder(strings.NewReader(string(object))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if s, ok := token.(string); ok {
			tokens = append(tokens, s)
		}
	}
	for i := 0; i+1 < len(tokens); i += 2 {
		user = append(user, [2]string{tokens[i], tokens[i+1]})
	}
	return user, nil
}

// awaitSuback waits until the broker has granted what was asked for.
func (s *mosquittoSub) awaitSuback(o options) error {
	var want []string
	for range o.Filters {
		want = append(want, fmt.Sprint(o.QoS))
	}
	select {
	case codes := <-s.suback:
		if codes != strings.Join(want, ", ") {
			return fmt.Errorf("filters %q, SUBACK %s", o.Filters, codes)
		}
		return nil
	case <-s.exited:
		return fmt.Errorf("mosquitto_sub has ended\n%s", s.printed())
	case <-time.After(harness.Patience):
		return fmt.Errorf("no SUBACK\n%s", s.printed())
	}
}

func (s *mosquittoSub) printed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// stop has the program disconnect. In 5.0 it then says reason 0x04: its will is published. It does so in a signal handler,
// which prints what the program was about to print once more, or rarely waits for ever for a lock that the program held when the
// signal came: then it is killed. So it should be at rest.
func (s *mosquittoSub) stop() error {
	if err := harness.Within(harness.Patience, func() error { return harness.Asleep(s.cmd.Process.Pid) }); err != nil {
		return err
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(harness.Patience / 4):
		s.kill()
		return nil
	}
}

func (s *mosquittoSub) kill() {
	_ = s.cmd.Process.Kill() // fails only when it has ended already
	<-s.exited
}
