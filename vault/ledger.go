package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"coffer/internal/durable"
)

// ledger is what one node itself has seen, and by whose authority: an
// append-only file beside the replicated state, which nothing that comes over
// the network can shorten or rewrite. What is not in it, the node
// does not evaluate.
//
//	file   magic, then entries
//	entry  size of body (4 bytes, big-endian), body, link (32 bytes)
//	link   SHA-256("coffer vault 1 ledger", link before, size, body)
//	head   number of entries (8 bytes, big-endian), last link
//
// An append is over once the file is synced and the head anchored in the HSM.
// Appends that come at the same time share both.
type ledger struct {
	f      *os.File
	hsm    HSM
	tally  map[UID]*tally
	leaver map[leaving]struct{} // epochs that are over and whose key is perhaps not shredded yet
	mu     sync.RWMutex         // guards tally and leaver (the maps), head and recent; see follow.go for the tallies
	head   head
	first  head            // when it was opened
	recent [maxRecent]head // those since then: number n of them lies at n mod maxRecent
	heads  uint64          // how many there were

	queue    sync.Mutex // guards what follows
	waiting  []*batch
	flushing bool
	broken   error // after a failed write the file is not to be trusted before a restart
	flusher  sync.WaitGroup
}

// leaving names a key that must go.
type leaving struct {
	uid   UID
	epoch Epoch
}

// head is a position in the chain of entries.
type head struct {
	count uint64
	link  [32]byte
}

func (h head) bytes() (b [40]byte) {
	binary.BigEndian.PutUint64(b[:8], h.count)
	copy(b[8:], h.link[:])
	return b
}

// batch is a group of appends that are written together.
type batch struct {
	entries []*entry
	done    chan struct{} // closed when err is set
	err     error
}

const (
	ledgerMagic = "coffer vault ledger 1\n"
	ledgerName  = "ledger"
	maxBatch    = 256 // entries; so the file is at most that far ahead of the anchor
	maxRecent   = 1 << 14
)

// openLedger reads the ledger in dir, or starts one for the node. It fails with
// [ErrRollback] when the anchor in the HSM is ahead of the file, and with
// [ErrLedger] when the file was damaged or is another node's.
func openLedger(ctx context.Context, dir string, fleet FleetID, node string, hsm HSM) (*ledger, error) {
	anchor, err := hsm.Anchor(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's anchor: %w", err)
	}
	path := filepath.Join(dir, ledgerName)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if anchor != [40]byte{} {
			return nil, fmt.Errorf("opening %s: there is none: %w", path, ErrRollback)
		}
		if err := durable.WriteFile(path, []byte(ledgerMagic), 0o600); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l := &ledger{f: f, hsm: hsm, tally: make(map[UID]*tally), leaver: make(map[leaving]struct{})}
	if err := l.load(ctx, fleet, node, anchor); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), f.Close())
	}
	return l, nil
}

// load reads the file, cuts a last entry that was not written whole, and makes
// sure that nothing is missing that was ever acted upon: all that was is anchored.
func (l *ledger) load(ctx context.Context, fleet FleetID, node string, anchor [40]byte) error {
	r := &entryReader{r: l.f}
	if err := r.magic(); err != nil {
		return err
	}
	anchored := anchor == [40]byte{}
	for {
		e, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if r.head.count == 1 && (e.Kind != entryFirst || e.ID != AttemptID(fleet) || e.Node != node) {
			return fmt.Errorf("it belongs to another node or fleet: %w", ErrLedger)
		}
		if r.head.bytes() == anchor {
			anchored = true
		}
		l.apply(e)
	}
	l.head, l.first = r.head, r.head
	at := binary.BigEndian.Uint64(anchor[:8])
	switch {
	case l.head.count < at:
		return fmt.Errorf("%d entries, the anchor is at %d: %w", l.head.count, at, ErrRollback)
	case !anchored:
		return fmt.Errorf("entry %d is not the one that is anchored: %w", at, ErrRollback)
	case l.head.count > at+maxBatch:
		return fmt.Errorf("%d entries, the anchor is at %d: %w", l.head.count, at, ErrRollback)
	}
	if err := l.f.Truncate(r.offset); err != nil { // the cut entry was never anchored, so never acted upon
		return err
	}
	if _, err := l.f.Seek(r.offset, io.SeekStart); err != nil {
		return err
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	if l.head.count == 0 {
		return l.flush(ctx, []*entry{{Kind: entryFirst, ID: AttemptID(fleet), Node: node}})
	}
	return l.hsm.SetAnchor(ctx, l.head.bytes())
}

// link continues the chain.
func (h head) next(frame []byte) head {
	s := sha256.New()
	s.Write([]byte("coffer vault 1 ledger"))
	s.Write(h.link[:])
	s.Write(frame)
	return head{h.count + 1, [32]byte(s.Sum(nil))}
}

// append returns once the entries are on the disk and anchored. After an error
// they may or may not be: whoever asked must not go on.
func (l *ledger) append(ctx context.Context, entries ...*entry) error {
	l.queue.Lock()
	if l.broken != nil {
		l.queue.Unlock()
		return l.broken
	}
	n := len(l.waiting)
	if n == 0 || len(l.waiting[n-1].entries)+len(entries) > maxBatch {
		l.waiting = append(l.waiting, &batch{done: make(chan struct{})})
		n = len(l.waiting)
	}
	b := l.waiting[n-1]
	b.entries = append(b.entries, entries...)
	if !l.flushing {
		l.flushing = true
		l.flusher.Add(1)
		// Not the caller's context: it also writes what others wait for.
		go l.flushAll(context.WithoutCancel(ctx))
	}
	l.queue.Unlock()
	<-b.done
	return b.err
}

// flushAll writes until nothing waits.
func (l *ledger) flushAll(ctx context.Context) {
	defer l.flusher.Done()
	for {
		l.queue.Lock()
		if len(l.waiting) == 0 {
			l.flushing = false
			l.queue.Unlock()
			return
		}
		b := l.waiting[0]
		l.waiting = l.waiting[1:]
		b.err = l.broken
		l.queue.Unlock()
		if b.err == nil {
			b.err = l.flush(ctx, b.entries)
		}
		close(b.done)
	}
}

// flush makes entries durable, anchors the new head, and counts them. They count
// from the sync on, also if the anchor then fails.
func (l *ledger) flush(ctx context.Context, entries []*entry) error {
	h := l.head
	var buf []byte
	for _, e := range entries {
		frame := e.frame()
		h = h.next(frame)
		buf = append(append(buf, frame...), h.link[:]...)
	}
	_, err := l.f.Write(buf)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		err = fmt.Errorf("vault: writing the ledger: %w", err)
		l.queue.Lock()
		l.broken = err
		l.queue.Unlock()
		return err
	}
	l.mu.Lock()
	l.head = h
	l.recent[l.heads%maxRecent] = h
	l.heads++
	for _, e := range entries {
		l.apply(e)
	}
	l.mu.Unlock()
	if err := l.hsm.SetAnchor(ctx, h.bytes()); err != nil {
		return fmt.Errorf("anchoring the ledger: %w", err)
	}
	return nil
}

// state returns the last entry's position, and whether the ledger still works.
func (l *ledger) state() (head, error) {
	l.queue.Lock()
	err := l.broken
	l.queue.Unlock()
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.head, err
}

// began is the head when the ledger was opened.
func (l *ledger) began() head { return l.first }

// had says whether the ledger's head may have been h since it was opened. It is sure
// of that but for heads so old that they are forgotten.
func (l *ledger) had(h head) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if h == l.first || l.heads > maxRecent && h.count < l.recent[l.heads%maxRecent].count {
		return true
	}
	return slices.Contains(l.recent[:min(l.heads, maxRecent)], h)
}

// close waits for appends under way.
func (l *ledger) close() error {
	l.queue.Lock()
	if l.broken == nil {
		l.broken = errors.New("vault: the ledger is closed")
	}
	l.queue.Unlock()
	l.flusher.Wait()
	return l.f.Close()
}
