package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// options is what the command line says about the configuration.
type options struct {
	file string // of --config, empty without
	// overrides in the order of the command line: of two for one key the later wins.
	overrides []override
}

type override struct {
	key, text, origin string
}

// addConfigFlags gives a command the flags which every command that needs the configuration takes.
func addConfigFlags(flags *pflag.FlagSet) *options {
	o := new(options)
	flags.SortFlags = false
	flags.StringVar(&o.file, "config", "", "read the configuration from a YAML `FILE`")
	for i := range keys {
		if keys[i].flag != "" {
			addKeyFlag(flags, &keys[i], o)
		}
	}
	flags.Var(setFlag{o}, "set", "set any configuration key, as in --set sessions.send_window=64; may be repeated")
	return o
}

func addKeyFlag(flags *pflag.FlagSet, k *key, o *options) {
	usage := strings.ReplaceAll(k.meaning, "`", "")
	if k.preset != "" {
		usage += fmt.Sprintf(" (default %s)", k.preset)
	}
	f := flags.VarPF(keyFlag{k, o}, k.flag, "", usage)
	if k.operand == "" {
		f.NoOptDefVal = "true"
	}
}

// keyFlag is a flag that stands for one key.
type keyFlag struct {
	key *key
	to  *options
}

func (f keyFlag) Set(text string) error {
	f.to.overrides = append(f.to.overrides, override{f.key.name, text, "flag --" + f.key.flag})
	return nil
}

func (f keyFlag) String() string { return "" }

func (f keyFlag) Type() string {
	if f.key.operand == "" {
		return "bool"
	}
	return f.key.operand
}

// setFlag is --set section.key=value.
type setFlag struct{ to *options }

func (f setFlag) Set(text string) error {
	name, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("no = in it, it must be section.key=value")
	}
	f.to.overrides = append(f.to.overrides, override{name, value, "flag --set"})
	return nil
}

func (f setFlag) String() string { return "" }
func (f setFlag) Type() string   { return "KEY=VALUE" }
