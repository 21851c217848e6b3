package wire

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// player plays one script in one version. Owned by one goroutine.
type player struct {
	t         testing.TB
	broker    *harness.Broker
	ownBroker bool
	version   mqttcodec.Version
	// apart: every connection sends each byte by itself.
	apart bool
	// unique ends the names that $a and the like stand for.
	unique      string
	values      map[string]string
	connections map[string]*connection
	// clock is when the script set it.
	clock time.Time
}

// runAll plays statements. It stops at the first that does not come out.
func (p *player) runAll(list statements) error {
	for _, st := range list {
		if st.versions != nil && !slices.Contains(st.versions, p.version) {
			continue
		}
		if err := p.run(st); err != nil {
			return err
		}
	}
	return nil
}

// run plays one statement.
func (p *player) run(st *statement) (err error) {
	words := st.words
	switch name := words[0]; {
	// a> CONNECT id=$a clean-start=true
	case strings.HasSuffix(name, ">"):
		err = p.send(strings.TrimSuffix(name, ">"), words[1:])
	// a< CONNACK reason=0x00
	case strings.HasSuffix(name, "<"):
		err = p.receive(strings.TrimSuffix(name, "<"), words[1:], st.block)
	// repeat 10 {
	case name == "repeat" && len(words) == 2:
		return p.repeat(st)
	// broker restart kill9
	case name == "broker":
		err = p.restart(words[1:])
	// after 1.5s
	case name == "after" && len(words) == 2:
		var d time.Duration
		d, err = time.ParseDuration(words[1])
		harness.Wait(d)
	// clock
	case name == "clock" && len(words) == 1:
		p.clock = time.Now()
	// wait until log "session expired"
	case name == "wait" && len(words) == 4 && words[1] == "until" && words[2] == "log":
		err = p.waitForLog(words[3])
	// a subscribe filters=($t:1)
	case len(words) > 1:
		err = p.act(name, words[1], words[2:])
	default:
		err = errors.New("unknown statement")
	}
	if err != nil {
		return st.errorf("%w", err)
	}
	return nil
}

// repeat plays a block several times; ${i} counts from 1.
func (p *player) repeat(st *statement) error {
	times, err := strconv.Atoi(st.words[1])
	if err != nil {
		return st.errorf("%w", err)
	}
	for i := range times {
		p.values["i"] = strconv.Itoa(i + 1)
		if err := p.runAll(st.block); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	return nil
}

// restart takes the broker down, or up again: the connections of before are then given up.
func (p *player) restart(words []string) error {
	if !p.ownBroker {
		return errors.New(`other scripts use this broker too: say "broker own" in the head`)
	}
	down := func(how string) error {
		switch how {
		case "kill9":
			p.broker.Kill()
		case "sigterm":
			p.broker.Stop()
		default:
			return fmt.Errorf("how: kill9 or sigterm")
		}
		return nil
	}
	up := func() {
		p.closeAll()
		p.broker.Up()
	}
	switch {
	case len(words) == 2 && words[0] == "down":
		return down(words[1])
	case len(words) == 1 && words[0] == "up":
		up()
		return nil
	case len(words) == 2 && words[0] == "restart":
		if err := down(words[1]); err != nil {
			return err
		}
		up()
		return nil
	}
	return errors.New("broker restart, down or up")
}

func (p *player) waitForLog(word string) error {
	text, err := p.text(word)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(harness.Patience); !strings.Contains(p.broker.Log(), text); harness.Wait(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the broker did not log it within %v", harness.Patience)
		}
	}
	return nil
}

// nothingLeft checks at the end that no connection got more than the script said.
func (p *player) nothingLeft() error {
	for name, c := range p.connections {
		if c.accepted && !c.raw.HalfSent() {
			if err := p.receiveNothing(c); err != nil {
				return fmt.Errorf("at the end of the script, connection %s: %w", name, err)
			}
		}
	}
	return nil
}

// closeAll closes every connection.
func (p *player) closeAll() {
	for name, c := range p.connections {
		c.raw.Drop()
		delete(p.connections, name)
	}
}
