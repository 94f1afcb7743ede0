// Package device is a SoftHSM token for benchmarks, which may be slowed down to
// the speed of a real HSM: one that leaves the processors to the rest.
package device

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"coffer/hsm"
	"coffer/vault"
)

// Device is a token that evaluates one point after the other.
type Device struct {
	*hsm.Token
	takes time.Duration // an evaluation, at least; 0: as long as it takes
	mu    sync.Mutex    // held while it evaluates, if it is slowed down
}

func config(dir string) (hsm.Config, error) {
	pin, err := os.ReadFile(filepath.Join(dir, "pin"))
	return hsm.Config{
		Module: "/usr/lib/softhsm/libsofthsm2.so", TokenLabel: "bench", PIN: pin, Sessions: 1, Wait: time.Minute,
		Durable: filepath.Join(dir, "token"), RunDir: dir,
	}, err
}

// Provision makes a token in dir and returns its identity key.
func Provision(ctx context.Context, dir string) (identity [33]byte, err error) {
	if err := os.MkdirAll(filepath.Join(dir, "token"), 0o700); err != nil {
		return identity, err
	}
	if err := os.WriteFile(filepath.Join(dir, "pin"), hsm.NewPIN(), 0o600); err != nil {
		return identity, err
	}
	c, err := config(dir)
	if err != nil {
		return identity, err
	}
	if err := hsm.Provision(ctx, c, nil); err != nil {
		return identity, err
	}
	d, err := Open(ctx, dir, 0)
	if err != nil {
		return identity, err
	}
	identity, err = vault.IdentityKey(d.Info().Signing)
	return identity, errors.Join(err, d.Close())
}

// Open opens the token in dir. An evaluation by it takes so long, at least.
func Open(ctx context.Context, dir string, takes time.Duration) (*Device, error) {
	c, err := config(dir)
	if err != nil {
		return nil, err
	}
	t, err := hsm.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Device{Token: t, takes: takes}, nil
}

// Evaluate is that of the token, slowed down.
func (d *Device) Evaluate(ctx context.Context, owner, record []byte, blinded [33]byte) ([33]byte, error) {
	if d.takes > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		done := time.Now().Add(d.takes)
		defer func() { time.Sleep(time.Until(done)) }()
	}
	return d.Token.Evaluate(ctx, owner, record, blinded)
}
