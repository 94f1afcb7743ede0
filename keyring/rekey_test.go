package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/seal"
)

// one is a store with one object.
type one struct {
	Bucket
	name string
	data []byte
}

func (o one) Load(_ context.Context, name string, limit int64) ([]byte, error) {
	if name != o.name || int64(len(o.data)) > limit {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return o.data, nil
}

// The key that comes next is made once, and leads to the one before; nobody else's does.
func TestRekey(t *testing.T) {
	dir, old := t.TempDir(), seal.NewKey()
	if _, _, err := NextKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a next key before there is one: %v", err)
	}
	next, err := MakeNext(dir, old)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := MakeNext(dir, old); err != nil || !again.Equal(next) || next.Equal(old) {
		t.Errorf("another next key: %v", err)
	}
	if again, before, err := NextKey(dir); err != nil || !again.Equal(next) || !before.Equal(old) {
		t.Errorf("other keys than were written: %v", err)
	}
	p := NewProfile(old, "host", time.Unix(1_800_000_000, 0), Method{Kind: MethodDigits, Since: time.Unix(1_800_000_000, 0)})
	q, err := p.Rekeyed(old.Keys(p.Store), next, Method{Kind: MethodPassword, Since: time.Unix(1_800_000_000, 0), Fleet: "home"})
	if err != nil || q.Store != p.Store || q.Verify(next.Keys(p.Store)) != nil || !errors.Is(q.Verify(old.Keys(p.Store)), seal.ErrKey) || len(q.Methods) != 1 {
		t.Errorf("%+v, %v", q, err)
	}
	if _, err := p.Rekeyed(next.Keys(p.Store), next); !errors.Is(err, seal.ErrKey) {
		t.Errorf("rekeyed by a key that is not the store's: %v", err)
	}
	store := one{name: LinkName, data: Link(next.Keys(p.Store), old)}
	if got, err := LoadLink(t.Context(), store, next.Keys(p.Store)); err != nil || !got.Equal(old) {
		t.Errorf("the link leads elsewhere: %v", err)
	}
	if _, err := LoadLink(t.Context(), store, old.Keys(p.Store)); !errors.Is(err, seal.ErrKey) {
		t.Errorf("the old key opens the link: %v", err)
	}
	if _, err := LoadLink(t.Context(), one{}, old.Keys(p.Store)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no link: %v", err)
	}
	if err := errors.Join(ForgetNext(dir), ForgetNext(dir)); err != nil {
		t.Error(err)
	}
	if _, _, err := NextKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a next key after it was forgotten: %v", err)
	}
	// Without the key before, nobody may believe that there is nothing to seal anew.
	if err := os.WriteFile(filepath.Join(dir, nextKeyFile), []byte(Digits(next)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := NextKey(dir); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "two keys") {
		t.Errorf("one key where there must be two: %v", err)
	}
}

// A next key that was made for a key which is not in force any more is not used again.
func TestStaleNext(t *testing.T) {
	dir, first, second := t.TempDir(), seal.NewKey(), seal.NewKey()
	leaked, err := MakeNext(dir, first)
	if err != nil {
		t.Fatal(err)
	}
	for _, inForce := range []seal.Key{first, leaked} {
		if err := ForgetStale(dir, inForce); err != nil {
			t.Fatal(err)
		}
		if next, _, err := NextKey(dir); err != nil || !next.Equal(leaked) {
			t.Errorf("a rekey that can go on was forgotten: %v", err)
		}
	}
	next, err := MakeNext(dir, second)
	if err != nil || next.Equal(leaked) {
		t.Errorf("made for another key, and used again: %v", err)
	}
	if got, before, err := NextKey(dir); err != nil || !got.Equal(next) || !before.Equal(second) {
		t.Errorf("the new one is not written: %v", err)
	}
	if err := ForgetStale(dir, first); err != nil {
		t.Fatal(err)
	}
	if _, _, err := NextKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stale next key is left: %v", err)
	}
	if _, err := MakeNext(dir, first); err != nil {
		t.Fatal(err)
	}
	if err := Forget(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := NextKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a machine that forgot its key has the next one: %v", err)
	}
}
