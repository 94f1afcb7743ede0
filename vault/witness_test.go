package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// image keeps the whole disk and the HSM of the stopped node as they are, to be restored.
func (n *testNode) image(t *testing.T) (restore func()) {
	t.Helper()
	copyDir := func(from, to string) {
		t.Helper()
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(t.TempDir(), "image")
	copyDir(n.dir, kept)
	anchor, index := n.hsm.anchor, n.index.after(len(n.index.writes))
	return func() {
		t.Helper()
		if err := os.RemoveAll(n.dir); err != nil {
			t.Fatal(err)
		}
		copyDir(kept, n.dir)
		n.hsm.anchor, n.index = anchor, &tracedIndex{memoryIndex: index}
	}
}

// With a software HSM the anchor comes back with the disk. The other nodes remember.
func TestPeersRefuseARestoredNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.every = witnessEvery
		for _, n := range f.nodes {
			n.halt()
			n.start()
		}
		c := f.client("anna")
		key := f.register(c, "right")
		synctest.Wait()
		n := f.nodes[2]
		n.halt()
		restore := n.image(t)
		n.start()
		n.awaitReady()
		for range 5 {
			f.wrong(c, "wrong")
		}
		time.Sleep(2 * witnessEvery)
		n.halt()
		restore()
		n.mayFail = true
		n.start()
		err := <-n.stopped
		if !errors.Is(err, ErrRollback) {
			t.Fatalf("a restored node ran until %v, want ErrRollback", err)
		}
		n.stopped <- err
		if n.server.witness.enough() {
			t.Error("a restored node would serve guesses")
		}
		n.halt()
		// The others go on, and remember also after their own restart.
		if left := f.wrong(c, "wrong"); left != 4 {
			t.Errorf("%d left, want 4", left)
		}
		for _, o := range f.nodes[:2] {
			o.halt()
			o.start()
		}
		for _, o := range f.nodes[:2] {
			o.awaitReady()
		}
		n.start()
		if err := <-n.stopped; !errors.Is(err, ErrRollback) {
			t.Errorf("after all have restarted: %v, want ErrRollback", err)
		} else {
			n.stopped <- err
		}
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Error(err)
		}
	})
}

// Alone, a node that may have been restored serves nothing.
func TestNodeAloneServesNoGuess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.register(f.client("anna"), "right")
		r := newRig(t, f, "anna")
		b := r.guess()
		r.command(KindAttempt, b)
		for _, n := range f.nodes {
			n.halt()
		}
		f.every = witnessEvery
		f.nodes[0].start()
		time.Sleep(time.Minute)
		if a := r.eval(0, b); a.Code != CodeRetry {
			t.Errorf("alone: %v, want retry", a.Code)
		}
		f.nodes[1].start()
		time.Sleep(time.Minute)
		if a := r.eval(0, b); a.Code != CodeOK {
			t.Errorf("with another: %v, want ok", a.Code)
		}
	})
}

// What a node remembers of another counts only if the other signed it: else
// one hostile node could keep the others from ever starting.
func TestWitnessBelievesSignaturesOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		w := f.nodes[0].server.witness
		liar, victim := f.nodes[0], f.manifest.Nodes[1]
		a := &Answer{Version: version, Node: victim.ID, Head: head{count: 1 << 40}.bytes(), Record: []byte{}, Former: []byte{}}
		body := encode(a)
		sig, err := liar.hsm.Sign(context.Background(), answerDigest(body))
		if err != nil {
			t.Fatal(err)
		}
		forged := &signed{Answer: body, Sig: sig}
		if w.note(victim, forged) {
			t.Error("a head that another signed is kept")
		}
		w.mu.Lock()
		w.seen[victim.ID] = forged // a node that lies about what it has seen
		w.mu.Unlock()
		f.nodes[1].halt()
		f.nodes[1].start()
		f.nodes[1].awaitReady()
	})
}

// A ledger grows while the others are asked, one after the other: the second may
// know more of it than there was before the first was asked. That is no rollback.
func TestGrowingLedgerIsNoRollback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.every = witnessEvery
		c := f.client("anna")
		f.register(c, "right")
		n := f.nodes[2]
		n.halt()
		n.start()
		n.awaitReady()
		var grown atomic.Bool // two nodes may ask at once
		f.mu.Lock()
		f.nodes[0].cut = func(k Kind) bool {
			if k == KindHead && grown.CompareAndSwap(false, true) {
				f.wrong(c, "wrong")
				w := f.nodes[1].server.witness
				for _, p := range w.peers {
					if p.node.ID == n.id {
						if _, err := w.ask(context.Background(), p, f.nodes[1].server.ledger); err != nil {
							t.Error(err)
						}
					}
				}
			}
			return false
		}
		f.mu.Unlock()
		time.Sleep(3 * witnessEvery)
		if !grown.Load() {
			t.Fatal("nobody was asked")
		}
		select {
		case err := <-n.stopped:
			t.Fatalf("node ended: %v", err)
		default:
		}
	})
}

// A restored node catches up with the log before any other answers, so that its ledger
// is as long as the one that was lost, and longer. It is another one all the same.
func TestRestoredNodeThatCaughtUpIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.every = witnessEvery
		for _, n := range f.nodes {
			n.halt()
			n.start()
		}
		c := f.client("anna")
		f.register(c, "right")
		synctest.Wait()
		n := f.nodes[2]
		n.halt()
		restore := n.image(t)
		n.start()
		n.awaitReady()
		f.wrong(c, "wrong")
		time.Sleep(2 * witnessEvery) // the others remember that
		lost, _ := n.server.ledger.state()
		n.halt()
		f.wrong(c, "wrong")
		restore()
		silent := true
		for _, o := range f.nodes[:2] {
			f.mu.Lock()
			o.cut = func(k Kind) bool { return silent && k == KindHead }
			f.mu.Unlock()
		}
		n.mayFail = true
		n.start()
		time.Sleep(time.Minute)
		if now, _ := n.server.ledger.state(); now.count <= lost.count {
			t.Fatalf("%d entries, %d were lost: it did not catch up", now.count, lost.count)
		}
		f.mu.Lock()
		silent = false
		f.mu.Unlock()
		time.Sleep(time.Minute)
		select {
		case err := <-n.stopped:
			if !errors.Is(err, ErrRollback) {
				t.Errorf("it ran until %v, want ErrRollback", err)
			}
			n.stopped <- err
		default:
			t.Error("it runs on")
		}
	})
}

// Nodes ask each other for as long as they live. What they remember must not grow:
// after some dozens of rounds it fitted no answer, and a node that started then
// heard from nobody.
func TestMemoryOfHeadsDoesNotGrow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		f.every = witnessEvery
		for _, n := range f.nodes {
			n.halt()
			n.start()
		}
		c := f.client("anna")
		f.register(c, "right")
		for range 40 {
			f.wrong(c, "wrong")
			if _, err := c.Recover(context.Background(), "right"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(witnessEvery)
		}
		for _, n := range f.nodes {
			if size := len(n.server.witness.of(f.nodes[0].id)); size > 1000 {
				t.Errorf("node %s remembers %d bytes", n.id, size)
			}
		}
		f.nodes[2].halt()
		f.nodes[2].start()
		f.nodes[2].awaitReady()
	})
}
