package main

import (
	"context"
	"fmt"
	"path/filepath"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/vault"
)

// openVault makes a client of the fleet as the fleet file has it; stateDir keeps what
// must outlive a crash, "" nothing.
func (a *app) openVault(v config.VaultClient, stateDir string) (vaultClient, error) {
	manifest, err := readFile(v.Fleet, maxFleetFile)
	if err != nil {
		return nil, fmt.Errorf("reading the vault's fleet file: %w", err)
	}
	return a.openFleet(manifest, v, stateDir)
}

func (a *app) openFleet(manifest []byte, v config.VaultClient, stateDir string) (vaultClient, error) {
	roots, err := vault.ParseRoots(v.Roots, 0)
	if err != nil {
		return nil, usageError{err}
	}
	var token string
	if v.TokenFile != "" {
		if token, err = readSecret(a.in, v.TokenFile); err != nil {
			return nil, fmt.Errorf("reading the vault's account token: %w", err)
		}
	}
	if stateDir != "" {
		stateDir = filepath.Join(stateDir, "vault")
		if err := durable.MkdirAll(stateDir, 0o700); err != nil {
			return nil, fmt.Errorf("making the state folder: %w", err)
		}
	}
	return a.system.vault(vault.ClientConfig{Manifest: manifest, Roots: roots, Account: v.Account, Token: token, StateDir: stateDir})
}

// openNewest is openVault by the newest manifest that the nodes show: with an older one
// they answer nothing. It takes the place of the fleet file. Nodes that do not answer
// in time are no reason to go on otherwise.
func (a *app) openNewest(ctx context.Context, v config.VaultClient, stateDir string) (vaultClient, error) {
	c, err := a.openVault(v, stateDir)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	newer, err := c.NewerManifest(asking)
	if err != nil || newer == nil {
		return c, nil // what is wrong with the nodes, the call after this one says
	}
	c.Close()
	if c, err = a.openFleet(newer, v, stateDir); err != nil {
		return nil, err
	}
	a.say("The vault %q has a new manifest, number %d; its root keys have signed it.", c.Manifest().Name, c.Manifest().Sequence)
	if err := durable.WriteFile(v.Fleet, newer, 0o600); err != nil {
		a.say("coffer: note: it was not kept as %s, and is fetched again the next time: %v", v.Fleet, err)
	}
	return c, nil
}
