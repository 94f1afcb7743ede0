package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/seal"
)

// memory is a Bucket in memory.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	err     error // what every call answers, if not nil
}

func (m *memory) Load(_ context.Context, name string, limit int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[name]
	switch {
	case m.err != nil:
		return nil, m.err
	case !ok:
		return nil, fmt.Errorf("object %q: %w", name, fs.ErrNotExist)
	case int64(len(b)) > limit:
		return nil, errors.New("too long")
	}
	return b, nil
}

func (m *memory) Create(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.objects == nil {
		m.objects = make(map[string][]byte)
	}
	if _, ok := m.objects[name]; ok {
		return fmt.Errorf("object %q: %w", name, fs.ErrExist)
	}
	m.objects[name] = bytes.Clone(data)
	return nil
}

func testProfile(t testing.TB, k seal.Key) Profile {
	t.Helper()
	now := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	return NewProfile(k, "laptop <&> \xff", now, Method{Kind: MethodPassword, Since: now, Fleet: "home"}, Method{Kind: MethodDigits, Since: now})
}

// A profile goes to the store and comes back; a second one never replaces it.
func TestProfile(t *testing.T) {
	k := testKey(t)
	p := testProfile(t, k)
	m := new(memory)
	if _, err := LoadProfile(t.Context(), m); !errors.Is(err, ErrNoStore) {
		t.Errorf("an empty store: got %v", err)
	}
	if err := CreateProfile(t.Context(), m, p); err != nil {
		t.Fatal(err)
	}
	if err := CreateProfile(t.Context(), m, testProfile(t, seal.NewKey())); !errors.Is(err, ErrStoreExists) {
		t.Errorf("a store with backups: got %v", err)
	}
	got, err := LoadProfile(t.Context(), m)
	if err != nil || got.Store != p.Store || len(got.Methods) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := got.Verify(k.Keys(got.Store)); err != nil {
		t.Errorf("the right key: %v", err)
	}
	if err := got.Verify(seal.NewKey().Keys(got.Store)); !errors.Is(err, seal.ErrKey) {
		t.Errorf("another key: %v", err)
	}
	if err := got.Verify(k.Keys(seal.NewStoreID())); !errors.Is(err, seal.ErrKey) {
		t.Errorf("keys of another store: %v", err)
	}
	m.err = errors.New("line is cut")
	if _, err := LoadProfile(t.Context(), m); !errors.Is(err, m.err) {
		t.Errorf("got %v", err)
	}
	if err := CreateProfile(t.Context(), m, p); !errors.Is(err, m.err) {
		t.Errorf("got %v", err)
	}
}

// The profile is public, and must not help to find the key.
func TestProfileHoldsNoSecret(t *testing.T) {
	k := testKey(t)
	text := string(testProfile(t, k).Encode())
	for i := range Groups {
		if strings.Contains(text, Group(k, i)+Group(k, (i+1)%Groups)) {
			t.Errorf("profile holds digits of the key:\n%s", text)
		}
	}
}

// A store that changes anything is found out by who has the key: another host
// name or method would lead its owner astray.
func TestProfileTampered(t *testing.T) {
	k := testKey(t)
	good := testProfile(t, k).Encode()
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		p, err := ParseProfile(b)
		if err == nil {
			err = p.Verify(k.Keys(p.Store))
		}
		if !errors.Is(err, ErrProfile) && !errors.Is(err, seal.ErrKey) && !errors.Is(err, ErrVersion) {
			t.Fatalf("byte %d, %q: got %v", i, b[max(0, i-10):min(len(b), i+10)], err)
		}
	}
}

func TestParseProfileRefuses(t *testing.T) {
	good := testProfile(t, testKey(t)).Encode()
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrProfile},
		{"no JSON", []byte("<html>"), ErrProfile},
		{"other JSON", []byte(`{"hello":1}`), ErrProfile},
		{"newer", bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2, "new": true`), 1), ErrVersion},
		{"unknown field", bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 1, "new": true`), 1), ErrProfile},
		{"cut", good[:len(good)-3], ErrProfile},
		{"twice", append(bytes.Clone(good), good...), ErrProfile},
		{"long", append(bytes.Clone(good), bytes.Repeat([]byte(" "), maxProfile)...), ErrProfile},
		{"compact", func() []byte { var b bytes.Buffer; _ = json.Compact(&b, good); return b.Bytes() }(), ErrProfile},
	} {
		if _, err := ParseProfile(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(testProfile(f, testKey(f)).Encode())
	f.Add([]byte(`{"format":"coffer store","version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProfile(b)
		if err != nil {
			if !errors.Is(err, ErrProfile) && !errors.Is(err, ErrVersion) {
				t.Errorf("got %v", err)
			}
			return
		}
		if !bytes.Equal(p.Encode(), b) {
			t.Error("parsed profile encodes to other bytes")
		}
	})
}
