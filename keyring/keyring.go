// Package keyring has the backup key: it makes it, keeps it on this machine,
// gets it back, and gives the keys of the store to those who need them while it
// is unlocked.
//
// The key is 256 random bits. Its owner keeps it as 64 digits ([Digits]), or
// behind a password in a vault ([Protect], [Recover]), or both; [Passkey] is one
// more way to it. Which, and for which store, says the [Profile]: a public object in
// the store, so that a new machine knows what to ask for, and a wrong key is said
// to be wrong before anything else happens. On this machine the key lies in a
// systemd credential or a file (see [Load]).
//
// The package encrypts nothing but the key, for passkeys; the rest is seal. It does not know where the store
// is; the programs hand it a [Bucket].
package keyring

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"coffer/seal"
)

// ErrLocked means that the backup key is not in memory.
var ErrLocked = errors.New("the backup key is locked")

// Ring holds the backup key of one store while it is unlocked. It is safe for
// concurrent use.
type Ring struct {
	profile Profile
	from    string // where Load found the key; "" otherwise

	mu   sync.Mutex
	key  seal.Key   // valid while keys is not nil
	keys *seal.Keys // nil while locked
}

// NewRing makes a locked ring for the store of p.
func NewRing(p Profile) *Ring { return &Ring{profile: p} }

// Profile describes the store that the ring is for.
func (r *Ring) Profile() Profile { return r.profile }

// From says where [Load] found the key: "credential", "file", or "" if it found none.
func (r *Ring) From() string { return r.from }

// Unlock takes the backup key. One that is not that of the store is refused with
// [seal.ErrKey], a profile that was changed with [ErrProfile].
func (r *Ring) Unlock(_ context.Context, key [seal.KeySize]byte) error {
	k, err := seal.KeyFromBytes(key[:])
	if err != nil {
		return err
	}
	keys := k.Keys(r.profile.Store)
	if err := r.profile.Verify(keys); err != nil {
		return fmt.Errorf("unlocking store %v: %w", r.profile.Store, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key, r.keys = k, keys
	return nil
}

// Lock forgets the key. Who got [Ring.Keys] before has them still.
func (r *Ring) Lock() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key, r.keys = seal.Key{}, nil
}

// Locked says whether the key is not in memory.
func (r *Ring) Locked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys == nil
}

// Keys are the keys of the store, or [ErrLocked].
func (r *Ring) Keys() (*seal.Keys, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		return nil, ErrLocked
	}
	return r.keys, nil
}

// Key is the backup key itself, or [ErrLocked].
func (r *Ring) Key() (seal.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		return seal.Key{}, ErrLocked
	}
	return r.key, nil
}
