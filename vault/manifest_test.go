package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func testManifest(t testing.TB) *Manifest {
	t.Helper()
	var nodes []Node
	for _, id := range []string{"a", "b", "c"} {
		k, err := IdentityKey(&newSoftHSM(t).identity.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, Node{ID: id, Operator: "op " + id, URL: "https://" + id + ".test:1", Identity: k})
	}
	return NewManifest("test", nodes, time.Now())
}

func testRoots(n, quorum int) (Roots, []ed25519.PrivateKey) {
	r := Roots{Quorum: quorum}
	var keys []ed25519.PrivateKey
	for range n {
		pub, priv, err := ed25519.GenerateKey(nil)
		if err != nil {
			panic(err)
		}
		r.Keys, keys = append(r.Keys, pub), append(keys, priv)
	}
	return r, keys
}

// Only a quorum of pinned keys makes a manifest; one key must not count twice.
func TestManifestQuorum(t *testing.T) {
	roots, keys := testRoots(3, 2)
	_, strangers := testRoots(3, 2)
	sm, err := Unsigned(testManifest(t))
	if err != nil {
		t.Fatal(err)
	}
	verify := func() error { _, err := sm.Verify(roots, time.Now()); return err }
	if err := verify(); !errors.Is(err, ErrManifest) {
		t.Errorf("unsigned: %v", err)
	}
	sm.Sign(keys[0])
	sm.Sign(keys[0])
	for _, s := range strangers {
		sm.Sign(s)
	}
	if err := verify(); !errors.Is(err, ErrManifest) {
		t.Errorf("signed by one of three and by strangers: %v", err)
	}
	sm.Signatures = append(sm.Signatures, sm.Signatures...)
	if err := verify(); !errors.Is(err, ErrManifest) {
		t.Errorf("with every signature twice: %v", err)
	}
	sm.Sign(keys[2])
	if err := verify(); err != nil {
		t.Errorf("signed by two of three: %v", err)
	}
	again, err := ParseManifest(sm.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if m, err := again.Verify(roots, time.Now()); err != nil || m.Name != "test" {
		t.Errorf("read again: %v", err)
	}
	if _, err := again.Verify(roots, time.Now().AddDate(2, 0, 0)); !errors.Is(err, ErrManifest) {
		t.Errorf("out of date: %v", err)
	}
	if _, err := again.Verify(Roots{Keys: append(roots.Keys, roots.Keys...), Quorum: 2}, time.Now()); !errors.Is(err, ErrManifest) {
		t.Errorf("with root keys given twice: %v", err)
	}
	again.Manifest = bytes.Clone(again.Manifest)
	again.Manifest[20] ^= 1
	if _, err := again.Verify(roots, time.Now()); !errors.Is(err, ErrManifest) {
		t.Errorf("changed: %v", err)
	}
}

func TestParseRoots(t *testing.T) {
	roots, _ := testRoots(2, 0)
	a, b := hex.EncodeToString(roots.Keys[0]), hex.EncodeToString(roots.Keys[1])
	for _, tt := range []struct {
		keys   []string
		quorum int
		ok     bool
	}{
		{[]string{a}, 0, true}, {[]string{a, b}, 0, true}, {[]string{a, b}, 2, true}, {[]string{a, b}, 1, true},
		{nil, 0, false}, {[]string{a, a}, 1, false}, {[]string{a, b}, 3, false}, {[]string{a[:62]}, 0, false}, {[]string{"x"}, 0, false},
	} {
		if _, err := ParseRoots(tt.keys, tt.quorum); (err == nil) != tt.ok {
			t.Errorf("%d keys, quorum %d: %v", len(tt.keys), tt.quorum, err)
		}
	}
}

func TestManifestCheck(t *testing.T) {
	for name, spoil := range map[string]func(*Manifest){
		"two nodes":             func(m *Manifest) { m.Nodes = m.Nodes[:2] },
		"no nodes":              func(m *Manifest) { m.Nodes = nil },
		"threshold of one":      func(m *Manifest) { m.Threshold = 1 },
		"threshold of four":     func(m *Manifest) { m.Threshold = 4 },
		"unsorted":              func(m *Manifest) { m.Nodes[0], m.Nodes[1] = m.Nodes[1], m.Nodes[0] },
		"one identity for two":  func(m *Manifest) { m.Nodes[1].Identity = m.Nodes[0].Identity },
		"one URL for two":       func(m *Manifest) { m.Nodes[1].URL = m.Nodes[0].URL },
		"no identity":           func(m *Manifest) { m.Nodes[0].Identity = [33]byte{} },
		"plain http":            func(m *Manifest) { m.Nodes[0].URL = "http://a.test" },
		"path in the URL":       func(m *Manifest) { m.Nodes[0].URL = "https://a.test/x" },
		"upper case id":         func(m *Manifest) { m.Nodes[0].ID = "A" },
		"no sequence":           func(m *Manifest) { m.Sequence = 0 },
		"first with forerunner": func(m *Manifest) { m.Previous[0] = 1 },
		"no budget":             func(m *Manifest) { m.Policy.Budget = 0 },
		"greedy Argon2":         func(m *Manifest) { m.Argon.Memory = 1 << 30 },
		"newer version":         func(m *Manifest) { m.Version = 2 },
		"long name":             func(m *Manifest) { m.Name = strings.Repeat("x", 101) },
	} {
		m := testManifest(t)
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(m)
		if err := m.Check(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// Somebody who holds back a newer manifest, or shows two of one number, is found
// out by whoever has seen the other.
func TestClientsDoNotGoBack(t *testing.T) {
	roots, keys := testRoots(1, 0)
	sign := func(m *Manifest) []byte {
		sm, err := Unsigned(m)
		if err != nil {
			t.Fatal(err)
		}
		sm.Sign(keys[0])
		return sm.Bytes()
	}
	first := testManifest(t)
	second := first.Next(time.Now())
	other := first.Next(time.Now())
	other.Name = "other"
	elsewhere := testManifest(t)
	elsewhere.Fleet[0] ^= 1
	dir := t.TempDir()
	open := func(b []byte) error {
		_, err := NewClient(ClientConfig{Manifest: b, Roots: roots, Account: "anna", StateDir: dir})
		return err
	}
	for _, tt := range []struct {
		name string
		m    *Manifest
		want error
	}{
		{"first", first, nil}, {"first again", first, nil}, {"second", second, nil}, {"second again", second, nil},
		{"another fleet", elsewhere, nil}, {"first after second", first, ErrManifest}, {"another second", other, ErrManifest},
	} {
		if err := open(sign(tt.m)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if second.Previous != first.Hash() {
		t.Error("the second does not name the first")
	}
}

func TestShow(t *testing.T) {
	var b bytes.Buffer
	if err := testManifest(t).Show(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"any 2 of 3 nodes", "op b", "https://c.test:1", "10 attempts"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
}

// A log from which a manifest was taken, or into which one was put, must not pass.
func TestAuditManifests(t *testing.T) {
	roots, keys := testRoots(1, 0)
	sign := func(m *Manifest) []byte {
		sm, err := Unsigned(m)
		if err != nil {
			t.Fatal(err)
		}
		sm.Sign(keys[0])
		return sm.Bytes()
	}
	first := testManifest(t)
	second := first.Next(time.Now())
	third := second.Next(time.Now())
	branch := first.Next(time.Now())
	branch.Name = "branch"
	otherFleet := first.Next(time.Now())
	otherFleet.Fleet[0] ^= 1
	unsigned, err := Unsigned(second)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := sign(first), sign(second), sign(third)
	for _, tt := range []struct {
		name string
		log  [][]byte
		n    int
		ok   bool
	}{
		{"whole", [][]byte{a, b, c}, 3, true},
		{"begun", [][]byte{a}, 1, true},
		{"nothing", nil, 0, false},
		{"without the first", [][]byte{b, c}, 0, false},
		{"without the second", [][]byte{a, c}, 1, false},
		{"one twice", [][]byte{a, a}, 1, false},
		{"a branch in the middle", [][]byte{a, sign(branch), c}, 2, false},
		{"another fleet", [][]byte{a, sign(otherFleet)}, 1, false},
		{"unsigned", [][]byte{a, unsigned.Bytes()}, 1, false},
		{"cut", [][]byte{a, b[:len(b)-1]}, 1, false},
	} {
		got, err := AuditManifests(bytes.NewReader(bytes.Join(tt.log, nil)), roots)
		if (err == nil) != tt.ok || len(got) != tt.n || err != nil && !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %d manifests, %v", tt.name, len(got), err)
		}
	}
}

// A fleet changes its manifest under way: clients are told, get the new one from
// the nodes, and find their key.
func TestManifestChanges(t *testing.T) {
	f := newFleet(t, 3)
	defer f.close()
	old := f.client("anna")
	key := f.register(old, "right")
	if b, err := NewerManifest(context.Background(), old.c); b != nil || err != nil {
		t.Errorf("a newer manifest is there already: %v", err)
	}
	f.manifest = f.manifest.Next(time.Now())
	f.manifest.Policy.Budget = 5
	sm, err := Unsigned(f.manifest)
	if err != nil {
		t.Fatal(err)
	}
	sm.Sign(f.root)
	f.file = sm.Bytes()
	for _, n := range f.nodes {
		n.halt()
		n.start()
	}
	for _, n := range f.nodes {
		n.awaitReady()
	}
	if _, err := old.Recover(context.Background(), "right"); !errors.Is(err, ErrManifest) {
		t.Errorf("with the old manifest: %v, want ErrManifest", err)
	}
	b, err := NewerManifest(context.Background(), old.c)
	if err != nil || !bytes.Equal(b, f.file) {
		t.Fatalf("the newer manifest: %v", err)
	}
	if got, err := f.client("anna").Recover(context.Background(), "right"); err != nil || got != key {
		t.Errorf("with the new manifest: %v", err)
	}
	_, stranger := testRoots(1, 0)
	sm.Signatures = nil
	sm.Sign(stranger[0])
	for _, n := range f.nodes {
		n.server.force.Store(&inForce{file: sm.Bytes()})
	}
	if b, err := NewerManifest(context.Background(), old.c); b != nil || err != nil {
		t.Errorf("a manifest of strangers is taken: %v", err)
	}
}

// A machine that was off until its fleet file was out of date gets the newer one.
func TestManifestExpires(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		sign := func(m *Manifest) []byte {
			sm, err := Unsigned(m)
			if err != nil {
				t.Fatal(err)
			}
			sm.Sign(f.root)
			return sm.Bytes()
		}
		m, config := *f.manifest, c.c
		m.NotAfter = time.Now().Unix() - 1
		config.Manifest, config.StateDir = sign(&m), t.TempDir()
		if _, err := NewClient(config); !errors.Is(err, ErrExpired) || !errors.Is(err, ErrManifest) {
			t.Errorf("a client of a manifest that is out of date: %v, want ErrExpired", err)
		}
		if b, err := NewerManifest(context.Background(), config); b != nil || err != nil {
			t.Errorf("nobody has renewed it: %v", err)
		}
		newer := sign(f.manifest.Next(time.Now()))
		for _, n := range f.nodes {
			if ok, err := n.server.Follow(newer); !ok || err != nil {
				t.Fatalf("node %s follows: %v, %v", n.id, ok, err)
			}
		}
		var err error
		if config.Manifest, err = NewerManifest(context.Background(), config); !bytes.Equal(config.Manifest, newer) {
			t.Fatalf("the newer manifest: %v", err)
		}
		again, err := NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if _, err := again.Recover(context.Background(), "right"); err != nil {
			t.Error(err)
		}
	})
}

// hangs is a node that takes requests and answers none.
type hangs struct{}

func (hangs) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A node that hangs does not hide the vault from who has a few seconds.
func TestManifestOfHangingFleet(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		config, well := c.c, c.c.Transport
		config.Transport = func(n Node) http.RoundTripper {
			if n.ID == f.nodes[0].id {
				return hangs{}
			}
			return well(n)
		}
		start := time.Now()
		if b, err := NewerManifest(context.Background(), config); b != nil || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
