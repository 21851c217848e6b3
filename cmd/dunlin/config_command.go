package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Look at the configuration",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigPrintCommand(), newConfigCheckCommand())
	return cmd
}

func newConfigPrintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the configuration in effect as YAML, and where each value comes from",
		Args:  noArguments,
	}
	o := addConfigFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, set, err := loadConfig(*o)
		if err != nil {
			return err
		}
		return printConfig(cmd.OutOrStdout(), &config, set)
	}
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration without starting anything",
		Args:  noArguments,
	}
	o := addConfigFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, _, err := loadConfig(*o); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
		return err
	}
	return cmd
}

// printConfig writes a file that --config takes back, with the origin of each value as a comment.
func printConfig(w io.Writer, c *Config, set settings) error {
	document := &yaml.Node{Kind: yaml.MappingNode}
	var section *yaml.Node
	sectionName := ""
	for i := range keys {
		k := &keys[i]
		inSection, name, _ := strings.Cut(k.name, ".")
		if inSection != sectionName {
			sectionName, section = inSection, &yaml.Node{Kind: yaml.MappingNode}
			document.Content = append(document.Content, nameNode(sectionName), section)
		}
		text := valueNode(k.bind(c))
		text.LineComment = set[k.name].origin
		section.Content = append(section.Content, nameNode(name), text)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(document); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	return encoder.Close()
}

func nameNode(name string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: name} }

// valueNode quotes a text that YAML would otherwise read as something else.
func valueNode(v value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: v.text()}
	switch v.(type) {
	case intValue, boolValue:
	default:
		n.Tag = "!!str"
	}
	return n
}
