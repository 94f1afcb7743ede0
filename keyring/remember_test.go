package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"coffer/seal"
)

// The password is told from others without the vault, and the file is of no use
// to who does not have the key.
func TestRememberPassword(t *testing.T) {
	dir, key := t.TempDir(), seal.NewKey()
	keys := key.Keys(seal.NewStoreID())
	if err := VerifyPassword(dir, keys, "x"); !errors.Is(err, ErrNoCheck) {
		t.Errorf("with nothing noted: %v", err)
	}
	const password = "Grüße-correct-horse"
	if err := RememberPassword(dir, keys, password); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, checkFile)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for typed, want := range map[string]error{
		password: nil, "Gru\u0308ße-correct-horse": nil, // decomposed, as some keyboards type it
		"grüße-correct-horse": ErrWrongPassword, "": ErrWrongPassword, password + " ": ErrWrongPassword,
	} {
		if err := VerifyPassword(dir, keys, typed); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", typed, err, want)
		}
	}
	if err := VerifyPassword(dir, seal.NewKey().Keys(keys.Store()), password); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("another key confirms the password: %v", err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || bytes.Contains(raw, []byte(password)) {
		t.Errorf("got %s, %v", raw, err)
	}
	for _, junk := range []string{"", "{}", `{"version":2}`, `{"version":1,"salt":"AA=="}`} {
		if err := os.WriteFile(file, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := VerifyPassword(dir, keys, password); !errors.Is(err, ErrNoCheck) {
			t.Errorf("%q: %v", junk, err)
		}
	}
}
