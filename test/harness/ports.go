package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// takenPorts are the ports this process has handed out.
var takenPorts struct {
	mu   sync.Mutex
	used map[int]bool // guarded by mu
}

// FreeAddress is an address on loopback that nobody listens on. The port lies below the range from which systems
// take the ports of outgoing connections, so that no client can occupy it while the broker is down.
func FreeAddress(t testing.TB) string {
	t.Helper()
	takenPorts.mu.Lock()
	defer takenPorts.mu.Unlock()
	if takenPorts.used == nil {
		takenPorts.used = map[int]bool{}
	}
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if takenPorts.used[port] {
			continue
		}
		takenPorts.used[port] = true
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port found")
	return ""
}
