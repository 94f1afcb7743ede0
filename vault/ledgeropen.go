package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"coffer/internal/durable"
)

// openLedger opens the ledger in dir, or starts one for the node, and brings ix up to
// it. It fails with [ErrRollback] when the anchor in the HSM, or the index, is ahead
// of the file, and with [ErrLedger] when the file was damaged or is another node's. It
// reads what came after the index was last written and some entries before; the whole
// file only if the index is empty. The index is closed with the ledger, not on failure.
func openLedger(ctx context.Context, dir string, fleet FleetID, node string, hsm HSM, ix Index) (*ledger, error) {
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
	l := &ledger{f: f, hsm: hsm, index: ix}
	if err := l.load(ctx, fleet, node, anchor); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), f.Close())
	}
	return l, nil
}

// load reads the end of the file, cuts a last entry that was not written whole, and
// makes sure that nothing is missing that was ever acted upon: all that was is anchored.
func (l *ledger) load(ctx context.Context, fleet FleetID, node string, anchor [40]byte) error {
	r := &entryReader{r: l.f}
	if err := l.readFirst(r, fleet, node); err != nil {
		return err
	}
	anchored, err := l.readOn(r, anchor)
	if err != nil {
		return err
	}
	l.head, l.first, l.offset = r.head, r.head, r.offset
	at := binary.BigEndian.Uint64(anchor[:8])
	switch {
	case l.head.count < at:
		return fmt.Errorf("%d entries, the anchor is at %d: %w", l.head.count, at, ErrRollback)
	case l.head.count > at+maxBatch:
		return fmt.Errorf("%d entries, the anchor is at %d: %w", l.head.count, at, ErrRollback)
	case !anchored:
		return fmt.Errorf("entry %d is not the one that is anchored: %w", at, ErrRollback)
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

// readFirst looks whose ledger it is, and leaves r where reading goes on: at the
// beginning, or at the mark that the index has for that.
func (l *ledger) readFirst(r *entryReader, fleet FleetID, node string) error {
	if err := r.magic(); err != nil {
		return err
	}
	e, err := r.next()
	if err != nil && err != io.EOF {
		return err
	}
	if err == nil && (e.Kind != entryFirst || e.ID != AttemptID(fleet) || e.Node != node) {
		return fmt.Errorf("it belongs to another node or fleet: %w", ErrLedger)
	}
	from, ok, err := readMark(l.index, indexFrom)
	if err != nil {
		return err
	}
	if !ok || from.count == 0 {
		from = mark{offset: int64(len(ledgerMagic))}
	}
	if _, err := l.f.Seek(from.offset, io.SeekStart); err != nil {
		return err
	}
	r.from(from)
	l.marks = [2]mark{from, from}
	return nil
}

// readOn reads the file to its end and takes into the index what it has not. It says
// whether the anchored entry was there.
func (l *ledger) readOn(r *entryReader, anchor [40]byte) (anchored bool, err error) {
	have, _, err := readMark(l.index, indexAt)
	if err != nil {
		return false, err
	}
	began := r.offset
	anchored = r.head.bytes() == anchor // a zero one is the beginning's
	p, n := newPosting(l.index), 0
	for {
		e, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
		anchored = anchored || r.head.bytes() == anchor
		l.passed(mark{r.head, r.offset})
		if r.head.count == have.count && r.head != have.head {
			return false, fmt.Errorf("entry %d is not the one that the index has: %w", have.count, ErrRollback)
		}
		if r.head.count <= have.count {
			continue
		}
		if err := p.apply(e); err != nil {
			return false, err
		}
		if n++; n%postEntries == 0 {
			if err := p.write(mark{r.head, r.offset}, l.marks[0]); err != nil {
				return false, err
			}
			p = newPosting(l.index)
		}
	}
	l.read = r.offset - began
	if r.head.count < have.count {
		return false, fmt.Errorf("%d entries, the index was at %d: %w", r.head.count, have.count, ErrRollback)
	}
	if n%postEntries == 0 {
		return anchored, nil
	}
	return anchored, p.write(mark{r.head, r.offset}, l.marks[0])
}

// postEntries is how many entries go into the index at once when a ledger is read.
const postEntries = 4096

// passed keeps two marks, of which the older is at least maxBatch entries back: as
// far as the anchor may be.
func (l *ledger) passed(m mark) {
	if m.count >= l.marks[1].count+maxBatch {
		l.marks = [2]mark{l.marks[1], m}
	}
}
