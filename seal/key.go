package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
)

// KeySize is the size of a backup key in bytes.
const KeySize = 32

// Key is a backup key: 256 random bits, the root of everything. It prints
// "seal.Key(hidden)", also inside other structs.
type Key struct {
	bytes func() [KeySize]byte // fmt prints the address of a function, whatever the verb
}

// NewKey makes a random key.
func NewKey() Key {
	var b [KeySize]byte
	rand.Read(b[:])
	return Key{func() [KeySize]byte { return b }}
}

// KeyFromBytes makes a key of exactly [KeySize] bytes, which it copies.
func KeyFromBytes(b []byte) (Key, error) {
	if len(b) != KeySize {
		return Key{}, fmt.Errorf("backup key of %d bytes, not %d", len(b), KeySize)
	}
	c := [KeySize]byte(b)
	return Key{func() [KeySize]byte { return c }}, nil
}

// Bytes returns the secret itself.
func (k Key) Bytes() [KeySize]byte {
	if k.bytes == nil {
		panic("seal: internal error: use of a zero Key")
	}
	return k.bytes()
}

// Equal compares in constant time. A zero Key equals none.
func (k Key) Equal(other Key) bool {
	if k.bytes == nil || other.bytes == nil {
		return false
	}
	a, b := k.bytes(), other.bytes()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Format keeps the secret out of logs and errors, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "seal.Key(hidden)") }

// MarshalJSON keeps the secret out of JSON.
func (Key) MarshalJSON() ([]byte, error) { return []byte(`"seal.Key(hidden)"`), nil }

// StoreID names one store: the set of mirrors that hold the same objects. It is
// random and public, and separates the keys of two stores of one backup key.
type StoreID [16]byte

// NewStoreID makes a random id.
func NewStoreID() StoreID {
	var s StoreID
	rand.Read(s[:])
	return s
}

// ParseStoreID parses the 32 hex digits that [StoreID.String] prints.
func ParseStoreID(s string) (StoreID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(StoreID{}) {
		return StoreID{}, fmt.Errorf("store id %q is not 32 hex digits", s)
	}
	return StoreID(b), nil
}

func (s StoreID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText gives what String gives.
func (s StoreID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is [ParseStoreID].
func (s *StoreID) UnmarshalText(b []byte) (err error) {
	*s, err = ParseStoreID(string(b))
	return err
}

// Keys is what is derived from a backup key for one store. It is immutable and
// safe for concurrent use, and prints "seal.Keys(hidden)".
type Keys struct {
	secrets func() *secrets
}

type secrets struct {
	prk     []byte
	store   StoreID
	id      [8]byte
	wrap    [32]byte
	env     [32]byte
	nameMAC [32]byte
	nameEnc cipher.Block
}

// epoch counts the wrap keys of one backup key; the key id says which it is.
// There is only the first so far.
const epoch = "\x00\x00\x00\x00"

// Keys derives the keys of one store.
func (k Key) Keys(store StoreID) *Keys {
	b := k.Bytes()
	prk, err := hkdf.Extract(sha256.New, b[:], append([]byte("coffer store v1"), store[:]...))
	if err != nil {
		panic("seal: internal error: " + err.Error())
	}
	s := &secrets{prk: prk, store: store}
	s.wrap = s.expand("coffer seal wrap v1" + epoch)
	s.env = s.expand("coffer seal envelope v1")
	s.nameMAC = s.expand("coffer seal name mac v1")
	enc := s.expand("coffer seal name enc v1")
	if s.nameEnc, err = aes.NewCipher(enc[:]); err != nil {
		panic("seal: internal error: " + err.Error())
	}
	id := s.expand("coffer seal key id v1" + epoch)
	copy(s.id[:], id[:])
	return &Keys{func() *secrets { return s }}
}

// expand derives one key; each info has one use.
func (s *secrets) expand(info string) [32]byte {
	key, err := hkdf.Expand(sha256.New, s.prk, info, 32)
	if err != nil {
		panic("seal: internal error: " + err.Error())
	}
	return [32]byte(key)
}

// derive is HKDF-SHA-256, extract and expand, for the keys below a store key.
func derive(secret, salt []byte, info string) [32]byte {
	key, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		panic("seal: internal error: " + err.Error())
	}
	return [32]byte(key)
}

// ID is the public id of the backup key in this store: equal for equal keys, and
// of no use for finding the key.
func (k *Keys) ID() [8]byte { return k.secrets().id }

// Store is the store that the keys are for.
func (k *Keys) Store() StoreID { return k.secrets().store }

// Derive makes a key for use outside this package. Each label has one use, and
// is listed in FORMAT.md; it cannot collide with a key of this package.
func (k *Keys) Derive(label string) [32]byte { return k.secrets().expand("coffer use " + label) }

// Format keeps the secrets out of logs and errors, whatever the verb.
func (*Keys) Format(f fmt.State, _ rune) { io.WriteString(f, "seal.Keys(hidden)") }

// MarshalJSON keeps the secrets out of JSON.
func (*Keys) MarshalJSON() ([]byte, error) { return []byte(`"seal.Keys(hidden)"`), nil }
