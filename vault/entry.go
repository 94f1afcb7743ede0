package vault

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// entryKind says what a ledger entry records.
type entryKind uint8

const (
	entryFirst   entryKind = 1 // whose ledger this is: ID is the fleet, Node the node
	entryKey     entryKind = 2 // a key made for a staged epoch, and the one element evaluated with it
	entryCommit  entryKind = 3 // an epoch became current
	entrySpend   entryKind = 4 // an attempt counts, and may be evaluated
	entryProve   entryKind = 5 // a proof: attempts up to Seq no longer count
	entryDisable entryKind = 6 // an unsigned disable was first seen
	entryKeep    entryKind = 7 // it was taken back
	entryEnd     entryKind = 8 // an epoch is over: its key is never used again
	entryGone    entryKind = 9 // the key of an ended epoch is shredded
)

// entry is one line of the ledger. What does not apply is zero. Times are Unix ms
// of this node's clock, except At.
type entry struct {
	Kind    entryKind `cbor:"1,keyasint"`
	UID     UID       `cbor:"2,keyasint"`
	Epoch   Epoch     `cbor:"3,keyasint"`
	Own     int64     `cbor:"4,keyasint"` // when it was written
	Feed    uint64    `cbor:"5,keyasint"` // the replicated state that it was taken from
	Seq     uint64    `cbor:"6,keyasint"`
	ID      AttemptID `cbor:"7,keyasint"`
	Element [33]byte  `cbor:"8,keyasint"`
	At      int64     `cbor:"9,keyasint"`  // of a spend: the leader's time, brought within clockSlack of ours
	Public  [33]byte  `cbor:"10,keyasint"` // of a key: times the generator
	Proof   [32]byte  `cbor:"11,keyasint"` // of a commit: key that verifies proofs
	Hash    [32]byte  `cbor:"12,keyasint"` // of a commit: of the record
	Policy  *Policy   `cbor:"13,keyasint"` // of a commit
	How     how       `cbor:"14,keyasint"` // of a commit, or proof
	Sig     []byte    `cbor:"15,keyasint"` // that authorised it, for an audit
	Node    string    `cbor:"16,keyasint"`
}

// how says by what right an epoch became current, or a proof forgives.
type how uint8

const (
	howFirst  how = 1 // nothing was there
	howProven how = 2 // signed by the epoch before
	howToken  how = 3 // by the account token alone
	howRefill how = 4 // likewise, and the time for a refill had come

	// howOwn is of a proof: by the key of an epoch that has its place by the token
	// while the former one lives. It forgives that epoch's attempts only.
	howOwn how = 5
)

// frame returns size and body.
func (e *entry) frame() []byte {
	body := encode(e)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// entryReader reads a ledger file.
type entryReader struct {
	r      io.Reader
	buf    *bufio.Reader
	head   head
	offset int64 // behind the last whole entry
}

// from goes on behind an entry whose place is known. r is there already.
func (r *entryReader) from(m mark) {
	r.buf = bufio.NewReaderSize(r.r, readAhead)
	r.head, r.offset = m.head, m.offset
}

// readAhead is how much of the file is read at once.
const readAhead = 256 << 10

func (r *entryReader) magic() error {
	r.buf = bufio.NewReaderSize(r.r, readAhead)
	m := make([]byte, len(ledgerMagic))
	if _, err := io.ReadFull(r.buf, m); err != nil || string(m) != ledgerMagic {
		return fmt.Errorf("it does not begin like a ledger: %w", ErrLedger)
	}
	r.offset = int64(len(m))
	return nil
}

// next returns the next entry, and [io.EOF] at the end or before an entry that
// is cut or was not written as it should: whether it may be missing, the
// anchor tells.
func (r *entryReader) next() (*entry, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r.buf, frame); err != nil {
		return nil, cut(err)
	}
	n := binary.BigEndian.Uint32(frame)
	if n == 0 || n > maxMessage {
		return nil, io.EOF
	}
	frame = append(frame, make([]byte, n)...)
	if _, err := io.ReadFull(r.buf, frame[4:]); err != nil {
		return nil, cut(err)
	}
	var link [32]byte
	if _, err := io.ReadFull(r.buf, link[:]); err != nil {
		return nil, cut(err)
	}
	h := r.head.next(frame)
	if h.link != link {
		return nil, io.EOF
	}
	var e entry
	if err := decode(frame[4:], &e); err != nil { // its link is right, so we wrote it
		return nil, fmt.Errorf("entry %d: %w: %w", h.count, ErrLedger, err)
	}
	r.head = h
	r.offset += int64(len(frame) + len(link))
	return &e, nil
}

// cut makes an entry that is cut the end of the file.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}
