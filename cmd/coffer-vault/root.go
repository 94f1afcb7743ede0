package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"coffer"
	"coffer/internal/config"
)

// app is one run of the command.
type app struct {
	in         io.Reader
	out, err   io.Writer
	configFile string // --config
	json       bool   // --json
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "coffer-vault",
		Short:         "One node of a Backup Key Vault, and its administration",
		Version:       coffer.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return &exitError{fmt.Errorf("unknown command %q", args[0]), exitUsage, `"coffer-vault --help" lists the commands`}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("coffer-vault {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{err, exitUsage, fmt.Sprintf("%q lists the flags", cmd.CommandPath()+" --help")}
	})
	file := os.Getenv("COFFER_VAULT_CONFIG")
	if file == "" {
		file = "/etc/coffer-vault/coffer-vault.toml"
	}
	root.PersistentFlags().StringVar(&a.configFile, "config", file, "configuration file; $COFFER_VAULT_CONFIG")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddCommand(a.initCommand(), a.serveCommand(), a.statusCommand(), a.clusterCommand(), a.snapshotCommand(),
		a.fleetCommand(), a.hsmCommand(), a.tokenCommand())
	return root
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return &exitError{fmt.Errorf("unknown command %q", args[0]), exitUsage, fmt.Sprintf("%q lists the commands", cmd.CommandPath()+" --help")}
	}, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(commands...)
	return c
}

// none refuses arguments.
func none(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// one wants exactly one argument.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("want one argument: %s", what)
		}
		return nil
	}
}

// load reads the configuration; whatever is wrong with it has the exit status for that.
func (a *app) load() (*config.Vault, error) {
	c, err := config.LoadVault(a.configFile)
	if err != nil {
		return nil, &exitError{err, exitConfig, "configs/coffer-vault.toml explains every key"}
	}
	return c, nil
}

// printJSON writes v on one line.
func (a *app) printJSON(v any) error { return json.NewEncoder(a.out).Encode(v) }
