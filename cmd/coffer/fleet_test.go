package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"coffer/vault"
)

// newerFile shows the file beside the vault's, if there is one.
func newerFile(context.Context, vault.ClientConfig) ([]byte, error) {
	newer := os.Getenv("COFFER_TEST_VAULT") + ".newer"
	b, err := os.ReadFile(newer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, errors.Join(err, os.Remove(newer))
}

// Disable empties the vault, and says beside it how it was asked to.
func (v *fileVault) Disable(ctx context.Context, password ...string) error {
	if err := v.fault(); err != nil {
		return err
	}
	how := "later"
	if len(password) > 0 {
		if _, err := v.Recover(ctx, password[0]); err != nil {
			return err
		}
		how = "now"
		v.Left = 0
	}
	if v.Key == "" {
		return vault.ErrNotRegistered
	}
	return errors.Join(os.WriteFile(v.file+".disabled", []byte(how), 0o600), v.save())
}
