package hsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"coffer/internal/durable"

	"github.com/miekg/pkcs11"
)

// Provision makes the node's keys, once. With c.Durable set it makes a SoftHSM
// token there, complete and on the disk when it returns; the token of a real
// HSM must exist already and hold no keys of ours. soPIN is used for SoftHSM
// only; nil makes one that is forgotten, so that nobody can reset the PIN.
// c.PIN is kept: the caller stores it.
func Provision(ctx context.Context, c Config, soPIN []byte) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !process.TryLock() {
		return fmt.Errorf("%w: this process has a token open", ErrUnavailable)
	}
	defer process.Unlock()
	lib, err := load(c.Module)
	if err != nil {
		return err
	}
	if c.Durable == "" {
		return c.provision(lib, makeObjectMarks)
	}
	return c.provisionSoft(lib, soPIN)
}

// provision makes the keys in the token that lib finds, and its marks. A token
// that does not stand the probe is not used.
func (c *Config) provision(lib *pkcs11.Ctx, marks func(*session) error) (err error) {
	s, err := openModule(lib, c.TokenLabel, c.PIN)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, (&opened{root: s}).close()) }()
	found, err := s.objects()
	if err != nil {
		return err
	}
	if len(found) != 0 {
		return fmt.Errorf("hsm: token %q holds keys of a node already", c.TokenLabel)
	}
	if err := s.makeKeys(c.Mode); err != nil {
		return err
	}
	if s.k, err = s.loadKeys(); err != nil {
		return err
	}
	if err := marks(s); err != nil {
		return err
	}
	return fit(s.probe())
}

// provisionSoft makes a SoftHSM token. token.json comes last: until then there
// is no token, and the next attempt begins anew.
func (c *Config) provisionSoft(lib *pkcs11.Ctx, soPIN []byte) error {
	if _, err := os.Lstat(filepath.Join(c.Durable, metaName)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("hsm: provisioning %s: %w", c.Durable, errors.Join(err, os.ErrExist))
	}
	if err := durable.MkdirAll(c.Durable, 0o700); err != nil {
		return fmt.Errorf("hsm: provisioning: %w", err)
	}
	work, err := newWorkCopy(c.RunDir)
	if err != nil {
		return err
	}
	defer work.remove()
	if err := work.use(); err != nil {
		return err
	}
	if soPIN == nil {
		soPIN = NewPIN()
	}
	if err := initToken(lib, c.TokenLabel, string(soPIN), string(c.PIN)); err != nil {
		return fmt.Errorf("hsm: initialising a token: %w", err)
	}
	err = c.provision(lib, func(s *session) error { return makeFileMarks(s, c.Durable) })
	if err != nil {
		return err
	}
	return work.install(c.Durable, tokensPrefix+"1", c.TokenLabel)
}

// initToken makes an empty token in SoftHSM's free slot and sets both PINs.
func initToken(lib *pkcs11.Ctx, label, soPIN, pin string) (err error) {
	if err := lib.Initialize(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lib.Finalize()) }()
	slots, err := lib.GetSlotList(true)
	if err != nil {
		return err
	}
	if len(slots) != 1 {
		return fmt.Errorf("%d slots in an empty folder, want 1", len(slots))
	}
	if err := lib.InitToken(slots[0], soPIN, label); err != nil {
		return err
	}
	h, err := lib.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := lib.Login(h, pkcs11.CKU_SO, soPIN); err != nil {
		return err
	}
	return lib.InitPIN(h, pin)
}
