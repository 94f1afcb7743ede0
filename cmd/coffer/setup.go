package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/keyring"
	"coffer/seal"
	"coffer/upstream"
)

// machine are the flags that describe this machine.
type machine struct {
	sources  []string
	quiet    time.Duration
	gateway  string
	host     string
	stateDir string
	cacheDir string
}

func (m *machine) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&m.sources, "source", nil, "what to back up: NAME=PATH; several flags for several")
	f.DurationVar(&m.quiet, "quiet-time", 0, "back up when nothing changed for so long (default 5s)")
	f.StringVar(&m.gateway, "gateway", "", "HOST:PORT of the local S3 endpoint, as 127.0.0.1:9421; none without")
	f.StringVar(&m.host, "host", "", "name of this machine in snapshots (default the host name)")
	f.StringVar(&m.stateDir, "state-dir", "", "folder for the key and the daemon's state (default ~/.local/state/coffer)")
	f.StringVar(&m.cacheDir, "cache-dir", "", "folder for what may be lost (default ~/.cache/coffer)")
}

// config makes the configuration: as it is written, and with all defaults.
func (m *machine) config(up config.Upstream, v config.VaultClient) (written, whole *config.User, err error) {
	sources, err := parseSources(m.sources)
	if err != nil {
		return nil, nil, err
	}
	for i := range sources {
		sources[i].Quiet = config.Duration(m.quiet)
	}
	written = &config.User{
		StateDir: absolute(m.stateDir), CacheDir: absolute(m.cacheDir), Host: m.host, Upstreams: []config.Upstream{up}, Sources: sources, Vault: v,
	}
	if whole, err = complete(written); err != nil || m.gateway == "" {
		return written, whole, err
	}
	written.Gateway = config.Gateway{Listen: m.gateway, Keys: []config.GatewayKey{{
		AccessKey: "COFFER" + rand.Text()[:14], SecretFile: filepath.Join(whole.StateDir, "gateway-secret.key"),
	}}}
	whole, err = complete(written)
	return written, whole, err
}

// complete copies u and fills in the defaults, which are not written: they may
// become better ones.
func complete(u *config.User) (*config.User, error) {
	c := *u
	c.Upstreams, c.Sources, c.Gateway.Keys = slices.Clone(u.Upstreams), slices.Clone(u.Sources), slices.Clone(u.Gateway.Keys)
	if err := c.Complete(workingDir()); err != nil {
		return nil, usageError{err}
	}
	if isNode(u.Vault.Fleet) {
		c.Vault.Fleet = u.Vault.Fleet // an address, not a path, until keepFleet has the file
	}
	return &c, nil
}

func (a *app) setupCommand() *cobra.Command {
	var (
		w where
		m machine
		p protection

		restore, passkey bool
	)
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Set this machine up for a new store",
		Long: "setup makes a new backup key and a new store, has you keep the key as 64 digits or behind a password\n" +
			"in a vault (or both), and writes the configuration. A store that has backups already is not touched:\n" +
			"with --restore, setup goes on with it, as \"coffer recover\" does.",
		Example: "  coffer setup --upstream folder:/mnt/backup --source home=$HOME\n" +
			"  coffer setup --upstream s3:https://s3.example.org/backups --source docs=$HOME/Documents \\\n" +
			"    --vault-fleet fleet.cbor --vault-root HEX --account anna",
		Args: atMost(0, "setup takes flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if restore {
				return a.recover(cmd, &w, &m, &p, passkey)
			}
			if passkey {
				return hint(usagef("--passkey goes with --restore"), "a new store begins with a password or the 64 digits; a passkey is added on the local page")
			}
			return a.setup(cmd, &w, &m, &p)
		},
	}
	w.flags(cmd)
	m.flags(cmd)
	p.flags(cmd, "file to write the 64 digits to; it must not exist (with --restore: to read them from)")
	cmd.Flags().BoolVar(&p.again, "again", false, againUsage)
	cmd.Flags().BoolVar(&passkey, "passkey", false, passkeyUsage)
	cmd.Flags().BoolVar(&restore, "restore", false, "this machine takes the place of one whose backups are there")
	return cmd
}

func (a *app) setup(cmd *cobra.Command, w *where, m *machine, p *protection) error {
	ctx := cmd.Context()
	if err := a.askWhere(ctx, w); err != nil {
		return err
	}
	up, err := w.parse()
	if err != nil {
		return err
	}
	v, err := p.vault(cmd)
	if err != nil {
		return err
	}
	if !p.byPassword() && p.digitsFile == "" && !a.interactive() {
		return hint(usagef("nothing would keep the key"), "give --digits-file FILE, or --password-file FILE with --vault-fleet, --vault-root and --account, or use a terminal")
	}
	written, u, err := m.config(up, v)
	if err != nil {
		return err
	}
	if err := a.unused(u); err != nil {
		return err
	}
	b, err := openUpstream(ctx, u.Upstreams[0], limitsOf(u), true)
	if err != nil {
		return err
	}
	if found, err := keyring.LoadProfile(ctx, inBucket(b)); err == nil {
		return hint(fmt.Errorf("%w: %s", keyring.ErrStoreExists, describe(found)), `"coffer recover" goes on with them; another prefix or folder begins anew`)
	} else if !errors.Is(err, keyring.ErrNoStore) {
		return err
	}
	key := seal.NewKey()
	methods, err := a.protect(ctx, v, u, p, key)
	if err != nil {
		return err
	}
	profile := keyring.NewProfile(key, u.Host, time.Now(), methods...)
	// From here on the key is where a lost machine does not take it.
	if err := keyring.CreateProfile(ctx, inBucket(b), profile); err != nil {
		return err
	}
	return a.establish(ctx, b, profile, key, written, u, p)
}

// protect has the owner keep the key, in each way that the flags ask for.
func (a *app) protect(ctx context.Context, v config.VaultClient, u *config.User, p *protection, key seal.Key) ([]keyring.Method, error) {
	var methods []keyring.Method
	if p.byPassword() {
		m, err := a.protectByPassword(ctx, v, u, p, key)
		if err != nil {
			return nil, err
		}
		methods = append(methods, m)
	}
	if p.digitsFile != "" || !p.byPassword() {
		m, err := a.protectByDigits(ctx, p.digitsFile, key)
		if err != nil {
			return nil, err
		}
		methods = append(methods, m)
	}
	return methods, nil
}

// askWhere asks for what no flag tells.
func (a *app) askWhere(ctx context.Context, w *where) (err error) {
	if w.upstream != "" {
		return nil
	}
	if !a.interactive() {
		return hint(usagef("missing --upstream"), "say where the backups lie: --upstream folder:/PATH or --upstream s3:https://HOST/BUCKET[/PREFIX]")
	}
	w.upstream, err = a.ask(ctx, "Where shall the backups lie (folder:/PATH or s3:https://HOST/BUCKET)? ")
	return err
}

// unused makes sure that no other configuration and no other key is overwritten.
func (a *app) unused(u *config.User) error {
	if _, err := os.Lstat(a.configFile); err == nil {
		return hint(fmt.Errorf("this machine is set up already: %s", a.configFile), `"coffer status" shows how; for a second store give --config and --state-dir`)
	}
	if ring, err := keyring.Load(u.StateDir); err == nil {
		return hint(fmt.Errorf("%s holds the key of the store %v", u.StateDir, ring.Profile().Store), "give another --state-dir, or move that one away if you have its digits")
	} else if !errors.Is(err, keyring.ErrNoStore) {
		return err
	}
	return nil
}

// establish writes what a machine with a key has: the key, the repository if it
// is not there, access keys, and the configuration last, which makes it valid.
func (a *app) establish(ctx context.Context, b upstream.Bucket, p keyring.Profile, key seal.Key, written, u *config.User, by *protection) error {
	ring := keyring.NewRing(p)
	if err := ring.Unlock(ctx, key.Bytes()); err != nil {
		return err
	}
	if err := initRepo(ctx, b, ring); err != nil {
		return err
	}
	if err := keyring.Save(u.StateDir, p, key); err != nil {
		return err
	}
	if err := by.remember(u.StateDir, key.Keys(p.Store)); err != nil {
		return err
	}
	if err := a.settle(ctx, p, written, u); err != nil || a.json {
		return err
	}
	a.say(`Next: "coffer backup", or start the daemon, which watches: "systemctl --user enable --now coffer" or "cofferd"`)
	return nil
}

// settle writes the rest of what a machine has, and the configuration last.
func (a *app) settle(ctx context.Context, p keyring.Profile, written, u *config.User) error {
	if err := keepS3Keys(&written.Upstreams[0], u.StateDir); err != nil {
		return err
	}
	if err := a.keepFleet(ctx, &written.Vault, u.StateDir); err != nil {
		return err
	}
	if err := gatewaySecrets(written.Gateway); err != nil {
		return err
	}
	if err := config.WriteUser(a.configFile, written); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(setUp{a.configFile, u.StateDir, p.Store, p.KeyID, p.Methods})
	}
	a.say("This machine is set up for the store %v: %s", p.Store, a.configFile)
	return nil
}

// gatewaySecrets makes the secret keys of the S3 endpoint.
func gatewaySecrets(g config.Gateway) error {
	for _, k := range g.Keys {
		if err := durable.WriteFile(k.SecretFile, []byte(rand.Text()+rand.Text()+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// describe says which store a profile is of, for a person.
func describe(p keyring.Profile) string {
	return printable(fmt.Sprintf("made on %s, %s; key kept by %s", p.Host, p.Created.Format(time.DateOnly), describeMethods(p.Methods)))
}

// describeMethods says how a key is kept, for a person.
func describeMethods(methods []keyring.Method) string {
	var kept []string
	for _, m := range methods {
		switch m.Kind {
		case keyring.MethodPassword:
			kept = append(kept, fmt.Sprintf("a password (vault %q, since %s)", m.Fleet, m.Since.Format(time.DateOnly)))
		case keyring.MethodDigits:
			kept = append(kept, fmt.Sprintf("64 digits (since %s)", m.Since.Format(time.DateOnly)))
		default:
			kept = append(kept, m.Kind)
		}
	}
	return printable(strings.Join(kept, " and "))
}
