package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"coffer/seal"
)

const (
	passkeyFormat  = "coffer passkey"
	passkeyVersion = 1
	maxPasskey     = 8 << 10 // of one in writing, bytes
	maxCredential  = 1023    // bytes, WebAuthn's own limit
	maxPasskeyName = 100     // bytes
	passkeySalt    = 32
)

// PasskeyPrefix begins the names of passkeys in the store.
const PasskeyPrefix = "passkey-"

// ErrPasskey means that the passkey is malformed or was changed, or that the
// secret is not its.
var ErrPasskey = errors.New("the passkey does not open the backup key")

// Passkey is the backup key, wrapped by the secret that a WebAuthn authenticator
// gives for PRFSalt (the PRF extension). It is public: without the authenticator
// it is of no use. FORMAT.md describes it.
type Passkey struct {
	Format     string       `json:"format"` // "coffer passkey"
	Version    int          `json:"version"`
	Store      seal.StoreID `json:"store"`
	KeyID      string       `json:"key_id"`     // of the backup key, as in the [Profile]
	Credential []byte       `json:"credential"` // id of the credential, 1 to 1023 bytes
	Name       string       `json:"name"`       // the owner's
	Created    time.Time    `json:"created"`
	PRFSalt    []byte       `json:"prf_salt"`  // 32 bytes: what the authenticator is asked about
	WrapSalt   []byte       `json:"wrap_salt"` // 32 bytes, random
	Wrapped    []byte       `json:"wrapped"`   // 48 bytes
}

// WrapPasskey wraps the backup key of a store with prf, which the authenticator
// gave for prfSalt.
func WrapPasskey(key seal.Key, store seal.StoreID, credential []byte, name string, prfSalt, prf [32]byte, now time.Time) (Passkey, error) {
	id := key.Keys(store).ID()
	p := Passkey{
		Format: passkeyFormat, Version: passkeyVersion, Store: store, KeyID: hex.EncodeToString(id[:]),
		Credential: credential, Name: strings.TrimSpace(strings.ToValidUTF8(name, "?")), Created: now.UTC().Truncate(time.Second),
		PRFSalt: prfSalt[:], WrapSalt: make([]byte, passkeySalt),
	}
	rand.Read(p.WrapSalt)
	raw := key.Bytes()
	defer clear(raw[:])
	p.Wrapped = p.aead(prf).Seal(nil, make([]byte, 12), raw[:], p.public())
	return p, p.check()
}

// Open returns the backup key, [ErrPasskey] when prf is not the secret.
func (p Passkey) Open(prf [32]byte) (seal.Key, error) {
	raw, err := p.aead(prf).Open(nil, make([]byte, 12), p.Wrapped, p.public())
	if err != nil {
		return seal.Key{}, ErrPasskey
	}
	defer clear(raw)
	return seal.KeyFromBytes(raw)
}

// aead seals one message: the salt is new for each. So nonce 0 is safe.
func (p Passkey) aead(prf [32]byte) cipher.AEAD {
	id := sha256.Sum256(p.Credential)
	info := "coffer passkey wrap v1" + string(p.Store[:]) + string(id[:])
	key, err := hkdf.Key(sha256.New, prf[:], p.WrapSalt, info, 32)
	if err != nil {
		panic("keyring: internal error: " + err.Error())
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("keyring: internal error: " + err.Error())
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("keyring: internal error: " + err.Error())
	}
	return gcm
}

// public is the JSON of all but the wrapped key.
func (p Passkey) public() []byte {
	p.Wrapped = nil
	b, err := json.Marshal(p)
	if err != nil {
		panic("keyring: internal error: " + err.Error())
	}
	return b
}

// ID names the passkey: 32 hex digits.
func (p Passkey) ID() string {
	sum := sha256.Sum256(p.Credential)
	return hex.EncodeToString(sum[:16])
}

// ObjectName is the passkey's name in the store, and that of its file.
func (p Passkey) ObjectName() string { return PasskeyPrefix + p.ID() + ".json" }

// Encode returns p as it lies in the store.
func (p Passkey) Encode() []byte {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic("keyring: internal error: " + err.Error())
	}
	return append(b, '\n')
}

// ParsePasskey reads what Encode wrote; anything else is [ErrPasskey] or
// [ErrVersion]. It cannot tell who wrote it.
func ParsePasskey(b []byte) (Passkey, error) {
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if len(b) > maxPasskey || json.Unmarshal(b, &head) != nil || head.Format != passkeyFormat {
		return Passkey{}, ErrPasskey
	}
	if head.Version != passkeyVersion {
		return Passkey{}, fmt.Errorf("passkey of version %d: %w", head.Version, ErrVersion)
	}
	var p Passkey
	if err := json.Unmarshal(b, &p); err != nil || !bytes.Equal(p.Encode(), b) {
		return Passkey{}, ErrPasskey
	}
	return p, p.check()
}

func (p Passkey) check() error {
	switch {
	case len(p.Credential) < 1 || len(p.Credential) > maxCredential:
		return fmt.Errorf("credential of %d bytes: %w", len(p.Credential), ErrPasskey)
	case p.Name == "" || len(p.Name) > maxPasskeyName:
		return fmt.Errorf("name of %d bytes, want 1 to %d: %w", len(p.Name), maxPasskeyName, ErrPasskey)
	case len(p.PRFSalt) != passkeySalt || len(p.WrapSalt) != passkeySalt || len(p.Wrapped) != seal.KeySize+16:
		return fmt.Errorf("sizes: %w", ErrPasskey)
	}
	return nil
}
