package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"coffer"
	"coffer/internal/config"
	"coffer/vault"
)

// system is what a command has of the world outside.
type system struct {
	in       *os.File
	out, err io.Writer
	vault    func(vault.ClientConfig) (vaultClient, error)
	newer    func(context.Context, vault.ClientConfig) ([]byte, error) // the vault's manifest
	fetch    func(ctx context.Context, node string, roots vault.Roots) ([]byte, error)
	manifest func(vault.ClientConfig) (*vault.Manifest, error)
}

// app is one run of the command.
type app struct {
	system
	configFile string // --config
	json       bool   // --json
	missed     misses // what mirrors did not get
	shown      []byte // the fleet file that a node showed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "coffer",
		Short: "Backups that only their owner can open",
		Long: "coffer keeps backups that only their owner can open: what leaves this machine is encrypted,\n" +
			"and the key is 64 digits on paper, or behind a password in a vault that counts guesses.",
		Version:       coffer.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return hint(usagef("unknown command %q", args[0]), suggestion(cmd, args[0]))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("coffer {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return hint(usageError{err}, fmt.Sprintf("%q lists the flags", cmd.CommandPath()+" --help"))
	})
	root.PersistentFlags().StringVar(&a.configFile, "config", config.UserFile(), "configuration file; $COFFER_CONFIG")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddCommand(a.setupCommand(), a.recoverCommand(), a.statusCommand(), a.backupCommand(), a.snapshotsCommand(),
		a.lsCommand(), a.catCommand(), a.restoreCommand(), a.mountCommand(), a.checkCommand(), a.keyCommand(), a.s3Command(), a.webCommand(), a.versionCommand())
	root.AddCommand(a.sourceCommand(), a.targetCommand(), a.pauseCommand(), a.resumeCommand(), a.configCommand(),
		a.forgetCommand(), a.pruneCommand(), a.findCommand(), a.diffCommand(), a.statsCommand(), a.tagCommand(), a.importCommand(), a.copyCommand(), a.repairCommand(), a.rekeyCommand(),
		a.passwordCommand(), a.passkeyCommand(), a.recoveryCommand(), a.offCommand(), a.manCommand(), a.doctorCommand(), a.bugreportCommand(), a.maintainCommand(), a.notifyCommand())
	return root
}

func suggestion(cmd *cobra.Command, typed string) string {
	if near := cmd.SuggestionsFor(typed); len(near) > 0 {
		return fmt.Sprintf("did you mean %q", "coffer "+near[0])
	}
	return `"coffer --help" lists the commands`
}

// atMost and exactly check the count of arguments, with an error that is one of usage.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("unexpected argument %q: %s", args[n], what)
		}
		return nil
	}
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("missing argument: %s", what)
		}
		return atMost(n, what)(nil, args)
	}
}

// group is a command that only has others below it.
func (a *app) group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return hint(usagef("unknown command %q", cmd.CommandPath()+" "+args[0]), fmt.Sprintf("%q lists the commands", cmd.CommandPath()+" --help"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: atMost(0, "version takes none"),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(versionShown{coffer.Version()})
			}
			_, err := fmt.Fprintln(a.out, "coffer", coffer.Version())
			return err
		},
	}
}

// required lists the flags of cmd that are needed and not given.
func required(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, n := range names {
		if f := cmd.Flags().Lookup(n); f == nil || f.Value.String() == "" || f.Value.String() == "[]" {
			missing = append(missing, "--"+n)
		}
	}
	if len(missing) > 0 {
		return usagef("missing %s", strings.Join(missing, ", "))
	}
	return nil
}
