package restic

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 restic's format is Poly1305-AES, which no AEAD of the library is
	"golang.org/x/crypto/scrypt"
)

const (
	ivSize   = aes.BlockSize
	overhead = ivSize + poly1305.TagSize
	maxKDF   = 1 << 30 // bytes that a key may ask scrypt to take
)

// key seals what a repository holds. It prints "restic.key(hidden)".
type key struct {
	encrypt [32]byte
	k, r    [16]byte // Poly1305-AES: k makes the pad from the IV, r is the point
}

// Format keeps the secret out of logs and errors.
func (*key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "restic.key(hidden)") }

// open authenticates and decrypts.
func (k *key) open(b []byte) ([]byte, error) {
	if len(b) < overhead {
		return nil, fmt.Errorf("%d bytes: %w", len(b), ErrCorrupt)
	}
	iv, body, tag := b[:ivSize], b[ivSize:len(b)-poly1305.TagSize], [16]byte(b[len(b)-poly1305.TagSize:])
	block, err := aes.NewCipher(k.k[:])
	if err != nil {
		return nil, err
	}
	var mac [32]byte
	copy(mac[:], k.r[:])
	block.Encrypt(mac[16:], iv)
	if !poly1305.Verify(&tag, body, &mac) {
		return nil, fmt.Errorf("not authentic: %w", ErrCorrupt)
	}
	if block, err = aes.NewCipher(k.encrypt[:]); err != nil {
		return nil, err
	}
	out := make([]byte, len(body))
	cipher.NewCTR(block, iv).XORKeyStream(out, body)
	return out, nil
}

// keyFile is a file of keys/.
type keyFile struct {
	KDF  string `json:"kdf"`
	N    int    `json:"N"`
	R    int    `json:"r"`
	P    int    `json:"p"`
	Salt []byte `json:"salt"`
	Data []byte `json:"data"`
}

// unlock finds the key that a password opens.
func (r *Repo) unlock(ctx context.Context, password string) (*key, error) {
	names, err := r.names(ctx, "keys/")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		b, err := r.whole(ctx, name)
		if err != nil {
			return nil, err
		}
		k, err := openKey(b, password)
		if err == nil {
			return k, nil
		}
		if !errors.Is(err, ErrPassword) {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("it has no keys: %w", ErrCorrupt)
	}
	return nil, ErrPassword
}

// openKey opens the master key in a key file.
func openKey(b []byte, password string) (*key, error) {
	var f keyFile
	if err := json.Unmarshal(bytes.TrimSpace(b), &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if f.KDF != "scrypt" || f.N < 2 || f.R < 1 || f.P < 1 || f.N > maxKDF/128 || f.R > maxKDF/128/f.N || f.P > 64 {
		return nil, fmt.Errorf("parameters of %.20q: %w", f.KDF, ErrCorrupt)
	}
	derived, err := scrypt.Key([]byte(password), f.Salt, f.N, f.R, f.P, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	user := &key{encrypt: [32]byte(derived[:32]), k: [16]byte(derived[32:48]), r: [16]byte(derived[48:])}
	raw, err := user.open(f.Data)
	if err != nil {
		return nil, ErrPassword
	}
	var master struct {
		MAC struct {
			K []byte `json:"k"`
			R []byte `json:"r"`
		} `json:"mac"`
		Encrypt []byte `json:"encrypt"`
	}
	if err := json.Unmarshal(raw, &master); err != nil || len(master.MAC.K) != 16 || len(master.MAC.R) != 16 || len(master.Encrypt) != 32 {
		return nil, fmt.Errorf("master key: %w", ErrCorrupt)
	}
	return &key{encrypt: [32]byte(master.Encrypt), k: [16]byte(master.MAC.K), r: [16]byte(master.MAC.R)}, nil
}
