package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"coffer/backup"
	"coffer/daemon"
	"coffer/daemon/web"
	"coffer/keyring"
	"coffer/upstream"
)

// passkeys are those of the store that the daemon works with.
type passkeys struct {
	keyring.Passkeys
	ring *keyring.Ring
	d    *daemon.Daemon
}

func newPasskeys(stateDir string, b backup.Bucket, ring *keyring.Ring, d *daemon.Daemon) *passkeys {
	return &passkeys{keyring.Passkeys{Dir: stateDir, Profile: ring.Profile(), In: passkeyStore{b}}, ring, d}
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

// passkeyStore is an upstream as the keyring needs it.
type passkeyStore struct{ b backup.Bucket }

func (s passkeyStore) Load(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, info, err := s.b.Get(ctx, name, 0, limit+1)
	if errors.Is(err, upstream.ErrNotExist) {
		return nil, fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, info.Size, limit)
	}
	return io.ReadAll(io.LimitReader(r, limit+1))
}

func (s passkeyStore) Create(ctx context.Context, name string, data []byte) error {
	_, err := s.b.Put(ctx, name, bytes.NewReader(data), int64(len(data)), upstream.PutOptions{IfAbsent: true})
	if errors.Is(err, upstream.ErrExists) {
		return fmt.Errorf("%w (%w)", err, fs.ErrExist)
	}
	return err
}

// errFull ends a listing.
var errFull = errors.New("enough names")

func (s passkeyStore) List(ctx context.Context, prefix string, limit int) (names []string, err error) {
	err = s.b.List(ctx, prefix, "", func(i upstream.Info) error {
		if len(names) == limit {
			return errFull
		}
		names = append(names, i.Name)
		return nil
	})
	if errors.Is(err, errFull) {
		err = nil
	}
	return names, err
}

func (s passkeyStore) Remove(ctx context.Context, name string) error { return s.b.Delete(ctx, name) }
