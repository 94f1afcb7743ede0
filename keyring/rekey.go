package keyring

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"coffer/internal/durable"
	"coffer/seal"
)

// A store gets another backup key in this order, so that at no moment the key that
// its owner keeps does not open all of it:
//
//  1. the next key, in the state folder           NextKey
//  2. the link, in the store                      Link
//  3. its owner keeps it
//  4. the profile of the next key, in the store   Rekeyed
//  5. the key of this machine                     Save
//  6. every object is sealed anew; the link and the next key go
//
// From 4 on the next key is the store's. Who has it finds the one before by the link,
// on any machine, also when 4 never came.

// LinkName is the name of the link in the store: the backup key before, sealed under
// the one of the profile. It is there while not all is sealed under that.
const LinkName = "rekey"

const nextKeyFile = "backup.key.next" // in the state folder: as keyFile

// NextKey is the key that the store of this machine is about to get: the one that
// was made before, if there is one, or else, with create, a new one, durably.
// Without create [fs.ErrNotExist] says that there is none.
func NextKey(dir string, create bool) (seal.Key, error) {
	raw, err := readBounded(filepath.Join(dir, nextKeyFile), maxKeyFile)
	if err == nil {
		var k seal.Key
		if k, err = ParseDigits(string(raw)); err == nil {
			return k, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) && create {
		k := seal.NewKey()
		if err = durable.WriteFile(filepath.Join(dir, nextKeyFile), []byte(Digits(k)+"\n"), 0o600); err == nil {
			return k, nil
		}
	}
	return seal.Key{}, fmt.Errorf("the next backup key: %w", err)
}

// ForgetNext removes what NextKey has made.
func ForgetNext(dir string) error {
	if err := os.Remove(filepath.Join(dir, nextKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the next backup key: %w", err)
	}
	return nil
}

// maxKeyFile bounds a file with a key.
const maxKeyFile = 4096

// Link is the object that leads from the next key of a store to the one before.
func Link(next *seal.Keys, before seal.Key) []byte {
	b := before.Bytes()
	return next.Seal(LinkName, b[:])
}

// LoadLink is the key that the link leads to from keys: [fs.ErrNotExist] if there is no
// link, [seal.ErrKey] if it begins at another key.
func LoadLink(ctx context.Context, b Bucket, keys *seal.Keys) (seal.Key, error) {
	raw, err := b.Load(ctx, LinkName, maxKeyFile)
	if err == nil {
		raw, err = keys.Open(LinkName, raw)
	}
	if err != nil {
		return seal.Key{}, fmt.Errorf("reading %s: %w", LinkName, err)
	}
	return seal.KeyFromBytes(raw)
}

// Rekeyed is p for the next key of its store, kept in other ways. The keys must be
// those of the store.
func (p Profile) Rekeyed(keys *seal.Keys, next seal.Key, methods ...Method) (Profile, error) {
	if err := p.Verify(keys); err != nil {
		return Profile{}, err
	}
	n := next.Keys(p.Store)
	id := n.ID()
	p.KeyID, p.Methods = hex.EncodeToString(id[:]), slices.Clone(methods)
	p.MAC = hex.EncodeToString(p.mac(n))
	return p, nil
}
