package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coffer/daemon"
	"coffer/daemon/web"
	"coffer/keyring"
)

// passkeys are those of the store that the daemon works with.
type passkeys struct {
	keyring.Passkeys
	ring *keyring.Ring
	d    *daemon.Daemon
}

func newPasskeys(stateDir string, b keyring.Upstream, ring *keyring.Ring, d *daemon.Daemon) *passkeys {
	return &passkeys{keyring.Passkeys{Dir: stateDir, Profile: ring.Profile(), In: keyring.Objects{In: b}}, ring, d}
}

// List implements [web.Passkeys].
func (k *passkeys) List(ctx context.Context) (views []web.Passkey, err error) {
	all, err := k.Passkeys.List(ctx)
	for _, p := range all {
		views = append(views, web.Passkey{ID: p.ID(), Name: p.Name, Credential: p.Credential, Salt: [32]byte(p.PRFSalt), Created: p.Created})
	}
	return views, err
}

// Add implements [web.Passkeys].
func (k *passkeys) Add(ctx context.Context, p web.Passkey, secret [32]byte) error {
	key, err := k.ring.Key()
	if errors.Is(err, keyring.ErrLocked) {
		return daemon.ErrLocked
	}
	if err != nil {
		return err
	}
	wrapped, err := keyring.WrapPasskey(key, k.Profile.Store, p.Credential, p.Name, p.Salt, secret, time.Now())
	if err != nil {
		return err
	}
	return k.Passkeys.Add(ctx, wrapped)
}

func (k *passkeys) find(ctx context.Context, id string) (keyring.Passkey, error) {
	all, err := k.Passkeys.List(ctx)
	if err != nil {
		return keyring.Passkey{}, err
	}
	for _, p := range all {
		if p.ID() == id {
			return p, nil
		}
	}
	return keyring.Passkey{}, web.ErrPasskey
}

// Remove implements [web.Passkeys].
func (k *passkeys) Remove(ctx context.Context, id string) error {
	p, err := k.find(ctx, id)
	if err != nil {
		return err
	}
	return k.Passkeys.Remove(ctx, p)
}

// Unlock implements [web.Passkeys].
func (k *passkeys) Unlock(ctx context.Context, id string, secret [32]byte) error {
	p, err := k.find(ctx, id)
	if err != nil {
		return err
	}
	key, err := p.Open(secret)
	if err != nil {
		return fmt.Errorf("%w: %w", web.ErrPasskey, err)
	}
	return k.d.Unlock(ctx, key.Bytes())
}
