package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// stopBudget is how long the broker may take to stop after SIGTERM. It leaves the process time to end within 5 s.
const stopBudget = 4500 * time.Millisecond

// addresses says where a running broker listens, with the real port where the configuration says 0, or "off".
type addresses struct {
	MQTT, WebSocket, NATS string
}

// broker is a running broker.
type broker interface {
	Addresses() addresses
	// Failed is closed when the broker cannot go on; Shutdown then tells why.
	Failed() <-chan struct{}
	// Company reports whether another node would take the clients; Drain sends them there. DrainAsked is closed when an operator
	// wants that.
	Company() bool
	Drain(ctx context.Context)
	DrainAsked() <-chan struct{}
	// Shutdown disconnects the clients, flushes what they were promised and stops. It need not return when ctx ends:
	// the process ends then.
	Shutdown(ctx context.Context) error
}

// starter starts a broker and returns when all its listeners accept.
type starter func(context.Context, Config, *slog.Logger) (broker, error)

func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker until SIGTERM or SIGINT",
		Args:  noArguments,
	}
	o := addConfigFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, _, err := loadConfig(*o)
		if err != nil {
			return err
		}
		return serve(cmd.Context(), config, startBroker, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// serve runs a broker in its data directory until a signal, the end of ctx, or a failure.
func serve(ctx context.Context, c Config, start starter, stdout, stderr io.Writer) error {
	if c.Storage.DataDir != "" {
		dataDir, err := prepareDataDir(c.Storage.DataDir)
		if err != nil {
			return err
		}
		c.Storage.DataDir = dataDir
	}
	if c.Storage.MaxBytes == 0 && c.NATS.URL == "" {
		c.Storage.MaxBytes = defaultMaxBytes(c.Storage.DataDir)
		c.Storage.KeepMaxBytes = c.Cluster.Listen != wordOff
	}
	log := newLogger(c.Log, stderr)
	tuneCollector()

	running, stopSignals := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stopSignals()
	b, err := start(running, c, log)
	if err != nil {
		if running.Err() != nil {
			return nil // told to stop before it was ready
		}
		return err
	}
	go keepMemory(running)
	at := b.Addresses()
	dataDir := cmp.Or(c.Storage.DataDir, wordOff)
	log.Info("dunlin ready", "mqtt", at.MQTT, "ws", at.WebSocket, "nats", at.NATS, "data", dataDir)
	_, _ = fmt.Fprintf(stdout, "dunlin ready: mqtt %s, ws %s, nats %s, data %s\n", at.MQTT, at.WebSocket, at.NATS, dataDir)

	select {
	case <-running.Done():
	case <-b.DrainAsked():
	case <-b.Failed():
		return stop(ctx, b, stopBudget)
	}
	if b.Company() {
		drain(ctx, b)
	}
	log.Info("stopping", "within", stopBudget)
	return stop(ctx, b, stopBudget)
}

// drain sends the clients to other nodes, until all have gone or a signal comes.
func drain(ctx context.Context, b broker) {
	again, stopSignals := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, syscall.SIGINT)
	defer stopSignals()
	b.Drain(again)
}

// stop shuts b down within the budget. A second signal ends at once.
func stop(ctx context.Context, b broker, budget time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
	defer cancel()
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(again)
	stopped := make(chan error, 1)
	go func() { stopped <- b.Shutdown(ctx) }()
	select {
	case err := <-stopped:
		return err
	case <-again:
		return errors.New("a second signal: ended before everything was flushed; what was acknowledged is stored")
	case <-ctx.Done():
		return fmt.Errorf("not stopped within %s: ended before everything was flushed; what was acknowledged is stored", budget)
	}
}

// newLogger writes to w at the level and in the format of c, which are valid.
func newLogger(c LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		panic(fmt.Sprintf("log level %q passed validation: %v", c.Level, err))
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
