package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coffer/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := a.group("config", "Check and show the configuration")
	var origin bool
	show := &cobra.Command{
		Use: "show", Short: "Print every value that is in force", Args: atMost(0, "config show takes none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.configShow(cmd, origin) },
	}
	show.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	cmd.AddCommand(show, a.configReloadCommand(), &cobra.Command{
		Use: "check", Short: "Say whether the configuration is right, and if not, where it is wrong", Args: atMost(0, "config check takes none"),
		RunE: func(*cobra.Command, []string) error {
			if _, err := a.load(); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(configChecked{a.configFile, true})
			}
			_, err := fmt.Fprintf(a.out, "%s has no mistake\n", a.configFile)
			return err
		},
	})
	return cmd
}

func (a *app) configShow(cmd *cobra.Command, origin bool) error {
	all, err := config.Settings(a.configFile)
	if err != nil {
		return notSetUp(err)
	}
	from := "default"
	switch {
	case cmd.Flags().Changed("config"):
		from = "--config"
	case os.Getenv("COFFER_CONFIG") != "":
		from = "$COFFER_CONFIG"
	}
	if a.json {
		return a.printJSON(configShown{a.configFile, from, all})
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	if origin {
		fmt.Fprintf(t, "# configuration: %s (%s)\n", a.configFile, from)
	}
	for _, s := range all {
		v, err := json.Marshal(s.Value)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s = %s", s.Field, v)
		if origin {
			fmt.Fprintf(t, "\t# %s", s.Origin)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
