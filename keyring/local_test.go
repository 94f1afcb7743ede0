package keyring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/seal"
)

// A machine that was set up is unlocked after a restart; one that was not says so.
func TestSaveAndLoad(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	dir := filepath.Join(t.TempDir(), "state", "coffer")
	if _, err := Load(dir); !errors.Is(err, ErrNoStore) {
		t.Errorf("before: got %v", err)
	}
	k := testKey(t)
	p := testProfile(t, k)
	if err := Save(dir, p, seal.NewKey()); !errors.Is(err, seal.ErrKey) {
		t.Errorf("a key of another store was saved: %v", err)
	}
	if err := Save(dir, p, k); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"backup.key", "coffer.json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	r, err := Load(dir)
	if err != nil || r.Locked() || r.From() != "file" || r.Profile().Store != p.Store {
		t.Fatalf("got %v", err)
	}
	if got, err := r.Key(); err != nil || !got.Equal(k) {
		t.Errorf("another key came back: %v", err)
	}
	if _, err := r.Keys(); err != nil {
		t.Error(err)
	}
}

// Without the key the machine is locked, which is no error.
func TestLoadLocked(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	dir := t.TempDir()
	k := testKey(t)
	if err := Save(dir, testProfile(t, k), k); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "backup.key")); err != nil {
		t.Fatal(err)
	}
	r, err := Load(dir)
	if err != nil || !r.Locked() || r.From() != "" {
		t.Fatalf("got %v", err)
	}
	if _, err := r.Keys(); !errors.Is(err, ErrLocked) {
		t.Errorf("Keys: got %v", err)
	}
	if _, err := r.Key(); !errors.Is(err, ErrLocked) {
		t.Errorf("Key: got %v", err)
	}
	if err := r.Unlock(t.Context(), seal.NewKey().Bytes()); !errors.Is(err, seal.ErrKey) || !r.Locked() {
		t.Errorf("another key unlocked it: %v", err)
	}
	if err := r.Unlock(t.Context(), k.Bytes()); err != nil || r.Locked() {
		t.Errorf("the key did not unlock it: %v", err)
	}
	r.Lock()
	if !r.Locked() {
		t.Error("Lock did not forget the key")
	}
}

// A credential goes before the file.
func TestLoadCredential(t *testing.T) {
	credentials := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	dir := t.TempDir()
	k := testKey(t)
	if err := Save(dir, testProfile(t, k), k); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "backup.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(credentials, "coffer.key"), []byte(testDigits), 0o440); err != nil {
		t.Fatal(err)
	}
	if r, err := Load(dir); err != nil || r.Locked() || r.From() != "credential" {
		t.Errorf("got %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	k := testKey(t)
	for _, tt := range []struct {
		name string
		harm func(t *testing.T, key, profile string)
		say  string
	}{
		{"others may read the key", func(t *testing.T, key, _ string) { must(t, os.Chmod(key, 0o640)) }, "lets others read"},
		{"key cut", func(t *testing.T, key, _ string) { must(t, os.WriteFile(key, []byte(testDigits[:20]), 0o600)) }, "digits"},
		{"key too long", func(t *testing.T, key, _ string) {
			must(t, os.WriteFile(key, []byte(strings.Repeat("0 ", 5000)), 0o600))
		}, "more than"},
		{"key of another store", func(t *testing.T, key, _ string) {
			must(t, os.WriteFile(key, []byte(Digits(seal.NewKey())), 0o600))
		}, "another backup key"},
		{"profile damaged", func(t *testing.T, _, profile string) { must(t, os.WriteFile(profile, []byte("{}"), 0o600)) }, "not as it was written"},
		{"profile changed", func(t *testing.T, _, profile string) {
			raw, err := os.ReadFile(profile)
			must(t, err)
			must(t, os.WriteFile(profile, []byte(strings.Replace(string(raw), "home", "evil", 1)), 0o600))
		}, "not as it was written"},
		{"profile is a folder", func(t *testing.T, _, profile string) { must(t, os.Remove(profile)); must(t, os.Mkdir(profile, 0o700)) }, "directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, Save(dir, testProfile(t, k), k))
			tt.harm(t, filepath.Join(dir, keyFile), filepath.Join(dir, profileFile))
			_, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("got %v, want %q", err, tt.say)
			}
			if strings.Contains(fmt.Sprint(err), "8899") {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
