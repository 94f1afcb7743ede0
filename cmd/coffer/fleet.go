package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"coffer/internal/config"
	"coffer/internal/durable"
	"coffer/vault"
)

// isNode says whether a vault is named by the address of a node, not by a fleet file.
func isNode(fleet string) bool { return strings.HasPrefix(fleet, "https://") }

// fleetFile reads the fleet file, or has the node at that address show it: once in a run,
// for what was used is what must be kept.
func (a *app) fleetFile(ctx context.Context, fleet string, roots vault.Roots) ([]byte, error) {
	if isNode(fleet) {
		if a.shown != nil {
			return a.shown, nil
		}
		b, err := a.fetch(ctx, fleet, roots)
		if err == nil {
			a.shown = b
		}
		return b, err
	}
	b, err := readFile(fleet, maxFleetFile)
	if err != nil {
		err = fmt.Errorf("reading the vault's fleet file: %w", err)
	}
	return b, err
}

// fleetConfig says how to reach the fleet of the fleet file; stateDir keeps what must
// outlive a crash, "" nothing.
func (a *app) fleetConfig(ctx context.Context, v config.VaultClient, stateDir string) (c vault.ClientConfig, err error) {
	c.Account = v.Account
	if c.Roots, err = vault.ParseRoots(v.Roots, 0); err != nil {
		return c, usageError{err}
	}
	if c.Manifest, err = a.fleetFile(ctx, v.Fleet, c.Roots); err != nil {
		return c, err
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
	c, err := a.fleetConfig(ctx, v, stateDir)
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
	if isNode(v.Fleet) {
		a.shown = newer
		return client, nil
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

// keepFleet copies the fleet file: the one that was given may lie in a download folder,
// or with a node.
func (a *app) keepFleet(ctx context.Context, v *config.VaultClient, stateDir string) error {
	if v.Fleet == "" {
		return nil
	}
	roots, err := vault.ParseRoots(v.Roots, 0)
	if err != nil {
		return usageError{err}
	}
	fleet, err := a.fleetFile(ctx, v.Fleet, roots)
	if err != nil {
		return err
	}
	v.Fleet = filepath.Join(stateDir, "fleet.cbor")
	return durable.WriteFile(v.Fleet, fleet, 0o600)
}
