package keyring

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"

	"coffer/internal/durable"
	"coffer/seal"
)

// checkFile is in the state folder and lets the owner try his memory, without the
// vault and without spending an attempt.
const checkFile = "password.check"

const (
	maxCheck   = 4096
	checkSalt  = 16
	checkTime  = 3
	checkKiB   = 64 << 10
	checkLanes = 1
)

var (
	// ErrWrongPassword means that the password is not the one that was set, as far
	// as this machine knows. The vault was not asked.
	ErrWrongPassword = errors.New("that is not the password")
	// ErrNoCheck means that no password was set or used on this machine.
	ErrNoCheck = errors.New("this machine does not know the password")
)

// passwordCheck is the content of the file. The tag is made with the backup key: the
// file alone lets nobody guess.
type passwordCheck struct {
	Version int    `json:"version"`
	Salt    []byte `json:"salt"`
	Tag     []byte `json:"tag"`
}

// RememberPassword notes in the state folder dir what tells the right password
// from a wrong one.
func RememberPassword(dir string, keys *seal.Keys, password string) error {
	c := passwordCheck{Version: 1, Salt: make([]byte, checkSalt)}
	_, _ = rand.Read(c.Salt) // never fails
	c.Tag = c.tag(keys, password)
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, checkFile), b, 0o600); err != nil {
		return fmt.Errorf("noting the password: %w", err)
	}
	return nil
}

// VerifyPassword says whether password is the one that was noted in dir:
// [ErrWrongPassword] if not, [ErrNoCheck] if none was.
func VerifyPassword(dir string, keys *seal.Keys, password string) error {
	b, err := readBounded(filepath.Join(dir, checkFile), maxCheck)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoCheck
	}
	if err != nil {
		return err
	}
	var c passwordCheck
	if err := json.Unmarshal(b, &c); err != nil || c.Version != 1 || len(c.Salt) != checkSalt {
		return fmt.Errorf("%s is damaged (%v): %w", filepath.Join(dir, checkFile), err, ErrNoCheck)
	}
	if !hmac.Equal(c.Tag, c.tag(keys, password)) {
		return ErrWrongPassword
	}
	return nil
}

// tag prepares the password as the vault's client does, so that what the vault
// takes for the same is the same here.
func (c passwordCheck) tag(keys *seal.Keys, password string) []byte {
	prepared, err := precis.OpaqueString.String(norm.NFKC.String(password))
	if err != nil {
		prepared = password // no vault takes it
	}
	key := keys.Derive("keyring password check v1")
	m := hmac.New(sha256.New, key[:])
	m.Write(argon2.IDKey([]byte(prepared), c.Salt, checkTime, checkKiB, checkLanes, sha256.Size))
	return m.Sum(nil)
}
