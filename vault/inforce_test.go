package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// signed makes a fleet file of m with the fleet's root key.
func (f *testFleet) signed(m *Manifest) []byte {
	f.tb.Helper()
	sm, err := Unsigned(m)
	if err != nil {
		f.tb.Fatal(err)
	}
	sm.Sign(f.root)
	return sm.Bytes()
}

// One node is given the fleet's next manifest; the others take it from it, and nobody
// restarts. A record from before the change is as good as one from after it.
func TestManifestSpreads(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		c := f.client("anna")
		key := f.register(c, "right")
		carol := f.client("carol")
		h, nodes, err := carol.stage(context.Background(), "right")
		if err != nil {
			t.Fatal(err)
		}
		b, err := carol.deal(h, nodes, randomKey())
		if err != nil {
			t.Fatal(err)
		}
		f.nodes[2].halt()
		if _, err := carol.commit(context.Background(), b); err != nil { // node 3 will find it under the next manifest
			t.Fatal(err)
		}
		old := f.file
		f.manifest = f.manifest.Next(time.Now())
		f.manifest.Policy.Budget, f.manifest.Argon.Time = 5, 2
		f.file = f.signed(f.manifest)
		if newer, err := f.nodes[0].server.Follow(f.file); err != nil || !newer {
			t.Fatalf("the next manifest: %v, %v", newer, err)
		}
		if newer, err := f.nodes[0].server.Follow(old); err != nil || newer {
			t.Errorf("the one before: %v, %v", newer, err)
		}
		f.every = time.Second
		f.file = old // on the disks of the others
		f.nodes[1].halt()
		f.nodes[1].start()
		f.file = f.signed(f.manifest)
		f.nodes[2].start()
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, n := range f.nodes {
			if got := n.server.inForce().manifest; got.Sequence != 2 {
				t.Errorf("node %s follows number %d", n.id, got.Sequence)
			}
			if used := n.server.Health(); used.Regressions != 0 || !n.server.witness.enough() {
				t.Errorf("node %s: %+v", n.id, used)
			}
		}
		if _, err := c.Recover(context.Background(), "right"); !errors.Is(err, ErrManifest) {
			t.Errorf("with the old manifest: %v, want ErrManifest", err)
		}
		f.file = f.signed(f.manifest)
		if got, err := f.client("anna").Recover(context.Background(), "right"); err != nil || got != key {
			t.Errorf("with the new one: %v", err)
		}
		if a, err := f.client("carol").ask(context.Background(), carol.nodes[2], KindReceipt, &ReceiptBody{UID: carol.uid, Epoch: h.Epoch, Hash: recordHash(b.Record)}); err != nil || a.Code != CodeOK {
			t.Errorf("a record of the time before: %v, %v", a, err)
		}
		f.file = old // the operator forgot to replace the file
		f.nodes[1].halt()
		f.nodes[1].start()
		if got := f.nodes[1].server.inForce().manifest.Sequence; got != 2 {
			t.Errorf("after a restart the node follows number %d", got)
		}
	})
}

// What is not a newer manifest of the fleet, by its roots, and one in which the node
// can go on, changes nothing, whoever hands it in.
func TestManifestIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		defer f.close()
		s := f.nodes[0].server
		before := s.inForce()
		_, stranger, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		adopted := 0
		s.c.Adopt = func(m *Manifest) error {
			adopted++
			if m.Name == "cannot" {
				return errors.New("no certificate for it")
			}
			return nil
		}
		for name, spoil := range map[string]func(*Manifest) *ed25519.PrivateKey{
			"signed by a stranger":   func(*Manifest) *ed25519.PrivateKey { return &stranger },
			"another fleet's":        func(m *Manifest) *ed25519.PrivateKey { m.Fleet[0] ^= 1; return nil },
			"another of the number":  func(m *Manifest) *ed25519.PrivateKey { m.Name, m.Sequence, m.Previous = "x", 1, [32]byte{}; return nil },
			"not the successor":      func(m *Manifest) *ed25519.PrivateKey { m.Previous[0] ^= 1; return nil },
			"without the node":       func(m *Manifest) *ed25519.PrivateKey { m.Nodes[0].ID = "other"; return nil },
			"with another identity":  func(m *Manifest) *ed25519.PrivateKey { m.Nodes[0].Identity = randomPoint(); return nil },
			"out of date":            func(m *Manifest) *ed25519.PrivateKey { m.NotAfter = time.Now().Unix() - 1; return nil },
			"which raft cannot take": func(m *Manifest) *ed25519.PrivateKey { m.Name = "cannot"; return nil },
		} {
			m := f.manifest.Next(time.Now())
			m.Nodes = append([]Node(nil), m.Nodes...)
			key := spoil(m)
			sm := &SignedManifest{Manifest: encode(m), Signatures: []rootSignature{}}
			if key == nil {
				key = &f.root
			}
			sm.Sign(*key)
			r, err := http.NewRequest(http.MethodPut, "https://n1.test:1"+ManifestPath, bytes.NewReader(sm.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := f.nodes[0].RoundTrip(r)
			if err != nil || resp.StatusCode != http.StatusConflict {
				t.Errorf("%s: %v, %v", name, resp.Status, err)
			}
			if s.inForce() != before {
				t.Fatalf("%s: it is followed", name)
			}
		}
		next := f.signed(f.manifest.Next(time.Now()))
		r, err := http.NewRequest(http.MethodPut, "https://n1.test:1"+ManifestPath, bytes.NewReader(next))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := f.nodes[0].RoundTrip(r); err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(s.inForce().file, next) {
			t.Errorf("the successor: %v, %v", resp, err)
		}
		if adopted != 2 {
			t.Errorf("%d manifests were shown to the rest of the node, want 2", adopted)
		}
		if _, _, err := NewestManifest(f.nodes[0].dir, f.file, f.roots()); err != nil {
			t.Error(err)
		}
		if file, _, err := NewestManifest(f.nodes[0].dir, f.file, f.roots()); err != nil || !bytes.Equal(file, next) {
			t.Errorf("the newest that was followed: %v", err)
		}
	})
}
