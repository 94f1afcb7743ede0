package table

import (
	"encoding/binary"
	"slices"

	"coffer/backup/chunk"
)

// recent is an open hash table of entries. These lie in pages and are never moved,
// so that it grows by what it needs.
type recent struct {
	slots []uint32 // number of the entry, counted from 1; 0: none
	pages [][]entry
	n     int
}

const pageEntries = 1 << 10

func (r *recent) clear() {
	*r = recent{slots: make([]uint32, 1<<10)}
}

func (r *recent) len() int { return r.n }

func (r *recent) entry(i int) *entry { return &r.pages[i/pageEntries][i%pageEntries] }

// slot returns the slot of id, or the empty one where it belongs. IDs are uniform
// already: their first bytes serve as the hash.
func (r *recent) slot(id *chunk.ID) *uint32 {
	mask := uint64(len(r.slots) - 1)
	for i := binary.LittleEndian.Uint64(id[:]) & mask; ; i = (i + 1) & mask {
		if s := &r.slots[i]; *s == 0 || r.entry(int(*s-1)).id == *id {
			return s
		}
	}
}

// at returns the number of the entry of an id, or -1.
func (r *recent) at(id *chunk.ID) int { return int(*r.slot(id)) - 1 }

func (r *recent) find(id *chunk.ID) *entry {
	if at := r.at(id); at >= 0 {
		return r.entry(at)
	}
	return nil
}

// add adds an entry whose id is not there.
func (r *recent) add(e *entry) {
	if r.n >= len(r.slots)/4*3 {
		r.slots = make([]uint32, 2*len(r.slots))
		for i := range r.n {
			*r.slot(&r.entry(i).id) = uint32(i + 1)
		}
	}
	if r.n%pageEntries == 0 {
		r.pages = append(r.pages, make([]entry, pageEntries))
	}
	*r.entry(r.n) = *e
	r.n++
	*r.slot(&e.id) = uint32(r.n)
}

// sorted returns the numbers of the entries in the order of their ids.
func (r *recent) sorted() []uint32 {
	order := make([]uint32, r.n)
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return compare(&r.entry(int(a)).id, &r.entry(int(b)).id) })
	return order
}

// prefix is what the order of ids is mostly decided by.
func prefix(id *chunk.ID) uint64 { return binary.BigEndian.Uint64(id[:]) }

func compare(a, b *chunk.ID) int {
	if x, y := prefix(a), prefix(b); x != y {
		if x < y {
			return -1
		}
		return 1
	}
	return slices.Compare(a[8:], b[8:])
}
