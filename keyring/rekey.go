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
	"strings"

	"coffer/internal/durable"
	"coffer/seal"
)

// A store gets another backup key in this order, so that at no moment the key that
// its owner keeps does not open all of it:
//
//  1. the next key and the one before, in the state folder   MakeNext
//  2. the link, in the store                                  Link
//  3. its owner keeps it
//  4. the profile of the next key, in the store               Rekeyed
//  5. the key of this machine                                 Save
//  6. every object is sealed anew; the link and the next key go
//
// From 4 on the next key is the store's. Who has it finds the one before by the link,
// on any machine, also when 4 never came. The machine that began does not need the
// link: storage that loses it cannot make a rekey look as if it were done.

// LinkName is the name of the link in the store: the backup key before, sealed under
// the one of the profile. It is there while not all is sealed under that.
const LinkName = "rekey"

const nextKeyFile = "backup.key.next" // in the state folder: the next key as in keyFile, an empty line, the one before

// NextKey is the key that the store of this machine is about to get, or has got while
// not all is sealed under it, and the one before it, as MakeNext has written them:
// [fs.ErrNotExist] if there is none.
func NextKey(dir string) (next, before seal.Key, err error) {
	path := filepath.Join(dir, nextKeyFile)
	raw, err := readBounded(path, maxKeyFile)
	if err == nil {
		text, rest, _ := strings.Cut(string(raw), "\n\n")
		if next, err = ParseDigits(text); err == nil {
			before, err = ParseDigits(rest)
		}
		if err != nil {
			err = fmt.Errorf("%s must have the digits of two keys, the next one, an empty line, and the one before: %w", path, err)
		}
	}
	if err != nil {
		return seal.Key{}, seal.Key{}, fmt.Errorf("the next backup key: %w", err)
	}
	return next, before, nil
}

// MakeNext is the key that comes after before, the one in force: the one that was made
// for that, or else a new one, durably. One that was made for another key may have been
// seen since, and is replaced.
func MakeNext(dir string, before seal.Key) (seal.Key, error) {
	next, replaced, err := NextKey(dir)
	if err == nil && replaced.Equal(before) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return next, err
	}
	next = seal.NewKey()
	if err := durable.WriteFile(filepath.Join(dir, nextKeyFile), []byte(Digits(next)+"\n\n"+Digits(before)+"\n"), 0o600); err != nil {
		return seal.Key{}, fmt.Errorf("the next backup key: %w", err)
	}
	return next, nil
}

// ForgetNext removes what MakeNext has made, durably.
func ForgetNext(dir string) error {
	err := os.Remove(filepath.Join(dir, nextKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("removing the next backup key: %w", err)
	}
	return nil
}

// ForgetStale is ForgetNext, unless inForce is the next key or the one before it: then
// the rekey can go on.
func ForgetStale(dir string, inForce seal.Key) error {
	next, before, err := NextKey(dir)
	if err == nil && (next.Equal(inForce) || before.Equal(inForce)) {
		return nil
	}
	return ForgetNext(dir)
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
