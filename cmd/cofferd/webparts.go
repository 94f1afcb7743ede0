package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"coffer/daemon"
	"coffer/daemon/web"
	"coffer/internal/config"
	"coffer/internal/secret"
	"coffer/vault"
)

const (
	maxFleet  = 1 << 20
	maxDoctor = 1 << 20 // of what the doctor says
	newerTime = 3 * time.Second
)

// askVault asks the nodes of the vault about the account; it spends no attempt.
func askVault(ctx context.Context, c *config.User) (web.Vault, error) {
	client, err := openVault(ctx, c)
	if err != nil {
		return web.Vault{}, err
	}
	defer client.Close()
	st, err := client.Status(ctx)
	if err != nil {
		return web.Vault{}, err
	}
	m := client.Manifest()
	v := web.Vault{
		Name: m.Name, Registered: st.Registered, Destroyed: st.Destroyed, Left: st.Left, Budget: st.Budget,
		Failed: st.Failed, LastFailed: st.LastFailed, DisableAt: st.DisableAt,
	}
	for _, n := range st.Nodes {
		node := web.VaultNode{Name: n.ID, Operator: n.Operator, Holds: n.Holds, Took: n.Latency, Err: n.Err}
		for _, of := range m.Nodes {
			if of.ID == n.ID {
				node.HSM = of.HSM
			}
		}
		v.Nodes = append(v.Nodes, node)
	}
	return v, nil
}

// openVault makes a client by the newest manifest that the nodes show. The command keeps
// it, when it asks the vault the next time.
func openVault(ctx context.Context, c *config.User) (*vault.Client, error) {
	f, err := os.Open(c.Vault.Fleet)
	if err != nil {
		return nil, fmt.Errorf("reading the vault's fleet file: %w", err)
	}
	defer f.Close()
	manifest, err := io.ReadAll(io.LimitReader(f, maxFleet))
	if err != nil {
		return nil, fmt.Errorf("reading the vault's fleet file: %w", err)
	}
	roots, err := vault.ParseRoots(c.Vault.Roots, 0)
	if err != nil {
		return nil, err
	}
	var token string
	if c.Vault.TokenFile != "" {
		if token, err = secret.Read(c.Vault.TokenFile); err != nil {
			return nil, fmt.Errorf("reading the vault's account token: %w", err)
		}
	}
	cc := vault.ClientConfig{Manifest: manifest, Roots: roots, Account: c.Vault.Account, Token: token,
		StateDir: filepath.Join(c.StateDir, "vault")} // as the command's: none of them goes back to an older one
	asking, cancel := context.WithTimeout(ctx, newerTime)
	defer cancel()
	if newer, err := vault.NewerManifest(asking, cc); err == nil && newer != nil {
		cc.Manifest = newer
	}
	return vault.NewClient(cc)
}

// askDoctor has "coffer doctor" look: the command that is beside this program.
func askDoctor(ctx context.Context, configFile string) ([]web.Finding, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "coffer"), "doctor", "--json", "--config", configFile)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the doctor: %w", err)
	}
	var all []web.Finding // encoding/json does not mind the case of names
	broken := json.NewDecoder(io.LimitReader(out, maxDoctor)).Decode(&all)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitFailed {
		err = nil // it found something
	}
	return all, errors.Join(err, broken)
}

// listBuckets are those of the gateway.
func listBuckets(ctx context.Context, g *gateway, repo *repository, limit int) (all []web.GatewayBucket, err error) {
	if repo.Locked() {
		return nil, daemon.ErrLocked
	}
	list, err := g.proxy.Buckets(ctx, limit)
	for _, b := range list {
		all = append(all, web.GatewayBucket{Name: b.Name, Created: b.Created, Versioning: b.Versioning, Lock: b.Lock})
	}
	return all, err
}
