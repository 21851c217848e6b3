package actors

import (
	"sync/atomic"
	"time"
)

// connectTimeout gives up a network connection whose CONNECT is not answered in time. (3.1.4) It lets the connection go as
// soon as that is settled, for it stays on the timer wheel until its time has come: clients that come and go fast would
// else all be kept in memory as long.
type connectTimeout struct{ connection atomic.Pointer[connection] }

// armConnectTimeout gives up the connection if CONNECT is not answered in time.
func (c *connection) armConnectTimeout() {
	c.timeout = &connectTimeout{}
	c.timeout.connection.Store(c)
	c.broker.wheel.Schedule(time.Now().Add(c.broker.cfg.ConnectTimeout), c.timeout, 0, 0)
}

// answer notes that CONNECT is answered.
func (c *connection) answer() {
	c.answered.Store(true)
	c.timeout.settle()
}

// settle lets the connection go: CONNECT is answered, or nobody waits for that any more. Nil is settled.
func (t *connectTimeout) settle() {
	if t != nil {
		t.connection.Store(nil)
	}
}

// timerFired implements timerTarget.
func (t *connectTimeout) timerFired(uint8, uint32) {
	if c := t.connection.Load(); c != nil && !c.answered.Load() && !c.closing.Load() {
		c.broker.stats.connectTimeouts.Add(1)
		c.abort()
	}
}
