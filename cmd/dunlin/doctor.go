package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/jetstream"
)

func newDoctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the NATS servers that a broker uses, or is to use: what is missing, what could be better",
		Long: "Look at the NATS servers that a broker uses, or is to use: what is missing, what could be better.\n\n" +
			"With --nats it looks at these servers, otherwise at the one inside a broker that runs, by its NATS listener.\n" +
			"It changes nothing. The exit code is 1 when a broker could not run.",
		Args: noArguments,
	}
	o := addConfigFlags(cmd.Flags())
	var monitor string
	cmd.Flags().StringVar(&monitor, "monitor", "", "`URL` of a server's monitoring port, such as http://127.0.0.1:8222: how often it syncs is only told there")
	format := addOutputFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, _, err := loadConfig(*o)
		if err != nil {
			return err
		}
		findings, err := examine(cmd.Context(), config, monitor, newLogger(config.Log, cmd.ErrOrStderr()))
		if err != nil {
			return err
		}
		if err := printFindings(cmd.OutOrStdout(), findings, format); err != nil {
			return err
		}
		return jetstream.FirstFailure(findings)
	}
	cmd.AddCommand(newDoctorPermissionsCommand())
	return cmd
}

// examine asks NATS, and the monitoring port if there is one.
func examine(ctx context.Context, c Config, monitor string, log *slog.Logger) ([]jetstream.Finding, error) {
	connection, err := connectToNATS(c, log)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	storage := storageConfig(c, log)
	findings := jetstream.Diagnose(ctx, connection, storage)
	if monitor == "" {
		return findings, nil
	}
	jsz, err := fetch(ctx, strings.TrimSuffix(monitor, "/")+"/jsz?config=true")
	if err != nil {
		return nil, fmt.Errorf("ask the monitoring port: %w: check --monitor, and http_port in the server's configuration", err)
	}
	return append(findings, jetstream.DiagnoseSync(jsz, storage.Durability)), nil
}

// connectToNATS connects to the NATS servers of a configuration: those outside, or that inside a broker that runs.
func connectToNATS(c Config, log *slog.Logger) (*jetstream.Conn, error) {
	external := externalConfig(c, log)
	if c.NATS.URL == "" {
		if c.NATS.Listen == wordOff {
			return nil, errors.New("nats.listen is off, so that nobody can look at the NATS server inside: give it an address, or name other servers with --nats")
		}
		external.URLs = "nats://" + c.NATS.Listen
	}
	connection, err := jetstream.ConnectExternal(external)
	if err != nil && c.NATS.URL == "" {
		return nil, fmt.Errorf("%w; without --nats a broker has to run here, with this nats.listen", err)
	}
	return connection, err
}

// fetchTimeout and fetchMost bound what the monitoring port may take.
const (
	fetchTimeout = 10 * time.Second
	fetchMost    = 4 << 20 // bytes
)

func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, fetchMost))
}

func printFindings(w io.Writer, findings []jetstream.Finding, format *output) error {
	var rows []string
	for _, f := range findings {
		text := f.Text
		if f.Advice != "" {
			text += ": " + f.Advice
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", f.Verdict, f.Subject, text))
	}
	return format.print(w, findings, rows)
}

func newDoctorPermissionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "permissions",
		Short: "Print the permissions that the broker's NATS user needs, as a nats-server configuration has them",
		Args:  noArguments,
	}
	o := addConfigFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, _, err := loadConfig(*o)
		if err != nil {
			return err
		}
		storage := storageConfig(config, slog.New(slog.DiscardHandler))
		return printPermissions(cmd.OutOrStdout(), storage.Permissions())
	}
	return cmd
}

// printPermissions writes a block for a user in a nats-server configuration.
func printPermissions(w io.Writer, permissions []jetstream.Permission) error {
	var b strings.Builder
	list := func(kind string, publish bool) {
		fmt.Fprintf(&b, "  %s: { allow: [\n", kind)
		for _, p := range permissions {
			if p.Publish == publish {
				fmt.Fprintf(&b, "    %-46s # %s\n", fmt.Sprintf("%q", p.Subject), p.For)
			}
		}
		b.WriteString("  ] }\n")
	}
	b.WriteString("permissions: {\n")
	list("publish", true)
	list("subscribe", false)
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
