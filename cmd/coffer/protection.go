package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/keyring"
	"coffer/seal"
	"coffer/vault"
)

// protection are the flags that say how the owner keeps the backup key.
type protection struct {
	digitsFile   string
	passwordFile string
	fleet        string
	roots        []string
	account      string
	tokenFile    string
	again        bool // see newPassword

	// typed gives the password that protected or opened the key in this run, for
	// keyring.RememberPassword; nil: none did. A function is not printed.
	typed func() string
}

// remember notes the password of this run on a machine that has the key.
func (p *protection) remember(stateDir string, keys *seal.Keys) error {
	if p.typed == nil {
		return nil
	}
	return keyring.RememberPassword(stateDir, keys, p.typed())
}

func (p *protection) flags(cmd *cobra.Command, digits string) {
	f := cmd.Flags()
	f.StringVar(&p.digitsFile, "digits-file", "", digits)
	f.StringVar(&p.passwordFile, "password-file", "", "file with the password; - is standard input, none asks on the terminal")
	p.vaultFlags(cmd)
}

func (p *protection) vaultFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.fleet, "vault-fleet", "", "the vault's fleet file, or the https address of one of its nodes")
	f.StringArrayVar(&p.roots, "vault-root", nil, "root key of the fleet to trust, 64 hex digits; several flags for several")
	f.StringVar(&p.account, "account", "", "the name that the vault knows you by")
	f.StringVar(&p.tokenFile, "vault-token-file", "", "file with the account token, where the vault asks for one")
}

// fleetPlace is the fleet file's path, or a node's address.
func (p *protection) fleetPlace() string {
	if isNode(p.fleet) {
		return p.fleet
	}
	return absolute(p.fleet)
}

// byPassword says whether a vault is asked for.
func (p *protection) byPassword() bool { return p.passwordFile != "" || p.fleet != "" }

// vault makes the configuration of the flags, which need each other.
func (p *protection) vault(cmd *cobra.Command) (config.VaultClient, error) {
	if !p.byPassword() {
		if p.account != "" || len(p.roots) > 0 || p.tokenFile != "" {
			return config.VaultClient{}, required(cmd, "vault-fleet")
		}
		return config.VaultClient{}, nil
	}
	if err := required(cmd, "vault-fleet", "vault-root", "account"); err != nil {
		return config.VaultClient{}, hint(err, "a password needs the vault that keeps the key: its operator publishes the root and a node's address; the 64 digits need none: --digits-file")
	}
	return config.VaultClient{Fleet: p.fleetPlace(), Roots: p.roots, Account: p.account, TokenFile: absolute(p.tokenFile)}, nil
}

// vaultClient is what the command asks of a vault; *vault.Client is one.
type vaultClient interface {
	keyring.Vault
	Status(ctx context.Context) (vault.Status, error)
	Disable(ctx context.Context, password ...string) error
	Manifest() *vault.Manifest
	Close()
}

const (
	maxFleetFile  = 1 << 20
	maxSecretFile = 4096
)

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, path, limit)
}

func readLimited(r io.Reader, path string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, err
}

// readSecret reads a secret without its line end; "-" is standard input.
func readSecret(stdin io.Reader, path string) (string, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = readLimited(stdin, "standard input", maxSecretFile)
	} else {
		b, err = readFile(path, maxSecretFile)
	}
	if err != nil {
		return "", err
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return s, nil
}

// newPassword gets a password to protect a key with: from the file, or twice
// from the terminal.
func (a *app) newPassword(ctx context.Context, file string, personal []string) (string, error) {
	if file != "" {
		password, err := readSecret(a.in, file)
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		return password, keyring.CheckPassword(password, personal...)
	}
	if !a.interactive() {
		return "", usagef("missing --password-file, and there is no terminal to ask on")
	}
	for {
		password, err := a.askSecret(ctx, "New password: ")
		if err != nil {
			return "", err
		}
		if err := keyring.CheckPassword(password, personal...); err != nil {
			_, tip := explain(err)
			a.say("%v: %s", err, tip)
			continue
		}
		again, err := a.askSecret(ctx, "Again: ")
		if err != nil {
			return "", err
		}
		if again == password {
			return password, nil
		}
		a.say("The two are not the same.")
	}
}

const cannotHelp = `IMPORTANT: without %s nobody can open these backups:
not the storage, not the vault's operator, not the makers of coffer. Nobody who helps you will ever ask for it.`

// protectByPassword gives the key to the vault.
func (a *app) protectByPassword(ctx context.Context, v config.VaultClient, u *config.User, p *protection, key seal.Key) (keyring.Method, error) {
	c, err := a.openVault(ctx, v, u.StateDir)
	if err != nil {
		return keyring.Method{}, err
	}
	defer c.Close()
	personal := []string{v.Account, u.Host, os.Getenv("USER")}
	a.say(cannotHelp, "the password (or the 64 digits, if you keep them)")
	password, r, err := a.entrust(ctx, c, key, newPassword{file: p.passwordFile, again: p.again, personal: personal})
	if err != nil {
		return keyring.Method{}, err
	}
	p.typed = func() string { return password }
	a.say("The vault %q keeps the key: after %d wrong guesses in a row it destroys it.", c.Manifest().Name, r.Left)
	for _, id := range r.Degraded {
		a.say("coffer: note: node %s of the vault takes no part; run setup again when it is up", id)
	}
	return keyring.Method{Kind: keyring.MethodPassword, Since: time.Now().UTC().Truncate(time.Second), Fleet: c.Manifest().Name}, nil
}

// protectByDigits hands the digits to the owner: into a file, or on the screen,
// where two groups must be typed back.
func (a *app) protectByDigits(ctx context.Context, file string, key seal.Key) (keyring.Method, error) {
	m := keyring.Method{Kind: keyring.MethodDigits, Since: time.Now().UTC().Truncate(time.Second)}
	if file != "" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return m, fmt.Errorf("writing the digits: %w", err)
		}
		_, err = io.WriteString(f, keyring.Digits(key)+"\n")
		if err := errors.Join(err, f.Sync(), f.Close(), durable.SyncDir(filepath.Dir(file))); err != nil {
			return m, fmt.Errorf("writing the digits: %w", err)
		}
		a.say("The 64 digits are in %s: move them to where this machine's loss does not take them.", file)
		a.say(cannotHelp, "these digits")
		return m, nil
	}
	for range 3 {
		fmt.Fprintf(a.err, "\nThe backup key. Write it down, or let a password manager keep it:\n\n%s\n\n", keyring.Digits(key))
		a.say(cannotHelp, "these digits")
		first := rand.IntN(keyring.Groups)
		second := (first + 1 + rand.IntN(keyring.Groups-1)) % keyring.Groups
		ok := true
		for _, g := range []int{min(first, second), max(first, second)} {
			typed, err := a.ask(ctx, fmt.Sprintf("To show that you have it, type group %d of 16: ", g+1))
			if err != nil {
				return m, err
			}
			ok = ok && strings.EqualFold(typed, keyring.Group(key, g))
		}
		if ok {
			return m, nil
		}
		a.say("That is not what is written above.")
	}
	return m, errors.New("the digits were not confirmed; nothing was set up")
}
