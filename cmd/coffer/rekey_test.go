package main

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"coffer/keyring"
	"coffer/seal"
	"coffer/upstream"
)

// A machine that is lost when the owner keeps the next key already, and the store has
// the old one still, loses nothing: the next key leads to the old one.
func TestRecoverBeforeRekey(t *testing.T) {
	b, err := upstream.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	old, next := seal.NewKey(), seal.NewKey()
	p := keyring.NewProfile(old, "host", time.Now())
	a := &app{system: system{err: &bytes.Buffer{}}}
	if _, err := a.beforeRekey(t.Context(), b, p, next, seal.ErrKey); !errors.Is(err, seal.ErrKey) {
		t.Errorf("without a link: %v", err)
	}
	link := keyring.Link(next.Keys(p.Store), old)
	if _, err := b.Put(t.Context(), keyring.LinkName, bytes.NewReader(link), int64(len(link)), upstream.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := a.beforeRekey(t.Context(), b, p, next, seal.ErrKey); err != nil || !got.Equal(old) {
		t.Errorf("by the link: %v", err)
	}
	if _, err := a.beforeRekey(t.Context(), b, p, seal.NewKey(), seal.ErrKey); !errors.Is(err, seal.ErrKey) {
		t.Errorf("by a key that the link does not begin at: %v", err)
	}
}
