package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coffer/keyring"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Show the backup key", Args: atMost(0, `"coffer key --help" lists the commands`),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "show",
		Short: "Print the backup key as 64 digits",
		Long:  "show prints the backup key as 64 digits. Who has them opens every backup of this store.",
		Args:  atMost(0, "show takes none"),
		RunE:  func(*cobra.Command, []string) error { return a.keyShow() },
	})
	return cmd
}

func (a *app) keyShow() error {
	u, err := a.load()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return err
	}
	key, err := ring.Key()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(keyShown{keyring.Digits(key), ring.Profile().Store, ring.Profile().KeyID})
	}
	a.say("The backup key of the store %v. Nobody who helps you will ever ask for it.", ring.Profile().Store)
	_, err = fmt.Fprintln(a.out, keyring.Digits(key))
	return err
}
