package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/vault"
)

func (a *app) offCommand() *cobra.Command {
	var yes bool
	var v vaultOff
	cmd := &cobra.Command{
		Use:   "off",
		Short: "Back this machine up no more, and forget its key",
		Long: "off removes the key from this machine and from its daemon, and puts the configuration aside. What lies in\n" +
			"the store stays, and opens with the digits or the password: \"coffer recover\" goes on with it.\n" +
			"With --vault the vault destroys its key, too, at once if the password is given and after some days if\n" +
			"not; then only the digits, or another machine that has the key, open the store.",
		Args: atMost(0, "off takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.off(cmd.Context(), yes, v) },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&v.wanted, "vault", false, "destroy the key in the vault, too")
	cmd.Flags().StringVar(&v.passwordFile, "password-file", "", "file with the password, for --vault; - is standard input")
	return cmd
}

// vaultOff is what off does in the vault.
type vaultOff struct {
	wanted       bool
	passwordFile string // "": without the password, and so later
}

// disable has the vault destroy its key.
func (a *app) disable(ctx context.Context, u *config.User, v vaultOff) error {
	if !v.wanted {
		return nil
	}
	c, err := a.openVault(ctx, u.Vault, u.StateDir)
	if err != nil {
		return err
	}
	defer c.Close()
	var password []string
	if v.passwordFile != "" {
		p, err := readSecret(a.in, v.passwordFile)
		if err != nil {
			return fmt.Errorf("reading the password: %w", err)
		}
		password = []string{p}
	}
	err = c.Disable(ctx, password...)
	switch {
	case errors.Is(err, vault.ErrNotRegistered), errors.Is(err, vault.ErrDestroyed):
		a.say("The vault has no key of this account any more.")
	case err != nil:
		return fmt.Errorf("destroying the key in the vault, before anything is removed here: %w", err)
	case len(password) == 0:
		a.say("The vault destroys its key in %v; whoever enters the password until then takes that back.",
			time.Duration(c.Manifest().Policy.Disable)*time.Second)
	default:
		a.say("The vault has destroyed its key.")
	}
	return nil
}

func (a *app) off(ctx context.Context, yes bool, v vaultOff) error {
	u, err := a.load()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return err
	}
	if v.wanted && u.Vault.Fleet == "" {
		return usagef("--vault: no vault is configured")
	}
	if v.passwordFile != "" && !v.wanted {
		return usagef("--password-file goes with --vault")
	}
	p := ring.Profile()
	a.say("This machine forgets the key of the store %v, %s.", p.Store, describe(p))
	opens := "the digits or the password"
	if v.wanted {
		opens = "the digits"
	}
	a.say("What lies in the store stays. It can be read with %s only: without them, by nobody.", opens)
	if err := a.confirm(ctx, yes, u.Host); err != nil {
		return err
	}
	if err := a.disable(ctx, u, v); err != nil {
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
