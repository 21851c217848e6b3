package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of dunlin, of the NATS server inside and of Go",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine reads what the Go toolchain recorded in the binary, so that no build step has to pass it in.
func versionLine() string {
	version, nats := "(devel)", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, dep := range info.Deps {
			if dep.Path == "github.com/nats-io/nats-server/v2" {
				nats = dep.Version
			}
		}
	}
	return fmt.Sprintf("dunlin %s, nats-server %s, %s %s/%s", version, nats, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
