package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/keyring"
	"coffer/seal"
)

func (a *app) passwordCommand() *cobra.Command {
	cmd := a.group("password", "Change the password, or try whether you remember it")
	var file string
	var again bool
	var p protection
	change := &cobra.Command{
		Use: "change", Short: "Set a new password",
		Long: "change puts the backup key behind a new password in the vault. A machine that has the key needs no old\n" +
			"password. Nothing is encrypted anew, and the 64 digits stay the same. With --vault-fleet it begins to use\n" +
			"a vault, where there was none, or another one.",
		Args: atMost(0, "password change takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.passwordChange(cmd, &p, file, again) },
	}
	verify := &cobra.Command{
		Use: "verify", Short: "Try whether you remember the password; that spends no attempt",
		Long: "verify compares a password with what this machine noted when it was last set or used here. The vault is\n" +
			"not asked.",
		Args: atMost(0, "password verify takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.passwordVerify(cmd.Context(), file) },
	}
	for _, c := range []*cobra.Command{change, verify} {
		c.Flags().StringVar(&file, "password-file", "", "file with the password; - is standard input, none asks on the terminal")
	}
	p.vaultFlags(change)
	change.Flags().BoolVar(&again, "again", false, againUsage)
	cmd.AddCommand(change, verify)
	return cmd
}

// unlocked loads the configuration and the ring, whose key must be there.
func (a *app) unlocked() (*config.User, *keyring.Ring, seal.Key, error) {
	u, err := a.load()
	if err != nil {
		return nil, nil, seal.Key{}, err
	}
	ring, err := keyring.Load(u.StateDir)
	if err != nil {
		return nil, nil, seal.Key{}, err
	}
	key, err := ring.Key()
	return u, ring, key, err
}

// vaultToUse is the vault of the configuration, or that of the flags, which stand for
// what they name.
func (a *app) vaultToUse(cmd *cobra.Command, u *config.User, p *protection) (config.VaultClient, error) {
	had := u.Vault
	if had.Fleet == "" {
		v, err := p.vault(cmd)
		if err == nil && v.Fleet == "" {
			err = hint(errors.New("no vault is configured, so there is no password"),
				`--vault-fleet, --vault-root and --account name one; without, the 64 digits keep the key: "coffer recovery sheet" prints them`)
		}
		return v, err
	}
	if p.account != "" || len(p.roots) > 0 {
		return had, usagef("--account and --vault-root are for a store without a vault")
	}
	if isNode(p.fleet) {
		return had, hint(usagef("a vault that takes the place of another is named by its fleet file"), "an address proves only that the same roots have signed: that of the former vault would do as well")
	}
	if p.fleet != "" {
		had.Fleet = p.fleetPlace()
	}
	if p.tokenFile != "" {
		had.TokenFile = absolute(p.tokenFile)
	}
	return had, nil
}

func (a *app) passwordChange(cmd *cobra.Command, p *protection, file string, again bool) error {
	ctx := cmd.Context()
	u, ring, key, err := a.unlocked()
	if err != nil {
		return err
	}
	v, err := a.vaultToUse(cmd, u, p)
	if err != nil {
		return err
	}
	c, err := a.openVault(ctx, v, u.StateDir)
	if err != nil {
		return err
	}
	defer c.Close()
	a.say("This machine holds the backup key: the old password is not needed.")
	personal := []string{v.Account, u.Host, os.Getenv("USER")}
	keys := key.Keys(ring.Profile().Store)
	password, r, err := a.entrust(ctx, c, key, newPassword{
		file: file, again: again, personal: personal,
		had: func(p string) bool { return keyring.VerifyPassword(u.StateDir, keys, p) == nil },
	})
	if err != nil {
		return err
	}
	if err := keyring.RememberPassword(u.StateDir, keys, password); err != nil {
		return err
	}
	if err := a.useVault(ctx, u, v); err != nil {
		return err
	}
	m := keyring.Method{Kind: keyring.MethodPassword, Since: time.Now().UTC().Truncate(time.Second), Fleet: c.Manifest().Name}
	if err := a.updateProfile(ctx, u, keys, m); err != nil {
		return hint(fmt.Errorf("the new password is in force, but the store does not say so yet: %w", err), `"coffer password change" again, with the same one, makes it good`)
	}
	if a.json {
		return a.printJSON(passwordChanged{r.Left, append([]string{}, r.Degraded...)})
	}
	if u.Vault.Fleet == "" {
		a.say("The vault %q keeps the key now.", c.Manifest().Name)
	} else {
		a.say("The new password is in force; the old one opens nothing any more.")
	}
	a.say("After %d wrong guesses in a row the vault destroys its key.", r.Left)
	for _, id := range r.Degraded {
		a.say("coffer: note: node %s of the vault takes no part; change again when it is up", id)
	}
	return nil
}

// useVault keeps the fleet file, and notes in the configuration a vault that is new there.
func (a *app) useVault(ctx context.Context, u *config.User, v config.VaultClient) error {
	if v.Fleet == u.Vault.Fleet {
		return nil
	}
	added := u.Vault.Fleet == ""
	if err := a.keepFleet(ctx, &v, u.StateDir); err != nil || !added {
		return err
	}
	return config.Add(a.configFile, &config.User{Vault: v})
}

// updateProfile writes how the key is kept into the store and this machine's copy.
func (a *app) updateProfile(ctx context.Context, u *config.User, keys *seal.Keys, m keyring.Method) error {
	b, err := a.openStore(ctx, u)
	if err != nil {
		return err
	}
	p, err := keyring.UpdateProfile(ctx, inBucket(b), keys, m)
	if err != nil {
		return err
	}
	return keyring.SaveProfile(u.StateDir, p)
}

func (a *app) passwordVerify(ctx context.Context, file string) error {
	u, ring, key, err := a.unlocked()
	if err != nil {
		return err
	}
	var password string
	switch {
	case file != "":
		if password, err = readSecret(a.in, file); err != nil {
			err = fmt.Errorf("reading the password: %w", err)
		}
	case a.interactive():
		password, err = a.askSecret(ctx, "Password (tried on this machine only): ")
	default:
		err = usagef("missing --password-file, and there is no terminal to ask on")
	}
	if err != nil {
		return err
	}
	if err := keyring.VerifyPassword(u.StateDir, key.Keys(ring.Profile().Store), password); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(passwordVerified{OK: true})
	}
	a.say("That is the password. No attempt was spent.")
	return nil
}
