package vault

import (
	"context"
	"testing"
)

// A node that went down after an epoch's end was in its ledger, and before the key was
// shredded, must not use that key for whoever stages the epoch once more.
func TestEndedKeyIsGoneBeforeAnythingIsServed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		ctx := context.Background()
		c := f.client("anna")
		f.register(c, "right")
		r := newRig(t, f, "anna")
		n := f.nodes[0]
		n.halt()
		l, err := openLedger(ctx, n.dir, f.manifest.Fleet, n.id, n.hsm, newMemoryIndex())
		if err != nil {
			t.Fatal(err)
		}
		old := indexed(t, l, c.uid).epochs[r.h.Epoch].public
		if err := l.append(ctx, &entry{Kind: entryEnd, UID: c.uid, Epoch: r.h.Epoch}); err != nil {
			t.Fatal(err)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		b := &KeyBody{UID: c.uid, Epoch: r.h.Epoch, Element: randomPoint()}
		f.forge("anna", func(a *account) { a.Staged = &staged{Epoch: b.Epoch, Element: b.Element} })

		s, err := NewServer(ctx, n.config())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if a := s.key(ctx, b); a.Code == CodeOK && a.Public == old {
			t.Error("an element of choice is evaluated with the key of an ended epoch")
		}
		if k := n.keyFilesLeft(); k > 1 {
			t.Errorf("%d key files, want at most the new one", k)
		}
	})
}

// So it is while the node runs, when shredding failed: the key file is still there.
func TestEndedKeyIsNotUsedWhileItIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		defer f.close()
		ctx := context.Background()
		c := f.client("anna")
		f.register(c, "right")
		r := newRig(t, f, "anna")
		s := f.nodes[0].server
		if err := s.ledger.append(ctx, &entry{Kind: entryEnd, UID: c.uid, Epoch: r.h.Epoch}); err != nil {
			t.Fatal(err)
		}
		before := f.nodes[0].hsm.distinct()
		b := &KeyBody{UID: c.uid, Epoch: r.h.Epoch, Element: randomPoint()}
		f.mu.Lock() // unlike forge it wakes nobody, who would shred the key
		a, _, err := loadAccount(f.nodes[0].kv, c.uid)
		if err == nil {
			a.Staged = &staged{Epoch: b.Epoch, Element: b.Element}
			a.save(f.nodes[0].kv, c.uid)
		}
		f.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if a := s.key(ctx, b); a.Code != CodeConflict || f.nodes[0].hsm.distinct() != before {
			t.Errorf("an element of choice is evaluated with the key of an ended epoch: %v", a.Code)
		}
	})
}
