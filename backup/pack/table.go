package pack

import (
	"encoding/binary"

	"coffer/backup/chunk"
)

// Loc says where a chunk lies.
type Loc struct {
	Pack    int    // number of the pack in the Table
	Segment int    // number of the segment in the pack
	Off     uint32 // of the chunk in the plain segment
	Len     uint32
}

// Place is what a reader of a segment needs to know.
type Place struct {
	Off        uint32 // in the plain pack
	Stored     uint32 // bytes there
	Plain      uint32 // bytes once decompressed
	Tree       bool
	Compressed bool
}

// Info describes a pack of a Table.
type Info struct {
	Name     Name
	Size     uint32 // bytes of the pack before sealing
	Segments []Place
	Gone     bool // superseded: its chunks are to be written again
}

// Table finds chunks: an open hash table of 48 bytes a slot, at most three
// quarters full, so 64 to 128 bytes a chunk. It is not safe for concurrent use.
type Table struct {
	packs  []Info
	byName map[Name]int
	slots  []slot
	used   int
}

// slot is empty when pack is 0: it counts from 1.
type slot struct {
	id                 chunk.ID
	pack, seg, off, ln uint32
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{byName: make(map[Name]int), slots: make([]slot, 1024)}
}

// Len returns the number of chunks.
func (t *Table) Len() int { return t.used }

// Packs returns the number of packs.
func (t *Table) Packs() int { return len(t.packs) }

// Pack describes the pack of a number below Packs. The caller must not change it.
func (t *Table) Pack(n int) *Info { return &t.packs[n] }

// Number finds a pack by its name.
func (t *Table) Number(n Name) (int, bool) {
	i, ok := t.byName[n]
	return i, ok
}

// SetGone marks a pack whose chunks are to be written again.
func (t *Table) SetGone(n int, gone bool) { t.packs[n].Gone = gone }

// Add takes in what r describes and returns the number of the pack. Of several
// places of a chunk the first stays, unless its pack is gone; so adding a pack
// again finds chunks in it whose other places have gone since.
func (t *Table) Add(r *Record) int {
	n, known := t.byName[r.Name]
	places := make([]Place, len(r.Segments))
	if !known {
		n = len(t.packs)
		t.byName[r.Name] = n
		t.packs = append(t.packs, Info{Name: r.Name, Size: r.Size, Segments: places})
	}
	var at uint32
	for i := range r.Segments {
		s := &r.Segments[i]
		var off uint32
		for j := range s.Chunks {
			t.put(slot{s.Chunks[j].ID, uint32(n + 1), uint32(i), off, s.Chunks[j].Len})
			off += s.Chunks[j].Len
		}
		places[i] = Place{Off: at, Stored: s.Stored, Plain: off, Tree: s.Tree, Compressed: s.Compressed}
		at += s.Stored
	}
	return n
}

func (t *Table) put(s slot) {
	if t.used >= len(t.slots)/4*3 {
		old := t.slots
		t.slots = make([]slot, 2*len(old))
		for i := range old {
			if old[i].pack != 0 {
				*t.find(&old[i].id) = old[i]
			}
		}
	}
	p := t.find(&s.id)
	switch {
	case p.pack == 0:
		*p = s
		t.used++
	case t.packs[p.pack-1].Gone:
		*p = s
	}
}

// find returns the slot of id, or the empty one where it belongs. IDs are
// uniform already: their first bytes serve as the hash.
func (t *Table) find(id *chunk.ID) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := binary.LittleEndian.Uint64(id[:]) & mask; ; i = (i + 1) & mask {
		if s := &t.slots[i]; s.pack == 0 || s.id == *id {
			return s
		}
	}
}

// Lookup says where a chunk lies.
func (t *Table) Lookup(id chunk.ID) (Loc, bool) {
	s := t.find(&id)
	if s.pack == 0 {
		return Loc{}, false
	}
	return Loc{Pack: int(s.pack - 1), Segment: int(s.seg), Off: s.off, Len: s.ln}, true
}

// Has reports whether a chunk is stored in a pack that is not gone.
func (t *Table) Has(id chunk.ID) bool {
	s := t.find(&id)
	return s.pack != 0 && !t.packs[s.pack-1].Gone
}

// Visit calls visit for every chunk, in no order, with the place the table finds
// it in.
func (t *Table) Visit(visit func(chunk.ID, Loc)) {
	for i := range t.slots {
		if s := &t.slots[i]; s.pack != 0 {
			visit(s.id, Loc{Pack: int(s.pack - 1), Segment: int(s.seg), Off: s.off, Len: s.ln})
		}
	}
}
