package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/vault"
)

// fleetConfig says how to reach the fleet of the fleet file; stateDir keeps what must
// outlive a crash, "" nothing.
func (a *app) fleetConfig(v config.VaultClient, stateDir string) (c vault.ClientConfig, err error) {
	c.Account = v.Account
	if c.Manifest, err = readFile(v.Fleet, maxFleetFile); err != nil {
		return c, fmt.Errorf("reading the vault's fleet file: %w", err)
	}
	if c.Roots, err = vault.ParseRoots(v.Roots, 0); err != nil {
		return c, usageError{err}
	}
	if v.TokenFile != "" {
		if c.Token, err = readSecret(a.in, v.TokenFile); err != nil {
			return c, fmt.Errorf("reading the vault's account token: %w", err)
		}
	}
	if stateDir != "" {
		c.StateDir = filepath.Join(stateDir, "vault")
		if err := durable.MkdirAll(c.StateDir, 0o700); err != nil {
			return c, fmt.Errorf("making the state folder: %w", err)
		}
	}
	return c, nil
}

// openVault makes a client of the fleet by the newest manifest that the nodes show: with an
// older one they answer nothing. It takes the place of the fleet file. Nodes that do not
// answer in time are no reason to go on otherwise.
func (a *app) openVault(ctx context.Context, v config.VaultClient, stateDir string) (vaultClient, error) {
	c, err := a.fleetConfig(v, stateDir)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	newer, err := a.newer(asking, c)
	if err != nil || newer == nil {
		return a.vault(c) // what is wrong with the nodes, the call after this one says
	}
	c.Manifest = newer
	client, err := a.vault(c)
	if err != nil {
		return nil, err
	}
	a.say("The vault %q has a new manifest, number %d; its root keys have signed it.", client.Manifest().Name, client.Manifest().Sequence)
	if err := durable.WriteFile(v.Fleet, newer, 0o600); err != nil {
		a.say("coffer: note: it was not kept as %s, and is fetched again the next time: %v", v.Fleet, err)
	}
	return client, nil
}

// signedManifest reads the fleet file, however old: what is printed with it lasts
// longer than a manifest.
func signedManifest(c vault.ClientConfig) (*vault.Manifest, error) {
	file, err := vault.ParseManifest(c.Manifest)
	if err != nil {
		return nil, err
	}
	return file.Verify(c.Roots, time.Time{})
}
