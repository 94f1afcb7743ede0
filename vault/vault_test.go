package vault

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func walkFiles(tb testing.TB, dir string, fn func(path string)) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			fn(path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// inBubble runs the test in virtual time.
func inBubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, fn)
}

// withAnna runs fn in a bubble with a fleet of n nodes where anna's password is "right".
func withAnna(t *testing.T, n int, fn func(t *testing.T, f *testFleet, c *Client)) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, n)
		defer f.close()
		c := f.client("anna")
		f.register(c, "right")
		fn(t, f, c)
	})
}

// counted fails the test unless every node's ledger counts so many attempts.
func (f *testFleet) counted(t *testing.T, c *Client, want int) {
	t.Helper()
	for _, n := range f.nodes {
		if used := int(n.server.tally(c.uid).used()); used != want {
			t.Errorf("node %s counts %d, want %d", n.id, used, want)
		}
	}
}

// Without this nothing works: the key comes back for the password, from another
// client, on fleets of every size.
func TestRegisterRecover(t *testing.T) {
	for _, n := range []int{1, 3, 5, 7} {
		inBubble(t, func(t *testing.T) {
			f := newFleet(t, n)
			defer f.close()
			key := f.register(f.client("anna"), "tulip mania")
			got, err := f.client("anna").Recover(context.Background(), "tulip mania")
			if err != nil || got != key {
				t.Fatalf("n=%d: %x, %v; want the key", n, got, err)
			}
			st, err := f.client("anna").Status(context.Background())
			if err != nil || !st.Registered || st.Left != 10 || st.Failed != 0 || len(st.Nodes) != n || !st.Nodes[0].Holds {
				t.Fatalf("n=%d: status %+v, %v", n, st, err)
			}
			if _, err := f.client("bert").Recover(context.Background(), "x"); !errors.Is(err, ErrNotRegistered) {
				t.Fatalf("n=%d: another account: %v, want ErrNotRegistered", n, err)
			}
		})
	}
}

// Ten wrong guesses destroy the key on every node, the wrapped keys included, and
// the right password no longer helps.
func TestTenWrongGuesses(t *testing.T) {
	withAnna(t, 3, func(t *testing.T, f *testFleet, c *Client) {
		for i := range 10 {
			if left := f.wrong(c, "wrong"); left != 9-i {
				t.Fatalf("guess %d: %d left, want %d", i+1, left, 9-i)
			}
		}
		if _, err := c.Recover(context.Background(), "right"); !errors.Is(err, ErrDestroyed) {
			t.Fatalf("the eleventh guess: %v, want ErrDestroyed", err)
		}
		for _, n := range f.nodes {
			if n.keyFilesLeft() != 1 {
				t.Errorf("node %s: the key went before the deadline of the proof", n.id)
			}
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		for _, n := range f.nodes {
			if n.keyFilesLeft() != 0 {
				t.Errorf("node %s still has the key", n.id)
			}
			if d := n.hsm.distinct(); d != 11 { // one at registration
				t.Errorf("node %s evaluated %d elements, want 11", n.id, d)
			}
		}
		if _, err := c.Recover(context.Background(), "right"); !errors.Is(err, ErrDestroyed) {
			t.Fatalf("after destruction: %v, want ErrDestroyed", err)
		}
	})
}

// An epoch wears out. Its owner must not notice: half way, a recovery renews it.
func TestWornEpochIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3, func(m *Manifest) { m.Policy.Lifetime = 10 })
		defer f.close()
		c := f.client("anna")
		key := f.register(c, "right")
		for i := range 25 {
			if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
				t.Fatalf("recovery %d: %v", i+1, err)
			}
		}
		synctest.Wait()
		full := 0 // a slow node may miss an attempt that two others have answered
		for _, n := range f.nodes {
			d := n.hsm.distinct()
			if d > 1+5 {
				t.Errorf("node %s evaluated %d elements with one key, want at most 6", n.id, d)
			}
			if d == 1+5 {
				full++
			}
			if k := n.keyFilesLeft(); k != 1 {
				t.Errorf("node %s has %d keys, want 1", n.id, k)
			}
		}
		if full == 0 {
			t.Error("no node evaluated the 6 elements of half a life")
		}
		for range 9 { // of ten, one is left for the owner
			f.wrong(c, "wrong")
		}
		if got, err := c.Recover(context.Background(), "right"); err != nil || got != key {
			t.Errorf("the last attempt of a life: %v", err)
		}
	})
}
