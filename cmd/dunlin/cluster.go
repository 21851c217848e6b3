package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/jetstream"
)

func newClusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Look at the NATS servers inside the Dunlins of a cluster, and remove one that is lost",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newClusterListCommand(), newClusterRemoveCommand())
	return cmd
}

// ofThisMachine says how a command reaches the cluster.
const ofThisMachine = "It asks the Dunlin that runs on this machine, by its NATS listener and the key in its data directory."

func newClusterListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the servers of the cluster",
		Long:  "List the servers of the cluster.\n\n" + ofThisMachine,
		Args:  noArguments,
	}
	o := addConfigFlags(cmd.Flags())
	format := addOutputFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return asSystem(*o, cmd.ErrOrStderr(), func(nc *jetstream.Conn) error {
			peers, err := jetstream.Peers(cmd.Context(), nc)
			if err != nil {
				return err
			}
			return printPeers(cmd.OutOrStdout(), peers, format)
		})
	}
	return cmd
}

func newClusterRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a server from the cluster that does not come back",
		Long: "Remove a server from the cluster that does not come back: other servers keep what it has kept.\n" +
			"It must not run, and its data directory must not be used again.\n\n" + ofThisMachine,
		Args: cobra.ExactArgs(1),
	}
	o := addConfigFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return asSystem(*o, cmd.ErrOrStderr(), func(nc *jetstream.Conn) error {
			return removePeer(cmd.Context(), nc, args[0], cmd.OutOrStdout())
		})
	}
	return cmd
}

// removePeer removes a server that the leader knows, and does not hear.
func removePeer(ctx context.Context, nc *jetstream.Conn, name string, stdout io.Writer) error {
	peers, err := jetstream.Peers(ctx, nc)
	if err != nil {
		return err
	}
	var names []string
	for _, p := range peers {
		if p.Name == name && !p.Offline {
			return fmt.Errorf("server %s runs: stop it before it is removed", name)
		}
		if p.Name == name {
			if err := jetstream.RemovePeer(ctx, nc, name); err != nil {
				return fmt.Errorf("remove server %s: %w", name, err)
			}
			_, err := fmt.Fprintf(stdout, "server %s is removed\n", name)
			return err
		}
		names = append(names, p.Name)
	}
	return fmt.Errorf("the cluster has no server %q, but %s", name, strings.Join(names, " "))
}

// asSystem does something with a connection for the system account to the server inside the broker that runs on this machine.
func asSystem(o options, stderr io.Writer, do func(*jetstream.Conn) error) error {
	c, _, err := loadConfig(o)
	switch {
	case err != nil:
		return err
	case c.NATS.URL != "":
		return errors.New("--nats: the servers of a cluster outside are looked at with 'nats server'; leave it out for the cluster of servers inside")
	}
	c.NATS.NKey = filepath.Join(c.Storage.DataDir, jetstream.SystemKeyFile)
	nc, err := connectToNATS(c, newLogger(c.Log, stderr))
	if err != nil {
		return err
	}
	defer nc.Close()
	return do(nc)
}

func printPeers(w io.Writer, peers []jetstream.Peer, format *output) error {
	rows := []string{"SERVER\tSTATE"}
	for _, p := range peers {
		state := "behind"
		switch {
		case p.Offline:
			state = "offline"
		case p.Leader:
			state = "leader"
		case p.Current:
			state = "current"
		}
		rows = append(rows, p.Name+"\t"+state)
	}
	return format.print(w, peers, rows)
}
