package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
)

func (a *app) offCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "off",
		Short: "Back this machine up no more, and forget its key",
		Long: "off removes the key from this machine and from its daemon, and puts the configuration aside. What lies in\n" +
			"the store stays, and opens with the digits or the password: \"coffer recover\" goes on with it.",
		Args: atMost(0, "off takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.off(cmd.Context(), yes) },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) off(ctx context.Context, yes bool) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return err
	}
	p := ring.Profile()
	a.say("This machine forgets the key of the store %v, %s.", p.Store, describe(p))
	a.say("What lies in the store stays. It can be read with the digits or the password only: without them, by nobody.")
	if err := a.confirm(ctx, yes, u.Host); err != nil {
		return err
	}
	if _, err := daemon.NewClient(u.Control).Lock(ctx); err != nil && !errors.Is(err, daemon.ErrNotRunning) {
		return fmt.Errorf("locking the daemon: %w", err)
	}
	if err := keyring.Forget(u.StateDir); err != nil {
		return err
	}
	for _, k := range u.Gateway.Keys {
		if err := os.Remove(k.SecretFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing an access key of the S3 endpoint: %w", err)
		}
	}
	aside := a.configFile + ".off"
	if err := os.Rename(a.configFile, aside); err != nil {
		return fmt.Errorf("putting the configuration aside: %w", err)
	}
	if a.json {
		return a.printJSON(switchedOff{aside, p.Store, upstreamNames(u)})
	}
	a.say("The key is gone from here. The configuration is %s.", aside)
	a.say(`Stop the daemon: "systemctl --user disable --now coffer". To remove the backups too, delete what lies in:`)
	for _, name := range upstreamNames(u) {
		a.say("  %s", printable(name))
	}
	return nil
}

func upstreamNames(u *config.User) (all []string) {
	for _, up := range u.Upstreams {
		all = append(all, upstreamName(up))
	}
	return all
}

// confirm has a person type the name of what is to go.
func (a *app) confirm(ctx context.Context, yes bool, name string) error {
	if yes {
		return nil
	}
	if !a.interactive() {
		return usagef("missing --yes, and there is no terminal to ask on")
	}
	typed, err := a.ask(ctx, fmt.Sprintf("To go on, type the name of this machine (%s): ", printable(name)))
	if err != nil {
		return err
	}
	if typed != name {
		return errors.New("that is not its name; nothing was changed")
	}
	return nil
}
