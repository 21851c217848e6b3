package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// connection is one of a script's network connections. A name stands for its last.
type connection struct {
	name    string
	raw     *harness.Raw
	version mqttcodec.Version
	// accepted: CONNACK said so.
	accepted bool
	// publish is the last PUBLISH received.
	publish *mqttcodec.Publish
	// id is the last packet identifier that publish and subscribe took.
	id uint16
}

// open is the connection of a name, dialled if there is none.
func (p *player) open(name string) (*connection, error) {
	if c := p.connections[name]; c != nil {
		return c, nil
	}
	raw, err := harness.DialRaw(p.t, p.broker.MQTT, p.version)
	if err != nil {
		return nil, err
	}
	if p.apart {
		raw.ByteByByte()
	}
	c := &connection{name: name, raw: raw, version: p.version, id: 10_000}
	p.connections[name] = c
	return c, nil
}

// existing is a connection that must be there.
func (p *player) existing(name string) (*connection, error) {
	if c := p.connections[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%s is not connected", name)
}

// send writes packets, or a part of them.
func (p *player) send(name string, words []string) error {
	c, err := p.open(name)
	if err != nil {
		return err
	}
	switch {
	// a> rest
	case len(words) == 1 && words[0] == "rest":
		return unlessClosed(c.raw.TrySendRest())
	// a> first 5 of PUBLISH topic=$t
	case len(words) > 3 && words[0] == "first" && words[2] == "of":
		n, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		b, err := p.bytesOf(c, words[3:])
		if err != nil {
			return err
		}
		return unlessClosed(c.raw.TrySendFirst(n, b))
	}
	b, err := p.bytesOf(c, words)
	if err != nil {
		return err
	}
	return unlessClosed(c.raw.TrySendBytes(b))
}

// unlessClosed is the error of a write. That the broker has closed meanwhile is for the next line to tell.
func unlessClosed(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// receive reads what a line says must come next.
func (p *player) receive(name string, words []string, block statements) error {
	c, err := p.existing(name)
	if err != nil {
		return err
	}
	words, bounds, err := cutBounds(words)
	if err != nil {
		return err
	}
	switch {
	case len(words) == 0:
		return errors.New("no packet")
	// a< closed
	case len(words) == 1 && words[0] == "closed":
		err = p.receiveClosed(c)
	// a< nothing
	case len(words) == 1 && words[0] == "nothing":
		return p.receiveNothing(c)
	// a< unordered {
	case len(words) == 1 && words[0] == "unordered":
		err = p.receiveUnordered(c, block)
	// a< hex 20 02 00 00
	case words[0] == "hex":
		err = p.receiveBytes(c, words[1:])
	default:
		err = p.receivePacket(c, words)
	}
	if err != nil {
		return err
	}
	return bounds.check(time.Since(p.clock))
}

// bounds are how much time may have passed since the clock was set: @1.4s..3s.
type bounds struct{ least, most time.Duration }

func cutBounds(words []string) (rest []string, b bounds, err error) {
	for _, word := range words {
		least, most, ok := strings.Cut(strings.TrimPrefix(word, "@"), "..")
		if !ok || word[0] != '@' {
			rest = append(rest, word)
			continue
		}
		if b.least, err = time.ParseDuration(least); err != nil {
			return nil, b, err
		}
		if b.most, err = time.ParseDuration(most); err != nil {
			return nil, b, err
		}
	}
	return rest, b, nil
}

func (b bounds) check(passed time.Duration) error {
	if b != (bounds{}) && (passed < b.least || passed > b.most) {
		return fmt.Errorf("it came %v after the clock was set", passed.Round(time.Millisecond))
	}
	return nil
}

// read reads the next packet; what comes instead is told in the script's notation and in bytes.
func (p *player) read(c *connection) (got mqttcodec.Packet, frame []byte, err error) {
	frame, got, err = c.raw.TryReadFrame()
	switch {
	case err != nil && frame != nil:
		return nil, frame, fmt.Errorf("got what is no packet: %w\n\t%s", err, dump(frame))
	case err != nil:
		return nil, nil, fmt.Errorf("got no packet: %w", err)
	}
	switch got := got.(type) {
	case *mqttcodec.Connack:
		c.accepted = got.Reason == mqttcodec.Success
	case *mqttcodec.Publish:
		c.publish = got
	}
	return got, frame, nil
}

// gotInstead says what came.
func gotInstead(got mqttcodec.Packet, frame []byte) string {
	return fmt.Sprintf("got  %s\n\t%s", describe(got), dump(frame))
}

// dump is a frame in hex, cut when it is long.
func dump(frame []byte) string {
	if len(frame) > 256 {
		return fmt.Sprintf("% x ... (%d bytes)", frame[:256], len(frame))
	}
	return strings.TrimSpace(fmt.Sprintf("% x", frame))
}

func (p *player) receivePacket(c *connection, words []string) error {
	got, frame, err := p.read(c)
	if err != nil {
		return err
	}
	if err := p.match(words, got); err != nil {
		return fmt.Errorf("%w\n\t%s", err, gotInstead(got, frame))
	}
	return nil
}

// receiveBytes compares the next packet byte for byte.
func (p *player) receiveBytes(c *connection, words []string) error {
	want, err := p.rawBytes(words)
	if err != nil {
		return err
	}
	got, frame, err := p.read(c)
	if frame == nil {
		return err
	}
	if !bytes.Equal(frame, want) {
		return fmt.Errorf("want %s\n\t%s", hex.EncodeToString(want), gotInstead(got, frame))
	}
	return nil
}

// receiveClosed wants the end of the connection, and nothing before it.
func (p *player) receiveClosed(c *connection) error {
	frame, got, err := c.raw.TryReadFrame()
	switch {
	case err == nil:
		return errors.New(gotInstead(got, frame))
	case frame != nil:
		return fmt.Errorf("got what is no packet: %w\n\t%s", err, dump(frame))
	case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("the connection was not closed: %w", err)
	}
	c.raw.Drop()
	delete(p.connections, c.name)
	return nil
}

// receiveNothing wants PINGRESP to be the next packet, after PINGREQ.
func (p *player) receiveNothing(c *connection) error {
	if err := unlessClosed(c.raw.TrySend(&mqttcodec.Pingreq{})); err != nil {
		return err
	}
	got, frame, err := p.read(c)
	if err != nil {
		return err
	}
	if got.Type() != mqttcodec.TypePingresp {
		return errors.New(gotInstead(got, frame))
	}
	return nil
}

// receiveUnordered wants the packets of a block, in any order.
func (p *player) receiveUnordered(c *connection, block statements) error {
	left := statements{}
	for _, st := range block {
		if st.versions == nil || slices.Contains(st.versions, p.version) {
			left = append(left, st)
		}
	}
	for len(left) > 0 {
		got, frame, err := p.read(c)
		if err != nil {
			return fmt.Errorf("still to come: %s\n\t%w", strings.Join(left[0].words, " "), err)
		}
		var reasons []string
		found := -1
		for i, st := range left {
			err := p.match(st.words, got)
			if err == nil {
				found = i
				break
			}
			reasons = append(reasons, fmt.Sprintf("%s: %v", st.place, err))
		}
		if found < 0 {
			return fmt.Errorf("%s\n\tis none of those to come: %s", gotInstead(got, frame), strings.Join(reasons, "; "))
		}
		left = append(left[:found:found], left[found+1:]...)
	}
	return nil
}
