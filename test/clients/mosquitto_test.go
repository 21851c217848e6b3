package clients

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strings"

	"dunlin/test/harness"
)

// mosquitto is the mosquitto programs as a client: mosquitto_sub is its connection, and mosquitto_pub publishes, each
// time with a connection of its own. Without filters there is nothing to run, and a connection is a promise only.
type mosquitto struct {
	options  options
	received chan message
	process  *mosquittoSub
	senders  map[string]io.Writer // the standard input of mosquitto_pub, for each that send started
	running  []*exec.Cmd
}

func newMosquitto() client {
	return &mosquitto{received: inbox(), senders: map[string]io.Writer{}}
}

func mosquittoInstalled() error {
	for _, program := range []string{"mosquitto_sub", "mosquitto_pub", "mosquitto_rr", "stdbuf"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}

// base are the arguments that say where the broker is.
func (c *mosquitto) base() []string {
	version := map[byte]string{3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}[c.options.Version]
	address, err := url.Parse(c.options.URL)
	if err != nil {
		panic(err) // made by ourselves
	}
	return []string{"-h", address.Hostname(), "-p", address.Port(), "-V", version}
}

// connect subscribes again when there is nothing to subscribe to: the program always does.
func (c *mosquitto) connect(o options) (sessionPresent bool, err error) {
	if len(o.Filters) == 0 {
		o.Filters, o.QoS = c.options.Filters, c.options.QoS
	}
	c.options = o
	if len(o.Filters) == 0 {
		return false, nil
	}
	args := append(c.base(), "-i", o.ID, "-q", fmt.Sprint(o.QoS), "-d", "-F", "%j")
	for _, f := range o.Filters {
		args = append(args, "-t", f)
	}
	if o.Persistent {
		args = append(args, "-c")
	}
	if o.Persistent && o.Version == 5 {
		args = append(args, "-x", fmt.Sprint(sessionExpirySeconds))
	}
	if o.Identifier != 0 {
		args = append(args, "-D", "subscribe", "subscription-identifier", fmt.Sprint(o.Identifier))
	}
	if w := o.Will; w != nil {
		args = append(args, "--will-topic", w.Topic, "--will-payload", w.Payload, "--will-qos", fmt.Sprint(w.QoS))
		if w.Retain {
			args = append(args, "--will-retain")
		}
		args = append(args, properties("will", *w)...)
	}
	if c.process, err = startMosquittoSub(args, c.received); err != nil {
		return false, err
	}
	return false, c.process.awaitSuback(o)
}

// properties are the flags for the properties of a message.
func properties(packet string, m message) []string {
	var args []string
	add := func(name string, values ...any) {
		args = append(args, "-D", packet, name)
		for _, v := range values {
			args = append(args, fmt.Sprint(v))
		}
	}
	if m.ContentType != "" {
		add("content-type", m.ContentType)
	}
	if m.ResponseTopic != "" {
		add("response-topic", m.ResponseTopic)
	}
	if m.CorrelationData != "" {
		add("correlation-data", m.CorrelationData)
	}
	if m.Format != 0 {
		add("payload-format-indicator", m.Format)
	}
	if m.ExpirySeconds != 0 {
		add("message-expiry-interval", m.ExpirySeconds)
	}
	if m.Alias != 0 {
		add("topic-alias", m.Alias)
	}
	for _, u := range m.User {
		add("user-property", u[0], u[1])
	}
	return args
}

// runs are neighbouring messages that differ in their payload only, and whose payloads are single lines.
func runs(messages []message) [][]message {
	var groups [][]message
	for _, m := range messages {
		if n := len(groups) - 1; n >= 0 && m.Payload != "" && sameBut(m, groups[n][0]) {
			groups[n] = append(groups[n], m)
		} else {
			groups = append(groups, []message{m})
		}
	}
	return groups
}

// sameBut reports whether messages differ in their payload only.
func sameBut(a, b message) bool {
	a.Payload, b.Payload = "", ""
	return describe(a) == describe(b)
}

// pubCommand publishes one message, or with -l a message for each line of its standard input.
func (c *mosquitto) pubCommand(ctx context.Context, m message, flags ...string) *exec.Cmd {
	args := append(c.base(), "-t", m.Topic, "-q", fmt.Sprint(m.QoS))
	if m.Retain {
		args = append(args, "-r")
	}
	return exec.CommandContext(ctx, "mosquitto_pub", append(append(args, properties("publish", m)...), flags...)...)
}

func (c *mosquitto) publish(messages []message) error {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	for _, group := range runs(messages) {
		var cmd *exec.Cmd
		switch m := group[0]; {
		case len(group) > 1:
			cmd = c.pubCommand(ctx, m, "-l")
			cmd.Stdin = strings.NewReader(payloadLines(group))
		case m.Payload == "":
			cmd = c.pubCommand(ctx, m, "-n")
		default:
			cmd = c.pubCommand(ctx, m, "-s")
			cmd.Stdin = strings.NewReader(m.Payload)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mosquitto_pub: %w\n%s", err, out)
		}
	}
	return nil
}

// payloadLines are the payloads of messages, a line each.
func payloadLines(messages []message) string {
	var lines strings.Builder
	for _, m := range messages {
		lines.WriteString(m.Payload + "\n")
	}
	return lines.String()
}

// send leaves mosquitto_pub running, one for each topic and QoS, with a session of its own to come back to. The program
// cannot start without a broker: the first messages of a kind are sent while there is one.
func (c *mosquitto) send(messages []message) error {
	for _, group := range runs(messages) {
		m := group[0]
		name := fmt.Sprintf("%s-pub-%d", c.options.ID, m.QoS)
		stdin := c.senders[name]
		if stdin == nil {
			cmd := c.pubCommand(context.Background(), m, "-l", "-c", "-i", name)
			var err error
			if stdin, err = cmd.StdinPipe(); err != nil {
				return err
			}
			harness.DieWithParent(cmd)
			if err := cmd.Start(); err != nil {
				return err
			}
			c.senders[name] = stdin
			c.running = append(c.running, cmd)
		}
		if _, err := io.WriteString(stdin, payloadLines(group)); err != nil {
			return err
		}
	}
	return nil
}

func (c *mosquitto) messages() <-chan message { return c.received }

func (c *mosquitto) disconnect() error {
	if c.process == nil {
		return nil
	}
	return c.process.stop()
}

func (c *mosquitto) abandon() {
	if c.process != nil {
		c.process.kill()
	}
	for _, cmd := range c.running {
		_ = cmd.Process.Kill() // fails only when it has ended already
		_ = cmd.Wait()         // killed
	}
	c.running = nil
}
