package jetstream

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// Durability is what an acknowledged write survives. The server has it too: see EmbeddedConfig.
type Durability string

const (
	// Process: the end of this process, kill -9 too. A power loss can take what the server's sync interval covers.
	Process Durability = "process"
	// Fsync: a power loss too. Writes are committed in groups, since each commit costs an fsync.
	Fsync Durability = "fsync"
)

func (d Durability) validate() error {
	if d != Process && d != Fsync {
		return fmt.Errorf("durability %q is neither %q nor %q", d, Process, Fsync)
	}
	return nil
}

// writer takes writes in the order of calls and reports the outcome of each once, from a goroutine of its own.
type writer interface {
	// publish starts a write. Writes of one goroutine reach their stream in the order of its calls.
	publish(w write)
	// refuse reports a write that must not be sent.
	refuse(w write, err error)
	// close fails what is unanswered and returns when the last sink was told.
	close()
}

var (
	_ writer = (*publisher)(nil)
	_ writer = (*groupCommit)(nil)
)

// newWriter makes the writer for the durability that is configured. batches: the streams that it writes to take fast batches.
// ordered: they have replicas, and the order of writes counts.
func newWriter(nc *nats.Conn, c *Config, stats *Stats, stored func([]settled), batches, ordered bool) (writer, error) {
	if c.Durability == Fsync || ordered {
		return newGroupCommit(nc, c, stats, stored, ordered)
	}
	return newPublisher(nc, c, stats, stored, batches)
}
