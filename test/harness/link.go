package harness

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Link is the network between one broker and the NATS servers: what it forwards can be held up, slowed down and cut off.
type Link struct {
	mu    sync.Mutex
	open  chan struct{}         // guarded by mu: closed while bytes pass
	delay time.Duration         // guarded by mu: how long each piece is under way
	conns map[net.Conn]struct{} // guarded by mu: both ends of all connections
}

// startLink listens in the place of each target. It returns the addresses to be used instead.
func startLink(t testing.TB, targets []string) (l *Link, addresses []string) {
	t.Helper()
	l = &Link{open: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(l.open)
	for _, target := range targets {
		listener, err := net.Listen("tcp", FreeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, listener.Addr().String())
		go l.accept(listener, target)
		t.Cleanup(func() {
			listener.Close()
			l.Heal()
			l.Break()
		})
	}
	return l, addresses
}

// Cut lets nothing pass any more, and tells nobody: connections stay, and new ones are met with silence.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = make(chan struct{})
}

// Heal ends Cut. What was sent meanwhile arrives now, also of those who have given up.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

// Delay makes every piece of data take this long.
func (l *Link) Delay(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// Break ends all connections; new ones work.
func (l *Link) Break() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Close()
	}
}

func (l *Link) accept(listener net.Listener, target string) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return // closed with the test
		}
		go l.forward(near, target)
	}
}

// forward is one connection.
func (l *Link) forward(near net.Conn, target string) {
	defer near.Close()
	l.pass()
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	l.mu.Lock()
	l.conns[near], l.conns[far] = struct{}{}, struct{}{}
	l.mu.Unlock()
	var ways sync.WaitGroup
	ways.Go(func() { l.copy(far, near) })
	ways.Go(func() { l.copy(near, far) })
	ways.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, near)
	delete(l.conns, far)
}

// copy forwards one way, the end included.
func (l *Link) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		l.pass()
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			from.Close()
			return
		}
	}
}

// pass waits until a piece of data may arrive.
func (l *Link) pass() {
	l.mu.Lock()
	open, delay := l.open, l.delay
	l.mu.Unlock()
	<-open
	if delay > 0 {
		Wait(delay)
	}
}
