package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"coffer/hsm"
	"coffer/internal/config"
	"coffer/internal/durable"
)

// hsmConfig is the token of the configuration, without its PIN.
func hsmConfig(c *config.Vault) hsm.Config {
	h := hsm.Config{Module: c.HSM.Module, TokenLabel: c.HSM.TokenLabel, RunDir: c.HSM.RunDir}
	if c.HSM.Durable {
		h.Durable = filepath.Join(c.Dir, "token")
	}
	return h
}

// readPIN reads the user PIN from the file or the systemd credential.
func readPIN(c *config.Vault) (hsm.PIN, error) {
	file := c.HSM.PINFile
	if c.HSM.Credential != "" {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, &exitError{fmt.Errorf("credential %q: systemd gave none", c.HSM.Credential), exitConfig, "run the command in the node's unit, or set hsm.pin_file"}
		}
		file = filepath.Join(dir, filepath.Base(c.HSM.Credential))
	}
	b, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	pin := bytes.TrimRight(b, "\r\n")
	if len(pin) == 0 {
		return nil, fmt.Errorf("%s is empty", file)
	}
	return hsm.PIN(pin), nil
}

// withPIN is the token of the configuration, ready to be opened.
func withPIN(c *config.Vault) (hsm.Config, error) {
	h := hsmConfig(c)
	pin, err := readPIN(c)
	if err != nil {
		return h, hinted(fmt.Errorf("the HSM's PIN: %w", err), `"coffer-vault init" makes it for SoftHSM`)
	}
	h.PIN = pin
	return h, makeRunDir(h)
}

// makeRunDir makes the folder of SoftHSM's working copy, which need not outlast
// a restart.
func makeRunDir(h hsm.Config) error {
	if h.Durable == "" {
		return nil
	}
	if err := os.MkdirAll(h.RunDir, 0o700); err != nil {
		return fmt.Errorf("making the folder of the token's working copy: %w", err)
	}
	return nil
}

// openToken opens a token that withPIN gave.
func openToken(ctx context.Context, h hsm.Config) (*hsm.Token, error) {
	t, err := hsm.Open(ctx, h)
	switch {
	case errors.Is(err, hsm.ErrPIN):
		return nil, &exitError{err, exitConfig, "the PIN is not tried again: tokens lock after a few wrong ones"}
	case err != nil:
		return nil, hinted(err, `"coffer-vault hsm check" says what is wrong with the token`)
	}
	return t, nil
}

func (a *app) hsmCommand() *cobra.Command {
	withConfig := func(fn func(context.Context, *config.Vault) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			return fn(cmd.Context(), c)
		}
	}
	var key string
	retire := &cobra.Command{
		Use: "retire", Short: "Destroy an old key, and with it every record made under it", Args: none,
		RunE: withConfig(func(ctx context.Context, c *config.Vault) error { return a.retire(ctx, c, key) }),
	}
	retire.Flags().StringVar(&key, "key", "", "id of the key, 32 hex digits; \"hsm check\" lists them")
	return group("hsm", "The node's hardware security module",
		&cobra.Command{Use: "init", Short: "Make the node's keys in the token", Args: none, RunE: withConfig(func(ctx context.Context, c *config.Vault) error {
			if err := durable.MkdirAll(c.Dir, 0o700); err != nil {
				return fmt.Errorf("making the node's folder: %w", err)
			}
			return a.provision(ctx, c)
		})},
		&cobra.Command{Use: "check", Short: "Try everything that a node asks of its token", Args: none, RunE: withConfig(a.checkToken)},
		&cobra.Command{Use: "rotate", Short: "Make new records under a new key from the next start on", Args: none, RunE: withConfig(a.rotate)},
		retire)
}

// step is a hsm.Step in JSON.
type step struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
}

func (a *app) checkToken(ctx context.Context, c *config.Vault) error {
	h, err := withPIN(c)
	if err != nil {
		return err
	}
	info, steps, err := hsm.Check(ctx, h)
	if err != nil {
		return hinted(err, "stop the node first, if it runs: a token has one user")
	}
	var failed int
	out := make([]step, 0, len(steps))
	for _, s := range steps {
		o := step{Name: s.Name}
		if s.Err != nil {
			failed++
			o.Error = s.Err.Error()
		}
		out = append(out, o)
	}
	if a.json {
		err = a.printJSON(map[string]any{"hsm": kind(info), "steps": out})
	} else {
		fmt.Fprintln(a.out, kind(info))
		for _, k := range info.Keys {
			current := ""
			if k == info.KeyID {
				current = " (new records)"
			}
			fmt.Fprintf(a.out, "key  %x%s\n", k, current)
		}
		for _, o := range out {
			if o.Error == "" {
				fmt.Fprintln(a.out, "ok  ", o.Name)
			} else {
				fmt.Fprintln(a.out, "FAIL", o.Name+":", o.Error)
			}
		}
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d checks failed: %w", failed, len(steps), hsm.ErrProbe)
	}
	return err
}

func (a *app) rotate(ctx context.Context, c *config.Vault) error {
	h, err := withPIN(c)
	if err != nil {
		return err
	}
	id, err := hsm.Rotate(ctx, h)
	if err != nil {
		return hinted(err, "stop the node first, if it runs: a token has one user")
	}
	fmt.Fprintf(a.out, "%x\n", id)
	return nil
}

func (a *app) retire(ctx context.Context, c *config.Vault, digits string) error {
	var id [16]byte
	if b, err := hex.DecodeString(digits); err != nil || copy(id[:], b) != len(id) || len(b) != len(id) {
		return usagef("--key wants 32 hex digits")
	}
	h, err := withPIN(c)
	if err != nil {
		return err
	}
	return hsm.Retire(ctx, h, id)
}
