package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
)

// tracedIndex counts reads, and remembers each write.
type tracedIndex struct {
	*memoryIndex
	mu     sync.Mutex
	reads  int
	writes []map[string][]byte
}

func newTracedIndex() *tracedIndex { return &tracedIndex{memoryIndex: newMemoryIndex()} }

func (x *tracedIndex) read() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reads++
}

// since returns the reads since it was called before.
func (x *tracedIndex) since() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.reads
	x.reads = 0
	return n
}

func (x *tracedIndex) Get(key []byte) ([]byte, bool, error) {
	x.read()
	return x.memoryIndex.Get(key)
}

func (x *tracedIndex) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	return x.memoryIndex.Scan(from, to, func(k, v []byte) bool { x.read(); return fn(k, v) })
}

func (x *tracedIndex) Write(changes map[string][]byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.writes = append(x.writes, maps.Clone(changes))
	return x.memoryIndex.Write(changes)
}

// after returns an index that has the first n writes only.
func (x *tracedIndex) after(n int) *memoryIndex {
	m := newMemoryIndex()
	for _, w := range x.writes[:n] {
		m.Write(w)
	}
	return m
}

// life is what the ledger of account n may hold, one entry of each kind at least.
func life(n byte) []*entry {
	u, p := UID{n}, &Policy{Budget: 10, Delays: []uint32{0, 60}, Deadline: 600, Lifetime: 100, Grace: 60, Refill: 9999, Disable: 60}
	el := [33]byte{2, n}
	return []*entry{
		{Kind: entryKey, UID: u, Epoch: Epoch{1}, Element: el, Public: [33]byte{3, n}, Feed: 1},
		{Kind: entryCommit, UID: u, Epoch: Epoch{1}, Own: 5, Proof: [32]byte{n}, Hash: [32]byte{4}, Policy: p, How: howFirst},
		{Kind: entrySpend, UID: u, Epoch: Epoch{1}, Seq: 1, ID: AttemptID{1}, Element: el, At: 7, Own: 8, Feed: 2},
		{Kind: entrySpend, UID: u, Epoch: Epoch{1}, Seq: 2, ID: AttemptID{2}, Element: el, At: 9, Own: 9},
		{Kind: entryProve, UID: u, Epoch: Epoch{1}, Seq: 1},
		{Kind: entryDisable, UID: u, Own: 10},
		{Kind: entryKeep, UID: u, Own: 11},
		{Kind: entryKey, UID: u, Epoch: Epoch{2}, Element: el, Public: [33]byte{2, n}},
		{Kind: entryCommit, UID: u, Epoch: Epoch{2}, Own: 12, Policy: p, How: howToken},
		{Kind: entryEnd, UID: u, Epoch: Epoch{1}},
		{Kind: entryGone, UID: u, Epoch: Epoch{1}},
		{Kind: entryEnd, UID: u, Epoch: Epoch{2}},
	}
}

// Wherever a crash cuts the index, the ledger makes it whole again: the same rows as
// one that was made of the whole ledger.
func TestIndexIsMadeWholeAgain(t *testing.T) {
	dir, h := t.TempDir(), newSoftHSM(t)
	x := newTracedIndex()
	open := func(ix Index) *ledger {
		t.Helper()
		l, err := openLedger(context.Background(), dir, FleetID{1}, "n1", h, ix)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open(x)
	for n := range byte(40) {
		for _, e := range life(n)[:1+n%12] {
			if err := l.append(context.Background(), e); err != nil {
				t.Fatal(err)
			}
		}
		if n%3 == 0 {
			if err := l.append(context.Background(), life(n+100)...); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	rows := func(x *memoryIndex) map[string][]byte {
		m := maps.Clone(x.m)
		delete(m, string(indexFrom)) // anywhere far enough back
		return m
	}
	whole := newMemoryIndex()
	open(whole).close()
	if !reflect.DeepEqual(rows(x.memoryIndex), rows(whole)) {
		t.Fatal("the index and one that is made of the whole ledger differ")
	}
	for n := range x.writes {
		cut := x.after(n)
		open(cut).close()
		if !reflect.DeepEqual(rows(cut), rows(whole)) {
			t.Fatalf("after %d of %d writes, the index is made another one", n, len(x.writes))
		}
	}
}

// A start reads the end of the ledger, however long that is, and nothing per account.
func TestStartReadsTheEnd(t *testing.T) {
	read := func(accounts int) (bytes int64, reads int) {
		dir, h := t.TempDir(), newSoftHSM(t)
		x := newTracedIndex()
		l, err := openLedger(context.Background(), dir, FleetID{1}, "n1", h, x)
		if err != nil {
			t.Fatal(err)
		}
		var es []*entry
		for i := range accounts {
			e := *life(0)[0]
			e.UID = UID{byte(i), byte(i >> 8), byte(i >> 16)}
			if es = append(es, &e); len(es) == maxBatch || i == accounts-1 {
				if err := l.append(context.Background(), es...); err != nil {
					t.Fatal(err)
				}
				es, x.writes = nil, nil
			}
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		x.since()
		if l, err = openLedger(context.Background(), dir, FleetID{1}, "n1", h, x); err != nil {
			t.Fatal(err)
		}
		defer l.close()
		if l.head.count != uint64(accounts)+1 {
			t.Fatalf("%d entries, want %d", l.head.count, accounts+1)
		}
		return l.read, x.since()
	}
	const limit = 4 * maxBatch * 400 // bytes
	for _, accounts := range []int{1000, 100_000} {
		if b, n := read(accounts); b > limit || n > 8 {
			t.Errorf("%d accounts: a start reads %d bytes of the ledger and %d rows of the index, want at most %d and 8", accounts, b, n, limit)
		}
	}
}

// The index is one more witness: a ledger that was restored without it is found, also
// when the HSM was restored, too.
func TestIndexFindsAnOldLedger(t *testing.T) {
	for name, more := range map[string][]*entry{"shorter": nil, "another": {testEntry(7), testEntry(8), testEntry(9)}} {
		t.Run(name, func(t *testing.T) {
			dir, h := filledLedger(t, 5)
			ctx, path := context.Background(), filepath.Join(dir, ledgerName)
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			anchor, x := h.anchor, newMemoryIndex()
			l, err := openLedger(ctx, dir, FleetID{1}, "n1", h, x)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.append(ctx, testEntry(5)); err != nil {
				t.Fatal(err)
			}
			l.close()
			h.anchor = anchor
			if err := os.WriteFile(path, old, 0o600); err != nil {
				t.Fatal(err)
			}
			if more != nil {
				if l, err = openLedger(ctx, dir, FleetID{1}, "n1", h, newMemoryIndex()); err != nil {
					t.Fatal(err)
				}
				if err := l.append(ctx, more...); err != nil {
					t.Fatal(err)
				}
				l.close()
			}
			if _, err := openLedger(ctx, dir, FleetID{1}, "n1", h, x); !errors.Is(err, ErrRollback) {
				t.Errorf("%v, want ErrRollback", err)
			}
		})
	}
}

// FuzzTally feeds the decoder of the index's rows, which has one encoding for each.
func FuzzTally(f *testing.F) {
	p := newPosting(newMemoryIndex())
	for _, e := range life(1) {
		if err := p.apply(e); err != nil {
			f.Fatal(err)
		}
		f.Add(p.tallies[UID{1}].encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tl, err := decodeTally(b)
		if err != nil {
			return
		}
		again, err := decodeTally(tl.encode())
		if err != nil || !bytes.Equal(again.encode(), tl.encode()) {
			t.Errorf("%v: a row that was read is written otherwise", err)
		}
	})
}

// A node that starts goes on where it ended: it looks at what changed meanwhile, and at
// nothing else. Only where the feed does not reach back it reviews all accounts.
func TestStartGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		defer f.close()
		n := f.nodes[2]
		var last *Client
		for i := range 40 {
			last = f.client(fmt.Sprint("user-", i))
			f.register(last, "right")
		}
		restart := func(meanwhile func()) int {
			synctest.Wait()
			n.halt()
			meanwhile()
			n.index.since()
			n.start()
			n.awaitReady()
			synctest.Wait()
			return n.index.since()
		}
		if reads := restart(func() {}); reads > 20 {
			t.Errorf("a start after which nothing happened reads %d rows of the index", reads)
		}
		if reads := restart(func() { f.wrong(last, "wrong") }); reads > 40 {
			t.Errorf("a start with one attempt missed reads %d rows of the index", reads)
		}
		if used := n.server.tally(last.uid).used(); used != 1 {
			t.Errorf("%d attempts are counted, want 1", used)
		}
		restart(func() {
			f.wrong(last, "wrong")
			n.kv.Set(feedKey(1), nil) // as if it had been overwritten
			n.index.Write(map[string][]byte{string(indexFollowed): nil})
		})
		if used := n.server.tally(last.uid).used(); used != 2 {
			t.Errorf("after a review %d attempts are counted, want 2", used)
		}
	})
}
