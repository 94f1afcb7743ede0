package keyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"coffer/internal/durable"
)

// passkeyFolder is in the state folder: a copy of each passkey of the store.
const passkeyFolder = "passkeys"

// maxPasskeys bounds what is read of a folder or a store.
const maxPasskeys = 64

// PasskeyStore is a store as passkeys need it; see [Bucket].
type PasskeyStore interface {
	Bucket
	// List returns the names that begin with prefix, at most limit of them.
	List(ctx context.Context, prefix string, limit int) ([]string, error)
	// Remove deletes an object; that it is absent is no error.
	Remove(ctx context.Context, name string) error
}

// Passkeys are those of one store. They lie in the store, for other machines, and
// in the state folder, so that the store is not needed to unlock.
type Passkeys struct {
	Dir     string  // the state folder
	Profile Profile // of the store; passkeys of another store or of an earlier key are no longer among them
	In      PasskeyStore
}

// List returns the passkeys of this machine, the oldest first. When it has none,
// it asks the store, as on a machine that was set up anew, and keeps copies.
func (k Passkeys) List(ctx context.Context) ([]Passkey, error) {
	all, err := k.Here()
	if errors.Is(err, fs.ErrNotExist) {
		all, err = k.fetch(ctx)
	}
	if err != nil {
		return nil, err
	}
	inOrder(all)
	return all, nil
}

// Here returns the copies that this machine has, the oldest first, without asking
// the store; the error is [fs.ErrNotExist] when it has never asked.
func (k Passkeys) Here() ([]Passkey, error) {
	entries, err := os.ReadDir(k.folder())
	if err != nil {
		return nil, fmt.Errorf("reading passkeys: %w", err)
	}
	var all []Passkey
	for _, e := range entries {
		raw, err := readBounded(filepath.Join(k.folder(), e.Name()), maxPasskey)
		if err != nil {
			return nil, fmt.Errorf("reading passkeys: %w", err)
		}
		all = k.add(all, e.Name(), raw)
	}
	inOrder(all)
	return all, nil
}

func inOrder(all []Passkey) {
	slices.SortFunc(all, func(a, b Passkey) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID(), b.ID())) })
}

func (k Passkeys) folder() string { return filepath.Join(k.Dir, passkeyFolder) }

// add appends what is a passkey of this store; the store's operator may put
// anything beside them.
func (k Passkeys) add(all []Passkey, name string, raw []byte) []Passkey {
	p, err := ParsePasskey(raw)
	if err != nil || p.Store != k.Profile.Store || p.KeyID != k.Profile.KeyID || p.ObjectName() != name || len(all) == maxPasskeys {
		return all
	}
	return append(all, p)
}

// fetch copies the passkeys of the store to this machine.
func (k Passkeys) fetch(ctx context.Context) (all []Passkey, err error) {
	names, err := k.In.List(ctx, PasskeyPrefix, maxPasskeys)
	if err != nil {
		return nil, fmt.Errorf("listing passkeys: %w", err)
	}
	for _, name := range names {
		raw, err := k.In.Load(ctx, name, maxPasskey)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		all = k.add(all, name, raw)
	}
	if err := durable.MkdirAll(k.folder(), 0o700); err != nil {
		return nil, fmt.Errorf("keeping passkeys: %w", err)
	}
	for _, p := range all {
		if err := k.keep(p); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (k Passkeys) keep(p Passkey) error {
	if err := durable.WriteFile(filepath.Join(k.folder(), p.ObjectName()), p.Encode(), 0o600); err != nil {
		return fmt.Errorf("keeping passkeys: %w", err)
	}
	return nil
}

// Add keeps p in the store and here. A passkey can be added once.
func (k Passkeys) Add(ctx context.Context, p Passkey) error {
	all, err := k.List(ctx) // has the copies here, so that the new one is not taken for all of them
	if err != nil {
		return err
	}
	if len(all) >= maxPasskeys {
		return fmt.Errorf("there are %d passkeys already", len(all))
	}
	if err := k.In.Create(ctx, p.ObjectName(), p.Encode()); err != nil {
		return fmt.Errorf("storing a passkey: %w", err)
	}
	return k.keep(p)
}

// Remove deletes the passkey from the store, then here. What the store keeps of
// deleted objects, and copies that somebody made, it does not reach.
func (k Passkeys) Remove(ctx context.Context, p Passkey) error {
	if err := k.In.Remove(ctx, p.ObjectName()); err != nil {
		return fmt.Errorf("removing a passkey: %w", err)
	}
	if err := os.Remove(filepath.Join(k.folder(), p.ObjectName())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a passkey: %w", err)
	}
	return durable.SyncDir(k.folder())
}
