package keyring

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/seal"
)

// testPRF is 00 01 02 ... 1f.
func testPRF() (prf [32]byte) {
	for i := range prf {
		prf[i] = byte(i)
	}
	return prf
}

func testPasskey(t testing.TB, name string, store seal.StoreID) Passkey {
	t.Helper()
	p, err := WrapPasskey(testKey(t), store, []byte("credential of "+name), name, [32]byte{7}, testPRF(), time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The key comes back with the authenticator's secret, and with no other; nothing
// that lies beside it can be changed.
func TestPasskey(t *testing.T) {
	store := seal.NewStoreID()
	p := testPasskey(t, `desk <& "lamp"`, store)
	parsed, err := ParsePasskey(p.Encode())
	if err != nil || parsed.ID() != p.ID() || len(p.ID()) != 32 {
		t.Fatalf("%+v, %v", parsed, err)
	}
	if k, err := parsed.Open(testPRF()); err != nil || !k.Equal(testKey(t)) {
		t.Errorf("the key did not come back: %v", err)
	}
	prf := testPRF()
	prf[31] ^= 1
	if _, err := p.Open(prf); !errors.Is(err, ErrPasskey) {
		t.Errorf("another secret: %v", err)
	}
	for name, change := range map[string]func(*Passkey){
		"store":      func(p *Passkey) { p.Store[3] ^= 1 },
		"key id":     func(p *Passkey) { p.KeyID = "00" },
		"credential": func(p *Passkey) { p.Credential = []byte("another") },
		"name":       func(p *Passkey) { p.Name = "mine" },
		"created":    func(p *Passkey) { p.Created = p.Created.Add(time.Hour) },
		"prf salt":   func(p *Passkey) { p.PRFSalt = make([]byte, 32) },
		"wrap salt":  func(p *Passkey) { p.WrapSalt = make([]byte, 32) },
		"key":        func(p *Passkey) { p.Wrapped = bytes.Clone(p.Wrapped); p.Wrapped[0] ^= 1 },
		"tag":        func(p *Passkey) { p.Wrapped = bytes.Clone(p.Wrapped); p.Wrapped[47] ^= 1 },
	} {
		q := p
		change(&q)
		if _, err := q.Open(testPRF()); !errors.Is(err, ErrPasskey) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	again := testPasskey(t, p.Name, store)
	if bytes.Equal(again.Wrapped[:32], p.Wrapped[:32]) {
		t.Error("the same secret made the same wrap: one nonce for two messages")
	}
	key := testKey(t).Bytes()
	if bytes.Contains(p.Encode(), key[:]) || strings.Contains(string(p.Encode()), strings.ReplaceAll(Digits(testKey(t)), " ", "")) {
		t.Error("the key is in the file")
	}
}

// What was written once must open for ever.
func TestPasskeyVector(t *testing.T) {
	raw, err := os.ReadFile("testdata/passkey.json")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePasskey(raw)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := p.Open(testPRF()); err != nil || !k.Equal(testKey(t)) {
		t.Errorf("got %v", err)
	}
}

func TestParsePasskeyRefuses(t *testing.T) {
	good := string(testPasskey(t, "desk", seal.NewStoreID()).Encode())
	for name, text := range map[string]string{
		"empty": "", "no JSON": "{", "another format": strings.Replace(good, "coffer passkey", "coffer store", 1),
		"blanks": strings.Replace(good, "  ", "", 1), "more": strings.Replace(good, "{", `{"x":1,`, 1),
		"no name": strings.Replace(good, `"desk"`, `""`, 1), "long": strings.Replace(good, `"desk"`, `"`+strings.Repeat("d", 101)+`"`, 1),
		"huge": good + strings.Repeat(" ", maxPasskey),
	} {
		if _, err := ParsePasskey([]byte(text)); !errors.Is(err, ErrPasskey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParsePasskey([]byte(strings.Replace(good, `"version": 1`, `"version": 2`, 1))); !errors.Is(err, ErrVersion) {
		t.Errorf("newer: %v", err)
	}
	if _, err := WrapPasskey(testKey(t), seal.NewStoreID(), make([]byte, 1024), "desk", [32]byte{}, testPRF(), time.Now()); !errors.Is(err, ErrPasskey) {
		t.Errorf("a long credential: %v", err)
	}
}

func FuzzParsePasskey(f *testing.F) {
	f.Add(testPasskey(f, "desk", seal.StoreID{}).Encode())
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePasskey(b)
		if err == nil && !bytes.Equal(p.Encode(), b) {
			t.Errorf("%q is read as %q", b, p.Encode())
		}
		if err == nil {
			_, _ = p.Open(testPRF())
		}
	})
}

// shelf is a store in memory.
type shelf struct {
	objects map[string][]byte
	lists   int
}

func (s *shelf) Load(_ context.Context, name string, limit int64) ([]byte, error) {
	if b, ok := s.objects[name]; ok && int64(len(b)) <= limit {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (s *shelf) Create(_ context.Context, name string, data []byte) error {
	if s.objects[name] != nil {
		return fs.ErrExist
	}
	s.objects[name] = data
	return nil
}

func (s *shelf) List(_ context.Context, prefix string, limit int) (names []string, err error) {
	s.lists++
	for _, name := range slices.Sorted(maps.Keys(s.objects)) {
		if strings.HasPrefix(name, prefix) && len(names) < limit {
			names = append(names, name)
		}
	}
	return names, nil
}

func (s *shelf) Remove(_ context.Context, name string) error {
	delete(s.objects, name)
	return nil
}

// A passkey is here and in the store; a new machine finds those of the store,
// and what somebody else put there is not among them; removed is removed.
func TestPasskeys(t *testing.T) {
	ctx := t.Context()
	profile := testProfile(t, testKey(t))
	store := profile.Store
	in := &shelf{objects: make(map[string][]byte)}
	k := Passkeys{Dir: t.TempDir(), Profile: profile, In: in}
	list := func(k Passkeys, want ...string) {
		t.Helper()
		all, err := k.List(ctx)
		var names []string
		for _, p := range all {
			names = append(names, p.Name)
		}
		slices.Sort(names)
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("got %q, %v, want %q", names, err, want)
		}
	}
	list(k)
	desk, phone := testPasskey(t, "desk", store), testPasskey(t, "phone", store)
	for _, p := range []Passkey{desk, phone} {
		if err := k.Add(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Add(ctx, desk); !errors.Is(err, fs.ErrExist) {
		t.Errorf("added twice: %v", err)
	}
	lists := in.lists
	list(k, "desk", "phone")
	if in.lists != lists {
		t.Error("the store is asked for what is here")
	}
	in.objects["passkey-x.json"] = []byte("junk")
	foreign := testPasskey(t, "foreign", seal.NewStoreID())
	in.objects[foreign.ObjectName()] = foreign.Encode()
	in.objects["passkey-"+strings.Repeat("0", 32)+".json"] = desk.Encode()
	former := desk
	former.KeyID, former.Credential = "0123456789abcdef", []byte("of the key before")
	in.objects[former.ObjectName()] = former.Encode()
	other := Passkeys{Dir: t.TempDir(), Profile: profile, In: in}
	list(other, "desk", "phone")
	info, err := os.Stat(filepath.Join(other.Dir, "passkeys", desk.ObjectName()))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
	if err := k.Remove(ctx, desk); err != nil {
		t.Fatal(err)
	}
	list(k, "phone")
	list(Passkeys{Dir: t.TempDir(), Profile: profile, In: in}, "phone")
	if err := k.Remove(ctx, phone); err != nil {
		t.Fatal(err)
	}
	lists = in.lists
	if list(k); in.lists != lists {
		t.Error("the store is asked though all were removed")
	}
	if err := Forget(other.Dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(other.Dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
