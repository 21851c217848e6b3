package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"dunlin/jetstream"
)

func newMigrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate --from DIR --nats URLS",
		Short: "Take what a broker that was alone has stored to a cluster",
		Long: "Take what a broker that was alone has stored to a cluster: messages, sessions with their queues, retained and delayed messages,\n" +
			"shared subscriptions with their places.\n\n" +
			"That broker must not run. Its directory is only read. The cluster, of NATS servers or of Dunlins that were started with\n" +
			"cluster.await_migration, must have no streams of a broker. Everything is compared in the end; when something fails, what was\n" +
			"made in the cluster is removed again.",
		Args: noArguments,
	}
	var from string
	cmd.Flags().StringVar(&from, "from", "", "data `DIR`ectory of the broker that was alone")
	o := addConfigFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, _, err := loadConfig(*o)
		switch {
		case err != nil:
			return err
		case from == "":
			return errors.New("nothing to migrate: name the data directory of the broker that was alone with --from")
		case config.NATS.URL == "":
			return errors.New("nowhere to migrate to: name the NATS listener of a server of the cluster with --nats")
		}
		return migrate(cmd.Context(), config, from, cmd.OutOrStdout(), newLogger(config.Log, cmd.ErrOrStderr()))
	}
	return cmd
}

// migrate takes the streams in a data directory to the servers that the configuration names.
func migrate(ctx context.Context, c Config, dir string, stdout io.Writer, log *slog.Logger) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err != nil {
		return fmt.Errorf("%s is no data directory of a broker: %w: name one with --from", dir, err)
	}
	to, err := jetstream.ConnectExternal(externalConfig(c, log))
	if err != nil {
		return err
	}
	defer to.Close()
	source := jetstream.DefaultEmbeddedConfig(dir)
	source.Listen, source.Logger = jetstream.ListenOff, log
	store, err := jetstream.StartEmbedded(source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Shutdown(context.WithoutCancel(ctx))) }()
	from, err := store.Connect()
	if err != nil {
		return err
	}
	defer from.Close()

	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "STREAM\tMESSAGES\tFIRST\tLAST\tSIZE\tCONSUMERS\tREPLICAS")
	migration := jetstream.Migration{From: from, To: to, Config: storageConfig(c, log), Done: func(s jetstream.MigratedStream) {
		log.Info("taken over", "stream", s.Name, "messages", s.Messages)
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\t%d\t%d\n", s.Name, s.Messages, s.First, s.Last, humanize.IBytes(s.Bytes), s.Consumers, s.Replicas)
	}}
	left, err := migration.Run(ctx)
	if err != nil {
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(left) > 0 {
		_, _ = fmt.Fprintf(stdout, "left where they are, since they are not Dunlin's: %s; 'nats stream backup' and 'nats stream restore' take them over\n", strings.Join(left, " "))
	}
	_, err = fmt.Fprintf(stdout, "everything is taken over and compared; %s is as it was, and no longer needed\n", dir)
	return err
}
