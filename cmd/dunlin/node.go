package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/jetstream"
	"dunlin/sessions"
)

func newNodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Look at the nodes on a NATS, and have one hand its clients over",
		Long: "Look at the nodes on a NATS, and have one hand its clients over.\n\n" +
			"With --nats it looks at these servers, otherwise at the one inside a broker that runs, by its NATS listener.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNodeListCommand(), newNodeDrainCommand())
	return cmd
}

func newNodeListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "Show the nodes, what they do, and how many clients they have",
		Args:  noArguments,
	}
	o := addConfigFlags(cmd.Flags())
	format := addOutputFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withNodes(cmd, *o, func(_ *jetstream.Conn, c Config, nodes []sessions.Checkpoint) error {
			return printNodes(cmd.OutOrStdout(), nodes, c.Nodes.DeadAfter, format)
		})
	}
	return cmd
}

func newNodeDrainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Have a node send its clients to others, and end",
		Long: "Have a node send its clients to others, and end. It takes nodes.drain_timeout of that node at most.\n\n" +
			"NODE is its name, or its boot, as node ls shows them.",
		Args: cobra.ExactArgs(1),
	}
	o := addConfigFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withNodes(cmd, *o, func(connection *jetstream.Conn, _ Config, nodes []sessions.Checkpoint) error {
			boot, err := findNode(nodes, args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), drainAnswer)
			defer cancel()
			switch err := jetstream.AskDrain(ctx, connection, boot); {
			case errors.Is(err, sessions.ErrNotFound):
				return fmt.Errorf("node %s does not run, or cannot reach NATS", args[0])
			case err != nil:
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %s drains; it ends when its clients have gone\n", args[0])
			return err
		})
	}
	return cmd
}

// drainAnswer is how long a node may take to say that it drains.
const drainAnswer = 5 * time.Second

// withNodes reads what the nodes say of themselves, the oldest first.
func withNodes(cmd *cobra.Command, o options, f func(*jetstream.Conn, Config, []sessions.Checkpoint) error) error {
	c, _, err := loadConfig(o)
	if err != nil {
		return err
	}
	log := newLogger(c.Log, cmd.ErrOrStderr())
	connection, err := connectToNATS(c, log)
	if err != nil {
		return err
	}
	defer connection.Close()
	nodes, err := jetstream.ReadNodes(cmd.Context(), connection, storageConfig(c, log))
	if err != nil {
		return fmt.Errorf("read what nodes say of themselves: %w", err)
	}
	slices.SortFunc(nodes, func(a, b sessions.Checkpoint) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Boot, b.Boot))
	})
	return f(connection, c, nodes)
}

// findNode is the boot of a node: the last one of a name.
func findNode(nodes []sessions.Checkpoint, name string) (boot string, err error) {
	var names []string
	for _, n := range nodes {
		if n.Boot == name || n.Node == name {
			boot = n.Boot
		}
		names = append(names, n.Node)
	}
	if boot == "" {
		return "", fmt.Errorf("no node %q; there are: %s", name, strings.Join(names, ", "))
	}
	return boot, nil
}

// nodeLine is a node as it is shown.
type nodeLine struct {
	Node    string    `json:"node"`
	Boot    string    `json:"boot"`
	State   string    `json:"state"`
	Clients int       `json:"clients"`
	Since   time.Time `json:"since"`
	Seen    time.Time `json:"seen"`
}

func printNodes(w io.Writer, nodes []sessions.Checkpoint, deadAfter time.Duration, format *output) error {
	lines, rows := make([]nodeLine, 0, len(nodes)), []string{"NODE\tSTATE\tCLIENTS\tSINCE\tSEEN\tBOOT"}
	for _, n := range nodes {
		state := "ready"
		switch {
		case n.Released:
			state = "ended"
		case time.Since(n.Time) > deadAfter:
			state = "silent"
		case n.Draining:
			state = "draining"
		}
		line := nodeLine{n.Node, n.Boot, state, n.Clients, n.Since.UTC().Round(time.Second), n.Time.UTC().Round(time.Second)}
		lines = append(lines, line)
		rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s",
			line.Node, line.State, line.Clients, line.Since.Format(time.RFC3339), line.Seen.Format(time.RFC3339), line.Boot))
	}
	return format.print(w, lines, rows)
}
