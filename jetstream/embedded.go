package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

// ListenOff keeps the embedded server without a port.
const ListenOff = "off"

// EmbeddedConfig says how to run the NATS server in this process.
type EmbeddedConfig struct {
	// DataDir holds the streams; it belongs to one process at a time.
	DataDir string
	// ServerName is how the server calls itself. In a cluster it is the only one of that name, and keeps it.
	ServerName string
	// Listen is the address for other NATS clients, host:port, or ListenOff.
	Listen string
	// MaxPayload is the largest message with its headers, in bytes: an MQTT packet, or a session record.
	MaxPayload int32
	// Durability decides whether a write is answered before or after its fsync.
	Durability Durability
	// SyncInterval is how long a write may be in the page cache only: with Process, what a power loss can take.
	SyncInterval time.Duration
	// StartTimeout bounds the recovery of the streams.
	StartTimeout time.Duration
	// Cluster says how the server is one of several.
	Cluster ClusterConfig
	Logger  *slog.Logger
}

// DefaultEmbeddedConfig is the configuration of a server that was told nothing but its directory.
func DefaultEmbeddedConfig(dataDir string) EmbeddedConfig {
	return EmbeddedConfig{
		DataDir: dataDir, ServerName: "dunlin", Listen: "127.0.0.1:4222",
		MaxPayload: 8 << 20, Durability: Process, SyncInterval: time.Second, StartTimeout: 5 * time.Minute,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// Validate reports the first setting that makes no sense.
func (c *EmbeddedConfig) Validate() error {
	if err := c.Durability.validate(); err != nil {
		return err
	}
	switch {
	case c.DataDir == "":
		return errors.New("data directory is empty")
	case c.ServerName == "":
		return errors.New("server name is empty")
	case c.MaxPayload < 64<<10 || c.MaxPayload > 64<<20:
		return fmt.Errorf("max payload %d is not between 64 KiB and 64 MiB", c.MaxPayload)
	case c.SyncInterval <= 0 || c.StartTimeout <= 0:
		return errors.New("sync interval or start timeout is not positive")
	case c.Logger == nil:
		return errors.New("logger is nil")
	}
	if c.Listen != ListenOff {
		if _, _, err := splitAddress(c.Listen); err != nil {
			return fmt.Errorf("NATS address %q is neither host:port nor %q", c.Listen, ListenOff)
		}
	}
	return c.Cluster.Validate()
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return host, int(number), err
}

// Embedded is a NATS server with JetStream in this process.
type Embedded struct {
	server *server.Server
	lock   *flock.Flock
	logger *slog.Logger
	// account is that of all connections.
	account *server.Account
	// clustered: it is one of several servers.
	clustered bool
	// ours counts the connections that Connect has made.
	ours atomic.Int64
}

// StartEmbedded starts the server and returns when its streams are recovered. Its errors are one line that says what to do.
func StartEmbedded(c EmbeddedConfig) (*Embedded, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	options := &server.Options{
		ServerName: c.ServerName, JetStream: true, StoreDir: c.DataDir, SyncInterval: c.SyncInterval, SyncAlways: c.Durability == Fsync,
		DontListen: c.Listen == ListenOff, NoSigs: true, MaxPayload: c.MaxPayload,
		// The log's own limits and the disk decide, not a guess at start.
		JetStreamMaxStore: 1 << 60,
		JetStreamLimits:   server.JSLimitOpts{DefaultMaxConsumers: -1},
	}
	if c.Listen != ListenOff {
		options.Host, options.Port, _ = splitAddress(c.Listen) // checked by Validate
		if options.Port == 0 {
			options.Port = server.RANDOM_PORT
		} else if err := checkAddress(c.Listen); err != nil {
			return nil, err
		}
	}
	if c.Cluster.Enabled() {
		if err := c.Cluster.apply(options); err != nil {
			return nil, err
		}
	}
	lock, err := lockDir(c.DataDir)
	if err != nil {
		return nil, err
	}
	var e *Embedded
	if err = checkMode(&c); err == nil && c.Cluster.Enabled() {
		err = letSystemIn(options, c.DataDir)
	}
	if err == nil {
		e, err = start(options, c, lock)
	}
	if err != nil {
		_ = lock.Unlock() // ends with the process at the latest
		return nil, err
	}
	return e, nil
}

// checkAddress finds out before anything is touched that the server cannot listen there.
func checkAddress(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen for NATS on %s: %w: choose another address, or %q", address, cause(err), ListenOff)
	}
	return l.Close()
}

// cause is the innermost error: what the system said, without the path of calls.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// lockDir makes the data directory ours.
func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make data directory %s: %w: choose one that this user may write", dir, cause(err))
	}
	lock := flock.New(filepath.Join(dir, "dunlin.lock"), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("cannot write data directory %s: %w: choose one that this user may write", dir, cause(err))
	}
	if !locked {
		return nil, fmt.Errorf("data directory %s is in use by another process: stop it, or choose another directory", dir)
	}
	return lock, nil
}

func start(options *server.Options, c EmbeddedConfig, lock *flock.Flock) (*Embedded, error) {
	ns, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	bridge := &serverLogger{logger: c.Logger}
	ns.SetLoggerV2(bridge, false, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		ns.Start() // returns when the streams are recovered, or when it cannot go on
		if c.Cluster.Enabled() && options.DontListen {
			listenForRoutes(ns)
		}
	}()
	select {
	case <-started:
	case <-time.After(c.StartTimeout):
		err = fmt.Errorf("embedded NATS has not recovered %s within %v", c.DataDir, c.StartTimeout)
	}
	if reason := bridge.fatal.Load(); reason != nil {
		err = fmt.Errorf("embedded NATS cannot start in %s: %s", c.DataDir, *reason)
	} else if err == nil && !(ns.ReadyForConnections(time.Second) && ns.JetStreamEnabled()) {
		err = fmt.Errorf("embedded NATS is not ready in %s; see its errors above", c.DataDir)
	}
	if err != nil {
		ns.Shutdown()
		return nil, err
	}
	return &Embedded{server: ns, account: ns.GlobalAccount(), clustered: c.Cluster.Enabled(), lock: lock, logger: c.Logger}, nil
}

// InProcessConn implements nats.InProcessConnProvider.
func (e *Embedded) InProcessConn() (net.Conn, error) { return e.server.InProcessConn() }

// HasInterest reports, at once, whether anybody listens to a subject, a stream included. Our own subscriptions count too.
func (e *Embedded) HasInterest(subject string) bool {
	return e.account.SubscriptionInterest(subject)
}

// Address is where other NATS clients can connect, empty when the server does not listen.
func (e *Embedded) Address() string {
	if addr := e.server.Addr(); addr != nil {
		return addr.String()
	}
	return ""
}

// Shutdown stops the server, or returns with an error when ctx ends before it has: then it is still stopping.
//
// NB: the server takes 10 ms for each consumer that it keeps on disk. Those of sessions are in memory; those of shared
// subscriptions, and of other NATS clients, are what ctx is for.
func (e *Embedded) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}()
	select {
	case <-done:
		return e.lock.Unlock()
	case <-ctx.Done():
		return fmt.Errorf("embedded NATS is still stopping: %w", ctx.Err())
	}
}

// serverLogger hands the server's log to ours: what it notes is detail to us.
type serverLogger struct {
	logger *slog.Logger
	// fatal is what kept the server from starting.
	fatal atomic.Pointer[string]
}

var _ server.Logger = (*serverLogger)(nil)

func (l *serverLogger) write(level slog.Level, format string, v []any) string {
	text := fmt.Sprintf(format, v...)
	l.logger.Log(context.Background(), level, text, "from", "nats-server")
	return text
}

// Noticef implements server.Logger.
func (l *serverLogger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf implements server.Logger.
func (l *serverLogger) Warnf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Errorf implements server.Logger.
func (l *serverLogger) Errorf(format string, v ...any) { l.write(slog.LevelError, format, v) }

// Fatalf implements server.Logger.
func (l *serverLogger) Fatalf(format string, v ...any) {
	text := l.write(slog.LevelDebug, format, v) // whoever started the server reports it
	l.fatal.CompareAndSwap(nil, &text)
}

// Debugf implements server.Logger.
func (l *serverLogger) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Tracef implements server.Logger.
func (l *serverLogger) Tracef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
