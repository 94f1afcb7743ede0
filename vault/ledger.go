package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
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
//
// What the entries say of each account is in the index, which follows the file: it is
// written after the file is synced, so it never has what the file has not.
type ledger struct {
	f      *os.File
	hsm    HSM
	index  Index
	offset int64        // end of the file; the flusher's
	marks  [2]mark      // see passed; the flusher's
	read   int64        // bytes of the file read when it was opened, without the first entry
	mu     sync.RWMutex // guards head and recent
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

// flush makes entries durable, counts them, and anchors the new head. They count
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
	if err == nil {
		err = l.post(mark{h, l.offset + int64(len(buf))}, entries)
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
	l.mu.Unlock()
	if err := l.hsm.SetAnchor(ctx, h.bytes()); err != nil {
		return fmt.Errorf("anchoring the ledger: %w", err)
	}
	return nil
}

// post takes entries that are in the file into the index.
func (l *ledger) post(at mark, entries []*entry) error {
	p := newPosting(l.index)
	for _, e := range entries {
		if err := p.apply(e); err != nil {
			return err
		}
	}
	l.passed(at)
	l.offset = at.offset
	return p.write(at, l.marks[0])
}

// tally returns what the ledger knows of the account, nil if nothing.
func (l *ledger) tally(uid UID) (*tally, error) { return readTally(l.index, uid) }

// leavers calls fn for the keys of ended epochs that are perhaps not shredded yet.
func (l *ledger) leavers(fn func(uid UID, e Epoch)) error {
	return l.index.Scan([]byte{'l'}, []byte{'l' + 1}, func(k, _ []byte) bool {
		if len(k) == 1+len(UID{})+len(Epoch{}) {
			fn(UID(k[1:33]), Epoch(k[33:]))
		}
		return true
	})
}

// lookAt notes when Run has to look at the account by time, 0: not at all. The caller
// holds the account's lock. No entry says so: it follows from the entries, the state
// and the clock, and a review finds it again.
func (l *ledger) lookAt(uid UID, at int64) error {
	t, err := l.tally(uid)
	if err != nil || t == nil || t.look == at {
		return err
	}
	changes := make(map[string][]byte)
	if t.look != 0 {
		changes[string(lookKey(t.look, uid))] = nil
	}
	if t.look = at; at != 0 {
		changes[string(lookKey(at, uid))] = []byte{}
	}
	changes[string(tallyKey(uid))] = t.encode()
	return l.index.Write(changes)
}

// due returns up to limit accounts to look at by time, the first ones first.
func (l *ledger) due(now int64, limit int) (uids []UID, err error) {
	err = l.index.Scan([]byte{'d'}, lookKey(now+1, UID{}), func(k, _ []byte) bool {
		if len(k) == 1+8+len(UID{}) {
			uids = append(uids, UID(k[9:]))
		}
		return len(uids) < limit
	})
	return uids, err
}

// accounts calls fn for every account from uid on, until it returns false or an error.
func (l *ledger) accounts(from UID, fn func(uid UID, t *tally) (bool, error)) error {
	var failed error
	err := l.index.Scan(tallyKey(from), []byte{'a' + 1}, func(k, v []byte) bool {
		if len(k) != 1+len(UID{}) {
			return true
		}
		t, err := decodeTally(v)
		more := false
		if err == nil {
			more, err = fn(UID(k[1:]), t)
		}
		failed = err
		return err == nil && more
	})
	return errors.Join(err, failed)
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
	return errors.Join(l.f.Close(), l.index.Close())
}
