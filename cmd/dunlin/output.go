package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

// output is how a command prints what it has found: as a table, or as JSON for programs.
type output string

const (
	outputTable output = "table"
	outputJSON  output = "json"
)

var _ pflag.Value = (*output)(nil)

// addOutputFlag gives a command the flag that says so.
func addOutputFlag(flags *pflag.FlagSet) *output {
	o := outputTable
	flags.VarP(&o, "output", "o", "table or json")
	return &o
}

// String implements pflag.Value.
func (o *output) String() string { return string(*o) }

// Type implements pflag.Value.
func (o *output) Type() string { return "string" }

// Set implements pflag.Value.
func (o *output) Set(text string) error {
	if text != string(outputTable) && text != string(outputJSON) {
		return fmt.Errorf("it must be %s or %s", outputTable, outputJSON)
	}
	*o = output(text)
	return nil
}

// print writes v as JSON, or the rows of a table, each of cells separated by tabs.
func (o *output) print(w io.Writer, v any, rows []string) error {
	if *o == outputJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(v)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(table, row); err != nil {
			return err
		}
	}
	return table.Flush()
}
