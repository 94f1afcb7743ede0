package vault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Index is where a node keeps what its ledger says of each account, so that a start
// need not read the ledger whole: an ordered map on disk. All of it follows from the
// ledger, which is what counts: a crash may take its newest writes away, but none
// without all later ones, and a lost one is made anew. raftstore's Map is one.
type Index interface {
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan calls fn for the keys from from up to, not including, to, in byte order,
	// until fn returns false. The slices are valid only inside fn, which must not write.
	Scan(from, to []byte, fn func(key, value []byte) bool) error
	// Write makes all the changes or none; nil deletes.
	Write(changes map[string][]byte) error
	Close() error
}

// Keys of the index.
//
//	a  UID         tally
//	d  time UID    accounts to look at again by time: Unix ms of this node's clock, big-endian
//	l  UID epoch   keys of ended epochs that are perhaps not shredded yet
//	mat            up to where the ledger is in the index: mark
//	mfrom          mark some entries before that: a start reads the ledger from there
//	mfollowed      position of the feed up to which all accounts were followed (8 bytes)
//	mreview        UID before which a review has seen all accounts; absent: none is under way
var (
	indexAt       = []byte("mat")
	indexFrom     = []byte("mfrom")
	indexFollowed = []byte("mfollowed")
	indexReview   = []byte("mreview")
)

func tallyKey(uid UID) []byte { return append([]byte{'a'}, uid[:]...) }

func lookKey(at int64, uid UID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{'d'}, uint64(at)), uid[:]...)
}

func leavingKey(uid UID, e Epoch) []byte { return append(append([]byte{'l'}, uid[:]...), e[:]...) }

// mark is a position in the ledger's file.
type mark struct {
	head
	offset int64 // behind its entry
}

func (m mark) encode() []byte {
	b := m.bytes()
	return binary.BigEndian.AppendUint64(b[:], uint64(m.offset))
}

func decodeMark(b []byte) (mark, error) {
	r := &row{b: b}
	m := mark{head: head{count: r.u64()}}
	copy(m.link[:], r.next(len(m.link)))
	m.offset = int64(r.u64())
	return m, r.end()
}

// readMark returns a mark of the index, and whether it has one.
func readMark(ix Index, key []byte) (mark, bool, error) {
	b, ok, err := ix.Get(key)
	if err != nil || !ok {
		return mark{}, false, err
	}
	m, err := decodeMark(b)
	return m, err == nil, err
}

// tallyLayout is the first byte of a tally's row. A program that finds a later one stops.
const tallyLayout = 1

// encode returns the row.
func (t *tally) encode() []byte {
	b := make([]byte, 0, 320+100*len(t.spends))
	b = append(b, tallyLayout, t.budget, bit(t.gone))
	for _, n := range []uint64{t.feed, t.seq, t.restored, uint64(t.refilled), uint64(t.until), uint64(t.disabled), uint64(t.look)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(append(b, t.current[:]...), t.former[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.spends)))
	for i := range t.spends {
		s := &t.spends[i]
		b = binary.BigEndian.AppendUint64(b, s.seq)
		b = append(append(append(b, s.id[:]...), s.epoch[:]...), s.element[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(s.at))
		b = binary.BigEndian.AppendUint64(b, uint64(s.own))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.leaving)))
	for _, e := range t.leaving {
		b = append(b, e[:]...)
	}
	for _, e := range slices.SortedFunc(maps.Keys(t.epochs), func(x, y Epoch) int { return bytes.Compare(x[:], y[:]) }) {
		b = t.epochs[e].append(append(b, e[:]...))
	}
	return b
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (ep *epochTally) append(b []byte) []byte {
	b = append(append(append(b, ep.element[:]...), ep.public[:]...), bit(ep.committed))
	if !ep.committed {
		return b
	}
	b = append(append(b, ep.proof[:]...), ep.hash[:]...)
	b = binary.BigEndian.AppendUint32(b, ep.used)
	b = binary.BigEndian.AppendUint64(b, ep.proved)
	p := &ep.policy
	b = append(b, p.Budget, uint8(len(p.Delays)))
	for _, n := range append([]uint32{p.Deadline, p.Lifetime, p.Grace, p.Refill, p.Disable}, p.Delays...) {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// decodeTally reads the row. Only damage of the index makes it fail.
func decodeTally(b []byte) (*tally, error) {
	r := &row{b: b}
	if layout := r.u8(); layout != tallyLayout {
		return nil, fmt.Errorf("reading the ledger's index: %w: account in layout %d", ErrLedger, layout)
	}
	t := &tally{budget: r.u8(), gone: r.u8() == 1, feed: r.u64(), seq: r.u64(), restored: r.u64()}
	for _, n := range []*int64{&t.refilled, &t.until, &t.disabled, &t.look} {
		*n = int64(r.u64())
	}
	copy(t.current[:], r.next(len(t.current)))
	copy(t.former[:], r.next(len(t.former)))
	for range r.u16() {
		s := spend{seq: r.u64()}
		copy(s.id[:], r.next(len(s.id)))
		copy(s.epoch[:], r.next(len(s.epoch)))
		copy(s.element[:], r.next(len(s.element)))
		s.at, s.own = int64(r.u64()), int64(r.u64())
		t.spends = append(t.spends, s)
	}
	for range r.u16() {
		t.leaving = append(t.leaving, Epoch(r.next(len(Epoch{}))))
	}
	t.epochs = make(map[Epoch]*epochTally, 1)
	for len(r.b) > 0 {
		e := Epoch(r.next(len(Epoch{})))
		t.epochs[e] = decodeEpochTally(r)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("reading the ledger's index: %w: %w", ErrLedger, err)
	}
	return t, nil
}

func decodeEpochTally(r *row) *epochTally {
	ep := new(epochTally)
	copy(ep.element[:], r.next(len(ep.element)))
	copy(ep.public[:], r.next(len(ep.public)))
	if ep.committed = r.u8() == 1; !ep.committed {
		return ep
	}
	copy(ep.proof[:], r.next(len(ep.proof)))
	copy(ep.hash[:], r.next(len(ep.hash)))
	ep.used, ep.proved = r.u32(), r.u64()
	p := &ep.policy
	p.Budget = r.u8()
	if n := r.u8(); n > 0 {
		p.Delays = make([]uint32, n)
	}
	for _, n := range []*uint32{&p.Deadline, &p.Lifetime, &p.Grace, &p.Refill, &p.Disable} {
		*n = r.u32()
	}
	for i := range p.Delays {
		p.Delays[i] = r.u32()
	}
	return ep
}

// memoryIndex is an index of a node whose ledger is read whole at each start.
type memoryIndex struct {
	mu sync.RWMutex
	m  map[string][]byte
}

func newMemoryIndex() *memoryIndex { return &memoryIndex{m: make(map[string][]byte)} }

func (x *memoryIndex) Get(key []byte) ([]byte, bool, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	v, ok := x.m[string(key)]
	return v, ok, nil
}

func (x *memoryIndex) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var keys []string
	for k := range x.m {
		if k >= string(from) && k < string(to) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !fn([]byte(k), x.m[k]) {
			break
		}
	}
	return nil
}

func (x *memoryIndex) Write(changes map[string][]byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k, v := range changes {
		if v == nil {
			delete(x.m, k)
		} else {
			x.m[k] = v
		}
	}
	return nil
}

func (*memoryIndex) Close() error { return nil }
