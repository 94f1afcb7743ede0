package vault

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func openTestLedger(t *testing.T, dir string, h HSM) (*ledger, error) {
	t.Helper()
	return openLedger(context.Background(), dir, FleetID{1}, "n1", h, newMemoryIndex())
}

// indexed is what the ledger knows of an account.
func indexed(tb testing.TB, l *ledger, uid UID) *tally {
	tb.Helper()
	t, err := l.tally(uid)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func (s *Server) tally(uid UID) *tally {
	t, err := s.ledger.tally(uid)
	if err != nil {
		panic(err) // the index is in memory
	}
	return t
}

func testEntry(n byte) *entry {
	return &entry{Kind: entrySpend, UID: UID{n % 4}, Epoch: Epoch{1}, Seq: uint64(n) + 1, Element: [33]byte{2, n}}
}

// filledLedger returns the folder and the HSM of a ledger with n entries.
func filledLedger(t *testing.T, n int) (string, *softHSM) {
	t.Helper()
	dir, h := t.TempDir(), newSoftHSM(t)
	l, err := openTestLedger(t, dir, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := l.append(context.Background(), testEntry(byte(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	return dir, h
}

// A ledger that comes back shorter or changed would give attempts back.
func TestLedgerRefusesWhatItDidNotWrite(t *testing.T) {
	cut := func(n int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, st.Size()-n); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(at int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if at < 0 {
				at += int64(len(b))
			}
			b[at] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	extend := func(tail []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(b, tail...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	e := testEntry(200)
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, path string)
		want error
	}{
		{"untouched", func(*testing.T, string) {}, nil},
		{"last byte missing", cut(1), ErrRollback},
		{"all but the magic missing", func(t *testing.T, path string) {
			if err := os.Truncate(path, int64(len(ledgerMagic))); err != nil {
				t.Fatal(err)
			}
		}, ErrRollback},
		{"file missing", func(t *testing.T, path string) { os.Remove(path) }, ErrRollback},
		{"magic changed", flip(3), ErrLedger},
		{"first entry changed", flip(int64(len(ledgerMagic)) + 9), ErrRollback},
		{"last entry changed", flip(-40), ErrRollback},
		{"last link changed", flip(-1), ErrRollback},
		{"size of the next entry begun", extend([]byte{0, 0}), nil},
		{"next entry cut", extend(e.frame()), nil},
		{"zeros", extend(make([]byte, 4096)), nil},
		{"next entry with a wrong link", extend(append(e.frame(), make([]byte, 32)...)), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, h := filledLedger(t, 9)
			tt.do(t, filepath.Join(dir, ledgerName))
			l, err := openTestLedger(t, dir, h)
			if !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.want != nil {
				return
			}
			if err := l.append(context.Background(), testEntry(9)); err != nil {
				t.Fatal(err)
			}
			if err := l.close(); err != nil {
				t.Fatal(err)
			}
			if l, err = openTestLedger(t, dir, h); err != nil || l.head.count != 11 {
				t.Fatalf("after an append: %v", err)
			}
			l.close()
		})
	}
}

// An old copy of the disk is whole in itself: only the anchor tells.
func TestLedgerRefusesAnOldCopy(t *testing.T) {
	dir, h := filledLedger(t, 5)
	old, err := os.ReadFile(filepath.Join(dir, ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	l, err := openTestLedger(t, dir, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.append(context.Background(), testEntry(5)); err != nil {
		t.Fatal(err)
	}
	l.close()
	if err := os.WriteFile(filepath.Join(dir, ledgerName), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openTestLedger(t, dir, h); !errors.Is(err, ErrRollback) {
		t.Errorf("%v, want ErrRollback", err)
	}
	if _, err := openTestLedger(t, dir, newSoftHSM(t)); err != nil {
		t.Errorf("within a batch of an anchor that was never set: %v", err)
	}
	if _, err := openLedger(context.Background(), dir, FleetID{1}, "n2", newSoftHSM(t), newMemoryIndex()); !errors.Is(err, ErrLedger) {
		t.Errorf("as another node's: %v, want ErrLedger", err)
	}
}

// brokenHSM cannot store anchors.
type brokenHSM struct{ *softHSM }

func (brokenHSM) SetAnchor(context.Context, [40]byte) error { return errors.New("no") }

// An append that is not anchored must not count as done; the count itself stays.
func TestLedgerNeedsItsAnchor(t *testing.T) {
	dir, h := filledLedger(t, 1)
	l, err := openTestLedger(t, dir, h)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.hsm = brokenHSM{h}
	if err := l.append(context.Background(), testEntry(1)); err == nil {
		t.Error("an append without anchor is done")
	}
	if used := indexed(t, l, UID{1}).used(); used != 1 {
		t.Errorf("%d counted, want 1", used)
	}
}

// Appends of many at once share a sync, and none is lost or doubled.
func TestLedgerGroupsAppends(t *testing.T) {
	dir, h := t.TempDir(), newSoftHSM(t)
	l, err := openTestLedger(t, dir, h)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			e := testEntry(byte(i))
			e.UID = UID{byte(i)}
			if err := l.append(context.Background(), e, e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if err := l.append(context.Background(), testEntry(0)); err == nil {
		t.Error("a closed ledger takes entries")
	}
	all, hd := readLedger(t, dir)
	if len(all) != 201 || hd.bytes() != h.anchor {
		t.Errorf("%d entries, want 201, anchored", len(all))
	}
	for i := 1; i < len(all); i += 2 {
		if !bytes.Equal(all[i].frame(), all[i+1].frame()) {
			t.Fatalf("entries %d and %d of one append are apart", i, i+1)
		}
	}
}
