package actors

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A client that has published or has sent DISCONNECT, and connects again at once, has done so in that order: what it sent
// before is taken before its session goes to the new connection. Otherwise messages were lost, and a will published that
// its client had withdrawn. [MQTT-3.1.2-10]

const (
	// hearingTime is how long a connection is heard for what has arrived. What was sent first was delivered first, unless
	// the network has lost or turned it around.
	hearingTime = 10 * time.Millisecond
	// hearingLimit is how long the next connection waits at most for one that cannot be heard, since storage is behind.
	hearingLimit = 500 * time.Millisecond
)

// hearing is where hearing a connection out has got to.
type hearing uint8

const (
	hearingNotAsked hearing = iota
	// hearingAsked: whoever reads is called back from waiting for the client.
	hearingAsked
	// hearingUnderWay: whoever reads takes what has arrived.
	hearingUnderWay
)

// audible is a socket whose reader can be asked to take what has arrived, and to tell when that is done.
type audible struct {
	net.Conn

	// mu guards the fields below it, and who sets the read deadline.
	mu      sync.Mutex
	hearing hearing
	heard   func()
}

// hearer is a socket that can be heard out.
type hearer interface{ hearOut(heard func()) }

var (
	_ hearer = (*audible)(nil)
	_ hearer = (*webSocket)(nil)
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// hearOut has heard called, by whoever reads, once it has taken what has arrived. It is not called when reading ends before.
func (s *audible) hearOut(heard func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hearing, s.heard = hearingAsked, heard
	_ = s.Conn.SetReadDeadline(longAgo) // fails on a closed socket only, as Read then does
}

// Read implements net.Conn.
func (s *audible) Read(b []byte) (int, error) {
	for {
		n, err := s.Conn.Read(b)
		if n > 0 || !s.goesOn(err) {
			return n, err
		}
	}
}

// goesOn reports whether reading goes on after it has ended with err, which then was the end of a step of the hearing.
func (s *audible) goesOn(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	heard, ours := s.silence()
	if heard != nil {
		heard()
	}
	return ours
}

// silence takes note of a read deadline that has passed. It reports whether it was one of the hearing, which has ended if
// there is somebody to tell.
func (s *audible) silence() (heard func(), ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.hearing {
	case hearingNotAsked:
		return nil, false
	case hearingAsked:
		s.hearing = hearingUnderWay
		_ = s.Conn.SetReadDeadline(time.Now().Add(hearingTime))
		return nil, true
	case hearingUnderWay:
	}
	heard = s.heard
	s.hearing, s.heard = hearingNotAsked, nil
	_ = s.Conn.SetReadDeadline(time.Time{})
	return heard, true
}

// SetReadDeadline implements net.Conn. It ends a hearing.
func (s *audible) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hearing, s.heard = hearingNotAsked, nil
	return s.Conn.SetReadDeadline(t)
}

// CloseWrite ends what is sent, if the network connection has a way to say so.
func (s *audible) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// succession is the CONNECTs that wait for the connection which the session has to be heard out.
type succession struct {
	// waiting is bounded by the connections that wait for CONNACK.
	waiting []*attach
	// asked is the connection that is heard, or was, silent whether it was.
	asked  *connection
	silent bool
}

// onHeardOut: what a connection had sent is taken.
func (a *sessionActor) onHeardOut(m *heardOut) {
	if m.connection == a.succession.asked {
		a.succession.silent = true
	}
}

// succeed lets in the clients that waited, if nothing of the connection before them is outstanding.
func (a *sessionActor) succeed() {
	for len(a.succession.waiting) > 0 && !a.session.Fenced() && !a.hears() {
		m := a.succession.waiting[0]
		a.succession.waiting[0] = nil // so that its CONNECT is not kept
		if a.succession.waiting = a.succession.waiting[1:]; len(a.succession.waiting) == 0 {
			a.succession.waiting = nil
		}
		a.enter(m)
		for _, in := range m.behind {
			a.onInbound(in)
		}
		m.behind = nil
	}
}

// hears reports whether the connection that the session has is still heard, and sees to it.
func (a *sessionActor) hears() bool {
	c, s := a.connection, &a.succession
	if c == nil {
		return false
	}
	if s.asked != c {
		s.asked, s.silent = c, false
		c.hearOut()
	}
	return !s.silent || !c.answered.Load() && c.pipelined.Load() // it is let in first
}

// hearOut has the session told when what this connection has sent is taken. When its reader ends, the session hears of that.
func (c *connection) hearOut() {
	c.broker.wheel.Schedule(time.Now().Add(hearingLimit), c, 0, 0)
	if socket, ok := c.socket.(hearer); ok && !c.closing.Load() {
		socket.hearOut(c.heardOut)
	}
}

// heardOut tells the session that this connection was heard out.
func (c *connection) heardOut() { c.session.Load().post(&heardOut{c}) }
