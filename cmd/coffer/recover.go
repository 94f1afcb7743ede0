package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"coffer/daemon"
	"coffer/internal/config"
	"coffer/keyring"
	"coffer/seal"
	"coffer/upstream"
	"coffer/vault"
)

func (a *app) recoverCommand() *cobra.Command {
	var (
		w where
		m machine
		p protection

		passkey bool
	)
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Get the backup key back, on a new machine or on one that lost it",
		Long: "recover gets the key of a store that has backups: from the vault by password, or from the 64 digits.\n" +
			"On a new machine it writes the configuration, too. A wrong password costs one of a few attempts.\n\n" +
			"With --passkey the key does not come to this command, nor to the disk: the machine is set up locked, and the\n" +
			"passkey unlocks the daemon on its local page, where the snapshots can be looked at and restored.",
		Example: "  coffer recover --upstream s3:https://s3.example.org/backups --digits-file digits.txt\n" +
			"  coffer recover --upstream folder:/mnt/backup --vault-fleet fleet.cbor --vault-root HEX --account anna",
		Args: atMost(0, "recover takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.recover(cmd, &w, &m, &p, passkey) },
	}
	w.flags(cmd)
	m.flags(cmd)
	p.flags(cmd, "file with the 64 digits; - is standard input, none asks on the terminal")
	cmd.Flags().BoolVar(&passkey, "passkey", false, passkeyUsage)
	return cmd
}

func (a *app) recover(cmd *cobra.Command, w *where, m *machine, p *protection, passkey bool) error {
	ctx := cmd.Context()
	written, u, known, err := a.recoverConfig(cmd, w, m, p)
	if err != nil {
		return err
	}
	b, err := a.openStore(ctx, u)
	if err != nil {
		return err
	}
	profile, err := keyring.LoadProfile(ctx, inBucket(b))
	if err != nil {
		return fmt.Errorf("upstream %s: %w", u.Upstreams[0].Name, err)
	}
	a.say("Found the store %v: %s", profile.Store, describe(profile))
	if err := sameStore(u.StateDir, profile); err != nil {
		return err
	}
	if passkey {
		return a.recoverByPasskey(ctx, b, profile, written, u, known)
	}
	stateDir := "" // there is no machine yet, and will be none if the password is wrong
	if known {
		stateDir = u.StateDir
	}
	key, err := a.getKey(ctx, profile, u.Vault, stateDir, p)
	if errors.Is(err, seal.ErrKey) {
		key, err = a.beforeRekey(ctx, b, profile, key, err)
	}
	if err != nil {
		return err
	}
	// A next key from before another machine gave the store its key may have been seen since.
	if err := keyring.ForgetStale(u.StateDir, key); err != nil {
		return err
	}
	if !known {
		return a.establish(ctx, b, profile, key, written, u, p)
	}
	if err := keyring.Save(u.StateDir, profile, key); err != nil {
		return err
	}
	if err := p.remember(u.StateDir, key.Keys(profile.Store)); err != nil {
		return err
	}
	if err := unlockDaemon(ctx, u, key); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(setUp{a.configFile, u.StateDir, profile.Store, profile.KeyID, profile.Methods})
	}
	a.say("The key is back in %s.", u.StateDir)
	return nil
}

// beforeRekey is the key of the store, if key is the one that a rekey was about to
// give it when it was interrupted for good; else wrong is the error.
func (a *app) beforeRekey(ctx context.Context, b upstream.Bucket, profile keyring.Profile, key seal.Key, wrong error) (seal.Key, error) {
	before, err := keyring.LoadLink(ctx, inBucket(b), key.Keys(profile.Store))
	if err != nil || profile.Verify(before.Keys(profile.Store)) != nil {
		return key, wrong
	}
	a.say("A rekey was interrupted before the store had its new key: the old one is back. \"coffer rekey\" begins again.")
	return before, nil
}

// unlockDaemon hands the key to the daemon, if one runs.
func unlockDaemon(ctx context.Context, u *config.User, key seal.Key) error {
	_, err := daemon.NewClient(u.Control).Unlock(ctx, key.Bytes())
	if errors.Is(err, daemon.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("handing the key to the daemon: %w", err)
	}
	return nil
}

// recoverConfig is the configuration of the flags, or the one that is there.
func (a *app) recoverConfig(cmd *cobra.Command, w *where, m *machine, p *protection) (written, whole *config.User, known bool, err error) {
	if _, err := os.Lstat(a.configFile); err == nil {
		if w.upstream != "" || p.fleet != "" {
			return nil, nil, true, hint(usagef("this machine is set up already: %s", a.configFile),
				"leave --upstream and --vault-fleet out to get the key of that store back, or give --config and --state-dir for another one")
		}
		u, err := a.load()
		return u, u, true, err
	}
	if err := a.askWhere(cmd.Context(), w); err != nil {
		return nil, nil, false, err
	}
	up, err := w.parse()
	if err != nil {
		return nil, nil, false, err
	}
	v, err := p.vault(cmd)
	if err != nil {
		return nil, nil, false, err
	}
	written, whole, err = m.config(up, v)
	return written, whole, false, err
}

// sameStore makes sure that the key of another store is not overwritten. What is
// wrong with a key of this store, recover mends.
func sameStore(stateDir string, p keyring.Profile) error {
	ring, err := keyring.Load(stateDir)
	if err == nil && ring.Profile().Store != p.Store {
		return hint(fmt.Errorf("%s holds the key of the store %v", stateDir, ring.Profile().Store), "give another --state-dir, or move that one away if you have its digits")
	}
	return nil
}

// getKey asks the vault or the owner for the key of the store of profile.
func (a *app) getKey(ctx context.Context, profile keyring.Profile, v config.VaultClient, stateDir string, p *protection) (seal.Key, error) {
	if p.digitsFile == "" && v.Fleet != "" {
		return a.keyByPassword(ctx, profile, v, stateDir, p)
	}
	var text string
	var err error
	switch {
	case p.digitsFile != "":
		if text, err = readSecret(a.in, p.digitsFile); err != nil {
			err = fmt.Errorf("reading the digits: %w", err)
		}
	case a.interactive():
		text, err = a.ask(ctx, "The 64 digits, in one line: ")
	default:
		err = hint(usagef("nothing to get the key from"), "give --digits-file FILE, or --vault-fleet, --vault-root, --account and --password-file, or use a terminal")
	}
	if err != nil {
		return seal.Key{}, err
	}
	key, err := keyring.ParseDigits(text)
	if err != nil {
		return seal.Key{}, hint(fmt.Errorf("these are not 64 digits: %w", err), digitsHint)
	}
	err = profile.Verify(key.Keys(profile.Store))
	if errors.Is(err, seal.ErrKey) {
		err = fmt.Errorf("these digits do not open the store: %w", err)
	}
	return key, err
}

// keyByPassword asks the vault, with the password of the file or from the terminal.
func (a *app) keyByPassword(ctx context.Context, profile keyring.Profile, v config.VaultClient, stateDir string, p *protection) (seal.Key, error) {
	c, err := a.openVault(ctx, v, stateDir)
	if err != nil {
		return seal.Key{}, err
	}
	defer c.Close()
	if p.passwordFile != "" {
		password, err := readSecret(a.in, p.passwordFile)
		if err != nil {
			return seal.Key{}, fmt.Errorf("reading the password: %w", err)
		}
		p.typed = func() string { return password }
		return keyring.Recover(ctx, c, profile, password)
	}
	if !a.interactive() {
		return seal.Key{}, usagef("missing --password-file, and there is no terminal to ask on")
	}
	if st, err := a.vaultStatus(ctx, c); err == nil {
		a.say("Attempts left: %d of %d.", st.Left, st.Budget)
	}
	for {
		password, err := a.askSecret(ctx, "Password: ")
		if err != nil {
			return seal.Key{}, err
		}
		p.typed = func() string { return password }
		key, err := keyring.Recover(ctx, c, profile, password)
		var wrong *vault.WrongPassword
		if errors.As(err, &wrong) && wrong.Left > 0 && wrong.RetryAfter == 0 {
			left := "1 attempt"
			if wrong.Left != 1 {
				left = fmt.Sprintf("%d attempts", wrong.Left)
			}
			a.say("Wrong password. %s left.", left)
			continue
		}
		return key, err
	}
}

// statusTimeout is how long a person waits for a number that is nice to have.
const statusTimeout = 5 * time.Second

func (a *app) vaultStatus(ctx context.Context, c vaultClient) (vault.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return c.Status(ctx)
}
